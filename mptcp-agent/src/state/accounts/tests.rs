#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use mptcp_api::policy::Shared;
use proptest::prelude::*;

use super::*;
use crate::policy::Weights;

const MB: u64 = 1_000_000;

fn quotas(texts: &[&str]) -> Quotas {
    let settings = Shared {
        quotas: texts.iter().map(ToString::to_string).collect(),
        ..Shared::default()
    };
    Quotas::check(&settings, &Weights::EQUAL, true).unwrap()
}

fn at(text: &str) -> Now<'static> {
    Now {
        time: text.parse().unwrap(),
        zone: const { &TimeZone::UTC },
    }
}

fn bytes(sent: u64, received: u64) -> Bytes {
    Bytes { sent, received }
}

fn device(boot: &str, ifindex: u32, sent: u64, received: u64) -> Reading {
    Reading::Device(saved::Device {
        boot: boot.to_owned(),
        ifindex,
        bytes: bytes(sent, received),
    })
}

/// One path with a quota, and the time.
struct World {
    accounts: Accounts,
    quotas: Quotas,
}

impl World {
    fn new(quota: &str, now: &str) -> Self {
        let mut world = Self {
            accounts: Accounts::default(),
            quotas: quotas(&[quota]),
        };
        world.accounts.follow(&world.quotas, at(now), None);
        world
    }

    /// Reads counters; returns what has become of the quota.
    fn read(&mut self, now: &str, reading: Reading) -> Option<Turn> {
        let changes = self
            .accounts
            .step(&self.quotas, at(now), |_, _| Some(reading.clone()));
        assert!(changes.len() <= 1);
        changes.first().map(|change| change.to)
    }

    fn used(&self) -> u64 {
        self.accounts.standing("w", &self.quotas).unwrap().used
    }

    fn span(&self) -> (String, String) {
        let span = self.accounts.standing("w", &self.quotas).unwrap().span;
        let date = |second| Timestamp::from_second(second).unwrap().to_string()[..10].to_owned();
        (date(span.start), date(span.end))
    }

    /// Replaces the agent: what it knows is saved and loaded.
    fn restart(&mut self) {
        let saved = self.accounts.save();
        self.accounts = Accounts::load(&saved);
        assert_eq!(self.accounts.save(), saved);
    }

    fn set(&mut self, quota: &str, now: &str) {
        self.quotas = quotas(&[quota]);
        self.accounts.follow(&self.quotas, at(now), None);
    }
}

const NOV: &str = "2026-11-27T12:00:00Z";

#[test]
fn what_is_new_counts_once_and_over_restarts() {
    let mut world = World::new("w=100MB/month", NOV);
    assert_eq!(world.read(NOV, device("b", 3, 500 * MB, 700 * MB)), None);
    assert_eq!(world.used(), 0, "what was there before does not count");
    world.read(NOV, device("b", 3, 510 * MB, 705 * MB));
    assert_eq!(world.used(), 15 * MB);
    world.restart();
    // Another 5 MB pass while no agent runs.
    world.read(NOV, device("b", 3, 515 * MB, 705 * MB));
    world.read(NOV, device("b", 3, 515 * MB, 705 * MB));
    assert_eq!(world.used(), 20 * MB);
}

#[test]
fn counters_that_start_anew_count_in_full() {
    let mut world = World::new("w=100MB/month", NOV);
    world.read(NOV, device("b", 3, 50 * MB, 60 * MB));
    // The driver was reset: the same device, lower counters.
    world.read(NOV, device("b", 3, MB, 61 * MB));
    assert_eq!(world.used(), 2 * MB);
    // The device was made anew, and has carried more than before by now.
    world.read(NOV, device("b", 4, 3 * MB, 62 * MB));
    assert_eq!(world.used(), 67 * MB);
    // The host was rebooted, and the device has the same index.
    world.restart();
    world.read(NOV, device("c", 4, 4 * MB, 70 * MB));
    assert_eq!(world.used(), 141 * MB);
    // The device is gone, and comes back as it was (moved to a namespace and back).
    let none = world.accounts.step(&world.quotas, at(NOV), |_, _| None);
    assert_eq!(none, []);
    world.read(NOV, device("c", 4, 4 * MB, 71 * MB));
    assert_eq!(world.used(), 142 * MB);
}

#[test]
fn totals_of_connections_count_from_the_agent_s_start_or_go_on() {
    let mut world = World::new("w=100MB/day,count:connections", NOV);
    let totals = |sent, received| Reading::Connections(bytes(sent * MB, received * MB));
    world.read(NOV, totals(5, 5));
    world.read(NOV, totals(7, 8));
    assert_eq!(world.used(), 5 * MB);
    // The next agent has adopted the totals.
    world.restart();
    world.read(NOV, totals(8, 8));
    assert_eq!(world.used(), 6 * MB);
    // This one has not, and its connections carry much before the first look.
    world.restart();
    world.accounts.restart_totals(None);
    world.read(NOV, totals(20, 0));
    assert_eq!(world.used(), 26 * MB);
    // The path's index went to another and came back.
    world.accounts.restart_totals(Some("other"));
    world.read(NOV, totals(21, 0));
    world.accounts.restart_totals(Some("w"));
    world.read(NOV, totals(22, 0));
    assert_eq!(world.used(), (27 + 22) * MB);
}

#[test]
fn totals_of_a_first_agent_count_from_its_start() {
    let mut world = World::new("w=100MB/day,count:connections", NOV);
    world.accounts.restart_totals(None);
    world.read(NOV, Reading::Connections(bytes(5, 6)));
    assert_eq!(world.used(), 11);
}

#[test]
fn the_direction_says_what_counts() {
    for (direction, used) in [("both", 9), ("tx", 4), ("rx", 5)] {
        let mut world = World::new(&format!("w=100MB/day,direction:{direction}"), NOV);
        world.read(NOV, device("b", 1, 0, 0));
        world.read(NOV, device("b", 1, 4 * MB, 5 * MB));
        assert_eq!(world.used(), used * MB);
        // Both were counted, so that another direction knows.
        world.set("w=100MB/day", NOV);
        assert_eq!(world.used(), 9 * MB);
    }
}

#[test]
fn a_spent_quota_is_told_once_and_holds_the_path_out_until_it_is_renewed() {
    let mut world = World::new("w=10MB/day", NOV);
    let held = |world: &World| world.accounts.holds_out("w", &world.quotas);
    world.read(NOV, device("b", 1, 0, 0));
    assert_eq!(world.read(NOV, device("b", 1, 10 * MB - 1, 0)), None);
    assert!(!held(&world));
    assert_eq!(
        world.read(NOV, device("b", 1, 10 * MB, 0)),
        Some(Turn::Spent)
    );
    assert!(held(&world));
    assert_eq!(world.read(NOV, device("b", 1, 11 * MB, 0)), None);
    world.restart();
    assert!(held(&world), "from the start of the next agent on");
    assert_eq!(world.read(NOV, device("b", 1, 11 * MB, 0)), None);
    let next = "2026-11-28T00:00:00Z";
    let renewed = Some(Turn::Renewed(Cause::Period));
    assert_eq!(world.read(next, device("b", 1, 12 * MB, 0)), renewed);
    assert_eq!((world.used(), held(&world)), (MB, false));
    // A quiet period is told, too.
    let later = "2026-11-29T00:00:00Z";
    assert_eq!(world.read(later, device("b", 1, 12 * MB, 0)), renewed);
    assert_eq!(world.used(), 0);
    // Spent in the same look.
    let later = "2026-11-30T00:00:00Z";
    assert_eq!(
        world.read(later, device("b", 1, 99 * MB, 0)),
        Some(Turn::Spent)
    );

    let mut warns = World::new("w=1MB/day,action:warn", NOV);
    warns.read(NOV, device("b", 1, 0, 0));
    assert_eq!(warns.read(NOV, device("b", 1, MB, 0)), Some(Turn::Spent));
    assert!(!held(&warns));
}

#[test]
fn a_reset_and_a_larger_quota_end_it() {
    let mut world = World::new("w=10MB/day", NOV);
    world.read(NOV, device("b", 1, 0, 0));
    world.read(NOV, device("b", 1, 10 * MB, 0));
    assert!(world.accounts.reset("w", &world.quotas, at(NOV)));
    assert!(!world.accounts.reset("x", &world.quotas, at(NOV)));
    assert!(!world.accounts.holds_out("w", &world.quotas), "at once");
    let turn = world.read(NOV, device("b", 1, 11 * MB, 0));
    assert_eq!(
        (turn, world.used()),
        (Some(Turn::Renewed(Cause::Reset)), MB)
    );
    assert_eq!(
        world.read(NOV, device("b", 1, 21 * MB, 0)),
        Some(Turn::Spent)
    );
    world.set("w=20MB/day", NOV);
    let turn = world.read(NOV, device("b", 1, 21 * MB, 0));
    assert_eq!(
        (turn, world.used()),
        (Some(Turn::Renewed(Cause::Policy)), 11 * MB)
    );
    // Another period: what was used goes on.
    world.set("w=10MB/week", NOV);
    assert_eq!(
        world.read(NOV, device("b", 1, 21 * MB, 0)),
        Some(Turn::Spent)
    );
    assert_eq!(
        world.span(),
        ("2026-11-23".to_owned(), "2026-11-30".to_owned())
    );
}

#[test]
fn a_policy_without_the_quota_forgets_it_only_when_the_period_is_over() {
    let mut world = World::new("w=10MB/day", NOV);
    world.read(NOV, device("b", 1, 0, 0));
    world.read(NOV, device("b", 1, 10 * MB, 0));
    let none = Quotas::default();
    world.accounts.follow(&none, at(NOV), None);
    assert_eq!(world.accounts.standing("w", &none), None);
    assert!(!world.accounts.holds_out("w", &none));
    world.restart();
    world.set("w=10MB/day", NOV);
    assert!(world.accounts.holds_out("w", &world.quotas));
    world
        .accounts
        .follow(&none, at("2026-11-28T00:00:00Z"), None);
    assert_eq!(world.accounts, Accounts::default());
}

#[test]
fn no_more_accounts_are_kept_than_can_be_read_again() {
    let mut accounts = Accounts::default();
    let booted = None;
    for number in 0..2 * MOST {
        let quotas = quotas(&[&format!("x{number}=10MB/day")]);
        accounts.follow(&quotas, at(NOV), booted);
        assert!(accounts.standing(&format!("x{number}"), &quotas).is_some());
    }
    let saved = accounts.save();
    assert_eq!(saved.len(), MOST + 1);
    let boot = String::new();
    let content = saved::encode(&saved::Saved {
        boot,
        accounts: saved,
    });
    assert!(saved::decode(&content.unwrap()).is_ok());
}

#[test]
fn another_way_of_counting_starts_from_what_was_used() {
    let mut world = World::new("w=100MB/day", NOV);
    world.read(NOV, device("b", 1, 0, 0));
    world.read(NOV, device("b", 1, 3 * MB, 0));
    world.set("w=100MB/day,count:connections", NOV);
    world.read(NOV, Reading::Connections(bytes(70 * MB, 0)));
    world.read(NOV, Reading::Connections(bytes(71 * MB, 0)));
    assert_eq!(world.used(), 4 * MB);
    // The device counted on meanwhile.
    world.set("w=100MB/day", NOV);
    world.read(NOV, device("b", 1, 90 * MB, 0));
    world.read(NOV, device("b", 1, 91 * MB, 0));
    assert_eq!(world.used(), 5 * MB);
}

#[test]
fn a_clock_that_jumps_gives_nothing_back() {
    // A board without a battery starts in 1970.
    let mut world = World::new("w=10MB/month", NOV);
    world.read(NOV, device("b", 1, 0, 0));
    world.read(NOV, device("b", 1, 8 * MB, 0));
    world.restart();
    let epoch = "1970-01-01T00:00:10Z";
    assert_eq!(world.read(epoch, device("c", 1, MB, 0)), None);
    assert_eq!(world.used(), 9 * MB);
    assert_eq!(
        world.read(NOV, device("c", 1, 2 * MB, 0)),
        Some(Turn::Spent)
    );
    assert_eq!(
        world.span(),
        ("2026-11-01".to_owned(), "2026-12-01".to_owned())
    );

    // It jumps ahead for a moment.
    let ahead = "2038-01-19T03:14:07Z";
    let renewed = Some(Turn::Renewed(Cause::Period));
    assert_eq!(world.read(ahead, device("c", 1, 3 * MB, 0)), renewed);
    assert_eq!(world.used(), MB);
    assert_eq!(
        world.read(NOV, device("c", 1, 3 * MB, 0)),
        Some(Turn::Spent)
    );
    assert_eq!(world.used(), 11 * MB);
    assert_eq!(
        world.span(),
        ("2026-11-01".to_owned(), "2026-12-01".to_owned())
    );

    // It jumps ahead twice: what is left of the first period is not known, and the
    // last one goes on until somebody resets it.
    world.read(ahead, device("c", 1, 4 * MB, 0));
    world.read("2040-01-01T00:00:00Z", device("c", 1, 5 * MB, 0));
    world.read(NOV, device("c", 1, 7 * MB, 0));
    assert_eq!(
        (world.used(), world.span().0.as_str()),
        (3 * MB, "2040-01-01")
    );
    world.accounts.reset("w", &world.quotas, at(NOV));
    assert_eq!(
        world.span(),
        ("2026-11-01".to_owned(), "2026-12-01".to_owned())
    );
}

#[test]
fn a_period_lasts_as_long_as_when_it_began_if_the_time_zone_changes() {
    let mut world = World::new("w=10MB/day", NOV);
    world.read(NOV, device("b", 1, 0, 0));
    let zone = TimeZone::posix("XXX-10").unwrap();
    let now = Now {
        zone: &zone,
        ..at("2026-11-27T23:59:59Z")
    };
    let read = |_: &Quota, _: &str| Some(device("b", 1, MB, 0));
    assert_eq!(world.accounts.step(&world.quotas, now, read), []);
    let now = Now {
        zone: &zone,
        ..at("2026-11-28T00:00:00Z")
    };
    assert_eq!(world.accounts.step(&world.quotas, now, read).len(), 1);
    let span = world.accounts.standing("w", &world.quotas).unwrap().span;
    assert_eq!(span.end - now.time.as_second(), 14 * 3600);
}

#[test]
fn without_the_file_a_device_that_began_in_this_period_counts_in_full() {
    let booted = |text: &str| Some(text.parse::<Timestamp>().unwrap().as_second());
    for (boot, used) in [
        (booted("2026-11-03T00:00:00Z"), 9 * MB),
        (booted("2026-10-31T00:00:00Z"), 0),
        (None, 0),
    ] {
        let mut world = World::new("w=100MB/month", NOV);
        world.accounts = Accounts::default();
        world.accounts.follow(&world.quotas, at(NOV), boot);
        world.read(NOV, device("b", 1, 4 * MB, 5 * MB));
        assert_eq!(world.used(), used);
        world.read(NOV, device("b", 1, 5 * MB, 5 * MB));
        assert_eq!(world.used(), used + MB);
    }
}

#[test]
fn paths_without_a_reading_and_without_an_account_stay_as_they_are() {
    let quotas = quotas(&["w=10MB/day", "id:2=5MB/week,action:warn"]);
    let mut accounts = Accounts::default();
    assert_eq!(accounts.step(&quotas, at(NOV), |_, _| None), []);
    assert_eq!(accounts.standing("w", &quotas), None);
    accounts.follow(&quotas, at(NOV), None);
    let read = |quota: &Quota, label: &str| {
        assert_eq!(quota.selector.to_string(), label);
        (label == "id:2").then(|| Reading::Connections(bytes(1, 2)))
    };
    assert_eq!(accounts.step(&quotas, at(NOV), read), []);
    let paths: Vec<String> = accounts.save().into_iter().map(|one| one.path).collect();
    assert_eq!(paths, ["id:2", "w"]);
}

proptest! {
    /// Whatever counters and clock do, what is used never falls within a period,
    /// and nothing overflows.
    #[test]
    fn used_never_falls_unless_a_period_begins(
        steps in prop::collection::vec((0_i64..40, any::<u64>(), any::<u64>(), 1_u32..3), 1..30)
    ) {
        let mut world = World::new("w=10MB/week", NOV);
        let mut used = 0;
        for (days, sent, received, ifindex) in steps {
            let now = format!("2026-{:02}-{:02}T00:00:00Z", 10 + days / 20, 1 + days % 20);
            let turn = world.read(&now, device("b", ifindex, sent, received));
            let began = matches!(turn, Some(Turn::Renewed(_) | Turn::Spent));
            prop_assert!(began || world.used() >= used);
            used = world.used();
            world.restart();
        }
    }
}
