use super::*;
use crate::manage::record::OwnEndpoint;
use crate::net::devices::Device;
use crate::policy::Policy;

/// Returns the paths that these weights name.
fn wanted(weights: &[&str]) -> Wanted {
    let given = serde_json::json!({"name": "weighted", "weights": weights});
    let given = serde_json::from_value(given).expect("settings");
    Wanted::of(&Policy::new(given).expect("a policy"))
}

fn ip(last: u8) -> IpAddr {
    [10, 0, last, 1].into()
}

/// Returns a device with one address.
fn device(name: &str, address: IpAddr, carrier: bool) -> Device {
    Device {
        carrier,
        ..Device::with_address(name, address)
    }
}

fn two() -> Present {
    Present::from([
        (2, device("eth0", ip(2), true)),
        (3, device("wwan0", ip(3), true)),
    ])
}

fn endpoint(id: u8, address: IpAddr, device: u32, flags: &str) -> Endpoint {
    Endpoint::with_flags(id, address, Some(device), flags)
}

fn kernel(endpoints: &[Endpoint]) -> Manager {
    Manager {
        endpoints: endpoints.to_vec(),
        subflows: 8,
        accepted: 0,
    }
}

fn made(endpoints: &[Endpoint]) -> Made {
    Made {
        endpoints: endpoints.iter().map(OwnEndpoint::of).collect(),
        last_id: endpoints.iter().map(|one| one.id).max().unwrap_or(0),
        ..Made::default()
    }
}

/// Returns the plan for eth0 and wwan0, the latter on standby.
fn planned(kernel: &Manager, present: &Present, made: &Made) -> Plan {
    let wanted = wanted(&["eth0=1", "wwan0=0"]);
    plan(
        kernel,
        present,
        &wanted,
        Role::Subflow,
        made,
        &BTreeSet::new(),
    )
}

fn actions(kernel: &Manager, present: &Present, made: &Made) -> Vec<Action> {
    let Plan { actions, without } = planned(kernel, present, made);
    assert_eq!(without, []);
    actions
}

#[test]
fn each_address_of_a_named_path_gets_an_endpoint() {
    let expected = [
        Action::Add(endpoint(1, ip(2), 2, "subflow")),
        Action::Add(endpoint(2, ip(3), 3, "subflow backup")),
    ];
    assert_eq!(actions(&kernel(&[]), &two(), &Made::default()), expected);
    // Then nothing is left to be done.
    let all = expected.map(|action| match action {
        Action::Add(endpoint) => endpoint,
        other => panic!("{other:?}"),
    });
    assert_eq!(actions(&kernel(&all), &two(), &made(&all)), []);
}

#[test]
fn without_named_paths_nothing_is_done() {
    let plan = plan(
        &kernel(&[]),
        &two(),
        &wanted(&["remote:10.0.0.0/8=2"]),
        Role::Subflow,
        &Made::default(),
        &BTreeSet::new(),
    );
    assert_eq!(plan, Plan::default());
}

#[test]
fn a_modem_that_reconnects_gets_another_id() {
    let old = endpoint(1, ip(3), 3, "subflow backup");
    let mut present = two();
    present.insert(3, device("wwan0", ip(9), true));
    let eth0 = endpoint(2, ip(2), 2, "subflow");
    assert_eq!(
        actions(
            &kernel(&[old.clone(), eth0.clone()]),
            &present,
            &made(&[old.clone(), eth0.clone()])
        ),
        [
            Action::Remove(old.clone()),
            Action::Add(endpoint(3, ip(9), 3, "subflow backup"))
        ]
    );
    // The same if the device was made anew.
    let mut present = two();
    present.remove(&3);
    present.insert(5, device("wwan0", ip(3), true));
    let all = [old.clone(), eth0];
    assert_eq!(
        actions(&kernel(&all), &present, &made(&all))[0],
        Action::Remove(old)
    );
}

#[test]
fn an_endpoint_stays_without_a_carrier_but_none_is_made() {
    let own = endpoint(1, ip(2), 2, "subflow");
    let mut present = two();
    present.insert(2, device("eth0", ip(2), false));
    present.insert(3, device("wwan0", ip(3), false));
    let all = [own];
    assert_eq!(actions(&kernel(&all), &present, &made(&all)), []);
}

#[test]
fn what_others_made_is_left_alone() {
    let theirs = endpoint(4, ip(2), 2, "signal");
    let elsewhere = endpoint(1, ip(77), 9, "subflow");
    let plan = planned(
        &kernel(&[theirs.clone(), elsewhere]),
        &two(),
        &Made::default(),
    );
    assert_eq!(plan.without, [Without::Foreign(ip(2))]);
    let expected = [Action::Add(endpoint(2, ip(3), 3, "subflow backup"))];
    assert_eq!(plan.actions, expected);
    // It is theirs even if an own one had this address under another id.
    let own = endpoint(3, ip(2), 2, "subflow");
    let plan = planned(
        &kernel(&[theirs]),
        &two(),
        &made(std::slice::from_ref(&own)),
    );
    assert_eq!(plan.actions[0], Action::Forget(own));
    assert_eq!(plan.without, [Without::Foreign(ip(2))]);
}

#[test]
fn what_others_removed_is_made_anew() {
    let own = endpoint(1, ip(2), 2, "subflow");
    let wwan0 = endpoint(2, ip(3), 3, "subflow backup");
    let expected = [
        Action::Forget(own.clone()),
        Action::Add(endpoint(3, ip(2), 2, "subflow")),
    ];
    let kernel = kernel(std::slice::from_ref(&wwan0));
    assert_eq!(actions(&kernel, &two(), &made(&[own, wwan0])), expected);
}

#[test]
fn the_backup_flag_follows_the_weight_and_the_role_the_setting() {
    let eth0 = endpoint(1, ip(2), 2, "subflow backup");
    let wwan0 = endpoint(2, ip(3), 3, "subflow backup");
    let all = [eth0, wwan0.clone()];
    let changed = Action::Flags(endpoint(1, ip(2), 2, "subflow"));
    assert_eq!(
        actions(&kernel(&all), &two(), &made(&all)),
        std::slice::from_ref(&changed)
    );
    // A path that is named no longer keeps its endpoint, but is no standby.
    let named = plan(
        &kernel(&all),
        &two(),
        &wanted(&["eth0=1"]),
        Role::Subflow,
        &made(&all),
        &BTreeSet::new(),
    );
    let other = Action::Flags(endpoint(2, ip(3), 3, "subflow"));
    assert_eq!(named.actions, [changed, other]);

    let meshed = plan(
        &kernel(std::slice::from_ref(&wwan0)),
        &two(),
        &wanted(&["wwan0=0"]),
        Role::Fullmesh,
        &made(std::slice::from_ref(&wwan0)),
        &BTreeSet::new(),
    );
    let expected = [
        Action::Remove(wwan0),
        Action::Add(endpoint(3, ip(3), 3, "subflow fullmesh backup")),
    ];
    assert_eq!(meshed.actions, expected);
}

#[test]
fn an_implicit_endpoint_is_replaced_under_its_id() {
    let mut implicit = endpoint(6, ip(2), 0, "");
    implicit.bits = flag::IMPLICIT;
    implicit.device = None;
    let mut present = two();
    present.remove(&3);
    let expected = [Action::Replace(endpoint(6, ip(2), 2, "subflow"))];
    assert_eq!(
        actions(&kernel(&[implicit]), &present, &Made::default()),
        expected
    );
}

#[test]
fn the_limit_is_raised_first_and_only_if_it_is_too_low() {
    let mut kernel = kernel(&[endpoint(9, ip(99), 9, "subflow")]);
    kernel.subflows = 2;
    let planned = actions(&kernel, &two(), &Made::default());
    assert_eq!(planned[0], Action::Raise(3));
    assert_eq!(planned.len(), 3);
    kernel.subflows = 3;
    assert_eq!(actions(&kernel, &two(), &Made::default()).len(), 2);
    let meshed = plan(
        &kernel,
        &two(),
        &wanted(&["eth0=1"]),
        Role::Fullmesh,
        &Made::default(),
        &BTreeSet::new(),
    );
    assert_eq!(meshed.actions[0], Action::Raise(pm::MOST));
    // Endpoints that others made are their concern.
    kernel.subflows = 0;
    assert_eq!(actions(&kernel, &Present::new(), &Made::default()), []);
}

#[test]
fn the_kernel_takes_eight() {
    let theirs: Vec<Endpoint> = (1..=7)
        .map(|id| endpoint(id, [10, 9, id, 1].into(), 9, "subflow"))
        .collect();
    let plan = planned(&kernel(&theirs), &two(), &Made::default());
    assert_eq!(plan.actions.len(), 1);
    assert_eq!(plan.without, [Without::NoRoom(ip(3))]);
}

#[test]
fn ids_go_round() {
    let taken = BTreeSet::from([2, 3]);
    assert_eq!(next_id(0, &taken), 1);
    assert_eq!(next_id(1, &taken), 4);
    assert_eq!(next_id(LAST_ID, &taken), 1);
    assert_eq!(next_id(255, &BTreeSet::from([1])), 2);
}

#[test]
fn an_address_without_a_route_waits_for_it() {
    let young = BTreeSet::from([ip(3)]);
    let wanted = wanted(&["eth0=1", "wwan0=1"]);
    let plan = plan(
        &kernel(&[]),
        &two(),
        &wanted,
        Role::Subflow,
        &Made::default(),
        &young,
    );
    let expected = [Action::Add(endpoint(1, ip(2), 2, "subflow"))];
    assert_eq!(plan.actions, expected);
}
