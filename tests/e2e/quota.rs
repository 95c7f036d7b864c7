//! `--quota`: a path whose data plan is spent becomes standby, and what was used
//! outlives the agent.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::metrics::Metrics;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server, Transfer};
use mptcp_lab::{Agent, Lab, TwoHosts, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Watched, acked_by, failure_of, require_agent, scrape_until, two_paths, upload, wait_for_window,
};
use crate::{SOON, VERY_LONG};

const MB: u64 = 1_000_000;

/// Returns the arguments of a weighted policy with a quota.
fn args(quota: &str, directory: &Path) -> Vec<String> {
    let policy = ["weighted", "--weight", "p1=1", "--weight", "p2=1"];
    args_of(&policy, quota, directory)
}

/// Returns the arguments of a policy with a quota.
fn args_of(policy: &[&str], quota: &str, directory: &Path) -> Vec<String> {
    let directory = directory.display().to_string();
    let more = ["--quota", quota, "--state-dir", &directory];
    let words = ["--policy"].iter().chain(policy).chain(&more);
    words.map(|&word| word.to_owned()).collect()
}

fn of_p2(metrics: &Metrics, name: &str) -> Option<u64> {
    let value = metrics.value(name, &[("path", "p2")]);
    value.map(|value| value as u64)
}

fn used(metrics: &Metrics) -> Option<u64> {
    of_p2(metrics, "mptcp_path_quota_used_bytes")
}

fn is_spent(metrics: &Metrics) -> Option<u64> {
    of_p2(metrics, "mptcp_path_quota_spent")
}

/// Returns what each path has had acknowledged.
fn acked(transfer: &Transfer, net: &TwoHosts) -> Result<Vec<u64>> {
    let subflows = transfer.subflows()?;
    Ok(acked_by(&subflows, &net.links, |one| one.local.ip()))
}

/// Waits until p2 carries next to nothing, and p1 the rest.
fn wait_for_standby(transfer: &Transfer, net: &TwoHosts) -> Result<()> {
    let all_on_p1 = |shares: &[f64]| shares[1] < 0.02;
    wait_for_window("p2 to rest", || acked(transfer, net), all_on_p1)
}

/// Waits until p2 has carried so much more.
fn wait_for_p2(transfer: &Transfer, net: &TwoHosts, bytes: u64) -> Result<()> {
    let before = acked(transfer, net)?[1];
    wait::try_until("p2 to carry", SOON, || match acked(transfer, net) {
        Ok(acked) if acked[1] >= before + bytes => Ok(()),
        other => Err(format!("{other:?}")),
    })
}

/// Returns the bytes that the kernel has counted for p2.
fn wire(net: &TwoHosts) -> Result<u64> {
    let shown = net.client.run("ip -j -s link show dev p2")?;
    let shown: Value = serde_json::from_str(&shown)?;
    let of = |way: &str| shown[0]["stats64"][way]["bytes"].as_u64();
    let bytes = of("rx").zip(of("tx")).context("no counters")?;
    Ok(bytes.0 + bytes.1)
}

fn quotas(agent: &Agent) -> Result<Value> {
    Ok(serde_json::from_str(&agent.tell(&["quota", "--json"])?)?)
}

#[test]
fn a_spent_path_rests_over_a_kill_until_it_is_reset() -> Result<()> {
    let binary = require_agent!();
    let directory = tempfile::tempdir()?;
    let state = directory.path().join("state");
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let args = args("p2=12MB/day", &state);
    let agent = Watched::start(&net.client, &binary, &args)?;
    let at_start = wire(&net)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let event = agent.event("path_quota_spent", &[("path", "p2".into())])?;
    let told = event["used_bytes"].as_u64().context("no bytes")?;
    // Two seconds may pass until it is seen, at 20 Mbit/s.
    ensure!((12 * MB..22 * MB).contains(&told), "{event}");
    assert_eq!(event["quota_bytes"], 12 * MB);
    wait_for_standby(&transfer, &net)?;
    let metrics = agent.scrape()?;
    assert_eq!(is_spent(&metrics), Some(1));
    assert_eq!(of_p2(&metrics, "mptcp_path_quota_bytes"), Some(12 * MB));
    let ratio = metrics.value("mptcp_path_weight_ratio", &[("path", "p2")]);
    assert_eq!(ratio, Some(0.0));
    // The quota counts what the kernel counts, headers included.
    let (counted, carried) = (used(&metrics).context("no quota")?, wire(&net)? - at_start);
    println!("spent at {told} bytes; {counted} counted of {carried} on the wire");
    ensure!(counted.abs_diff(carried) < MB / 2, "{counted} of {carried}");
    let status = agent.tell(&["status"])?;
    ensure!(status.contains("standby, quota spent until 20"), "{status}");
    let shown = agent.tell(&["quota"])?;
    ensure!(shown.contains("spent, standby"), "{shown}");
    scrape_until(&agent, "what was used to be kept", |metrics| {
        metrics.value("mptcp_agent_quota_saved", &[]) == Some(1.0)
    })?;

    // The next agent knows at once, and counts what passed meanwhile.
    agent.stop_with(Signal::SIGKILL)?;
    transfer.wait_for_progress(2 * MB, SOON)?;
    let agent = Watched::start(&net.client, &binary, &args)?;
    let metrics = agent.scrape()?;
    assert_eq!(is_spent(&metrics), Some(1));
    wait_for_standby(&transfer, &net)?;
    let metrics = agent.scrape()?;
    let (counted, carried) = (used(&metrics).context("no quota")?, wire(&net)? - at_start);
    ensure!(counted.abs_diff(carried) < MB / 2, "{counted} of {carried}");
    assert!(agent.events("path_quota_spent")?.is_empty(), "it was told");

    let before = acked(&transfer, &net)?[1];
    let shown = agent.tell(&["quota", "reset", "p2"])?;
    ensure!(shown.contains("ok"), "{shown}");
    let renewed = [("path", "p2".into()), ("reason", "reset".into())];
    agent.event("path_quota_renewed", &renewed)?;
    wait_for_p2(&transfer, &net, 2 * MB)?;
    // It is spent anew.
    agent.event("path_quota_spent", &[("path", "p2".into())])?;
    wait_for_standby(&transfer, &net)?;
    let fresh = acked(&transfer, &net)?[1] - before;
    ensure!((8 * MB..22 * MB).contains(&fresh), "{fresh}");

    // A larger quota, while the agent runs.
    let larger = ["policy", "set", "weighted", "--quota", "p2=1GB/day"];
    agent.tell(&larger)?;
    let renewed = [("path", "p2".into()), ("reason", "policy".into())];
    agent.event("path_quota_renewed", &renewed)?;
    wait_for_p2(&transfer, &net, 2 * MB)?;
    // If the other path dies, a spent one carries.
    agent.tell(&["policy", "set", "weighted", "--quota", "p2=12MB/day"])?;
    wait_for_standby(&transfer, &net)?;
    net.links[0].blackhole(mptcp_lab::Direction::Both, true)?;
    wait_for_p2(&transfer, &net, 2 * MB)?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_spent_path_rests_under_the_policies_that_have_no_weights() -> Result<()> {
    let binary = require_agent!();
    for policy in [&["overflow", "--prefer", "p2"][..], &["aggregate"]] {
        let directory = tempfile::tempdir()?;
        let lab = Lab::new()?;
        let net = two_paths(&lab)?;
        let quota = "p2=8MB/month,count:connections";
        let args = args_of(policy, quota, directory.path());
        let agent = Watched::start(&net.client, &binary, &args)?;
        let (_sink, transfer) = upload(&net, 2)?;
        agent.event("path_quota_spent", &[("path", "p2".into())])?;
        wait_for_standby(&transfer, &net)?;
        if policy[0] == "overflow" {
            let rank = agent.scrape()?.value("mptcp_path_rank", &[("path", "p2")]);
            assert_eq!(rank, Some(1.0), "it is the preferred one all the same");
        }
        agent.tell(&["quota", "reset", "p2"])?;
        wait_for_p2(&transfer, &net, 2 * MB)?;
        transfer.stop()?;
        agent.stop()?;
    }
    Ok(())
}

/// Shows that downloads behave as docs/operations.md says.
#[test]
fn a_download_leaves_a_spent_path_once_its_endpoint_is_a_backup() -> Result<()> {
    let binary = require_agent!();
    let directory = tempfile::tempdir()?;
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let args = args("p2=8MB/day,direction:rx", directory.path());
    let agent = Watched::start(&net.client, &binary, &args)?;
    let source = Server::spawn(&net.server, ANY, Behaviour::Source { rate_mbit: None })?;
    let bulk = Bulk::download_for(VERY_LONG);
    let transfer = bulk.start(&net.client, source.at(net.server_addr()))?;
    transfer.wait_for_subflows(2, SOON)?;
    agent.event("path_quota_spent", &[("path", "p2".into())])?;
    let received = || -> Result<Vec<u64>> {
        let metrics = agent.scrape()?;
        let of = |path| metrics.value("mptcp_path_received_bytes_total", &[("path", path)]);
        let values = ["p1", "p2"].map(|path| of(path).unwrap_or_default() as u64);
        Ok(values.into())
    };
    wait_for_window("p2 to receive all the same", received, |shares| {
        shares[1] > 0.1
    })?;
    net.client.run("ip mptcp endpoint change id 1 backup")?;
    wait_for_window("p2 to receive nothing", received, |shares| shares[1] < 0.02)?;
    net.client.run("ip mptcp endpoint change id 1 nobackup")?;
    wait_for_window("p2 to receive again", received, |shares| shares[1] > 0.1)?;
    transfer.stop()?;
    agent.stop()
}

/// Cuts a file in half.
fn tear(path: &Path) -> Result<()> {
    let bytes = fs::read(path)?;
    Ok(fs::write(path, &bytes[..bytes.len() / 2])?)
}

#[test]
fn a_torn_file_is_set_aside_and_what_was_used_is_known_all_the_same() -> Result<()> {
    let binary = require_agent!();
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("quota.json");
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let args = args("p2=1GB/day", directory.path());
    let agent = Watched::start(&net.client, &binary, &args)?;
    let (_sink, transfer) = upload(&net, 2)?;
    scrape_until(&agent, "some use", |metrics| used(metrics) > Some(4 * MB))?;
    agent.stop()?;
    let kept = fs::read_to_string(&file)?;
    ensure!(kept.contains(r#""path":"p2""#), "{kept}");

    tear(&file)?;
    let agent = Watched::start(&net.client, &binary, &args)?;
    let metrics = scrape_until(&agent, "some use", |metrics| used(metrics) > Some(4 * MB))?;
    let set_aside = metrics.value("mptcp_agent_quota_files_set_aside", &[]);
    assert_eq!(set_aside, Some(1.0));
    let log = agent.stderr();
    ensure!(log.contains("is torn"), "{log}");
    ensure!(log.contains("quota.json.bad-1"), "{log}");
    ensure!(log.contains("seconds older"), "{log}");
    assert_eq!(
        fs::read(directory.path().join("quota.json.bad-1"))?.len(),
        kept.len() / 2
    );
    wait_for_p2(&transfer, &net, MB)?;
    agent.stop()?;

    // Both are gone. The device was made in this boot, which is older than this
    // day or not; whatever the agent does, it says so.
    tear(&file)?;
    fs::write(directory.path().join("quota.json.old"), "{\"version\":7}")?;
    let agent = Watched::start(&net.client, &binary, &args)?;
    let metrics = agent.scrape()?;
    let set_aside = metrics.value("mptcp_agent_quota_files_set_aside", &[]);
    assert_eq!(set_aside, Some(2.0));
    let log = agent.stderr();
    ensure!(log.contains("version 7 of the format"), "{log}");
    ensure!(log.contains("in this period is lost"), "{log}");
    ensure!(directory.path().join("quota.json.bad-3").exists());
    transfer.stop()?;
    agent.stop()
}

#[test]
fn an_agent_that_cannot_write_counts_all_the_same_and_says_so_once() -> Result<()> {
    let binary = require_agent!();
    let directory = tempfile::tempdir()?;
    let no_directory = directory.path().join("file");
    fs::write(&no_directory, "")?;
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let args = args("p2=10MB/day,action:warn", &no_directory.join("state"));
    let agent = Watched::start(&net.client, &binary, &args)?;
    let (_sink, transfer) = upload(&net, 2)?;
    agent.event("path_quota_spent", &[("path", "p2".into())])?;
    // It only warns: the path goes on.
    wait_for_p2(&transfer, &net, 5 * MB)?;
    let metrics = agent.scrape()?;
    assert_eq!(metrics.value("mptcp_agent_quota_saved", &[]), Some(0.0));
    assert_eq!(is_spent(&metrics), Some(1));
    let shown = quotas(&agent)?;
    assert_eq!(shown["saved"], false);
    ensure!(shown["not_saved_because"].is_string(), "{shown}");
    assert_eq!(shown["quotas"][0]["action"], "warn");
    let said = agent.stderr();
    assert_eq!(said.matches("counted in memory only").count(), 1, "{said}");
    transfer.stop()?;
    agent.stop()
}

#[test]
fn connections_count_under_the_default_policy_and_over_a_take_over() -> Result<()> {
    let binary = require_agent!();
    let directory = tempfile::tempdir()?;
    let state = directory.path().display().to_string();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let args = [
        "--quota",
        "id:1=10MB/week,action:warn,direction:tx",
        "--state-dir",
        &state,
    ];
    let agent = Agent::start(&net.client, &binary, &args)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let used = |metrics: &Metrics| {
        let used = metrics.value("mptcp_path_quota_used_bytes", &[("path", "id:1")]);
        used.map(|used| used as u64)
    };
    let metrics = scrape_until(&agent, "some use", |metrics| used(metrics) > Some(3 * MB))?;
    let carried = metrics.value("mptcp_path_acked_bytes_total", &[("path", "id:1")]);
    let (counted, carried) = (
        used(&metrics).context("no quota")?,
        carried.unwrap_or_default(),
    );
    ensure!(counted <= carried as u64, "{counted} of {carried}");
    ensure!(counted + 5 * MB > carried as u64, "{counted} of {carried}");
    let next = agent.take_over(&args)?;
    agent.ended()?;
    let metrics = next.scrape()?;
    ensure!(used(&metrics) >= Some(counted), "{:?}", used(&metrics));
    scrape_until(&next, "the quota to be spent", |metrics| {
        metrics.value("mptcp_path_quota_spent", &[("path", "id:1")]) == Some(1.0)
    })?;
    let shown = quotas(&next)?;
    let quota = &shown["quotas"][0];
    assert_eq!(
        (&quota["path"], &quota["count"]),
        (&"id:1".into(), &"connections".into())
    );
    assert_eq!(
        (&quota["period"], &quota["spent"]),
        (&"week".into(), &true.into())
    );

    // An impossible setting is told in one line, and changes nothing.
    for (words, expected) in [
        (
            &["policy", "set", "default", "--quota", "p2=1GB/day"][..],
            "which this policy cannot do: add action:warn, or choose policy weighted",
        ),
        (
            &[
                "policy",
                "set",
                "weighted",
                "--quota",
                "id:1=1GB/day,count:device",
            ],
            "`id:1` is no device",
        ),
        (
            &["policy", "set", "weighted", "--quota", "p2=50gb/month"],
            "`50gb` is no amount of data",
        ),
        (
            &["quota", "reset", "p2"],
            "path `p2` has no quota: those that have one are id:1",
        ),
        (&["quota", "reset", "id:x"], "0 to 255"),
    ] {
        let mut command = net.client.command(&binary);
        command.args(words);
        let error = failure_of(&net.client, &mut command)?;
        ensure!(error.contains(expected), "{words:?}: {error}");
    }
    assert_eq!(quotas(&next)?["quotas"][0]["quota_bytes"], 10 * MB);
    transfer.wait_for_progress(MB, Duration::from_secs(10))?;
    transfer.stop()?;
    next.stop()
}
