//! Puts back what somebody else has taken away: pins, and attached programs.
//!
//! Pins are not needed while the agent lives, because it holds its links
//! itself. But the limits of an agent that is killed are lifted only if its
//! programs are pinned. A program that was detached by force (`bpftool link
//! detach`) sees nothing any more.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use aya::Ebpf;
use aya::programs::links::FdLink;

use super::{Kernel, describe, load, pins::Pins, program};
use crate::state::snapshot::Restored;

/// An attached program.
pub(super) struct Link {
    /// One of the names in `program`.
    pub(super) program: &'static str,
    pub(super) link: FdLink,
    /// The file of /proc in which the kernel describes the link; `None` if
    /// /proc is hidden.
    about: Option<PathBuf>,
}

impl Link {
    /// Finds the file in which the kernel describes the link.
    ///
    /// # Errors
    /// The descriptor is no link.
    pub(super) fn new(program: &'static str, link: FdLink) -> Result<Self> {
        let id = format!("link_id:\t{}\n", link.info()?.id());
        let files = fs::read_dir("/proc/self/fdinfo").into_iter().flatten();
        let about = files
            .filter_map(|file| Some(file.ok()?.path()))
            .find(|file| fs::read_to_string(file).is_ok_and(|text| text.contains(&id)));
        Ok(Self {
            program,
            link,
            about,
        })
    }

    /// Returns whether somebody has detached the program although the link is
    /// still open, which is possible only for links to cgroups.
    fn is_detached(&self) -> bool {
        let text = self.about.as_ref().map(fs::read_to_string);
        text.is_some_and(|text| text.is_ok_and(|text| text.contains("cgroup_id:\t0\n")))
    }
}

impl Kernel {
    /// Looks for what somebody else has taken away, and puts it back. `cgroup`
    /// is the one that the sockops program belongs to. Returns whether the
    /// programs were blind for a while, so that the sockets have to be visited.
    pub fn restore(&mut self, cgroup: BorrowedFd<'_>) -> bool {
        let was_blind = self.restore_sockops(cgroup);
        self.restore_pins(cgroup);
        was_blind
    }

    /// Returns how often something had to be put back.
    pub fn restored(&self) -> Restored {
        self.restored
    }

    fn restore_sockops(&mut self, cgroup: BorrowedFd<'_>) -> bool {
        if self.cgroup_gone {
            // The agent waits for the cgroup that takes its place.
            return false;
        }
        let mut links = self.links.iter();
        let held = links.find(|held| held.program == program::SOCKOPS);
        if held.is_some_and(|held| !held.is_detached()) {
            return false;
        }
        self.links.retain(|held| held.program != program::SOCKOPS);
        match self.attach_sockops_again(cgroup) {
            Ok(()) => {
                self.restored.programs += 1;
                tracing::warn!("somebody detached the sockops program: attached it again");
                true
            }
            Err(error) => {
                let error = format!("somebody detached it: {}", describe(&error));
                if self.set_sockops_error(Some(&error)) {
                    tracing::error!("cannot attach the sockops program again: {error}");
                }
                false
            }
        }
    }

    fn restore_pins(&mut self, cgroup: BorrowedFd<'_>) {
        let Some(mut pins) = self.pins.take() else {
            return;
        };
        let missing = pins.missing();
        if !missing.is_empty() || self.not_outlived.is_some() {
            if self.not_outlived.is_none() {
                tracing::warn!(
                    missing = missing.join(" "),
                    "somebody removed what outlives the agent from the BPF file system"
                );
            }
            match self.pin_again(&mut pins, cgroup) {
                Ok(()) => {
                    self.restored.pins += 1;
                    self.not_outlived = None;
                    tracing::info!("put back into the BPF file system what outlives the agent");
                }
                Err(error) => {
                    let reason =
                        format!("somebody removed it, and it cannot be put back: {error:#}");
                    if self.not_outlived.as_ref() != Some(&reason) {
                        tracing::error!(
                            "if the agent is killed, connections keep their limits: {reason}"
                        );
                    }
                    self.not_outlived = Some(reason);
                }
            }
        }
        self.pins = Some(pins);
    }

    fn pin_again(&mut self, pins: &mut Pins, cgroup: BorrowedFd<'_>) -> Result<()> {
        pins.start_anew()?;
        pins.keep_maps(&self.kept_maps)?;
        let mut failed = None;
        for held in std::mem::take(&mut self.links) {
            let program = held.program;
            let link = match pins.keep(program, self.owner, held.link) {
                Ok(link) => Ok(link),
                Err(error) => {
                    failed = Some(error);
                    // A failed attempt to pin has detached the program.
                    attach_again(&mut self.ebpf, program, cgroup)
                }
            };
            match link.and_then(|link| Link::new(program, link)) {
                Ok(link) => self.links.push(link),
                Err(error) => failed = Some(error.context(format!("{program} is detached"))),
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn attach_again(ebpf: &mut Ebpf, program: &str, cgroup: BorrowedFd<'_>) -> Result<FdLink> {
    match program {
        program::SOCKOPS => load::attach_again(ebpf, cgroup),
        program::GET_SEND => load::attach_get_send_again(ebpf),
        other => Err(anyhow!("{other} is not attached by a link")),
    }
}
