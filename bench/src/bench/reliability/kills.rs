//! SIGKILL at random moments, under load: measures what stays set and what is
//! left.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::kernel::BpfObjects;
use mptcp_lab::wait;
use serde_json::json;

use super::station::Station;
use crate::bench::plan::{self, Links};
use crate::bench::rows::{Outcome, together};
use crate::bench::table::verdict;

/// How long an option may stay set without an agent. The longest is that of a path
/// that was held out and is idle: its subflow wakes three seconds after the agent's
/// death, or a round trip later, since its timer counts from the last ACK.
pub const FREE_WITHIN: Duration = Duration::from_millis(3300);
/// How long the kernel may take to free objects that nothing holds any more.
const FREED: Duration = Duration::from_secs(10);

/// The results of a pair of hosts.
#[derive(Default)]
pub struct Kills {
    /// SIGKILLs.
    pub count: u32,
    /// SIGKILLs of agents that may not have been ready yet.
    pub at_start: u32,
    /// SIGKILLs of agents with the redundant policy.
    pub copying: u32,
    /// Pairs of the latter that had programs on tcx when they were killed.
    pub attached: u32,
    /// For each kill that left something set, how long that was still seen.
    pub free_after: Vec<Duration>,
    /// Subflows that were lost.
    pub resets: usize,
    /// Totals that went backwards, with both values.
    pub backwards: Vec<String>,
    /// Agents that did not know every connection.
    pub forgotten: u32,
    /// 1 if in the end no queue grew longer than the agent allows, else 0.
    pub short_queues: u32,
    /// The output of `mptcp-agent cleanup` on client and server.
    pub said: Vec<String>,
    /// Files that are still pinned after that.
    pub pins: Vec<String>,
    /// The number of devices whose tc output has changed, plus programs on tcx.
    pub devices: usize,
}

/// The remains of all agents after `mptcp-agent cleanup`.
pub struct Left {
    objects: BpfObjects,
    pins: Vec<String>,
    devices: usize,
    said: Vec<String>,
}

/// Returns the links of the pairs of hosts, which run side by side.
pub fn pairs() -> Vec<Links> {
    plan::slow().into()
}

/// Kills agents of these pairs, each pair as many as if all pairs took part.
/// Returns the results of each pair, and what is left.
pub fn measure(binary: &Path, pairs: &[Links], count: u32) -> (Vec<Result<Kills>>, Result<Left>) {
    let before = BpfObjects::orphans();
    let each = count / self::pairs().len() as u32;
    let numbered: Vec<_> = (0u64..).zip(pairs).collect();
    let done = together(numbered, |(seed, links)| {
        Station::new(binary, links, seed)?.run(each)
    });
    let left = before.and_then(|before| Left::find(&before, &done));
    (done, left)
}

impl Left {
    fn find(before: &BpfObjects, done: &[Result<Kills>]) -> Result<Self> {
        let mut objects = BpfObjects::default();
        // Do not fail if something remains: the row reports it.
        let _ = wait::try_until("nothing to be left", FREED, || {
            objects = BpfObjects::orphans()
                .map_err(|error| error.to_string())?
                .since(before);
            if objects.is_empty() {
                Ok(())
            } else {
                Err(String::new())
            }
        });
        let done: Vec<&Kills> = done.iter().flatten().collect();
        Ok(Self {
            objects,
            pins: done.iter().flat_map(|kills| kills.pins.clone()).collect(),
            devices: done.iter().map(|kills| kills.devices).sum(),
            said: done.iter().flat_map(|kills| kills.said.clone()).collect(),
        })
    }

    /// Returns the row.
    pub fn outcome(&self) -> Outcome {
        let BpfObjects {
            programs,
            maps,
            links,
        } = &self.objects;
        let ok = self.objects.is_empty() && self.pins.is_empty() && self.devices == 0;
        let line = format!(
            "left after cleanup: {} programs, {} maps, {} links, {} pinned files, {} changes to \
             devices  {}",
            programs.len(),
            maps.len(),
            links.len(),
            self.pins.len(),
            self.devices,
            verdict(ok),
        );
        let names = |objects: &std::collections::BTreeMap<u32, String>| -> Vec<String> {
            objects.values().cloned().collect()
        };
        let json = json!({
            "row": "kills: left", "programs": names(programs), "maps": names(maps),
            "links": names(links), "pins": self.pins, "devices": self.devices,
            "cleanup_said": self.said, "ok": ok,
        });
        Outcome {
            line,
            ok: Some(ok),
            json,
        }
    }
}

/// Returns the names of the columns.
pub fn header() -> String {
    format!(
        "\nkills: SIGKILL at random moments under load; seconds until, without an agent, no \
         subflow has a cap and no device a program that copies\n(target: none reset, none later \
         than {} s, no total backwards, no connection forgotten, queues as long as before)\n\
         {:10} {:>6} {:>8} {:>7}   {:>7} {:>6} {:>6} {:>5}   {:>6} {:>9} {:>9} {:>12}  verdict",
        FREE_WITHIN.as_secs_f64(),
        "links",
        "kills",
        "at start",
        "copying",
        "had set",
        "p50",
        "max",
        "late",
        "resets",
        "backwards",
        "forgotten",
        "short queues",
    )
}

impl Kills {
    /// Returns the row of a pair of hosts.
    pub fn outcome(&self, links: &Links) -> Outcome {
        let mut sorted = self.free_after.clone();
        sorted.sort_unstable();
        let seconds = |at: Option<&Duration>| at.map_or(0.0, Duration::as_secs_f64);
        let p50 = seconds(sorted.get(sorted.len() / 2));
        let max = seconds(sorted.last());
        let late = sorted.iter().filter(|&&after| after > FREE_WITHIN).count();
        let (resets, backwards) = (self.resets, self.backwards.len());
        let ok = late + resets + backwards == 0 && self.forgotten + self.short_queues == 0;
        let line = format!(
            "{:10} {:6} {:8} {:7}   {:7} {p50:6.2} {max:6.2} {late:5}   {resets:6} {backwards:9} \
             {:9} {:12}  {}",
            links.title,
            self.count,
            self.at_start,
            self.copying,
            sorted.len(),
            self.forgotten,
            self.short_queues,
            verdict(ok),
        );
        let free_after: Vec<f64> = sorted.iter().map(Duration::as_secs_f64).collect();
        let json = json!({
            "row": format!("kills {}", links.title), "kills": self.count,
            "at_start": self.at_start, "copying": self.copying, "attached": self.attached,
            "free_after_s": free_after,
            "late": late, "resets": resets, "backwards": self.backwards,
            "forgotten": self.forgotten, "short_queues": self.short_queues, "ok": ok,
        });
        Outcome {
            line,
            ok: Some(ok),
            json,
        }
    }
}
