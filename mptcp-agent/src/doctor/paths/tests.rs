#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn way(by: Option<u32>) -> Way {
    Way {
        source: "10.0.2.1".parse().unwrap(),
        index: 3,
        device: "p2".to_owned(),
        is_ethernet: true,
        to: vec![("203.0.113.1".parse().unwrap(), by)],
        counts: true,
    }
}

fn route(table: u32, default: bool, gateway: Option<&str>) -> Route {
    Route {
        ipv6: false,
        table,
        default,
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        device: 3,
    }
}

fn mend(way: Way, routes: &[Route]) -> String {
    source_routes(&[way], routes).mend.unwrap()
}

#[test]
fn each_source_leaves_by_its_own_device() {
    assert_eq!(source_routes(&[], &[]).result, Verdict::Ok);
    assert_eq!(source_routes(&[way(Some(3))], &[]).result, Verdict::Ok);
    assert_eq!(source_routes(&[way(Some(2))], &[]).result, Verdict::Problem);
    assert_eq!(source_routes(&[way(None)], &[]).result, Verdict::Problem);
    let unsure = Way {
        counts: false,
        ..way(None)
    };
    assert_eq!(source_routes(&[unsure], &[]).result, Verdict::Warning);
}

#[test]
fn the_mending_route_uses_what_there_is() {
    let own = [
        route(table::MAIN, true, Some("10.0.2.2")),
        route(777, true, Some("10.0.2.2")),
    ];
    assert_eq!(mend(way(None), &own), "ip rule add from 10.0.2.1 table 777");
    assert_eq!(
        mend(way(None), &[own[0], route(101, false, None)]),
        "ip rule add from 10.0.2.1 table 102\n\
         ip route add default via 10.0.2.2 dev p2 table 102"
    );
    let modem = Way {
        is_ethernet: false,
        ..way(None)
    };
    assert_eq!(
        mend(modem, &[]),
        "ip rule add from 10.0.2.1 table 101\nip route add default dev p2 table 101"
    );
    assert!(mend(way(None), &[]).contains("\n# and, by the router on p2: ip route add"));
    let v6 = Way {
        source: "fd00::1".parse().unwrap(),
        ..way(None)
    };
    // A router of the other family is no help.
    assert!(mend(v6, &own).starts_with("ip -6 rule add from fd00::1 table 101\n#"));
}

#[test]
fn two_sources_get_two_tables() {
    let other = Way {
        source: "10.0.3.1".parse().unwrap(),
        is_ethernet: false,
        ..way(None)
    };
    let finding = source_routes(&[way(None), other], &[]);
    let mend = finding.mend.unwrap();
    assert!(
        mend.contains("table 101") && mend.contains("table 102"),
        "{mend}"
    );
}

#[test]
fn strict_filters_matter_most_without_a_way_back() {
    let filter = |value, fits| Filter {
        device: "p2".to_owned(),
        value,
        fits,
    };
    for (value, fits, expected) in [
        (Ok(0), false, Verdict::Ok),
        (Ok(2), false, Verdict::Ok),
        (Ok(1), true, Verdict::Warning),
        (Ok(1), false, Verdict::Problem),
        (Err(String::new()), false, Verdict::Unknown),
    ] {
        assert_eq!(reverse_path(&[filter(value, fits)]).result, expected);
    }
    assert_eq!(reverse_path(&[]).result, Verdict::Ok);
}

#[test]
fn an_mtu_that_ipv6_does_not_allow() {
    for (bytes, expected) in [
        (0, Verdict::Ok),
        (1279, Verdict::Warning),
        (1280, Verdict::Ok),
        (1500, Verdict::Ok),
    ] {
        let device = Device {
            name: "p2".to_owned(),
            mtu: bytes,
            ..Device::default()
        };
        let finding = mtu(&BTreeMap::from([(3, &device)]));
        assert_eq!(finding.result, expected, "{bytes}");
    }
}
