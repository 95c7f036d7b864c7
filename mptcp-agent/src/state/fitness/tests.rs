#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

/// Two paths or more, and the time.
struct Scene {
    judge: Judge,
    start: Instant,
    seconds: u64,
    paths: Vec<(u32, Seen)>,
}

/// A second in which so many segments were sent, and some of them again.
fn sent(sent: u64, retransmitted: u64) -> Second {
    Second {
        sent,
        retransmitted,
        rtts: 10,
        rtt_sum_us: 10 * 20_000,
    }
}

/// A second of round trips that long.
fn slow(ms: u64) -> Second {
    Second {
        rtt_sum_us: 10 * ms * 1000,
        ..sent(500, 0)
    }
}

const GOOD: (u64, u64) = (500, 0);
const BAD: (u64, u64) = (500, 50);

impl Scene {
    /// Makes paths of weight 1 with these bounds, numbered from 1.
    fn new(bounds: &[&str]) -> Self {
        let path = |bound: &&str| Seen {
            bound: bound.parse().unwrap(),
            weight: 1,
            live: 1,
            did: sent(GOOD.0, GOOD.1),
        };
        Self {
            judge: Judge::default(),
            start: Instant::now(),
            seconds: 0,
            paths: (1..).zip(bounds.iter().map(path)).collect(),
        }
    }

    fn path(&mut self, path: u32) -> &mut Seen {
        &mut self.paths[path as usize - 1].1
    }

    fn does(&mut self, path: u32, did: Second) {
        self.path(path).did = did;
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.seconds)
    }

    /// Lets so many seconds pass, in which all paths go on as they did. Returns
    /// the changes, each with its second.
    fn pass(&mut self, seconds: u64) -> Vec<(u64, u32, Standing, Reason)> {
        let mut changes = Vec::new();
        for _ in 0..seconds {
            self.seconds += 1;
            let (now, second) = (self.now(), self.seconds);
            // A path that is left out carries nothing.
            let paths: Vec<(u32, Seen)> = self
                .paths
                .iter()
                .map(|&(index, seen)| match self.standing(index) {
                    LeftOut => (
                        index,
                        Seen {
                            did: Second::default(),
                            ..seen
                        },
                    ),
                    _ => (index, seen),
                })
                .collect();
            let done = self.judge.step(now, &paths).into_iter();
            changes.extend(done.map(|one| (second, one.path, one.to, one.reason)));
        }
        changes
    }

    fn standing(&self, path: u32) -> Standing {
        let known = self.judge.paths.get(&path);
        known.map_or(Used, |path| path.standing)
    }
}

use Reason::{Idle, Loss, Rtt};
use Standing::{LeftOut, Tried, Used};

#[test]
fn a_path_that_loses_is_left_out_after_three_seconds_and_comes_back() {
    let mut scene = Scene::new(&["loss:5%", "none"]);
    assert_eq!(scene.pass(60), []);
    scene.does(1, sent(BAD.0, BAD.1));
    // The window still holds good seconds: it passes the bound after three.
    assert_eq!(scene.pass(5), [(65, 1, LeftOut, Loss)]);
    let fitness = scene.judge.fitness(1, scene.now()).unwrap();
    assert_eq!(fitness.count, [1, 0]);
    let (reason, measured, since) = fitness.why.unwrap();
    assert_eq!((reason, since), (Loss, Duration::ZERO));
    assert_eq!(measured.loss, Some(0.1));
    scene.does(1, sent(GOOD.0, GOOD.1));
    // Ten seconds of waiting, four of a trial.
    assert_eq!(scene.pass(20), [(75, 1, Tried, Loss), (79, 1, Used, Loss)]);
    assert_eq!(scene.judge.fitness(1, scene.now()).unwrap().why, None);
    assert_eq!(scene.pass(600), []);
    assert!(scene.judge.fitness(2, scene.now()).is_none());
}

#[test]
fn a_long_round_trip_is_a_reason_as_well() {
    let mut scene = Scene::new(&["loss:5%,rtt:300ms", "none"]);
    scene.does(1, slow(400));
    let changes = scene.pass(3);
    assert_eq!(changes, [(3, 1, LeftOut, Rtt)]);
    let why = scene.judge.fitness(1, scene.now()).unwrap().why.unwrap();
    assert_eq!(why.1.rtt_seconds, Some(0.4));
    // Below the bound, but not by enough.
    scene.does(1, slow(250));
    let changes = scene.pass(16);
    assert_eq!(changes, [(13, 1, Tried, Rtt), (17, 1, LeftOut, Rtt)]);
    scene.does(1, slow(240));
    assert_eq!(scene.pass(22)[1], (17 + 20 + 4, 1, Used, Rtt));
}

#[test]
fn a_path_comes_back_only_well_below_its_bound() {
    let mut scene = Scene::new(&["loss:5%", "none"]);
    scene.does(1, sent(BAD.0, BAD.1));
    assert_eq!(scene.pass(3).len(), 1);
    // 3 % are within the bound, but not below half of it.
    scene.does(1, sent(500, 15));
    let changes = scene.pass(14);
    assert_eq!(changes, [(13, 1, Tried, Loss), (17, 1, LeftOut, Loss)]);
    scene.does(1, sent(500, 12));
    assert_eq!(scene.pass(24).last(), Some(&(41, 1, Used, Loss)));
}

#[test]
fn each_trial_that_fails_makes_the_next_wait_twice_as_long() {
    let mut scene = Scene::new(&["loss:5%", "none"]);
    scene.does(1, sent(BAD.0, BAD.1));
    let changes = scene.pass(2_000);
    let trials = changes.iter().filter(|change| change.2 == Tried);
    let trials: Vec<u64> = trials.map(|change| change.0).collect();
    let outs = changes.iter().filter(|change| change.2 == LeftOut);
    let outs: Vec<u64> = outs.map(|change| change.0).collect();
    let waits = outs.iter().zip(&trials).map(|(out, trial)| trial - out);
    let waits: Vec<u64> = waits.collect();
    assert_eq!(waits[..7], [10, 20, 40, 80, 160, 300, 300]);
    // A path that is that bad ends its trial early.
    assert_eq!(outs[1] - trials[0], 3);
    // A trial that fails does not leave it out anew.
    assert_eq!(scene.judge.fitness(1, scene.now()).unwrap().count, [1, 0]);
}

/// The path is well while it is tried, and bad once it carries its part.
#[test]
fn a_path_that_flaps_is_out_for_longer_each_time() {
    let mut scene = Scene::new(&["rtt:300ms", "none"]);
    let mut waits = Vec::new();
    let mut out = 0;
    for _ in 0..1_500 {
        let ms = if scene.standing(1) == Used { 500 } else { 20 };
        scene.does(1, slow(ms));
        for (second, _, to, _) in scene.pass(1) {
            match to {
                LeftOut => out = second,
                Tried => waits.push(second - out),
                Used => {}
            }
        }
    }
    assert_eq!(waits[..7], [10, 20, 40, 80, 160, 300, 300]);
    // After five minutes without any of that, it starts anew.
    while scene.standing(1) != Used {
        scene.does(1, slow(20));
        scene.pass(1);
    }
    assert_eq!(scene.pass(301), []);
    scene.does(1, slow(500));
    let changes = scene.pass(14);
    assert_eq!((changes[0].2, changes[1].2), (LeftOut, Tried));
    assert_eq!(changes[1].0 - changes[0].0, 10);
}

#[test]
fn the_last_path_stays_and_it_is_the_best_one() {
    let mut scene = Scene::new(&["loss:5%", "loss:5%"]);
    scene.does(1, sent(500, 100));
    scene.does(2, sent(500, 50));
    // Both pass their bound in the same second.
    assert_eq!(scene.pass(9), [(3, 1, LeftOut, Loss)]);
    // As bad as the other in its trial, it stays out.
    scene.does(1, sent(500, 45));
    let changes = scene.pass(10);
    assert_eq!(changes, [(13, 1, Tried, Loss), (16, 1, LeftOut, Loss)]);
    // Though it passes its bound, it is better than the other one by far.
    scene.does(1, sent(500, 30));
    let changes = scene.pass(22);
    assert_eq!(
        changes,
        [
            (36, 1, Tried, Loss),
            (39, 1, Used, Loss),
            (39, 2, LeftOut, Loss)
        ]
    );
}

#[test]
fn a_path_that_cannot_be_used_takes_no_others_place() {
    for cannot in [
        |seen: &mut Seen| seen.weight = 0,
        |seen: &mut Seen| (seen.live, seen.did) = (0, Second::default()),
    ] {
        let mut scene = Scene::new(&["loss:5%", "none"]);
        cannot(scene.path(2));
        scene.does(1, sent(BAD.0, BAD.1));
        assert_eq!(scene.pass(60), []);
    }
    // The user's own standby path is not judged.
    let mut scene = Scene::new(&["loss:5%", "none"]);
    scene.path(1).weight = 0;
    scene.does(1, sent(BAD.0, BAD.1));
    assert_eq!(scene.pass(60), []);
}

#[test]
fn a_path_comes_back_once_it_is_the_last_one() {
    let mut scene = Scene::new(&["loss:5%", "none"]);
    scene.does(1, sent(BAD.0, BAD.1));
    assert_eq!(scene.pass(3).len(), 1);
    (scene.path(2).live, scene.path(2).did) = (0, Second::default());
    // The other one counts while it has carried something of late.
    let changes = scene.pass(8);
    assert_eq!(changes, [(10, 1, Used, Loss)]);
    // Then it stays, as bad as it is.
    assert_eq!(scene.pass(100), []);
}

#[test]
fn a_path_whose_quota_is_spent_does_not_come_back_as_the_last_one() {
    let mut scene = Scene::new(&["loss:5%", "none"]);
    scene.does(1, sent(BAD.0, BAD.1));
    assert_eq!(scene.pass(3).len(), 1);
    (scene.path(2).live, scene.path(2).did) = (0, Second::default());
    scene.path(1).weight = 0;
    assert_eq!(scene.pass(9), []);
    scene.path(1).weight = 1;
    let changes = scene.pass(8);
    assert_eq!(changes, [(15, 1, Used, Loss)]);
}

#[test]
fn too_little_data_says_nothing() {
    let mut scene = Scene::new(&["loss:5%", "none"]);
    // One lost segment of ten is no tenth, nor are four of 95.
    for (segments, lost) in [(10, 1), (19, 1), (19, 0), (3, 1)] {
        scene.does(1, sent(segments, lost));
        assert_eq!(scene.pass(20), [], "{lost} of {segments}");
    }
    // But many losses do tell, however little gets through.
    scene.does(1, sent(8, 4));
    assert_eq!(scene.pass(8).len(), 1);
    // A low bound needs more.
    let mut scene = Scene::new(&["loss:0.1%", "none"]);
    scene.does(1, sent(300, 1));
    assert_eq!(scene.pass(20), []);
    scene.does(1, sent(500, 1));
    assert_eq!(scene.pass(8).len(), 1);
}

#[test]
fn one_burst_of_losses_is_no_reason() {
    let mut scene = Scene::new(&["loss:5%,rtt:300ms", "none"]);
    for _ in 0..10 {
        scene.does(1, sent(500, 200));
        assert_eq!(scene.pass(2), []);
        scene.does(1, sent(500, 2));
        assert_eq!(scene.pass(8), []);
        scene.does(1, slow(900));
        assert_eq!(scene.pass(2), []);
        // Silence neither adds to a streak nor ends it.
        scene.does(1, Second::default());
        assert_eq!(scene.pass(10), []);
    }
}

#[test]
fn a_trial_over_which_nothing_is_sent_ends_and_waits_no_longer() {
    let mut scene = Scene::new(&["loss:5%", "none"]);
    scene.does(1, sent(BAD.0, BAD.1));
    assert_eq!(scene.pass(3).len(), 1);
    scene.does(1, Second::default());
    assert_eq!(
        scene.pass(90),
        [
            (13, 1, Tried, Loss),
            (43, 1, LeftOut, Idle),
            (53, 1, Tried, Loss),
            (83, 1, LeftOut, Idle),
            (93, 1, Tried, Loss)
        ]
    );
    // A few segments, none of them lost, are enough in the end.
    scene.does(1, sent(2, 0));
    assert_eq!(scene.pass(30), [(123, 1, Used, Loss)]);
}

#[test]
fn no_trial_starts_while_nothing_is_sent_or_there_is_no_subflow() {
    let mut scene = Scene::new(&["loss:5%", "none"]);
    scene.does(1, sent(BAD.0, BAD.1));
    assert_eq!(scene.pass(3).len(), 1);
    scene.does(2, Second::default());
    assert_eq!(scene.pass(100), []);
    scene.does(2, sent(GOOD.0, GOOD.1));
    scene.path(1).live = 0;
    assert_eq!(scene.pass(100), []);
    scene.path(1).live = 1;
    assert_eq!(scene.pass(1), [(204, 1, Tried, Loss)]);
}

#[test]
fn one_path_is_tried_at_a_time() {
    let mut scene = Scene::new(&["loss:5%", "loss:5%", "none"]);
    scene.does(1, sent(BAD.0, BAD.1));
    scene.does(2, sent(BAD.0, BAD.1));
    assert_eq!(scene.pass(3).len(), 2);
    scene.does(1, sent(GOOD.0, GOOD.1));
    scene.does(2, sent(GOOD.0, GOOD.1));
    let changes = scene.pass(20);
    assert_eq!(
        changes,
        [
            (13, 1, Tried, Loss),
            (17, 1, Used, Loss),
            (17, 2, Tried, Loss),
            (21, 2, Used, Loss)
        ]
    );
}

#[test]
fn a_tried_path_gets_a_twentieth_or_a_rank_that_is_no_better_than_others() {
    let weights = |given: &[u16], shares: bool| {
        let mut scene = Scene::new(&["loss:5%", "none", "none"][..given.len()]);
        for (index, &weight) in (1..).zip(given) {
            scene.path(index).weight = weight;
        }
        scene.does(1, sent(BAD.0, BAD.1));
        scene.pass(3);
        let out = scene.judge.overlay(shares);
        assert_eq!((out.weights[&1], out.scale), (0, 0));
        scene.pass(10);
        let tried = scene.judge.overlay(shares);
        (u32::from(tried.weights[&1]), tried.scale)
    };
    for given in [[1, 1], [4, 1], [1, 4], [1, 100], [65_535, 65_535]] {
        let (weight, scale) = weights(&given, true);
        let others = f64::from(given[1]) * f64::from(scale);
        let share = f64::from(weight) / (f64::from(weight) + others);
        assert!(
            (0.04..=0.05).contains(&share) || given == [1, 100],
            "{given:?}: {share}"
        );
    }
    // It gets no more than the user wanted it to.
    assert_eq!(weights(&[1, 100], true), (1, 1));
    // Ranks: the preferred path, then the last one.
    assert_eq!(weights(&[3, 2, 1], false), (2, 0));
    assert_eq!(weights(&[1, 3, 2], false), (1, 0));
}

#[test]
fn a_change_of_policy_keeps_out_what_has_the_same_bounds() {
    let mut scene = Scene::new(&["loss:5%", "loss:5%", "none"]);
    scene.does(1, sent(BAD.0, BAD.1));
    scene.does(2, sent(BAD.0, BAD.1));
    assert_eq!(scene.pass(13).len(), 3);
    assert_eq!((scene.standing(1), scene.standing(2)), (Tried, LeftOut));
    let now = scene.now();
    scene.judge.follow(now, |path| path == 1);
    assert_eq!((scene.standing(1), scene.standing(2)), (LeftOut, Used));
    assert_eq!(scene.judge.overlay(true).weights, [(1, 0)].into());
    scene.judge.forget(1);
    assert_eq!(scene.judge.overlay(true), Overlay::default());
    scene.pass(1);
    let fitness = scene.judge.fitness(2, scene.now()).unwrap();
    assert_eq!(fitness.count, [1, 0], "the count goes on");
}
