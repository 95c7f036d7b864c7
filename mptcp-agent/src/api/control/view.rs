//! Converts what the agent knows to what the control socket shows.
//!
//! Pure: takes [`crate::state`], returns the schema's types.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use mptcp_api::schema::{
    Agent, Connection, Event, Hook, Path, PathCopies, Peers, PolicyView, Side, Status, Subflow,
    Then,
};
use mptcp_common::abi::redundant::{CopyStats, outcome};
use mptcp_common::abi::{self, subflow_flag};
use mptcp_common::controller::NO_CAP;

use crate::policy::Policy;
use crate::state::events::{Change, KINDS, endpoints, token};
use crate::state::snapshot::{self, InForce, Open, PeerState, Program, Snapshot};
use crate::{COMMIT, VERSION};

/// Converts a snapshot with its open connections.
pub fn status(snapshot: &Snapshot) -> Status {
    let (agent, totals) = (&snapshot.agent, &snapshot.totals);
    let in_force = &snapshot.policy.policy;
    let paths = snapshot.traffic();
    Status {
        agent: Agent {
            version: VERSION.to_owned(),
            commit: COMMIT.to_owned(),
            pid: agent.pid,
            uptime_seconds: agent.uptime.as_secs_f64(),
            listen: agent.listen.to_string(),
            outlived: snapshot.not_outlived.is_none(),
            not_outlived_because: snapshot.not_outlived.clone(),
        },
        policy: policy(&snapshot.policy),
        hooks: snapshot.programs.iter().map(hook).collect(),
        paths: paths
            .map(|one| path(one, &snapshot.open, in_force))
            .collect(),
        peers: snapshot.peers.as_ref().map(peers),
        connections: totals.connections,
        subflows: totals.subflows,
        events_lost: totals.events_lost,
        map_full: totals.connections_full + totals.subflows_full,
    }
}

/// Converts the policy in force.
pub fn policy(in_force: &InForce) -> PolicyView {
    PolicyView {
        policy: in_force.policy.given(),
        backend: in_force.policy.backend().to_owned(),
        then: in_force.then.as_ref().map(|(policy, after)| Then {
            policy: policy.given(),
            in_seconds: after.as_secs_f64(),
        }),
    }
}

/// Converts the open connections, one by one, as they are asked for.
pub fn connections(open: Open) -> impl ExactSizeIterator<Item = Connection> {
    open.connections.into_iter().map(|one| connection(&one))
}

fn connection(connection: &snapshot::Connection) -> Connection {
    let acked = connection.acked_bytes();
    let subflows = connection.subflows.iter();
    Connection {
        token: token(connection.token),
        side: side(connection.is_server()),
        fallback: connection.is_fallback(),
        steered: connection.is_steered(),
        peer_proven: connection.proven,
        subflows: subflows.map(|one| subflow(one, acked)).collect(),
    }
}

/// Converts a subflow. `acked` is what all subflows of its connection have
/// acked.
fn subflow(subflow: &snapshot::Subflow, acked: u64) -> Subflow {
    let known = &subflow.known;
    let (local, remote) = endpoints(&known.tuple);
    let ids = subflow.has(subflow_flag::IDS);
    Subflow {
        cookie: subflow.cookie,
        path: subflow.path.to_string(),
        device: subflow.device.as_deref().map(str::to_owned),
        local: local.to_string(),
        remote: remote.to_string(),
        local_id: ids.then_some(known.tuple.local_id),
        remote_id: ids.then_some(known.tuple.remote_id),
        joined: subflow.has(subflow_flag::JOIN),
        backup: subflow.has(subflow_flag::BACKUP),
        stale: subflow.has(subflow_flag::STALE),
        congestion_locked: subflow.has(subflow_flag::LOCKED),
        alive: subflow.alive,
        heard_seconds: subflow.heard.map(|ago| ago.as_secs_f64()),
        srtt_seconds: seconds(known.srtt_us),
        min_rtt_seconds: seconds(known.min_rtt_us),
        cwnd_segments: (known.cwnd != 0).then_some(known.cwnd),
        sent_bytes: known.sent_bytes,
        acked_bytes: known.acked_bytes,
        received_bytes: known.received_bytes,
        retransmitted_segments: known.retransmitted_segments,
        queued_bytes: known.queued,
        share: (acked != 0).then(|| known.acked_bytes as f64 / acked as f64),
        cap_bytes_per_second: (known.cap != NO_CAP).then_some(known.cap),
        queue_limit_bytes: (known.lowat != 0).then_some(known.lowat),
        copies_sent: known.copies,
    }
}

fn path(path: &snapshot::Path, open: &Open, policy: &Policy) -> Path {
    let subflows = open.on_path(&path.label);
    let text = |address: &IpAddr| address.to_string();
    Path {
        path: path.label.clone(),
        listed: path.listed,
        present: path.present,
        device: path.device.clone(),
        addresses: match &path.addresses {
            Some(addresses) => addresses.iter().map(text).collect(),
            None => subflows.addresses.iter().map(text).collect(),
        },
        subflows: path.stats.live,
        alive: subflows.alive,
        carrier: path.carrier,
        heard_seconds: subflows.heard.map(|ago| ago.as_secs_f64()),
        weight: policy.caps().then_some(path.weight),
        rank: policy.rank(path.weight),
        share: path.share,
        rtt_seconds: path.rates.rtt_seconds,
        sent_bytes_per_second: path.rates.sent,
        acked_bytes_per_second: path.rates.acked,
        received_bytes_per_second: path.rates.received,
        retransmitted_segments: path.stats.retransmitted_segments,
        copies: path.copies.as_ref().map(copies),
    }
}

fn copies(stats: &CopyStats) -> PathCopies {
    PathCopies {
        sent: stats.sent,
        dropped: stats.not_sent.iter().sum(),
        received_first: stats.received[usize::from(outcome::FIRST)],
        received_duplicate: stats.received[usize::from(outcome::DUPLICATE)],
    }
}

fn peers(peers: &snapshot::Peers) -> Peers {
    Peers {
        proven: peers.count(PeerState::Proven),
        silent: peers.count(PeerState::Silent),
        asking: peers.count(PeerState::Asking),
        refused: peers.count(PeerState::Refused),
    }
}

fn hook(program: &Program) -> Hook {
    Hook {
        program: program.name.to_owned(),
        purpose: program.purpose.to_owned(),
        attached: program.error.is_none(),
        reason: program.error.clone(),
    }
}

/// Converts an event. `path` is the label of its path, and `age` the time that
/// has passed since it happened.
pub fn event(event: &abi::Event, path: &str, time: SystemTime, age: Duration) -> Event {
    let change = Change::from(event);
    let mut shown = Event {
        time: humantime::format_rfc3339_micros(time.checked_sub(age).unwrap_or(time)).to_string(),
        event: KINDS[change.kind()].to_owned(),
        path: path.to_owned(),
        token: token(event.token),
        ..Event::default()
    };
    // An event about a path as a whole names no subflow.
    if event.cookie != 0 {
        let (local, remote) = endpoints(&event.tuple);
        let ids = event.tuple.flags & subflow_flag::IDS != 0;
        shown.local = Some(local.to_string());
        shown.remote = Some(remote.to_string());
        shown.local_id = ids.then_some(event.tuple.local_id);
        shown.remote_id = ids.then_some(event.tuple.remote_id);
        shown.side = Some(side(event.tuple.flags & subflow_flag::SERVER != 0));
        shown.cookie = Some(event.cookie);
    }
    match change {
        Change::SubflowClosed { reason } => {
            shown.reason = Some(reason.to_owned());
            shown.sent_bytes = Some(event.sent_bytes);
            shown.acked_bytes = Some(event.acked_bytes);
            shown.received_bytes = Some(event.received_bytes);
        }
        Change::Priority { backup } => shown.backup = Some(backup),
        Change::Stale { stale } => shown.stale = Some(stale),
        _ => {}
    }
    shown
}

fn side(server: bool) -> Side {
    if server { Side::Server } else { Side::Client }
}

fn seconds(us: u32) -> Option<f64> {
    (us != 0).then(|| f64::from(us) / 1e6)
}
