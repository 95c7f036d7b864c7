#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::net::devices::Device;

fn process(name: &str, id: u32) -> Process {
    Process {
        name: name.to_owned(),
        id,
        unit: None,
    }
}

fn devices() -> Present {
    let device = |name: &str, carrier, address: &str| Device {
        name: name.to_owned(),
        carrier,
        addresses: vec![address.parse().unwrap()],
        ..Device::default()
    };
    Present::from([
        (2, device("p1", true, "10.0.1.1")),
        (3, device("p2", false, "10.0.2.1")),
    ])
}

fn endpoint(id: u8, address: &str, device: Option<u32>) -> Endpoint {
    Endpoint::with_flags(id, address.parse().unwrap(), device, "subflow")
}

#[test]
fn somebody_has_to_manage_paths() {
    let is = |kind: &str| Ok(kind.to_owned());
    let daemon = [process("mptcpd", 7)];
    assert_eq!(path_manager(is("0"), 3, &[]).result, Verdict::Ok);
    assert_eq!(path_manager(is("1"), 0, &daemon).result, Verdict::Ok);
    assert_eq!(path_manager(is("1"), 3, &daemon).result, Verdict::Problem);
    assert_eq!(path_manager(is("1"), 0, &[]).result, Verdict::Problem);
    let missing = Err(ErrorKind::NotFound.into());
    assert_eq!(path_manager(missing, 0, &[]).result, Verdict::Ok);
}

#[test]
fn two_managers_are_one_too_many() {
    let (one, two) = (process("mptcpd", 7), process("NetworkManager", 8));
    assert_eq!(two_managers(&[]).result, Verdict::Ok);
    assert_eq!(
        two_managers(&[one.clone(), one.clone()]).result,
        Verdict::Ok
    );
    let finding = two_managers(&[two, one]);
    assert_eq!(finding.result, Verdict::Warning);
    assert_eq!(finding.mend.unwrap(), "kill 7");
}

#[test]
fn limits_beside_the_endpoints() {
    let manager = |subflows, count: u8| Manager {
        endpoints: (0..count)
            .map(|id| endpoint(id, "10.0.1.1", None))
            .collect(),
        subflows,
        accepted: 0,
    };
    for (limit_of, count, expected) in [
        (0, 0, Verdict::Problem),
        (2, 0, Verdict::Ok),
        (2, 3, Verdict::Ok),
        (2, 4, Verdict::Warning),
        (8, 200, Verdict::Ok),
    ] {
        let finding = limit(&manager(limit_of, count));
        assert_eq!(finding.result, expected, "{limit_of} {count}");
    }
    let mend = limit(&manager(2, 200)).mend.unwrap();
    assert_eq!(mend, "ip mptcp limits set subflows 8");
}

#[test]
fn announced_addresses_are_missed_only_if_there_were_some() {
    let manager = |accepted| Manager {
        accepted,
        ..Manager::default()
    };
    let heard = Counters::from([("add_addr_rx", 3)]);
    assert_eq!(announced(&manager(0), &Counters::new()).result, Verdict::Ok);
    assert_eq!(announced(&manager(0), &heard).result, Verdict::Warning);
    assert_eq!(announced(&manager(2), &heard).result, Verdict::Ok);
}

#[test]
fn uplinks_of_a_client_should_be_endpoints() {
    let uplink = |name: &str, address: &str| (name.to_owned(), vec![address.parse().unwrap()]);
    let two = [uplink("p1", "10.0.1.1"), uplink("p 2", "10.0.2.1")];
    let none = Manager::default();
    assert_eq!(there_are(&none, &two[..1], false).result, Verdict::Ok);
    assert_eq!(there_are(&none, &two, true).result, Verdict::Ok);
    let finding = there_are(&none, &two, false);
    assert_eq!(finding.result, Verdict::Warning);
    assert_eq!(
        finding.mend.unwrap(),
        "ip mptcp endpoint add 10.0.2.1 dev 'p 2' subflow"
    );
    let some = Manager {
        endpoints: vec![endpoint(1, "10.0.2.1", None)],
        ..none
    };
    assert_eq!(there_are(&some, &two, false).result, Verdict::Ok);
}

#[test]
fn endpoints_beside_the_devices() {
    let found = |endpoint: &Endpoint| {
        let (endpoints, devices) = ([endpoint], devices());
        let checks = [device, address, carrier];
        checks.map(|check| check(&endpoints, &devices).result)
    };
    use Verdict::{Ok, Problem, Warning};
    let at = endpoint;
    assert_eq!(found(&at(1, "10.0.1.1", Some(2))), [Ok, Ok, Ok]);
    assert_eq!(found(&at(1, "10.0.1.1", None)), [Warning, Ok, Ok]);
    assert_eq!(found(&at(1, "10.0.1.1", Some(3))), [Ok, Problem, Ok]);
    assert_eq!(found(&at(1, "10.0.2.1", Some(3))), [Ok, Ok, Warning]);
    assert_eq!(found(&at(1, "10.0.9.9", None)), [Ok, Problem, Ok]);
    // A host may announce the address that its NAT has.
    let signal = Endpoint::with_flags(1, "192.0.2.1".parse().unwrap(), None, "signal");
    assert_eq!(found(&signal), [Ok, Ok, Ok]);
}
