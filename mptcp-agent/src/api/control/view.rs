//! Converts what the agent knows to what the control socket shows.
//!
//! Pure: takes [`crate::state`], returns the schema's types.

mod peering;
mod quota;
mod scheduler;

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use mptcp_api::schema::{
    Agent, Connection, Event, Hook, LeftOut, Path, PathCopies, Peers, PolicyView, Sender, Side,
    Status, Subflow, Then,
};
use mptcp_common::abi::redundant::{CopyStats, outcome};
use mptcp_common::abi::{self, subflow_flag};
use mptcp_common::controller::{MARKED_LOWAT, NO_CAP};

use crate::net::endpoints::Endpoints;
use crate::policy::{Bound, Policy};
use crate::state::events::{Change, KINDS, Reset, endpoints, token};
use crate::state::fitness::{self, Fitness, Standing};
use crate::state::snapshot::{self, InForce, Open, PeerState, Program, Snapshot};
use crate::{COMMIT, VERSION};

pub use quota::{quota_event, quotas};
pub use scheduler::scheduler;

/// Converts a snapshot with its open connections.
pub fn status(snapshot: &Snapshot) -> Status {
    let (agent, totals) = (&snapshot.agent, &snapshot.totals);
    let in_force = &snapshot.policy.policy;
    let paths = snapshot.traffic();
    let quotas = &snapshot.quotas;
    let target = |path: &snapshot::Path| {
        let mut targets = snapshot.targets();
        targets.find_map(|(one, share)| (one.index == path.index).then_some(share))
    };
    Status {
        agent: Agent {
            version: VERSION.to_owned(),
            commit: COMMIT.to_owned(),
            pid: agent.pid,
            uptime_seconds: agent.uptime.as_secs_f64(),
            listen: agent
                .listen
                .first()
                .map_or_else(String::new, |place| place.to_string()),
            listeners: agent.listen.iter().map(|place| place.to_string()).collect(),
            web_tls: agent.web_tls,
            web_auth: agent.web_auth,
            outlived: snapshot.not_outlived.is_none(),
            not_outlived_because: snapshot.not_outlived.clone(),
        },
        policy: policy(&snapshot.policy),
        hooks: snapshot.programs.iter().map(hook).collect(),
        paths: paths
            .map(|one| Path {
                quota: quotas.of(&one.label).map(quota::path_quota),
                target_share: in_force.caps().then(|| target(one)).flatten(),
                ..path(one, &snapshot.open, in_force)
            })
            .collect(),
        peers: snapshot.peers.as_ref().map(peers),
        peering: snapshot.peering.as_ref().map(peering::peering),
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
    let endpoints = open.endpoints;
    let connections = open.connections.into_iter();
    connections.map(move |one| connection(&one, endpoints.as_ref()))
}

/// Converts a connection.
pub fn connection(connection: &snapshot::Connection, endpoints: Option<&Endpoints>) -> Connection {
    let allowed = endpoints.and_then(|endpoints| connection.allowed(endpoints));
    let lacks = allowed.is_some_and(|allowed| (connection.subflows.len() as u64) < allowed);
    let acked = connection.acked_bytes();
    let subflows = connection.subflows.iter();
    Connection {
        token: token(connection.token),
        side: side(connection.is_server()),
        fallback: connection.is_fallback(),
        steered: connection.is_steered(),
        policy: connection.policy.as_deref().map(str::to_owned),
        rule: connection.rule.as_deref().map(str::to_owned),
        peer_proven: connection.proven,
        subflows_allowed: allowed,
        short: lacks && connection.is_settled(),
        acked_bytes_per_second: None,
        received_bytes_per_second: None,
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
        acked_bytes_per_second: None,
        received_bytes_per_second: None,
        retransmitted_segments: known.retransmitted_segments,
        queued_bytes: known.queued,
        share: (acked != 0).then(|| known.acked_bytes as f64 / acked as f64),
        cap_bytes_per_second: (known.cap != NO_CAP).then_some(known.cap),
        queue_limit_bytes: (!matches!(known.lowat, 0 | MARKED_LOWAT)).then_some(known.lowat),
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
        down: path.down.map(|down| down.name().to_owned()),
        heard_seconds: subflows.heard.map(|ago| ago.as_secs_f64()),
        weight: policy.caps().then_some(path.weight),
        rank: policy.rank(path.weight),
        left_out: path.fitness.as_ref().and_then(left_out),
        limit_bytes_per_second: path.limit,
        quota: None,
        share: path.share,
        target_share: None,
        rtt_seconds: path.rates.rtt_seconds,
        sent_bytes_per_second: path.rates.sent,
        acked_bytes_per_second: path.rates.acked,
        received_bytes_per_second: path.rates.received,
        retransmitted_segments: path.stats.retransmitted_segments,
        scheduler: Some(scheduler::total(&path.stats)),
        copies: path.copies.as_ref().map(copies),
    }
}

fn left_out(fitness: &Fitness) -> Option<LeftOut> {
    let (reason, measured, since) = fitness.why?;
    Some(LeftOut {
        reason: reason.name().to_owned(),
        tried: fitness.standing == Standing::Tried,
        for_seconds: since.as_secs_f64(),
        loss: measured.loss,
        loss_bound: fitness.bound.loss(),
        rtt_seconds: measured.rtt_seconds,
        rtt_bound_seconds: fitness.bound.rtt_seconds(),
    })
}

/// Converts what has become of the path of this label, which has these bounds.
pub fn fitness_event(
    change: &fitness::Change,
    bound: Bound,
    path: &str,
    time: SystemTime,
) -> Event {
    let event = match change.to {
        Standing::LeftOut => "path_left_out",
        Standing::Tried => "path_tried_again",
        Standing::Used => "path_back",
    };
    Event {
        time: humantime::format_rfc3339_micros(time).to_string(),
        event: event.to_owned(),
        path: path.to_owned(),
        reason: Some(change.reason.name().to_owned()),
        loss: change.measured.loss,
        loss_bound: bound.loss(),
        rtt_seconds: change.measured.rtt_seconds,
        rtt_bound_seconds: bound.rtt_seconds(),
        ..Event::default()
    }
}

fn copies(stats: &CopyStats) -> PathCopies {
    PathCopies {
        sent: stats.sent,
        dropped: stats.not_sent.iter().sum(),
        received_first: stats.received[usize::from(outcome::FIRST)],
        received_duplicate: stats.received[usize::from(outcome::DUPLICATE)],
        rescued_bytes: stats.rescued_bytes,
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
        Change::SubflowClosed { reason, reset } => {
            shown.reason = Some(reason.to_owned());
            shown.age_seconds = age_seconds(event);
            if let Some(reset) = reset {
                describe_reset(&mut shown, reset);
            }
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

/// Returns how long the subflow of an event has existed; `None` if it is older
/// than the agent.
fn age_seconds(event: &abi::Event) -> Option<f64> {
    let age = Duration::from_nanos(event.time_ns.saturating_sub(event.opened_ns));
    (event.opened_ns != 0).then_some(age.as_secs_f64())
}

fn describe_reset(shown: &mut Event, reset: Reset) {
    shown.reset_by = Some(if reset.by_peer {
        Sender::Peer
    } else {
        Sender::Local
    });
    if let Some((reason, transient)) = reset.reason {
        shown.reset_reason = Some(reason.to_owned());
        shown.reset_transient = Some(transient);
    }
    shown.reset_early = Some(reset.early);
}

fn side(server: bool) -> Side {
    if server { Side::Server } else { Side::Client }
}

fn seconds(us: u32) -> Option<f64> {
    (us != 0).then(|| f64::from(us) / 1e6)
}

#[cfg(test)]
mod tests {
    use mptcp_common::abi::{close_reason, event_kind, reset};

    use super::*;
    use crate::rules::Rules;
    use crate::state::snapshot::Names;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_connection_that_lacks_a_subflow_is_short_once_it_is_settled() {
        use crate::net::devices::Present;
        use crate::policy::Weights;
        use crate::state::paths::PathTable;
        use crate::state::snapshot::Gather;

        let shown = |opened_ns, endpoints: Option<Endpoints>| {
            let table = PathTable::new(&Weights::EQUAL);
            let now_ns = 20_000 * MS;
            let names = Names::new(false, &Rules::default());
            let mut gather = Gather::new(&table, &Present::new(), names, None, now_ns);
            let mut one = abi::Subflow {
                opened_ns,
                ..abi::Subflow::default()
            };
            one.tuple.local = abi::mapped_v4([10, 0, 0, 1]);
            one.tuple.remote = abi::mapped_v4([10, 0, 9, 1]);
            gather.subflow(1, one);
            let shown = connections(gather.finish(endpoints)).next();
            shown.map(|one| (one.subflows_allowed, one.short))
        };
        let endpoints = |subflows| {
            Some(Endpoints {
                addresses: vec![[10, 0, 1, 1].into()],
                subflows,
            })
        };
        let (old, young) = (10_000 * MS, 19_000 * MS);
        assert_eq!(shown(old, endpoints(2)), Some((Some(2), true)));
        assert_eq!(shown(young, endpoints(2)), Some((Some(2), false)));
        assert_eq!(shown(old, endpoints(0)), Some((Some(1), false)));
        assert_eq!(shown(old, None), Some((None, false)));
    }

    fn closed(reason: u8, reset: u8, opened_ns: u64) -> Event {
        let raw = abi::Event {
            time_ns: 10_020 * MS,
            opened_ns,
            cookie: 7,
            kind: event_kind::SUBFLOW_CLOSED,
            reason,
            reset,
            ..abi::Event::default()
        };
        event(&raw, "eth1", SystemTime::UNIX_EPOCH, Duration::ZERO)
    }

    #[test]
    fn an_early_reset_is_shown_with_its_sender_and_reason() {
        let bits = reset::BY_PEER | reset::EARLY | 1;
        let shown = closed(close_reason::RESET, bits, 10_000 * MS);
        assert_eq!(shown.event, "subflow_closed");
        assert_eq!(shown.reason.as_deref(), Some("reset"));
        assert_eq!(shown.age_seconds, Some(0.02));
        assert_eq!(shown.reset_by, Some(Sender::Peer));
        assert_eq!(shown.reset_reason.as_deref(), Some("mptcp-specific-error"));
        assert_eq!(shown.reset_transient, Some(false));
        assert_eq!(shown.reset_early, Some(true));
    }

    #[test]
    fn a_reset_without_a_reason_has_none_and_a_fin_is_no_reset() {
        let shown = closed(close_reason::ERROR, reset::BY_US | reset::NONE, 0);
        assert_eq!(shown.reset_by, Some(Sender::Local));
        assert_eq!((shown.reset_reason, shown.reset_transient), (None, None));
        assert_eq!(shown.reset_early, Some(false));
        assert_eq!(shown.age_seconds, None, "it is older than the agent");

        let shown = closed(close_reason::FIN, reset::NONE, 10_000 * MS);
        assert_eq!((shown.reset_by, shown.reset_early), (None, None));
        assert_eq!(shown.age_seconds, Some(0.02));
    }
}
