//! Socket options set by the kernel, an application or another program. They
//! keep their values while the agent runs and after it.

use anyhow::{Result, ensure};
use mptcp_lab::kernel::{self, Pacer};
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server, Transfer};
use mptcp_lab::{Agent, Lab, Path as LabPath, TwoHosts, agent::tell, wait};
use nix::sys::signal::Signal;

use crate::support::{capped, require_agent, two_paths, upload, wait_for_cap, weighted};
use crate::{SETTLE, SOON, VERY_LONG};

/// Makes two paths that allow long queues, on a client whose sysctl limits the
/// queues of TCP sockets without a limit of their own. Since Linux 6.10 the
/// kernel gives subflows their own limit: none at all.
fn long_paths(lab: &Lab) -> Result<TwoHosts> {
    let path = |name, rate| LabPath::new(name).rate_mbit(rate).delay_ms(20.0);
    let net = lab.two_hosts([path("p1", 40.0), path("p2", 20.0)])?;
    net.client.sysctl("net.ipv4.tcp_notsent_lowat", "16384")?;
    Ok(net)
}

/// Waits until a subflow has a longer queue than the host's limit, or a policy
/// of these tests, allows.
fn wait_for_a_long_queue(transfer: &Transfer) -> Result<()> {
    const LONG: u32 = 250_000;
    wait::try_until("a long send queue", SETTLE, || {
        let subflows = transfer.subflows().map_err(|error| format!("{error:#}"))?;
        let queues: Vec<u32> = subflows.iter().map(|one| one.notsent_bytes).collect();
        if queues.iter().any(|&bytes| bytes > LONG) {
            return Ok(());
        }
        Err(format!("{queues:?}"))
    })
}

#[test]
fn observing_leaves_the_kernels_queue_limit_alone() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = long_paths(&lab)?;
    let (_sink, stock) = upload(&net, 2)?;
    wait_for_a_long_queue(&stock)?;
    stock.stop()?;
    let agent = Agent::start(&net.client, &binary, &[] as &[&str])?;
    let (_sink, transfer) = upload(&net, 2)?;
    // Wait until callbacks of both subflows have run.
    transfer.wait_for_progress(5_000_000, SETTLE)?;
    wait_for_a_long_queue(&transfer)?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn lifting_brings_back_the_kernels_queue_limit() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = long_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let policy = weighted(&["p1=1", "p2=3"]);
    // The agent is stopped; killed, and its programs lift limits; killed, and
    // `cleanup` lifts them.
    let agent = Agent::start(&net.client, &binary, &policy)?;
    wait_for_cap(&transfer)?;
    agent.stop()?;
    wait_for_a_long_queue(&transfer)?;
    let agent = Agent::start(&net.client, &binary, &policy)?;
    wait_for_cap(&transfer)?;
    agent.stop_with(Signal::SIGKILL)?;
    wait_for_a_long_queue(&transfer)?;
    let agent = Agent::start(&net.client, &binary, &policy)?;
    wait_for_cap(&transfer)?;
    agent.stop_with(Signal::SIGKILL)?;
    tell(&net.client, &binary, &["cleanup"])?;
    wait_for_a_long_queue(&transfer)?;
    assert!(!capped(&transfer.subflows()?));
    transfer.stop()?;
    Ok(())
}

#[test]
fn an_applications_queue_limit_stays_after_a_fallback() -> Result<()> {
    const OWN: u32 = 16_384;
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let sink = Server::spawn_tcp(&net.server, ANY, Behaviour::Sink)?;
    let start = || Bulk::upload_for(VERY_LONG).start(&net.client, sink.at(net.server_addr()));
    for policy in [vec![], weighted(&["p1=1", "p2=9"])] {
        let older = start()?;
        kernel::set_notsent_lowat(older.socket(), OWN)?;
        let agent = Agent::start(&net.client, &binary, &policy)?;
        let younger = start()?;
        kernel::set_notsent_lowat(younger.socket(), OWN)?;
        for transfer in [&older, &younger] {
            ensure!(kernel::mptcp_info(transfer.socket())?.fallback);
            transfer.wait_for_progress(2_000_000, SETTLE)?;
            assert_eq!(kernel::notsent_lowat(transfer.socket())?, OWN, "{policy:?}");
        }
        agent.stop()?;
        for transfer in [older, younger] {
            assert_eq!(kernel::notsent_lowat(transfer.socket())?, OWN, "{policy:?}");
            transfer.stop()?;
        }
    }
    Ok(())
}

#[test]
fn another_programs_pacing_rate_stays() -> Result<()> {
    const RATE: u32 = 2_000_000;
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let _pacer = Pacer::attach(&net.client, RATE)?;
    let rates = |transfer: &Transfer| -> Result<Vec<u64>> {
        let subflows = transfer.subflows()?;
        let rates = subflows.iter().map(|one| one.max_pacing_rate_bytes_per_sec);
        Ok(rates.collect())
    };
    let theirs = vec![u64::from(RATE); 2];
    let (_sink, transfer) = upload(&net, 2)?;
    assert_eq!(rates(&transfer)?, theirs);

    let agent = Agent::start(&net.client, &binary, &[] as &[&str])?;
    let (_sink, younger) = upload(&net, 2)?;
    for transfer in [&transfer, &younger] {
        transfer.wait_for_progress(2_000_000, SETTLE)?;
        assert_eq!(rates(transfer)?, theirs, "while an agent observes");
    }
    younger.stop()?;
    agent.tell(&[
        "policy", "set", "weighted", "--weight", "p1=1", "--weight", "p2=3",
    ])?;
    wait::try_until("a rate below theirs", SETTLE, || match rates(&transfer) {
        Ok(rates) if rates.iter().any(|&rate| rate < u64::from(RATE)) => Ok(()),
        other => Err(other),
    })?;
    let goal = transfer.bytes() + 5_000_000;
    while transfer.bytes() < goal {
        transfer.wait_for_progress(100_000, SOON)?;
        let rates = rates(&transfer)?;
        ensure!(
            rates.iter().all(|&rate| rate <= u64::from(RATE)),
            "{rates:?}"
        );
    }
    agent.stop()?;
    assert_eq!(rates(&transfer)?, theirs, "after the agent");
    transfer.stop()?;
    Ok(())
}
