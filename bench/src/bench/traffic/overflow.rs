//! Uploads at half and at one and a half times the first path's rate.

use std::path::Path as FilePath;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::share;
use mptcp_lab::traffic::Bulk;

use super::case::Case;
use super::column::{Column, Target, ratios};
use super::policy::Policy;
use super::side::{Sender, Side};
use super::watch::{Watch, Watched};
use crate::bench::plan::{Links, path};

/// The time to build a lab, and to start and to stop an agent.
const OVERHEAD: Duration = Duration::from_secs(2);
/// The time within which both paths have to be in use.
const SETTLE: Duration = Duration::from_secs(2);
/// A limit that no transfer reaches; the benchmark stops it earlier.
const LONG: Duration = Duration::from_secs(600);
/// The largest allowed share of the second path while there is room on the first.
const SECOND_MAX: f64 = 0.01;
/// The least allowed goodput, as a part of all that the paths carry together.
const SUM_MIN: f64 = 0.95;

/// A load on two paths.
pub struct Load {
    /// Whether the paths have a delay.
    delayed: bool,
    /// The load, in percent of what the first path carries.
    percent: u32,
    congestion: &'static str,
    window: Duration,
}

/// Returns the cases.
pub fn cases(quick: bool) -> Vec<Load> {
    let congestions: &[_] = if quick { &["cubic"] } else { &["cubic", "bbr"] };
    let window = Duration::from_secs(if quick { 5 } else { 10 });
    let mut cases = Vec::new();
    for delayed in [false, true] {
        for percent in [50, 150] {
            cases.extend(congestions.iter().map(|&congestion| Load {
                delayed,
                percent,
                congestion,
                window,
            }));
        }
    }
    cases
}

impl Load {
    fn links(&self) -> Links {
        if self.delayed {
            let paths = [path(1, 40.0).delay_ms(10.0), path(2, 15.0).delay_ms(30.0)];
            Links::new("40@20+15@60", paths)
        } else {
            Links::new("40+15", [path(1, 40.0), path(2, 15.0)])
        }
    }

    /// Returns the load in Mbit/s.
    fn mbit(&self) -> f64 {
        let first = self.links().paths[0].goodput_mbit().unwrap_or(f64::NAN);
        first * f64::from(self.percent) / 100.0
    }

    fn fits(&self) -> bool {
        self.percent <= 100
    }
}

impl Case for Load {
    type Measured = Watched;

    fn group(&self) -> &'static str {
        "overflow"
    }

    fn about(&self) -> &'static str {
        "overflow: an upload at 50 and at 150 % of what the first path carries, after its first 2 \
         s; second: the second path's share (overflow at 50 %: at most 0.01); / best: the goodput \
         by the load, or by the sum of the paths if that is less (at least 0.95)"
    }

    fn label(&self, policy: Policy) -> String {
        let (title, percent, congestion) = (self.links().title, self.percent, self.congestion);
        // `--only load` chooses this group, and not the policy in the others.
        format!("overflow {title} load {percent}% {policy} {congestion}")
    }

    fn policies(&self) -> Vec<Policy> {
        vec![Policy::Overflow, Policy::Aggregate]
    }

    fn length(&self, policies: &[Policy]) -> Duration {
        (OVERHEAD + SETTLE + self.window) * policies.len() as u32
    }

    fn measure(&self, agent: &FilePath, policy: Policy) -> Result<Watched> {
        let side = Side::new(agent, &self.links(), Sender::Client, policy)?;
        let net = &side.rig.net;
        let bulk = Bulk::upload_for(LONG).congestion(self.congestion);
        let (sink, transfer) = side.rig.start(bulk.rate_mbit(self.mbit()))?;
        sleep(SETTLE);
        let mut watch = Watch::new(&net.links, || Ok(vec![transfer.subflows()?]));
        let watched = watch.windows(1, self.window, || sink.received(), |_| Ok(()))?;
        transfer.stop()?;
        side.end()?;
        Ok(watched)
    }

    fn columns(&self, policy: Policy, mine: &[Watched], default: &[Watched]) -> Vec<Column> {
        let rates = |all: &[Watched]| -> Vec<f64> {
            all.iter().map(|one| one.whole.goodput_mbit()).collect()
        };
        let mbit = rates(mine);
        let sum = share::sum_mbit(&self.links().paths).unwrap_or(f64::NAN);
        let best = self.mbit().min(sum);
        let part = mbit.iter().map(|mbit| mbit / best).collect();
        let second = mine.iter().map(|one| one.whole.shares()[1]).collect();
        let room = policy == Policy::Overflow && self.fits();
        let compared = if policy == Policy::Default {
            Vec::new()
        } else {
            ratios(&mbit, &rates(default))
        };
        vec![
            Column::judged(
                "second",
                4,
                second,
                room.then_some(Target::EachAtMost(SECOND_MAX)),
            ),
            Column::new("Mbit/s", 1, mbit.clone()),
            Column::judged("/ best", 3, part, Some(Target::EachAtLeast(SUM_MIN))),
            Column::judged("/ default", 2, compared, None),
        ]
    }
}
