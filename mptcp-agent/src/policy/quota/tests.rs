#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use mptcp_common::abi::capability;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::policy::Policy;

#[test]
fn accepted_with_its_canonical_spelling() {
    for (text, canonical) in [
        ("wwan0=50GB/month", "wwan0=50GB/month"),
        ("wwan0=1.5TB/month,reset:015", "wwan0=1500GB/month,reset:15"),
        ("wwan0=50GiB/month,reset:1", "wwan0=50GiB/month"),
        ("wwan0=2GB/week,reset:monday", "wwan0=2GB/week"),
        ("wwan0=2GB/week,reset:friday", "wwan0=2GB/week,reset:friday"),
        ("wwan0=1GB/day,count:device", "wwan0=1GB/day"),
        (
            "wwan0=1GB/day,action:warn,direction:rx,count:connections",
            "wwan0=1GB/day,count:connections,direction:rx,action:warn",
        ),
        (
            "wwan0=1GB/day,direction:both,action:standby",
            "wwan0=1GB/day",
        ),
        ("a=b=1GB/day,direction:tx", "a=b=1GB/day,direction:tx"),
        ("id:02=1GB/day,count:connections", "id:2=1GB/day"),
        ("fd00:0::/64=1GB/day", "fd00::/64=1GB/day"),
    ] {
        let quota: Quota = text.parse().unwrap();
        assert_eq!(quota.to_string(), canonical);
        assert_eq!(canonical.parse::<Quota>(), Ok(quota));
    }
}

#[test]
fn what_counts_is_the_device_if_the_path_is_one() {
    let count = |text: &str| text.parse::<Quota>().map(|quota| quota.count);
    assert_eq!(count("eth0=1GB/day"), Ok(Count::Device));
    for path in ["id:2", "remote-id:1", "10.0.0.0/24", "remote:10.0.0.1"] {
        assert_eq!(count(&format!("{path}=1GB/day")), Ok(Count::Connections));
        let error = count(&format!("{path}=1GB/day,count:device")).unwrap_err();
        let expected = format!("`{path}` is no device, so its quota cannot have `count:device`");
        assert!(error.contains(&expected), "{error}");
    }
}

#[test]
fn what_is_wrong_is_told_in_one_line() {
    for (text, reason) in [
        (
            "wwan0",
            "`wwan0` has no quota: write SELECTOR=AMOUNT/PERIOD",
        ),
        ("wwan0=", "`` has no period"),
        ("wwan0=50GB", "`50GB` has no period: write AMOUNT/PERIOD"),
        ("wwan0=50GB,month", "`50GB` has no period"),
        ("wwan0=50/month", "`50` is no amount of data"),
        ("wwan0=50gb/month", "`50gb` is no amount of data"),
        ("wwan0=50GB/year", "`year` is no period"),
        ("wwan0=50GB/month/day", "`month/day` is no period"),
        (
            "wwan0=50GB/month,",
            "`` is no option of a quota: expected reset:DAY",
        ),
        ("wwan0=50GB/month,reset", "`reset` is no option"),
        ("wwan0=50GB/month,reset:31", "expected 1 to 28"),
        ("wwan0=50GB/day,reset:3", "no meaning for a day"),
        ("wwan0=50GB/month,count:all", "`count:all` is no option"),
        (
            "wwan0=50GB/month,direction:up",
            "`direction:up` is no option",
        ),
        ("wwan0=50GB/month,action:drop", "`action:drop` is no option"),
        ("wwan0=50GB/month,colour:red", "`colour:red` is no option"),
        (
            "wwan0=50GB/month,reset:3,reset:4",
            "has `reset` more than once",
        ),
        (
            "wwan0=50GB/month,action:warn,action:warn",
            "has `action` more than once",
        ),
        ("default=50GB/month", "`default` cannot have a quota"),
        ("=50GB/month", "a selector is missing"),
        ("10.0.0.1/24=50GB/month", "the network is 10.0.0.0/24"),
    ] {
        let error = text.parse::<Quota>().unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

fn read(settings: serde_json::Value) -> Result<Policy, String> {
    let given = serde_json::from_value(settings).unwrap();
    Policy::new(given).map_err(|error| error.in_fields())
}

#[test]
fn only_some_policies_can_make_a_path_standby() {
    for (name, given, capabilities) in [
        ("default", json!({}), None),
        ("redundant", json!({}), None),
        (
            "weighted",
            json!({}),
            Some(capability::CAPS | capability::HOST),
        ),
        (
            "overflow",
            json!({"prefer": ["eth0"]}),
            Some(capability::OVERFLOWS),
        ),
        ("aggregate", json!({}), Some(capability::OVERFLOWS)),
    ] {
        let policy = |quotas: &[&str]| {
            let mut given = given.clone();
            (given["name"], given["quotas"]) = (json!(name), json!(quotas));
            read(given)
        };
        let warns = policy(&["wwan0=1GB/day,action:warn"]).unwrap();
        let plain = policy(&[]).unwrap();
        assert_eq!(warns.capabilities(), plain.capabilities());
        assert_eq!(
            (warns.backend(), warns.needs()),
            (plain.backend(), plain.needs())
        );
        assert_ne!(warns, plain);
        assert_eq!(Policy::new(warns.given()).unwrap(), warns);
        let standby = policy(&["wwan0=1GB/day"]);
        let Some(capabilities) = capabilities else {
            let error = standby.unwrap_err();
            assert!(
                error.starts_with("`quotas`: `wwan0=1GB/day` makes its path"),
                "{error}"
            );
            assert!(
                error.contains("add action:warn, or choose policy weighted"),
                "{error}"
            );
            continue;
        };
        let standby = standby.unwrap();
        assert_eq!(standby.capabilities(), capabilities, "{name}");
        assert!(standby.needs().holds_out.is_some() && standby.backend() == "pacing");
        assert_eq!(Policy::new(standby.given()).unwrap(), standby);
    }
}

#[test]
fn quotas_are_checked_as_a_whole_and_name_their_paths() {
    let policy = |quotas: &[&str]| read(json!({"name": "weighted", "quotas": quotas}));
    let error = policy(&["eth0=1GB/day", "eth0=2GB/week"]).unwrap_err();
    assert!(
        error.contains("names the path `eth0` more than once"),
        "{error}"
    );
    let both = policy(&["id:2=1GB/day", "eth0=1GB/week"]).unwrap();
    let weights: Vec<String> = both
        .weights()
        .listed
        .iter()
        .map(Weight::to_string)
        .collect();
    assert_eq!(weights, ["id:2=1", "eth0=1"]);
    assert_eq!(both.named_by("id:2"), Shared::QUOTAS);
    assert_eq!(
        both.to_string(),
        "weighted (strict), id:2 1GB a day, eth0 1GB a week"
    );
    assert!(both.quotas().of("id:2").is_some() && both.quotas().of("id:3").is_none());
    let many: Vec<String> = (0..MAX_SELECTORS + 1)
        .map(|n| format!("x{n}=1GB/day"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(policy(&many[1..]).is_ok());
    assert!(
        policy(&many)
            .unwrap_err()
            .contains("selectors are too many")
    );
}

proptest! {
    #[test]
    fn reading_never_panics_and_its_result_round_trips(
        text in "(eth0|id:1|10\\.0\\.0\\.0/8|\\PC{0,6})=[0-9.]{1,5}(GB|MiB|TB|\\PC{0,3})/(day|week|month)\
                 (,(reset:[0-9]{1,2}|reset:friday|count:device|direction:rx|action:warn)){0,3}"
    ) {
        if let Ok(quota) = text.parse::<Quota>() {
            prop_assert_eq!(quota.to_string().parse::<Quota>(), Ok(quota));
        }
    }
}
