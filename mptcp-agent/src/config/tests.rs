#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod mistakes;
mod peering;

use std::fs;

use proptest::prelude::*;

use super::resolve::{Row, resolve};
use super::*;
use crate::cli::{LogFormat, RoleArg};

/// Resolves a file `f` with these flags.
fn with(text: &str, flags: &str) -> Result<Loaded, String> {
    let flags = crate::cli::flags_of(&format!("--config f {flags}"));
    resolve(&flags, "f", text).map_err(|wrong| wrong.to_string())
}

fn policy(text: &str, flags: &str) -> mptcp_api::policy::Given {
    with(text, flags).unwrap().policy.given()
}

fn row(loaded: &Loaded, key: &str) -> (String, String) {
    let row: &Row = loaded.rows.iter().find(|row| row.key == key).unwrap();
    (row.value.clone(), row.origin.to_string())
}

const PATHS: &str = "[path.lte]\ndevice = \"wwan0\"\nlimit = \"20mbit\"\n\
                     [path.fibre]\naddress = \"10.0.0.0/24\"\n";

/// Returns [`PATHS`] and a weighted policy with these further lines. Its table is
/// line 6.
fn weighted(lines: &str) -> String {
    format!("{PATHS}[policy.default]\npolicy = \"weighted\"\n{lines}")
}

#[test]
fn nothing_said_leaves_the_defaults() {
    let loaded = with("", "").unwrap();
    assert_eq!(loaded.policy, crate::policy::Policy::default());
    assert_eq!(loaded.args.max_connections, 16_384);
    assert!(
        loaded
            .rows
            .iter()
            .all(|row| row.origin.to_string() == "default")
    );
}

#[test]
fn each_setting_is_the_flag_s_else_the_file_s_else_the_default() {
    let text = "listen = \"127.0.0.1:1\"\ncontrol = \"/run/a\"\ncgroup = \"/c\"\nbtf = \"/d\"\n\
                max-connections = 5\nmeasure-programs = true\nlog-format = \"json\"\n";
    for (key, file, flag, by_flag) in [
        (
            "listen",
            "127.0.0.1:1",
            "--listen 127.0.0.1:2",
            "127.0.0.1:2",
        ),
        ("control", "/run/a", "--control /run/b", "/run/b"),
        ("cgroup", "/c", "--cgroup /d", "/d"),
        ("btf", "/d", "--btf /e", "/e"),
        ("max-connections", "5", "--max-connections 16384", "16384"),
        (
            "measure-programs",
            "true",
            "--measure-programs=false",
            "false",
        ),
        ("log-format", "json", "--log-format text", "text"),
    ] {
        let line = text.lines().position(|line| line.starts_with(key)).unwrap() + 1;
        let loaded = with(text, "").unwrap();
        assert_eq!(row(&loaded, key), (file.into(), format!("f:{line}")));
        let loaded = with(text, flag).unwrap();
        assert_eq!(row(&loaded, key), (by_flag.into(), format!("--{key}")));
        // The others stay.
        let others = loaded
            .rows
            .iter()
            .filter(|row| row.origin.to_string().starts_with("f:"));
        assert_eq!(others.count(), 6, "{key}");
    }
    let args = with(text, "").unwrap().args;
    assert_eq!((args.max_connections, args.measure_programs), (5, true));
    assert_eq!(
        (args.listen[0].to_string(), args.log_format),
        ("127.0.0.1:1".to_owned(), LogFormat::Json)
    );
    assert_eq!(
        (args.control, args.cgroup, args.btf),
        (Some("/run/a".into()), Some("/c".into()), Some("/d".into()))
    );
    assert!(
        !with(text, "--measure-programs=false")
            .unwrap()
            .args
            .measure_programs
    );
    assert!(
        with("", "--measure-programs")
            .unwrap()
            .args
            .measure_programs
    );
}

#[test]
fn settings_of_the_policy_likewise() {
    let text = weighted("weights = { lte = 1, fibre = 4 }\nmode = \"spill\"\nthin = \"place\"\n");
    let given = policy(&text, "");
    assert_eq!(given.weighted.weights, ["wwan0=1", "10.0.0.0/24=4"]);
    assert_eq!(given.weighted.weighted_mode.as_deref(), Some("spill"));
    assert_eq!(given.weighted.weighted_scope.as_deref(), Some("host"));
    // A list is one setting.
    let given = policy(&text, "--weight eth0=9 --weighted-mode strict");
    assert_eq!(given.weighted.weights, ["eth0=9"]);
    assert_eq!(given.weighted.weighted_mode.as_deref(), Some("strict"));
    assert_eq!(given.weighted.thin.as_deref(), Some("place"));
    let loaded = with(&text, "--weight wwan0=9").unwrap();
    let row = |key| row(&loaded, key);
    assert_eq!(
        row("policy.default.policy"),
        ("weighted".into(), "f:7".into())
    );
    assert_eq!(
        row("policy.default.weights"),
        ("lte=9".into(), "--weight".into())
    );
    assert_eq!(row("policy.default.mode"), ("spill".into(), "f:9".into()));
    assert_eq!(
        row("policy.default.scope"),
        ("host".into(), "default".into())
    );
    // Naming the file's policy by a flag changes nothing, naming another one
    // sets the file's settings of its policy aside.
    assert_eq!(policy(&text, "--policy weighted"), policy(&text, ""));
    let given = policy(&text, "--policy overflow --prefer eth0");
    assert_eq!(
        (given.name.as_str(), given.weighted.weights.len()),
        ("overflow", 0)
    );
    assert_eq!(given.shared.limits, ["wwan0=20mbit"]);
    let text = "[policy.default]\npolicy = \"redundant\"\ncopies = 3\nport = 9\nkey = \"/k\"\n\
                budget = \"1mbit\"";
    let redundant = policy(text, "--redundant-copies 4 --redundant-key /l").redundant;
    assert_eq!(
        (redundant.redundant_copies, redundant.redundant_port),
        (Some(4), Some(9))
    );
    assert_eq!(redundant.redundant_key, Some("/l".into()));
    assert_eq!(redundant.redundant_budget.as_deref(), Some("1mbit"));
    let redundant = policy(text, "--redundant-port 10 --redundant-budget 2mbit").redundant;
    assert_eq!(
        (redundant.redundant_copies, redundant.redundant_port),
        (Some(3), Some(10))
    );
    assert_eq!(redundant.redundant_budget.as_deref(), Some("2mbit"));
}

#[test]
fn limits_and_bounds_are_settings_of_their_path() {
    let text = "[path.lte]\ndevice = \"wwan0\"\nlimit = \"20mbit\"\nleave-out = \"loss:5%\"\n\
                [path.fibre]\nid = 2\nlimit = \"1gbit\"\nleave-out = \"rtt:1s\"\n\
                [path.default]\nlimit = \"5mbit\"\n\
                [policy.default]\npolicy = \"weighted\"\n";
    let given = policy(text, "");
    assert_eq!(
        given.shared.limits,
        ["wwan0=20mbit", "id:2=1gbit", "default=5mbit"]
    );
    assert_eq!(
        given.leave_out.leave_out,
        ["wwan0=loss:5%", "id:2=rtt:1000ms"]
    );
    // A path that has bounds has a weight, too: that of all others.
    assert_eq!(given.weighted.weights, ["id:2=1"]);
    let flags = "--limit id:02=2gbit --limit eth0=1mbit --leave-out wwan0=none";
    let given = policy(text, flags);
    assert_eq!(
        given.shared.limits,
        ["id:2=2gbit", "eth0=1mbit", "wwan0=20mbit", "default=5mbit"]
    );
    assert_eq!(given.leave_out.leave_out, ["wwan0=none", "id:2=rtt:1000ms"]);
    let loaded = with(text, flags).unwrap();
    let row = |key| row(&loaded, key);
    assert_eq!(row("path.fibre.limit"), ("2gbit".into(), "--limit".into()));
    assert_eq!(row("path.lte.limit"), ("20mbit".into(), "f:3".into()));
    assert_eq!(
        row("path.lte.leave-out"),
        ("none".into(), "--leave-out".into())
    );
    // A flag chooses a policy that has no bounds.
    assert!(
        policy(text, "--policy redundant")
            .leave_out
            .leave_out
            .is_empty()
    );
}

#[test]
fn a_path_on_standby_has_weight_0_or_the_last_rank() {
    let paths = "[path.lte]\ndevice = \"wwan0\"\nstandby = true\n\
                 [path.fibre]\ndevice = \"eth0\"\nstandby = false\n";
    let text = format!("{paths}[policy.default]\npolicy = \"weighted\"\n");
    assert_eq!(policy(&text, "").weighted.weights, ["wwan0=0"]);
    let text = text + "weights = { fibre = 3, lte = 0 }";
    assert_eq!(policy(&text, "").weighted.weights, ["eth0=3", "wwan0=0"]);
    assert_eq!(
        policy(&text, "--weight wwan0=2").weighted.weights,
        ["wwan0=2"]
    );
    assert_eq!(
        policy(&text, "--weight eth0=2").weighted.weights,
        ["eth0=2", "wwan0=0"]
    );
    let text = format!("{paths}[policy.default]\npolicy = \"overflow\"\nprefer = [\"fibre\"]");
    assert_eq!(
        policy(&text, "").overflow.prefer,
        ["eth0", "default", "wwan0"]
    );
    let text = text.replace("[\"fibre\"]", "[\"default\", \"lte\", \"fibre\"]");
    assert_eq!(
        policy(&text, "").overflow.prefer,
        ["default", "wwan0", "eth0"]
    );
}

#[test]
fn named_policies_and_rules() {
    let text = weighted(
        "[policy.fast]\npolicy = \"redundant\"\n[policy.bulk]\npolicy = \"overflow\"\n\
         prefer = [\"fibre\", \"wwan1\"]\n[[rule]]\nname = \"ssh\"\npolicy = \"fast\"\ndport = 22\n\
         [[rule]]\npolicy = \"default\"\n",
    );
    // The flags are settings of the default policy, but for limits.
    let loaded = with(&text, "--weight wwan0=2 --limit eth0=1mbit").unwrap();
    let names: Vec<_> = loaded.policies.keys().collect();
    assert_eq!(names, ["bulk", "fast"]);
    let bulk = &loaded.policies["bulk"];
    assert_eq!(bulk.overflow.prefer, ["10.0.0.0/24", "wwan1"]);
    // Limits hold for the host, and are listed once.
    assert!(bulk.shared.limits.is_empty());
    let limits = loaded.policy.given().shared.limits;
    assert_eq!(limits, ["eth0=1mbit", "wwan0=20mbit"]);
    assert_eq!(loaded.rules.len(), 2);
    assert_eq!(loaded.rules[0].policy, "fast");
    assert_eq!(row(&loaded, "rule 1 (ssh)"), ("fast".into(), "f:13".into()));
    assert_eq!(row(&loaded, "policy.bulk.prefer").0, "fibre wwan1");
}

#[test]
fn what_has_no_effect_is_a_warning() {
    let text = "[path.a]\ndevice = \"a\"\nleave-out = \"loss:5%\"\nstandby = true\n\
                [policy.default]\npolicy = \"redundant\"\n";
    assert_eq!(
        with(text, "").unwrap().warnings,
        [
            "f:3:13: leave-out has no effect: the default policy is none of weighted, overflow \
             or aggregate",
            "f:4:11: standby has no effect: no policy is weighted or overflow",
        ]
    );
    let more = format!("{text}[policy.bulk]\npolicy = \"weighted\"\n");
    assert_eq!(with(&more, "").unwrap().warnings.len(), 1);
    assert!(
        with(&more, "--policy weighted")
            .unwrap()
            .warnings
            .is_empty()
    );
}

#[test]
fn several_places_are_one_setting() {
    let text = "listen = [\"127.0.0.1:1\", \"unix:/run/a.sock\"]\nweb-config-file = \"/w\"\n";
    let loaded = with(text, "").unwrap();
    let expected = "127.0.0.1:1 unix:/run/a.sock";
    assert_eq!(row(&loaded, "listen"), (expected.into(), "f:1".into()));
    assert_eq!(row(&loaded, "web-config-file"), ("/w".into(), "f:2".into()));
    assert_eq!(loaded.args.listen.len(), 2);
    let flags = "--listen unix:/run/b.sock --listen [::1]:2 --web.config.file /v";
    let loaded = with(text, flags).unwrap();
    let expected = "unix:/run/b.sock [::1]:2";
    assert_eq!(row(&loaded, "listen"), (expected.into(), "--listen".into()));
    assert_eq!(loaded.args.web_config_file, Some("/v".into()));
}

#[test]
fn the_example_passes_and_shows_every_setting() {
    let loaded = with(EXAMPLE, "").unwrap();
    assert_eq!(loaded.policies.len(), 2);
    let table = show::table(&loaded.rows);
    assert_eq!(table.lines().count(), loaded.rows.len());
    assert!(table.contains("path.lte.limit"), "{table}");
    // The example has every key, if only as a comment.
    for key in [
        "listen",
        "web-config-file",
        "control",
        "cgroup",
        "btf",
        "state-dir",
        "manage-endpoints",
        "endpoint-role",
        "manage-routes",
        "ask-peer",
        "accept-peer-policy",
        "redundant-key",
        "redundant-port",
        "quota",
        "standby",
        "key",
        "prefer",
        "leave-out",
    ] {
        assert!(EXAMPLE.contains(&format!("{key} = ")), "{key}");
    }
}

#[test]
fn what_is_no_configuration_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let said = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        read::read(&path).map_err(|wrong| wrong.to_string())
    };
    assert_eq!(said(b"listen = 1").unwrap(), "listen = 1");
    let wrong = said(b"a = 1\nb = \"\xff\"").unwrap_err();
    assert!(wrong.ends_with(":2:6: this is no UTF-8 text"), "{wrong}");
    let wrong = said(&vec![b'#'; 1024 * 1024 + 1]).unwrap_err();
    assert!(wrong.contains("too large"), "{wrong}");
    for path in ["/", "/dev/zero", "/nonexistent/config.toml"] {
        let wrong = read::read(Path::new(path)).unwrap_err();
        assert!(
            wrong
                .to_string()
                .starts_with("cannot read the configuration"),
            "{wrong}"
        );
        assert_eq!(wrong.exit_code(), ExitCode::from(1));
    }
    assert_eq!(Wrong::new("").exit_code(), ExitCode::from(2));
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(
        at in 0..EXAMPLE.len(), with_text in "[a-z0-9=\"\\[\\]{}.,:%/ \n-]{0,6}", cut in 0_usize..40,
    ) {
        let mut text = EXAMPLE.to_owned();
        text.replace_range(at..(at + cut).min(EXAMPLE.len()), &with_text);
        if let Err(wrong) = with(&text, "") {
            prop_assert!(!wrong.contains('\n'), "{}", wrong);
        }
    }
}

#[test]
fn quotas_endpoints_and_routes_come_from_the_file_or_from_flags() {
    let text = "state-dir = \"/srv/state\"\nmanage-endpoints = true\nendpoint-role = \"signal\"\n\
                manage-routes = true\n[path.lte]\ndevice = \"wwan0\"\nquota = \"50GB/month\"\n\
                [policy.default]\npolicy = \"weighted\"";
    let loaded = with(text, "").unwrap();
    let managed = loaded.args.manage.clone();
    assert_eq!(managed.manage_endpoints, Some(RoleArg::Signal));
    assert!(managed.manage_routes);
    assert_eq!(loaded.args.state_dir, Some("/srv/state".into()));
    let quotas = loaded.policy.given().shared.quotas;
    assert_eq!(quotas.len(), 1);
    assert!(quotas[0].starts_with("wwan0=50GB/month"), "{quotas:?}");

    let loaded = with("endpoint-role = \"signal\"", "").unwrap();
    assert_eq!(
        loaded.warnings,
        ["f:1:17: endpoint-role has no effect: manage-endpoints is not true"]
    );

    let flags = "--manage-endpoints=fullmesh --quota wwan0=1GB/day --state-dir /srv/other";
    let loaded = with(text, flags).unwrap();
    let managed = loaded.args.manage.clone();
    assert_eq!(managed.manage_endpoints, Some(RoleArg::Fullmesh));
    assert_eq!(loaded.args.state_dir, Some("/srv/other".into()));
    let quotas = loaded.policy.given().shared.quotas;
    assert!(quotas[0].starts_with("wwan0=1GB/day"), "{quotas:?}");

    for (text, why) in [
        (
            "endpoint-role = \"both\"",
            "f:1:17: endpoint-role is \"both\"",
        ),
        ("state-dir = \"state\"", "f:1:13: state-dir is \"state\""),
        (
            "[path.a]\ndevice = \"a\"\nquota = \"much\"",
            "f:3:9: quota: ",
        ),
    ] {
        let wrong = with(text, "").unwrap_err();
        assert!(wrong.starts_with(why), "{wrong}");
    }
}
