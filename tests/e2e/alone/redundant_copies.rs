//! Every segment goes over two paths, both ways, and TCP sees it once.

use anyhow::Result;
use mptcp_lab::metrics::Metrics;
use mptcp_lab::{Agent, Path};

use crate::redundant_support::{Scene, Stage, arrived, dropped, received, refused, rescued, sent};
use crate::support::{require_agent, scrape_until};

/// Every metric that the policy promises.
const NAMES: [&str; 9] = [
    "mptcp_redundant_peers",
    "mptcp_redundant_copies_sent_total",
    "mptcp_redundant_copies_sent_bytes_total",
    "mptcp_redundant_copies_received_total",
    "mptcp_redundant_copies_dropped_total",
    "mptcp_redundant_refused_total",
    "mptcp_redundant_rescued_bytes_total",
    "mptcp_redundant_late_originals_total",
    "mptcp_redundant_hellos_total",
];

/// Counts all copies that arrived, including refused ones.
fn all(metrics: &Metrics) -> f64 {
    arrived(metrics) + received(metrics, "refused")
}

/// Waits until one agent has received all copies that the other has sent.
fn agree(sender: &Agent, receiver: &Agent) -> Result<Metrics> {
    scrape_until(receiver, "every copy that was sent", |metrics| {
        let sent = sender.scrape().map_or(-1.0, |metrics| sent(&metrics));
        sent > 0.0 && all(metrics) == sent
    })
}

#[test]
fn copies_flow_both_ways_and_tcp_sees_each_segment_once() -> Result<()> {
    const REQUESTS: u64 = 300;
    let binary = require_agent!();
    let scene = Scene::of_two(&binary, &[])?;
    let before = scene.recovery()?;
    let metrics = [scene.client.scrape()?, scene.server.scrape()?];
    // One more may have been on its way when the metrics were read.
    let start = scene.exchange.responses() + 1;
    scene.more_responses(REQUESTS)?;
    scene.exchange.rest();
    let requests = (scene.exchange.responses() - start) as f64;

    agree(&scene.client, &scene.server)?;
    agree(&scene.server, &scene.client)?;
    for (agent, before) in scene.agents().into_iter().zip(&metrics) {
        let now = agent.scrape()?;
        // There are copies of requests, responses and acknowledgements.
        for count in [sent, arrived] {
            let copies = count(&now) - count(before);
            assert!(copies >= requests, "{copies} copies of {requests} requests");
        }
        assert_eq!(received(&now, "refused"), received(before, "refused"));
        for reason in ["mtu", "no-peer", "no-timestamps", "kernel"] {
            let (then, now) = (dropped(before, reason), dropped(&now, reason));
            assert_eq!(then, now, "dropped, {reason}");
        }
        for reason in ["malformed", "fragment", "not-tcp", "foreign", "kernel"] {
            assert_eq!(refused(&now, reason), 0.0, "refused, {reason}");
        }
    }
    let recovery = scene.recovery()? - before;
    assert_eq!(recovery, Default::default());
    scene.end()
}

#[test]
fn every_promised_metric_is_there() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::of_two(&binary, &[])?;
    for agent in scene.agents() {
        let metrics = agent.scrape()?;
        for name in NAMES {
            assert!(metrics.select(name, &[]).count() > 0, "no {name}");
        }
        let policy = [("policy", "redundant"), ("backend", "copies")];
        assert_eq!(metrics.value("mptcp_policy_info", &policy), Some(1.0));
        for program in ["redundant_egress", "redundant_ingress"] {
            let labels = [("program", program)];
            let attached = metrics.value("mptcp_agent_program_attached", &labels);
            assert_eq!(attached, Some(1.0), "{program}");
            let runs = metrics.value("mptcp_agent_program_runs_total", &labels);
            assert!(runs > Some(0.0), "{program}");
        }
        // The kernel chooses the path of a segment; the copy takes the other.
        let by_path = |name| ["p1", "p2"].map(|path| metrics.sum(name, &[("path", path)]));
        let sent = by_path("mptcp_redundant_copies_sent_total");
        let bytes = by_path("mptcp_redundant_copies_sent_bytes_total");
        assert!(sent.iter().sum::<f64>() > 0.0);
        for (sent, bytes) in sent.iter().zip(bytes) {
            // Headers alone are more than this.
            assert!(bytes >= sent * 80.0, "{bytes} bytes in {sent} copies");
        }
    }
    scene.end()
}

#[test]
fn three_paths_and_three_copies_outlive_two_cuts() -> Result<()> {
    use mptcp_lab::Direction;
    let binary = require_agent!();
    let paths = ["p1", "p2", "p3"].map(Path::new);
    let scene = Stage::new(paths)?.play(&binary, &["--redundant-copies", "3"])?;
    let (before, requests) = (scene.client.scrape()?, scene.exchange.responses());
    scene.more_responses(200)?;
    let (after, requests) = (
        scene.client.scrape()?,
        scene.exchange.responses() - requests,
    );
    // Each request has two copies.
    let copies = sent(&after) - sent(&before);
    assert!(
        copies >= 1.9 * requests as f64,
        "{copies} copies of {requests} requests"
    );

    let before = scene.recovery()?;
    for alive in 0..3 {
        let cut = || (0..3).filter(|&index| index != alive);
        for index in cut() {
            scene.links[index].blackhole(Direction::Both, true)?;
        }
        scene.more_responses(150)?;
        for index in cut() {
            scene.links[index].blackhole(Direction::Both, false)?;
        }
        scene.wait_for_copies()?;
    }
    let recovery = scene.recovery()? - before;
    assert_eq!(recovery.timeouts, 0, "{recovery:?}");
    assert!(rescued(&scene.client.scrape()?) + rescued(&scene.server.scrape()?) > 0.0);
    scene.end()
}
