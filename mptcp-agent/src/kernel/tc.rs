//! The tc programs of the redundant policy, on each device that can be a path.
//!
//! | program | attaches to | without it |
//! |---|---|---|
//! | `redundant_egress` | tcx egress (Linux 6.6), else clsact | no copies are sent |
//! | `redundant_ingress` | tcx ingress, else clsact | no copies are received |
//!
//! On tcx they are placed first, because a program ahead of them that ends a
//! packet's way (`TCX_PASS`, `TCX_DROP`) would keep it from them. If one gets
//! ahead later, or somebody detaches them, the agent puts them back, up to
//! [`MAX_RESTORED`] times per device. After that it leaves the order as it is,
//! and says so. On clsact they take priority 1, or, where that is taken, the
//! one that the kernel assigns. Other programs, filters and qdiscs stay as they
//! are.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, ProgramInfo, SchedClassifier, TcAttachType,
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_detach_program},
    },
};

use mptcp_common::abi::runs;
use mptcp_common::names;
use nix::net::if_::if_nameindex;

use super::{clsact, describe, find, others, program};

/// A tc program of the object.
pub(super) struct TcProgram {
    pub(super) name: &'static str,
    pub(super) symbol: &'static str,
    pub(super) purpose: &'static str,
    /// The index of its run counter: one of `abi::runs::program`.
    pub(super) count: usize,
    side: TcAttachType,
}

/// The receiving side comes first, so that no copy goes out where none could
/// come in.
pub(super) const PROGRAMS: [TcProgram; 2] = [
    TcProgram {
        name: program::REDUNDANT_INGRESS,
        symbol: names::program::REDUNDANT_INGRESS,
        purpose: "unwraps copies, drops what came before",
        count: runs::program::REDUNDANT_INGRESS,
        side: TcAttachType::Ingress,
    },
    TcProgram {
        name: program::REDUNDANT_EGRESS,
        symbol: names::program::REDUNDANT_EGRESS,
        purpose: "copies segments to other paths",
        count: runs::program::REDUNDANT_EGRESS,
        side: TcAttachType::Egress,
    },
];

/// Loads both programs.
///
/// # Errors
/// The object lacks one, or the kernel refuses one.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<()> {
    for TcProgram { symbol, .. } in &PROGRAMS {
        let program: &mut SchedClassifier = find(ebpf, symbol)?.try_into()?;
        program
            .load()
            .map_err(|error| anyhow::anyhow!("{symbol}: {}", describe(&error.into())))?;
    }
    Ok(())
}

/// How often the programs are put back in front on one device. If somebody puts
/// a program ahead of them once more, that is on purpose.
const MAX_RESTORED: u32 = 3;

/// The devices that the programs are attached to.
#[derive(Default)]
pub(super) struct Tc {
    attached: BTreeMap<u32, Attached>,
    /// The reason why a device has no programs, as it was logged.
    failed: BTreeMap<u32, String>,
}

struct Attached {
    /// One for each of [`PROGRAMS`]. Dropping a link detaches its program.
    links: Vec<SchedClassifierLink>,
    /// Whether the programs are attached by tcx, and not by clsact.
    tcx: bool,
    /// Whether this agent added the clsact qdisc.
    added_clsact: bool,
    /// How often a program was put back in front.
    restored: u32,
    /// The program that is not in front, and the reason.
    behind: Option<(&'static str, String)>,
}

impl Tc {
    /// Attaches to the devices in `wanted` (names by ifindex) that have no
    /// programs yet, and detaches from devices that are not in it. A failure is
    /// logged once per device and reason, and tried again at the next call.
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

    /// Returns the devices that have both programs.
    pub(super) fn devices(&self) -> BTreeSet<u32> {
        self.attached.keys().copied().collect()
    }

    /// Returns why a program is not run, or may not be: no device has it, or
    /// others run ahead of it on one. `None` if all is well.
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
    // With priority 0 the kernel assigns one.
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

/// Makes sure that both programs are still in front on a device.
///
/// # Errors
/// One was not in front, and cannot be attached any more.
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
        // The device, or a program in the list, may be gone. The next call will
        // tell.
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
        // Detach it first, because a program can be attached to a device only
        // once.
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

/// Returns why the program with the id `own` is not the first in `order` (ids
/// and names); `None` if it is.
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

/// A tc program on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceProgram {
    /// Whether it sees what arrives, and not what leaves.
    pub ingress: bool,
    /// Its name, of which the kernel may keep only 15 bytes.
    pub name: String,
    /// The means that keeps it there.
    pub by: AttachedBy,
}

/// The means that keeps a tc program on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedBy {
    /// The BPF link with this id.
    Link(u32),
    /// Nothing else: it was attached to tcx as it is.
    Itself,
    /// A filter of this priority, where the kernel has no tcx.
    Filter(u16),
}

impl DeviceProgram {
    /// Returns whether it is an agent's.
    pub fn is_ours(&self) -> bool {
        let cut = |name: &str| name.chars().take(others::NAME).collect::<String>();
        PROGRAMS
            .iter()
            .any(|own| cut(&self.name) == cut(own.symbol))
    }
}

/// Lists the programs on a device that run at the place of the agent's, in their
/// order, those for what arrives first: those on tcx, or else the filters.
///
/// # Errors
/// This process may not ask, or the device is gone.
pub fn programs_on(ifindex: u32, device: &str) -> Result<Vec<DeviceProgram>> {
    let mut found = Vec::new();
    for (side, ingress) in [(TcAttachType::Ingress, true), (TcAttachType::Egress, false)] {
        match SchedClassifier::query_tcx(device, side) {
            Ok((_, order)) => found.extend(order.iter().map(|program| DeviceProgram {
                ingress,
                name: named(program),
                by: others::link_of(program.id()).map_or(AttachedBy::Itself, AttachedBy::Link),
            })),
            Err(error) if is_refused(&error) => {
                let what = format!("cannot list the tc programs of {device}");
                return Err(error).context(what);
            }
            // The kernel has no tcx.
            Err(_) => {
                let filters = clsact::filters(ifindex, ingress)?.into_iter();
                found.extend(filters.map(|filter| DeviceProgram {
                    ingress,
                    name: filter.name,
                    by: AttachedBy::Filter(filter.priority),
                }));
            }
        }
    }
    Ok(found)
}

/// Returns whether the kernel refused because this process lacks rights.
fn is_refused(error: &ProgramError) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::PermissionDenied;
        }
        cause = error.source();
    }
    false
}

/// Attaches both programs, or none.
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

/// Removes the filters that a killed agent has left; unlike a tcx link, a
/// filter outlives it. No other agent runs in this network namespace, so
/// whatever has the programs' names is left over. Returns how many were there.
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

/// Removes such filters from every device, and the clsact qdisc where nothing
/// else is on it. Returns how many filters were there.
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
