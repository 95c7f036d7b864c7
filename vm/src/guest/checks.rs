//! The checks of the agent on a kernel.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use mptcp_lab::wait;

use super::agent::{self, Agent, Hook};
use super::subflows::Subflow;
use super::traffic::{FIRST, OTHER, SOON, Upload};
use super::{complaints, exec, hosts, ip, report};

/// The pause between two chunks of the connection that is older than the agent.
/// It is slow in order to leave the processor to the verifier.
const SLOWLY: Duration = Duration::from_millis(50);
/// The time over which shares are measured.
const WINDOW: Duration = Duration::from_secs(3);
/// The share that the weights ask of the first path.
const SHARE: f64 = 0.8;
/// How far the share may be off. The limit is wide because the paths share an
/// emulated processor.
const TOLERANCE: f64 = 0.05;
/// How many bytes show that a path carries data.
const SOME: u64 = 1_000_000;

/// Makes all checks and reports each.
pub fn all() -> Result<()> {
    let outcome = weighted().and_then(|may_go_on| {
        if may_go_on {
            standby()?;
            killed("killed agent", 4)?;
            // The first path rests then, and has no callbacks.
            killed("killed agent, standby", 0)?;
        }
        redundant()?;
        exec::all();
        hosts::all()
    });
    check("kernel log", || {
        let found = complaints()?;
        ensure!(found.is_empty(), "{}", found.join("; "));
        Ok("no complaint".to_owned())
    });
    outcome
}

/// Checks two paths by weight. Returns whether all hooks are attached, so that
/// limits can be lifted and another agent may follow.
fn weighted() -> Result<bool> {
    let older = Upload::start(SLOWLY)?;
    let weights = [format!("{FIRST}=4"), format!("{OTHER}=1")];
    let agent = start(&["weighted", "--weight", &weights[0], "--weight", &weights[1]])?;
    let hooks = agent.hooks();
    for hook in &hooks {
        let why = hook.refusal.as_deref().unwrap_or_default();
        report::send_hook(&hook.name, hook.refusal.is_none(), hook.instructions, why);
    }
    let whole = hooks.iter().all(|hook| hook.refusal.is_none());
    if !whole {
        agent::print_complaints();
    }
    check("older connection", || {
        let [adopted, refused] = agent.adopted();
        // Both ends of two subflows make four sockets.
        match (adopted, refused) {
            (4, 0) => Ok("adopted".to_owned()),
            (0, 4) if !can_adopt()? => Ok("left alone, as before Linux 6.12".to_owned()),
            _ => anyhow::bail!("of 4 sockets, {adopted} adopted and {refused} refused"),
        }
    });
    drop(older);

    // The joins of the older connection count as well.
    let joins_before = joins(&agent)?;
    let upload = Upload::start(Duration::ZERO)?;
    check("two subflows", || {
        let locals = upload
            .subflows()?
            .into_iter()
            .map(|subflow| subflow.local.to_string());
        let locals: Vec<String> = locals.collect();
        // Both ends of the join count again.
        let expected = joins_before + 2.0;
        wait::try_until("the agent to see the join", SOON, || match joins(&agent) {
            Ok(seen) if seen >= expected => Ok(()),
            other => Err((other, expected)),
        })?;
        Ok(format!("from {}", locals.join(" and ")))
    });
    check("weights 4:1", || shares(&upload));
    check("capped", || {
        wait::try_until("a cap", SOON, || match upload.subflows() {
            Ok(subflows) if subflows.iter().any(is_limited) => Ok(caps(&subflows)),
            other => Err(other),
        })
    });
    for (name, metric) in [
        ("bytes", "mptcp_path_sent_bytes_total"),
        ("decisions", "mptcp_scheduler_decisions_total"),
        ("round trips", "mptcp_path_rtt_seconds_count"),
    ] {
        check(name, || {
            let metrics = agent.scrape()?;
            let paths = [FIRST, OTHER].map(|path| path.to_string());
            let values = paths.map(|path| metrics.sum(metric, &[("path", &path)]));
            ensure!(values.iter().all(|&value| value > 0.0), "{values:?}");
            Ok(format!("{} + {}", values[0], values[1]))
        });
    }
    check("stop lifts", || {
        stop(agent)?;
        let subflows = upload.subflows()?;
        ensure!(!subflows.iter().any(is_limited), "{}", caps(&subflows));
        goes_on(&upload, 0)?;
        Ok("no cap is left, data flows".to_owned())
    });
    Ok(whole)
}

/// Checks that a path with weight 0 rests, and returns after a stop.
fn standby() -> Result<()> {
    let agent = start(&["weighted", "--weight", &format!("{OTHER}=0")])?;
    let upload = Upload::start(Duration::ZERO)?;
    check("standby rests", || {
        wait::try_until("a path held out", SOON, || match upload.subflows() {
            Ok(subflows) if subflows.iter().any(is_held_out) => Ok(()),
            other => Err(other),
        })?;
        wait::try_until("it to carry nothing", SOON, || {
            match upload.acked_within(WINDOW) {
                Ok([first, other]) if first > SOME && other == 0 => {
                    Ok(format!("{first} + {other}"))
                }
                other => Err(other),
            }
        })
    });
    check("standby returns", || {
        stop(agent)?;
        goes_on(&upload, 1)?;
        let known = "/proc/sys/net/ipv4/tcp_available_congestion_control";
        Ok(format!(
            "the kernel has {}",
            fs::read_to_string(known)?.trim()
        ))
    });
    Ok(())
}

/// Checks that the programs of a killed agent lift what it set, with so much weight
/// on the first path, and that `cleanup` removes them.
fn killed(name: &str, weight: u32) -> Result<()> {
    let agent = start(&["weighted", "--weight", &format!("{FIRST}={weight}")])?;
    let upload = Upload::start(Duration::ZERO)?;
    check(name, || {
        wait::try_until("a cap", SOON, || match upload.subflows() {
            Ok(subflows) if subflows.iter().any(is_limited) => Ok(()),
            other => Err(other),
        })?;
        agent.kill()?;
        wait::try_until("no cap", SOON, || match upload.subflows() {
            Ok(subflows) if !subflows.iter().any(is_limited) => Ok(()),
            other => Err(other),
        })?;
        goes_on(&upload, 0)?;
        Ok("its programs have lifted the caps".to_owned())
    });
    check("cleanup", agent::cleanup);
    Ok(())
}

/// Checks the programs of the redundant policy, on two devices.
fn redundant() -> Result<()> {
    check("two devices", || {
        for words in [
            "link add veth1 type veth peer name veth2",
            "address add 10.99.1.1/24 dev veth1",
            "address add 10.99.2.1/24 dev veth2",
            "link set veth1 up",
            "link set veth2 up",
        ] {
            ip(words)?;
        }
        Ok("veth1 and veth2".to_owned())
    });
    let agent = start(&["redundant"])?;
    let hooks = agent.hooks();
    let is_new = |hook: &&Hook| hook.name.starts_with("redundant");
    for hook in hooks.iter().filter(is_new) {
        let why = hook.refusal.as_deref().unwrap_or_default();
        report::send_hook(&hook.name, hook.refusal.is_none(), hook.instructions, why);
    }
    check("copies leave nothing", || {
        stop(agent)?;
        Ok("the agent has ended well".to_owned())
    });
    Ok(())
}

fn start(policy: &[&str]) -> Result<Agent> {
    match Agent::start(policy) {
        Ok(agent) => {
            let seconds = agent.load_time.as_secs_f32();
            report::send_check("agent ready", true, &format!("after {seconds:.1} s"));
            Ok(agent)
        }
        Err(error) => {
            agent::print_complaints();
            Err(error)
        }
    }
}

fn stop(agent: Agent) -> Result<()> {
    let status = agent.stop()?;
    if !status.success() {
        agent::print_complaints();
    }
    ensure!(status.success(), "the agent ended with {status}");
    Ok(())
}

/// Makes a check and reports what it saw.
pub fn check(name: &str, see: impl FnOnce() -> Result<String>) {
    match see() {
        Ok(seen) => report::send_check(name, true, &seen),
        Err(error) => report::send_check(name, false, &format!("{error:#}")),
    }
}

/// Returns how many subflows the agent saw join.
fn joins(agent: &Agent) -> Result<f64> {
    Ok(agent
        .scrape()?
        .sum("mptcp_subflows_opened_total", &[("kind", "join")]))
}

fn shares(upload: &Upload) -> Result<String> {
    wait::try_until("the share of the first path", 3 * SOON, || {
        let acked = upload
            .acked_within(WINDOW)
            .map_err(|error| error.to_string())?;
        let share = acked[0] as f64 / (acked[0] + acked[1]).max(1) as f64;
        let mbit = (acked[0] + acked[1]) as f64 * 8e-6 / WINDOW.as_secs_f64();
        let seen = format!("{share:.3} of {mbit:.0} Mbit/s on the first");
        if (share - SHARE).abs() <= TOLERANCE {
            Ok(seen)
        } else {
            Err(seen)
        }
    })
}

/// Waits until a path carries data.
fn goes_on(upload: &Upload, path: usize) -> Result<()> {
    let before = upload.acked()?[path];
    wait::try_until("a path to carry data", SOON, || match upload.acked() {
        Ok(acked) if acked[path] > before + SOME => Ok(()),
        other => Err((before, other)),
    })
}

fn is_limited(subflow: &Subflow) -> bool {
    subflow.cap < u64::from(u32::MAX)
}

fn is_held_out(subflow: &Subflow) -> bool {
    subflow.cap == 0
}

fn caps(subflows: &[Subflow]) -> String {
    let cap = |subflow: &Subflow| {
        let mbit = subflow.cap as f64 * 8e-6;
        if is_limited(subflow) {
            format!("{} at {mbit:.0} Mbit/s", subflow.local)
        } else {
            format!("{} free", subflow.local)
        }
    };
    subflows.iter().map(cap).collect::<Vec<_>>().join(", ")
}

/// Returns whether the kernel has `TCP_BPF_SOCK_OPS_CB_FLAGS`, which only its
/// version shows.
fn can_adopt() -> Result<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Ok(version >= (6, 12))
}
