//! The tc programs of the redundant policy, on each device that can be a path.
//!
//! | program | attaches to | without it |
//! |---|---|---|
//! | `redundant_egress` | tcx egress (Linux 6.6), else clsact | no copies are sent |
//! | `redundant_ingress` | tcx ingress, else clsact | no copies are received |
//!
//! They come first on tcx: a program ahead of them that ends a packet's way
//! (`TCX_PASS`, `TCX_DROP`) would keep it from them. If one gets ahead later, or
//! detaches them, they are put back, up to [`MAX_RESTORED`] times a device; after
//! that its owner has the last word, and the agent says so. On clsact they take
//! priority 1, and where that is taken the one that the kernel gives. Other
//! programs, filters and qdiscs stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramInfo, SchedClassifier, TcAttachType,
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_detach_program},
    },
};

use mptcp_common::abi::runs;
use nix::net::if_::if_nameindex;

use super::{clsact, describe, find, program};

/// A tc program of the object.
pub(super) struct TcProgram {
    pub(super) name: &'static str,
    pub(super) symbol: &'static str,
    pub(super) purpose: &'static str,
    /// Where it counts its runs: one of `abi::runs::program`.
    pub(super) count: usize,
    side: TcAttachType,
}

/// Receiving first: no copy goes out where none could come in.
pub(super) const PROGRAMS: [TcProgram; 2] = [
    TcProgram {
        name: program::REDUNDANT_INGRESS,
        symbol: "redundant_ingress",
        purpose: "unwraps copies, drops what came before",
        count: runs::program::REDUNDANT_INGRESS,
        side: TcAttachType::Ingress,
    },
    TcProgram {
        name: program::REDUNDANT_EGRESS,
        symbol: "redundant_egress",
        purpose: "copies segments to other paths",
        count: runs::program::REDUNDANT_EGRESS,
        side: TcAttachType::Egress,
    },
];

/// Loads both programs.
///
/// # Errors
/// The object has none, or the kernel refuses one.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<()> {
    for TcProgram { symbol, .. } in &PROGRAMS {
        let program: &mut SchedClassifier = find(ebpf, symbol)?.try_into()?;
        program
            .load()
            .map_err(|error| anyhow::anyhow!("{symbol}: {}", describe(&error.into())))?;
    }
    Ok(())
}

/// How often the programs are put back in front on one device. Whoever puts a
/// program ahead of them once more means it.
const MAX_RESTORED: u32 = 3;

/// The devices that the programs are attached to.
#[derive(Default)]
pub(super) struct Tc {
    attached: BTreeMap<u32, Attached>,
    /// Why a device has no programs, as it was told.
    failed: BTreeMap<u32, String>,
}

struct Attached {
    /// One for each of [`PROGRAMS`]. Their end detaches.
    links: Vec<SchedClassifierLink>,
    /// Whether it is tcx, and not clsact.
    tcx: bool,
    /// Whether this agent added the clsact qdisc.
    added_clsact: bool,
    /// How often a program was put back in front.
    restored: u32,
    /// Which program is not in front, and why.
    behind: Option<(&'static str, String)>,
}

impl Tc {
    /// Attaches to the devices in `wanted` (names by ifindex) that have no
    /// programs yet, and detaches from all others. What fails is told once a
    /// device and reason, and tried again at the next call.
    pub(super) fn follow(&mut self, ebpf: &mut Ebpf, wanted: &BTreeMap<u32, String>) {
        let gone: Vec<u32> = self
            .attached
            .keys()
            .copied()
            .filter(|ifindex| !wanted.contains_key(ifindex))
            .collect();
        for ifindex in gone {
            self.detach(ifindex);
        }
        self.failed
            .retain(|ifindex, _| wanted.contains_key(ifindex));
        for (&ifindex, device) in wanted {
            let result = match self.attached.remove(&ifindex) {
                Some(attached) => inspect(ebpf, device, attached),
                None => attach(ebpf, ifindex, device),
            };
            match result {
                Ok(attached) => {
                    self.failed.remove(&ifindex);
                    self.attached.insert(ifindex, attached);
                }
                Err(error) => {
                    let reason = describe(&error);
                    if self.failed.get(&ifindex) != Some(&reason) {
                        tracing::warn!(
                            device,
                            reason,
                            "the device carries no copies: the programs cannot be attached to it"
                        );
                        self.failed.insert(ifindex, reason);
                    }
                }
            }
        }
    }

    /// The devices that have both programs.
    pub(super) fn devices(&self) -> BTreeSet<u32> {
        self.attached.keys().copied().collect()
    }

    /// Why a program is not, or need not be, run: no device has it, or others run
    /// ahead of it on one; `None` if all is well.
    pub(super) fn error(&self, program: &str) -> Option<String> {
        if !self.attached.is_empty() {
            let behind = self.attached.values().filter_map(|one| one.behind.as_ref());
            return behind
                .filter(|(name, _)| *name == program)
                .map(|(_, reason)| reason.clone())
                .next();
        }
        let reason = self.failed.values().next().cloned();
        Some(reason.unwrap_or_else(|| {
            "no device has an address and a link layer that the programs know".to_owned()
        }))
    }

    /// Detaches everything.
    pub(super) fn clear(&mut self) {
        for ifindex in self.devices() {
            self.detach(ifindex);
        }
    }

    fn detach(&mut self, ifindex: u32) {
        let Some(attached) = self.attached.remove(&ifindex) else {
            return;
        };
        drop(attached.links);
        if attached.added_clsact {
            match clsact::remove_if_unused(ifindex) {
                Ok(true) => {}
                Ok(false) => tracing::info!(
                    ifindex,
                    "the clsact qdisc stays: others have put filters on it"
                ),
                // The device may be gone, and its qdisc with it.
                Err(error) => tracing::debug!(ifindex, "the clsact qdisc stays: {error:#}"),
            }
        }
    }
}

fn attach(ebpf: &mut Ebpf, ifindex: u32, device: &str) -> Result<Attached> {
    let first = || TcAttachOptions::TcxOrder(LinkOrder::first());
    let tcx = attach_both(ebpf, device, first);
    let error = match tcx {
        Ok(links) => {
            return Ok(Attached {
                links,
                tcx: true,
                added_clsact: false,
                restored: 0,
                behind: None,
            });
        }
        Err(error) => error,
    };
    tracing::debug!(device, "no tcx, so clsact, because: {error:#}");
    let added_clsact = clsact::ensure_there(device)?;
    remove_stale(device);
    let at = |priority| {
        move || {
            TcAttachOptions::Netlink(NlOptions {
                priority,
                ..NlOptions::default()
            })
        }
    };
    // 0: what the kernel gives.
    let links = attach_both(ebpf, device, at(1)).or_else(|_| attach_both(ebpf, device, at(0)));
    if links.is_err() && added_clsact {
        let _ = clsact::remove_if_unused(ifindex);
    }
    Ok(Attached {
        links: links?,
        tcx: false,
        added_clsact,
        restored: 0,
        behind: None,
    })
}

/// Sees to it that both programs are still in front on a device.
///
/// # Errors
/// One was not, and cannot be attached any more.
fn inspect(ebpf: &mut Ebpf, device: &str, mut attached: Attached) -> Result<Attached> {
    if !attached.tcx {
        return Ok(attached);
    }
    let before = attached.behind.take();
    for (
        index,
        TcProgram {
            name, symbol, side, ..
        },
    ) in PROGRAMS.iter().enumerate()
    {
        let program: &mut SchedClassifier = find(ebpf, symbol)?.try_into()?;
        let own = program.info()?.id();
        // The device may be gone, or a program in the list: the next look tells.
        let Ok((_, order)) = SchedClassifier::query_tcx(device, *side) else {
            continue;
        };
        let Some(reason) = not_first(own, order.iter().map(|one| (one.id(), named(one)))) else {
            continue;
        };
        if attached.restored == MAX_RESTORED {
            attached.behind = Some((name, format!("on {device}, {reason}")));
            continue;
        }
        attached.restored += 1;
        // A program is attached to a device only once.
        drop(attached.links.remove(index));
        let first = TcAttachOptions::TcxOrder(LinkOrder::first());
        let id = program
            .attach_with_options(device, *side, first)
            .with_context(|| format!("cannot put {symbol} back in front"))?;
        attached.links.insert(index, program.take_link(id)?);
        tracing::warn!(device, program = name, reason, "put back in front");
    }
    if let Some((program, reason)) = &attached.behind
        && attached.behind != before
    {
        tracing::error!(
            program,
            "no copies as long as this is so: {reason}; it was put back {MAX_RESTORED} times"
        );
    }
    Ok(attached)
}

/// Why the program with the id `own` is not the first in `order` (ids and
/// names); `None` if it is.
fn not_first(own: u32, order: impl Iterator<Item = (u32, String)>) -> Option<String> {
    let mut ahead = Vec::new();
    for (id, name) in order {
        if id == own {
            if ahead.is_empty() {
                return None;
            }
            let names = ahead.join(", ");
            return Some(format!("other programs run ahead of it: {names}"));
        }
        ahead.push(format!("{name} (id {id})"));
    }
    Some("somebody has detached it".to_owned())
}

fn named(program: &ProgramInfo) -> String {
    program.name_as_str().unwrap_or_default().to_owned()
}

/// Both or none.
fn attach_both(
    ebpf: &mut Ebpf,
    device: &str,
    options: impl Fn() -> TcAttachOptions,
) -> Result<Vec<SchedClassifierLink>> {
    let mut links = Vec::with_capacity(PROGRAMS.len());
    for TcProgram { symbol, side, .. } in &PROGRAMS {
        let program: &mut SchedClassifier = find(ebpf, symbol)?.try_into()?;
        let id = program
            .attach_with_options(device, *side, options())
            .with_context(|| format!("cannot attach {symbol}"))?;
        links.push(program.take_link(id)?);
    }
    Ok(links)
}

/// A filter, unlike a tcx link, outlives an agent that was killed. No other
/// agent runs in this network namespace, so that whatever has the programs'
/// names is left over. Returns how many were there.
fn remove_stale(device: &str) -> usize {
    let stale = PROGRAMS.iter().filter(|TcProgram { symbol, side, .. }| {
        let found = qdisc_detach_program(device, *side, symbol).is_ok();
        if found {
            tracing::info!(device, "removed {symbol}, which an earlier agent had left");
        }
        found
    });
    stale.count()
}

/// The same on every device, with the clsact qdisc where nothing else is on it.
pub(super) fn remove_leftovers() -> usize {
    let Ok(devices) = if_nameindex() else {
        return 0;
    };
    let mut removed = 0;
    for device in &devices {
        let stale = remove_stale(&device.name().to_string_lossy());
        if stale > 0 {
            removed += stale;
            let _ = clsact::remove_if_unused(device.index());
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_ahead_is_named() {
        let order = |ids: &[u32]| {
            let ids = ids.iter().map(|&id| (id, format!("p{id}")));
            not_first(7, ids.collect::<Vec<_>>().into_iter())
        };
        assert_eq!(order(&[7]), None);
        assert_eq!(order(&[7, 8]), None);
        let reason = order(&[5, 6, 7, 8]).unwrap_or_default();
        assert!(reason.contains("p5 (id 5), p6 (id 6)"), "{reason}");
        assert!(!reason.contains("p8"), "{reason}");
        for others in [&[][..], &[8]] {
            assert!(order(others).is_some_and(|reason| reason.contains("detached")));
        }
    }
}
