//! Other programs on the same devices: a program before the agent's would keep
//! packets from the agent's.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use mptcp_lab::{Host, kernel::bpf, wait};
use nix::net::if_::if_nametoindex;

use crate::SETTLE;
use crate::redundant_support::{Scene, arrived};
use crate::support::require_agent;

/// The head of `union bpf_attr` for `BPF_LINK_CREATE`, of a tcx link.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    hole: u32,
    revision: u64,
}

/// Puts a program that returns `TCX_PASS` for every packet before all others, at
/// tcx ingress of a device. Dropping the returned link removes it.
pub(crate) fn pass_ahead(host: &Host, device: &str) -> Result<OwnedFd> {
    const BPF_LINK_CREATE: i32 = 28;
    const SCHED_CLS: u32 = 3;
    const TCX_INGRESS: u32 = 46;
    const BPF_F_BEFORE: u32 = 1 << 3;
    // r0 = 0; exit.
    let code = [bpf::op(0xb7, 0, 0, 0, 0), bpf::op(0x95, 0, 0, 0, 0)];
    host.in_ns(|| {
        let program = bpf::load(SCHED_CLS, "pass_ahead", &code).context("load a program")?;
        let ifindex = if_nametoindex(device).with_context(|| format!("no device {device}"))?;
        let link = bpf::open(
            BPF_LINK_CREATE,
            &LinkCreate {
                program: program.as_raw_fd() as u32,
                ifindex,
                attach_type: TCX_INGRESS,
                flags: BPF_F_BEFORE,
                ..LinkCreate::default()
            },
        );
        link.context("attach ahead of the others")
    })
}

#[test]
fn a_program_that_gets_ahead_is_noticed_and_overtaken() -> Result<()> {
    const MORE: f64 = 200.0;
    /// More often than the agent puts its program back.
    const ROUNDS: usize = 5;
    let binary = require_agent!();
    let scene = Scene::of_two(&binary, &[])?;
    let client = &scene.hosts[0];
    let attached = || -> Result<(bool, f64)> {
        let metrics = scene.client.scrape()?;
        let labels = [("program", "redundant_ingress")];
        let attached = metrics.value("mptcp_agent_program_attached", &labels);
        Ok((attached == Some(1.0), arrived(&metrics)))
    };
    let mut others = Vec::new();
    let mut overtaken = 0;
    for _ in 0..ROUNDS {
        for device in ["p1", "p2"] {
            others.push(pass_ahead(client, device)?);
        }
        let (_, before) = attached()?;
        let goes_on =
            wait::try_until(
                "copies, or a report that others run ahead",
                SETTLE,
                || match attached() {
                    Ok((true, now)) if now > before + MORE => Ok(true),
                    Ok((false, _)) => Ok(false),
                    other => Err(other),
                },
            )?;
        if !goes_on {
            break;
        }
        overtaken += 1;
    }
    assert!(
        (1..ROUNDS).contains(&overtaken),
        "overtaken {overtaken} times"
    );
    let said = scene.client.stderr() + &scene.client.stdout();
    assert!(said.contains("put back in front"), "{said}");
    assert!(said.contains("run ahead of it"), "{said}");
    let status = scene.client.tell(&["status"])?;
    assert!(status.contains("run ahead of it"), "{status}");

    // After the others have gone, the hook is as before and copies arrive again.
    drop(others);
    let (_, before) = attached()?;
    wait::try_until("copies as before", SETTLE, || match attached() {
        Ok((true, now)) if now > before + MORE => Ok(()),
        other => Err(other),
    })?;
    scene.exchange.stop()?;
    Ok(())
}
