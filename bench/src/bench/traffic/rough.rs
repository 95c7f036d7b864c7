//! A bulk upload over paths that lose packets, are far away, or change their
//! rate.

use std::path::Path as FilePath;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::traffic::Bulk;
use mptcp_lab::{Direction, Link, Path, share};

use super::case::Case;
use super::column::{Column, Target, ratios};
use super::policy::Policy;
use super::side::{Sender, Side};
use super::watch::{Watch, Watched};
use crate::bench::plan::{Links, path};

/// The time to build a lab, and to start and to stop an agent.
const OVERHEAD: Duration = Duration::from_secs(2);
/// A limit that no transfer reaches; the benchmark stops it earlier.
const LONG: Duration = Duration::from_secs(600);
/// The rates of the moving path, in Mbit/s, and the seconds for which each holds.
const MOVES: [f64; 8] = [1.0, 30.0, 8.0, 20.0, 2.0, 25.0, 5.0, 15.0];
const MOVE_SECONDS: u32 = 3;
/// The least allowed goodput of spill and aggregate, as a part of the default
/// scheduler's.
const DEFAULT_MIN: f64 = 0.98;
/// The least allowed goodput of spill and aggregate in every round, as a part of
/// what the best path alone can carry.
const SINGLE_MIN: f64 = 0.9;
/// The least allowed goodput of strict, as a part of the most that the weights
/// allow.
const BOUND_MIN: f64 = 0.9;
/// How far the share may be off.
const ERROR_MAX: f64 = 0.02;

/// The way in which the links are rough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The second path loses 15 % of the packets.
    Lossy,
    /// Both paths lose 1 %.
    Leaky,
    /// The second path has a round trip of 600 ms.
    Far,
    /// The second path goes from 30 to 0.5 Mbit/s in the middle.
    Throttled,
    /// The second path's rate moves between 1 and 30 Mbit/s.
    Moving,
}

/// An upload over rough paths.
pub struct Rough {
    kind: Kind,
    congestion: &'static str,
    seconds: u32,
}

/// Returns the cases. Where packets are lost, the targets can be met with bbr
/// only: cubic takes every loss for a full queue.
pub fn cases(quick: bool) -> Vec<Rough> {
    let kinds = [
        Kind::Lossy,
        Kind::Leaky,
        Kind::Far,
        Kind::Throttled,
        Kind::Moving,
    ];
    let mut cases = Vec::new();
    for kind in kinds {
        let congestions: &[_] = match (kind, quick) {
            (Kind::Lossy | Kind::Leaky, _) => &["bbr"],
            (_, true) => &["cubic"],
            (_, false) => &["cubic", "bbr"],
        };
        let seconds = match (kind, quick) {
            (Kind::Lossy | Kind::Leaky | Kind::Far, true) => 5,
            (Kind::Lossy | Kind::Leaky | Kind::Far, false) => 15,
            (Kind::Throttled | Kind::Moving, true) => 6,
            (Kind::Throttled | Kind::Moving, false) => 24,
        };
        cases.extend(congestions.iter().map(|&congestion| Rough {
            kind,
            congestion,
            seconds,
        }));
    }
    cases
}

impl Rough {
    /// Returns the links as they are made.
    fn links(&self) -> Links {
        let at = |number, rate, delay| path(number, rate).delay_ms(delay);
        match self.kind {
            Kind::Lossy => Links::new(
                "50+50@20, 15 % loss on p2",
                [at(1, 50.0, 10.0), at(2, 50.0, 10.0)],
            ),
            Kind::Leaky => Links::new(
                "40@20+40@40, 1 % loss",
                [at(1, 40.0, 10.0), at(2, 40.0, 20.0)],
            ),
            Kind::Far => Links::new("40@20+10@600", [at(1, 40.0, 10.0), at(2, 10.0, 300.0)]),
            Kind::Throttled => Links::new(
                "30+30@20, p2 to 0.5",
                [at(1, 30.0, 10.0), at(2, 30.0, 10.0)],
            ),
            Kind::Moving => Links::new("30+(1..30)@20", [at(1, 30.0, 10.0), at(2, 30.0, 10.0)]),
        }
    }

    fn weights(&self) -> &'static [u16] {
        match self.kind {
            Kind::Far => &[4, 1],
            _ => &[1, 1],
        }
    }

    /// Returns the loss of each path in percent.
    fn losses(&self) -> [f64; 2] {
        match self.kind {
            Kind::Lossy => [0.0, 15.0],
            Kind::Leaky => [1.0, 1.0],
            Kind::Far | Kind::Throttled | Kind::Moving => [0.0, 0.0],
        }
    }

    /// Returns the rate of the second path in this second, in Mbit/s; `None` if it
    /// never changes.
    fn second_rate(&self, second: u32) -> Option<f64> {
        match self.kind {
            Kind::Throttled if second >= self.seconds / 2 => Some(0.5),
            Kind::Throttled => Some(30.0),
            Kind::Moving => {
                let step = (second / MOVE_SECONDS) as usize % MOVES.len();
                Some(MOVES[step])
            }
            Kind::Lossy | Kind::Leaky | Kind::Far => None,
        }
    }

    /// Returns the time that is not measured.
    fn settle(&self) -> Duration {
        Duration::from_secs(if self.kind == Kind::Far { 4 } else { 2 })
    }

    /// Describes the paths as they are in this second, with what their losses leave
    /// of their rates.
    fn paths(&self, second: u32) -> Vec<Path> {
        let links = self.links();
        let rates = links.paths.into_iter().zip(self.losses()).enumerate();
        let changed = self.second_rate(second);
        let remaining = |(index, (path, loss)): (usize, (Path, f64))| {
            let rate = path.rate().unwrap_or(f64::NAN);
            let rate = changed.filter(|_| index == 1).unwrap_or(rate);
            path.rate_mbit(rate * (1.0 - loss / 100.0))
        };
        rates.map(remaining).collect()
    }

    /// Returns the mean of a rate over all seconds, in Mbit/s.
    fn mean(&self, rate: impl Fn(&[Path]) -> f64) -> f64 {
        let each = (0..self.seconds).map(|second| rate(&self.paths(second)));
        each.sum::<f64>() / f64::from(self.seconds)
    }

    /// Returns the most that the weights allow, in Mbit/s.
    fn bound_mbit(&self, weights: &[u16]) -> f64 {
        self.mean(|paths| share::bound_mbit(paths, weights).unwrap_or(f64::NAN))
    }

    /// Returns the most that the best path alone carries, in Mbit/s.
    fn single_mbit(&self) -> f64 {
        let alone =
            |index: usize| self.mean(|paths| paths[index].goodput_mbit().unwrap_or(f64::NAN));
        alone(0).max(alone(1))
    }

    fn change(&self, links: &[Link], second: u32) -> Result<()> {
        let rate = |second| self.second_rate(second);
        match rate(second) {
            Some(now) if second == 0 || rate(second - 1) != Some(now) => {
                links[1].set_rate_mbit(Direction::Both, now)
            }
            _ => Ok(()),
        }
    }
}

impl Case for Rough {
    type Measured = Watched;

    fn group(&self) -> &'static str {
        "rough"
    }

    fn about(&self) -> &'static str {
        "rough: an upload over rough paths; / default (spill, aggregate: at least 0.98); / single: \
         by what the best path alone can carry (spill, aggregate: at least 0.9 in every round); / \
         bound: by the most that the weights allow (strict: at least 0.9); error: of the share \
         (strict: at most 0.02)"
    }

    fn label(&self, policy: Policy) -> String {
        let title = self.links().title;
        format!("rough {title} {policy} {}", self.congestion)
    }

    fn policies(&self) -> Vec<Policy> {
        let weights = self.weights();
        vec![
            Policy::Spill(weights),
            Policy::Aggregate,
            Policy::Strict(weights),
        ]
    }

    fn length(&self, policies: &[Policy]) -> Duration {
        let one = OVERHEAD + self.settle() + Duration::from_secs(self.seconds.into());
        one * policies.len() as u32
    }

    fn measure(&self, agent: &FilePath, policy: Policy) -> Result<Watched> {
        let side = Side::new(agent, &self.links(), Sender::Client, policy)?;
        let net = &side.rig.net;
        let bulk = Bulk::upload_for(LONG).congestion(self.congestion);
        let (sink, transfer) = side.rig.start(bulk)?;
        for (link, loss) in net.links.iter().zip(self.losses()) {
            if loss > 0.0 {
                link.set_loss(Direction::Both, loss)?;
            }
        }
        sleep(self.settle());
        let mut watch = Watch::new(&net.links, || Ok(vec![transfer.subflows()?]));
        let whole = Duration::from_secs(self.seconds.into());
        let delivered = || sink.received();
        let change = |second| self.change(&net.links, second);
        let watched = watch.windows(1, whole, delivered, change)?;
        transfer.stop()?;
        side.end()?;
        Ok(watched)
    }

    fn columns(&self, policy: Policy, mine: &[Watched], default: &[Watched]) -> Vec<Column> {
        let rates = |all: &[Watched]| -> Vec<f64> {
            all.iter().map(|one| one.whole.goodput_mbit()).collect()
        };
        let mbit = rates(mine);
        let by = |rate: f64| mbit.iter().map(|mbit| mbit / rate).collect::<Vec<f64>>();
        let (mut bound, mut error) = (Vec::new(), Vec::new());
        if let Policy::Strict(weights) = policy {
            bound = by(self.bound_mbit(weights));
            error = mine.iter().map(|one| one.off(weights)).collect();
        }
        let never_slower = matches!(policy, Policy::Spill(_) | Policy::Aggregate);
        let compared = if policy == Policy::Default {
            Vec::new()
        } else {
            ratios(&mbit, &rates(default))
        };
        let slower = never_slower.then_some(Target::AtLeast(DEFAULT_MIN));
        let single = never_slower.then_some(Target::EachAtLeast(SINGLE_MIN));
        let share = mine.iter().map(|one| one.whole.shares()[0]).collect();
        vec![
            Column::new("Mbit/s", 1, mbit.clone()),
            Column::judged("/ default", 2, compared, slower),
            Column::judged("/ single", 2, by(self.single_mbit()), single),
            Column::judged("/ bound", 2, bound, Some(Target::AtLeast(BOUND_MIN))),
            Column::new("share", 3, share),
            Column::judged("error", 3, error, Some(Target::EachAtMost(ERROR_MAX))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_follow_rates_and_losses() {
        let case = |kind| Rough {
            kind,
            congestion: "bbr",
            seconds: 24,
        };
        // The part of a rate that is payload.
        let payload = path(1, 1.0).delay_ms(1.0).goodput_mbit().expect("a rate");
        let near = |a: f64, b: f64| assert!((a / payload - b).abs() < 1e-6, "{a} {b}");
        near(case(Kind::Lossy).bound_mbit(&[1, 1]), 85.0);
        near(case(Kind::Lossy).single_mbit(), 50.0);
        near(case(Kind::Far).bound_mbit(&[4, 1]), 50.0);
        near(
            case(Kind::Throttled).bound_mbit(&[1, 1]),
            (60.0 + 1.0) / 2.0,
        );
        let moves: f64 = MOVES.iter().sum();
        near(case(Kind::Moving).bound_mbit(&[1, 1]), moves * 2.0 / 8.0);
    }
}
