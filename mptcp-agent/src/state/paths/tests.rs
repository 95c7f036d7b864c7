#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

fn table(weights: &[&str]) -> PathTable {
    let given: Vec<_> = weights.iter().map(|text| text.parse().unwrap()).collect();
    PathTable::new(&Weights::new(&given).unwrap())
}

fn devices(list: &[(u32, &str)]) -> Devices {
    list.iter()
        .map(|&(ifindex, name)| (ifindex, name.to_owned()))
        .collect()
}

fn weight_of(table: &PathTable, label: &str) -> Option<u32> {
    let index = (0..MAX_PATHS as u32)
        .find(|&index| table.path(index).is_some() && table.label(index) == label)?;
    Some(table.weights()[index as usize])
}

#[test]
fn listed_selectors_come_first_and_keep_the_users_order() {
    let table = table(&[
        "eth0=4",
        "10.0.0.0/24=3",
        "id:2=2",
        "remote-id:1=1",
        "remote-port:443=5",
        "default=7",
    ]);
    let config = table.config();
    assert_eq!(config.len(), MAX_PATHS);
    assert_eq!(table.weights()[..7], [7, 4, 3, 2, 1, 5, 0]);
    assert_eq!(
        config
            .iter()
            .filter(|path| path.kind != path_kind::FREE)
            .count(),
        6
    );

    assert_eq!(table.label(0), "unknown");
    assert_eq!(table.label(2), "10.0.0.0/24");
    assert_eq!(
        table.prefixes().collect::<Vec<_>>(),
        [("10.0.0.0/24".parse().unwrap(), 2)]
    );
    assert_eq!(
        table.ids().collect::<Vec<_>>(),
        [(1 << 8 | 2, 3), (2 << 8 | 1, 4), (1 << 16 | 443, 5)]
    );
    assert_eq!(table.devices().count(), 0);
    assert_eq!(table.missing().collect::<Vec<_>>(), ["eth0"]);
}

#[test]
fn unlisted_devices_weigh_the_default() {
    for (weights, expected) in [(&["eth0=4"][..], 1), (&["eth0=4", "default=9"], 9)] {
        let mut table = table(weights);
        assert!(table.set_devices(devices(&[(1, "lo"), (2, "eth0"), (3, "eth1")])));
        assert_eq!(weight_of(&table, "eth0"), Some(4));
        assert_eq!(weight_of(&table, "eth1"), Some(expected));
        assert_eq!(
            table.devices().collect::<Vec<_>>(),
            [(1, 2), (2, 1), (3, 3)]
        );
        assert_eq!(table.missing().count(), 0);
    }
}

#[test]
fn the_generation_rises_with_each_change_only() {
    let mut table = table(&[]);
    let first = table.generation();
    assert!(table.set_devices(devices(&[(1, "lo")])));
    assert!(!table.set_devices(devices(&[(1, "lo")])));
    assert_eq!(table.generation(), first + 1);
}

#[test]
fn a_device_that_comes_back_is_the_same_path() {
    let mut table = table(&["eth0=4"]);
    table.set_devices(devices(&[(1, "lo"), (2, "eth0"), (3, "wwan0")]));
    let before: Vec<_> = table.devices().collect();
    table.set_devices(devices(&[(1, "lo")]));
    assert_eq!(table.missing().collect::<Vec<_>>(), ["eth0"]);
    assert!(!table.is_present(1) && !table.is_present(3));
    assert_eq!(table.label(3), "wwan0");
    table.set_devices(devices(&[(1, "lo"), (7, "wwan0"), (8, "eth0")]));
    assert_eq!(
        table.devices().collect::<Vec<_>>(),
        [(1, before[0].1), (7, 3), (8, 1)]
    );
    assert!(table.is_present(1) && table.is_present(3));
}

#[test]
fn a_selector_means_the_device_that_has_the_name_now() {
    let mut table = table(&["eth0=4"]);
    table.set_devices(devices(&[(2, "eth0"), (3, "eth1")]));
    // The two swap names.
    table.set_devices(devices(&[(2, "eth1"), (3, "eth0")]));
    assert_eq!(table.devices().collect::<Vec<_>>(), [(2, 2), (3, 1)]);
    // The listed one is renamed away: it is an ordinary device now.
    table.set_devices(devices(&[(2, "eth1"), (3, "lan0")]));
    assert_eq!(table.devices().collect::<Vec<_>>(), [(2, 2), (3, 3)]);
    assert_eq!(table.label(3), "lan0");
}

#[test]
fn devices_beyond_the_last_index_are_unknown_until_there_is_room() {
    let mut table = table(&["id:1=1"]);
    let many: Devices = (1..=70).map(|n| (n, format!("veth{n:02}"))).collect();
    table.set_devices(many.clone());
    assert_eq!(table.devices().count(), MAX_PATHS - 2);
    assert_eq!(table.unplaced().count(), 70 - (MAX_PATHS - 2));

    // Two vanish; one of them has carried subflows and keeps its index.
    let mut fewer = many;
    fewer.retain(|ifindex, _| *ifindex > 2);
    table.set_devices(fewer);
    let used = table.device_index("veth01").unwrap();
    let generation = table.generation();
    assert!(table.make_room(|index| index != used));
    assert_eq!(table.generation(), generation + 1);
    assert_eq!(table.device_index("veth02"), None);
    assert_eq!(table.label(used), "veth01");
    assert_eq!(table.unplaced().count(), 68 - (MAX_PATHS - 3));
    assert!(!table.make_room(|index| index != used));
}

#[test]
fn devices_that_subflows_leave_by_are_served_first() {
    let mut table = table(&[]);
    let many: Devices = (1..=70).map(|n| (n, format!("veth{n:02}"))).collect();
    let has_index = |table: &PathTable, ifindex| table.devices().any(|(at, _)| at == ifindex);
    // The devices that came last have addresses.
    table.set_usable((66..=70).collect());
    table.set_devices(many);
    for ifindex in 66..=70 {
        assert!(has_index(&table, ifindex), "{ifindex}");
    }
    assert_eq!(table.unplaced().count(), 70 - (MAX_PATHS - 1));

    // A device without an index gets an address; another one a subflow.
    let first = table.devices().map(|(at, _)| at).min().unwrap();
    let left_out: Vec<u32> = (1..=70).filter(|&at| !has_index(&table, at)).collect();
    table.set_usable((66..=70).chain([left_out[0]]).collect());
    assert!(table.make_room(|_| true) && has_index(&table, left_out[0]));
    assert!(
        !table.make_room(|_| true),
        "all that could be used have one"
    );
    assert!(table.note_carrying(left_out[1]) && !table.note_carrying(left_out[1]));
    assert!(!table.note_carrying(66) && !table.note_carrying(99));
    assert!(
        !table.make_room(|_| false),
        "all others have carried something"
    );
    assert!(table.make_room(|_| true) && has_index(&table, left_out[1]));
    assert!(!has_index(&table, first));
}

#[test]
fn subflows_move_only_with_the_devices_that_carry_them() {
    let mut table = table(&[]);
    table.set_devices(devices(&[(2, "eth0"), (3, "eth1")]));
    let before: BTreeMap<u32, u32> = table.devices().collect();
    let eth1 = before[&3];
    let on_eth1 = |path| path == eth1;
    table.set_devices(devices(&[(2, "eth0"), (3, "eth1"), (4, "veth0")]));
    assert!(!table.moved_since(&before, on_eth1));
    assert!(table.moved_since(&before, |path| path == UNKNOWN_PATH));
    table.set_devices(devices(&[(3, "eth1"), (4, "veth0")]));
    assert!(!table.moved_since(&before, on_eth1));
    table.set_devices(devices(&[(3, "wan0"), (4, "veth0")]));
    assert!(table.moved_since(&before, on_eth1));
}

#[test]
fn ids_alone_never_name_a_first_subflow() {
    assert_eq!(
        table(&["id:42=4", "id:43=1"]).never_first(),
        ["id:42", "id:43"]
    );
    for weights in [&["id:0=4", "id:1=1"][..], &["id:42=4", "eth0=1"], &[]] {
        assert!(table(weights).never_first().is_empty(), "{weights:?}");
    }
}

#[test]
fn standby_is_any_weight_of_zero() {
    assert!(!table(&["eth0=1"]).has_standby());
    assert!(table(&["eth0=0"]).has_standby());
    assert!(table(&["eth0=1", "default=0"]).has_standby());
}

fn weights(list: &[&str]) -> Weights {
    let given: Vec<_> = list.iter().map(|text| text.parse().unwrap()).collect();
    Weights::new(&given).unwrap()
}

#[test]
fn other_weights_leave_known_paths_their_indices() {
    let mut table = table(&["eth0=4", "id:2=1"]);
    table.set_devices(devices(&[(2, "eth0"), (3, "eth1")]));
    let generation = table.generation();
    let recycled = table.set_weights(&weights(&["eth1=3", "10.0.0.0/8=2", "default=5"]), |_| true);
    assert_eq!(recycled, Ok(Vec::new()));
    assert_eq!(table.generation(), generation + 1);
    // eth0 is an ordinary device now, and id:2 names nothing.
    assert_eq!(table.devices().collect::<Vec<_>>(), [(2, 1), (3, 3)]);
    assert!(!table.is_listed(1) && table.is_listed(3) && !table.is_present(2));
    assert_eq!(
        (table.weight(1), table.weight(3), table.weight(4)),
        (5, 3, 2)
    );
    assert_eq!(table.ids().count(), 0);
    assert_eq!(table.label(2), "id:2");
    assert_eq!(
        table.set_weights(&weights(&["id:2=7"]), |_| true),
        Ok(Vec::new())
    );
    assert_eq!(table.ids().collect::<Vec<_>>(), [(1 << 8 | 2, 2)]);
    assert_eq!((table.weight(2), table.weight(1)), (7, 1));
}

#[test]
fn a_path_that_is_listed_no_more_gives_its_index_away_last() {
    let names: Vec<String> = (0..MAX_PATHS - 1).map(|n| format!("id:{n}=1")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut table = table(&names);
    let before = table.config();
    let refused = table.set_weights(&weights(&["id:200=1", "id:0=2"]), |_| false);
    assert!(refused.unwrap_err().contains("`id:200`"));
    assert_eq!(table.config(), before);
    let recycled = table.set_weights(&weights(&["id:200=1", "id:0=2"]), |index| index == 9);
    assert_eq!(recycled, Ok(vec![9]));
    assert_eq!((table.label(9), table.weight(1)), ("id:200", 2));
}

#[test]
fn the_next_agent_goes_on_with_the_indices_of_the_one_before() {
    let mut first = table(&["id:2=3", "eth0=4", "2001:db8::/32=1"]);
    first.set_devices(devices(&[(2, "eth0"), (3, "wwan0")]));
    let (mut next, recycled) = PathTable::resume(
        &first.config(),
        first.generation(),
        &weights(&["wwan0=9", "2001:db8::/32=5", "remote-id:1=1"]),
        |_| true,
    );
    assert!(recycled.is_empty());
    assert_ne!(next.generation(), first.generation());
    next.set_devices(devices(&[(2, "eth0"), (3, "wwan0")]));
    assert_eq!(next.devices().collect::<Vec<_>>(), [(2, 2), (3, 4)]);
    assert_eq!((next.weight(4), next.weight(3), next.weight(2)), (9, 5, 1));
    assert_eq!((next.label(1), next.label(5)), ("id:2", "remote-id:1"));
    assert!(!next.is_listed(1));
}

proptest! {
    /// Whatever devices come and go, a label keeps its index, a device that has
    /// an index is found under its name, and no index stands for two things.
    #[test]
    fn labels_are_stable(
        rounds in prop::collection::vec(prop::collection::btree_map(1_u32..20, 0_u8..12, 0..8), 1..8)
    ) {
        let mut table = table(&["d3=2", "id:1=1"]);
        let mut known: BTreeMap<String, u32> = BTreeMap::new();
        for round in rounds {
            // Names are unique at any one time.
            let mut names = BTreeSet::new();
            let devices: Devices = round
                .into_iter()
                .filter(|(_, name)| names.insert(*name))
                .map(|(ifindex, name)| (ifindex, format!("d{name}")))
                .collect();
            table.set_devices(devices.clone());
            let indexed: Vec<_> = table.devices().collect();
            prop_assert_eq!(indexed.len(), devices.len());
            for (ifindex, index) in indexed {
                let name = &devices[&ifindex];
                prop_assert_eq!(table.label(index), name);
                prop_assert!(index != UNKNOWN_PATH && table.is_present(index));
                prop_assert_eq!(*known.entry(name.clone()).or_insert(index), index);
            }
        }
    }
}

#[test]
fn ids_that_nobody_has_show_when_somebody_joins_under_others() {
    let table = {
        let mut table = table(&[
            "remote-id:0=3",
            "remote-id:1=2",
            "remote:10.2.0.0/16=1",
            // A port without a connection is nothing to warn of.
            "remote-port:443=1",
        ]);
        table.set_devices(devices(&[(2, "eth0")]));
        table
    };
    let [first, second, third, eth0] = [1, 2, 3, 5];
    assert_eq!(table.label(eth0), "eth0");
    let unmatched = |live: &[(u32, u64)], connections| {
        let live: BTreeMap<u32, u64> = live.iter().copied().collect();
        table.unmatched(
            |path| live.get(&path).copied().unwrap_or_default(),
            connections,
        )
    };
    let nobody: [&str; 0] = [];
    assert_eq!(unmatched(&[], 0), nobody);
    // Two clients with one subflow each, one with all three.
    assert_eq!(unmatched(&[(first, 2)], 2), nobody);
    assert_eq!(unmatched(&[(first, 3), (second, 1), (third, 1)], 3), nobody);
    // The ids of the clients' other addresses are new.
    let both = ["remote-id:1", "remote:10.2.0.0/16"];
    assert_eq!(unmatched(&[(first, 1), (eth0, 2)], 1), both);
    assert_eq!(
        unmatched(&[(first, 1), (eth0, 1), (third, 1)], 1),
        both[..1]
    );
}

#[test]
fn first_subflows_need_no_weight_of_their_own() {
    let mut table = table(&["remote-id:1=2"]);
    table.set_devices(devices(&[(2, "eth0")]));
    let [named, eth0] = [1, 2];
    let live = |counts: [u64; 2]| {
        move |path| match path {
            path if path == named => counts[0],
            path if path == eth0 => counts[1],
            _ => 0,
        }
    };
    // Clients without a second path, and one whose second path is named.
    assert!(table.unmatched(live([0, 5]), 5).is_empty());
    assert!(table.unmatched(live([1, 6]), 6).is_empty());
    assert_eq!(table.unmatched(live([0, 6]), 5), ["remote-id:1"]);
}
