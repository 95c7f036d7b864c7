//! A subflow's life: opened, accounted for at every callback, closed.

use aya_ebpf::bindings::{
    BPF_ANY, BPF_SOCK_OPS_RETRANS_CB_FLAG, BPF_SOCK_OPS_RTO_CB_FLAG, BPF_SOCK_OPS_RTT_CB_FLAG,
    BPF_SOCK_OPS_STATE_CB_FLAG,
};
use mptcp_common::abi::{
    Connection, Tuple, UNKNOWN_PATH, capability, event_kind, redundant::PeerView, side,
    subflow_flag, subflow_kind,
};
use mptcp_common::controller::NO_CAP;
use mptcp_common::spare::Marks;

use crate::hooks::ending::Ending;
use crate::policy::limit;
use crate::policy::weighted::{count_backup, leave_slot, slot, take_slot, waking};
use crate::shared::emit::subflow_event;
use crate::shared::entry::Entry;
use crate::shared::maps::{
    ARRIVALS, CARRIERS, CONNECTIONS, COOKIE_OF, LESS_ONE, SUBFLOWS, add, capabilities, config,
    connection, connection_or_new, path_stats, redundant, totals,
};
use crate::shared::member::offset;
use crate::shared::path;
use crate::shared::rule;
use crate::shared::socket::Socket;

/// The callbacks that the kernel makes for a subflow's socket.
pub const CALLBACKS: u32 = BPF_SOCK_OPS_RTO_CB_FLAG
    | BPF_SOCK_OPS_RETRANS_CB_FLAG
    | BPF_SOCK_OPS_STATE_CB_FLAG
    | BPF_SOCK_OPS_RTT_CB_FLAG;

/// Registers an established subflow. Returns `false` if a map is full: the
/// agent then does not see the subflow.
///
/// `prior_cb_flags` are the callback flags that its socket had before. `new` is
/// true if the subflow has just been established, and false if it is older than
/// the agent.
#[inline(always)]
pub fn open(socket: Socket, cookie: u64, prior_cb_flags: u32, new: bool, now_ns: u64) -> bool {
    let key = socket.connection();
    let mut tuple = socket.tuple();
    let Some(connection) = connection_or_new(key) else {
        totals(|totals| add(&totals.connections_full, 1));
        return false;
    };
    let first = connection.subflows.add(1) == 0;
    if !first && tuple.flags & subflow_flag::IDS == 0 {
        // The kernel does not let the subflow's own flags be read (no `IDS`).
        // Every subflow but the first is a join.
        tuple.flags |= subflow_flag::JOIN;
    }
    tuple.flags |= socket.is_server() * subflow_flag::SERVER;
    tuple.flags |= socket.is_locked() * subflow_flag::LOCKED;
    if first || tuple.flags & subflow_flag::JOIN == 0 {
        // If the connection is older than the agent, a sweep may have found another
        // subflow first.
        rule::note(socket, connection, &tuple);
        rule::choose(connection, rule::OPENING, now_ns, u32::from(!first));
    }
    let fallback = first && socket.is_fallback();
    if fallback {
        tuple.flags |= subflow_flag::FALLBACK;
    }
    let token = refresh_token(socket, connection);
    let config = config();
    let ifindex = socket.ifindex();
    let path = path::find(&tuple, ifindex).unwrap_or(UNKNOWN_PATH);
    let counted = Counted::at_opening(socket, new);
    let Some(subflow) = Entry::insert(cookie) else {
        totals(|totals| add(&totals.subflows_full, 1));
        if connection.subflows.sub(1) == 1 {
            let _ = CONNECTIONS.remove(key);
        }
        return false;
    };
    // An agent may have set limits before.
    let (ours, prior) = socket.limits().split();
    // The members that are 0 are so already.
    subflow.set_path(path);
    subflow.set_generation(config.generation);
    subflow.set_cwnd(socket.cwnd());
    subflow.set_seen_ns(now_ns);
    subflow.set_quiet_ns(now_ns);
    subflow.set_quiet_bytes(counted.acked);
    subflow.set_connection(key);
    let opened_ns = if new { now_ns } else { 0 };
    subflow.set_heard_ns(opened_ns);
    subflow.set_opened_ns(opened_ns);
    subflow.set_sent_bytes(counted.sent);
    subflow.set_acked_bytes(counted.acked);
    subflow.set_received_bytes(counted.received);
    subflow.set_retransmitted_segments(socket.tcp(&offset::TCP_TOTAL_RETRANS));
    subflow.set_sent_segments(socket.tcp(&offset::TCP_DATA_SEGS_OUT));
    subflow.set_prior_cb_flags(prior_cb_flags as u16);
    subflow.set_cap(ours.cap);
    subflow.set_lowat(ours.lowat);
    subflow.set_prior_cap(prior.cap);
    subflow.set_prior_lowat(prior.lowat);
    subflow.set_wanted_cap(NO_CAP);
    waking::inherit(socket, subflow);
    subflow.set_ifindex(ifindex);
    subflow.set_srtt_us(socket.srtt_us());
    subflow.set_min_rtt_us(socket.min_rtt_us());
    subflow.set_tuple(tuple);
    if !fallback {
        take_slot(connection, subflow);
    }
    connection.revision.add(1);
    register(connection, &tuple, cookie, now_ns);

    let joined = tuple.flags & subflow_flag::JOIN != 0;
    let kind = if joined {
        subflow_kind::JOIN
    } else {
        subflow_kind::INITIAL
    };
    path_stats(path, |stats| {
        add(&stats.live, 1);
        add(&stats.opened[usize::from(kind & 1)], 1);
    });
    totals(|totals| {
        add(&totals.subflows, 1);
        if first {
            add(&totals.connections, 1);
            rule::count_opened(connection.rule.get() as u32);
            let side = if tuple.flags & subflow_flag::SERVER != 0 {
                side::SERVER
            } else {
                side::CLIENT
            };
            add(&totals.opened[usize::from(side & 1)], 1);
        }
    });
    let event = if joined {
        event_kind::JOINED
    } else {
        event_kind::OPENED
    };
    subflow_event(event, 0, cookie, token, subflow);
    if fallback {
        subflow_event(event_kind::FALLBACK, 0, cookie, token, subflow);
    }
    true
}

/// The part of a socket's own counters that is not added to the totals.
#[derive(Clone, Copy)]
struct Counted {
    sent: u64,
    acked: u64,
    received: u64,
}

impl Counted {
    /// Returns the counters as they are when counting begins. For a socket that
    /// is older than the agent that is now. A `new` one may have sent data with
    /// its SYN (TCP Fast Open), and that data counts. The SYN itself, which the
    /// kernel counts as one acked byte, does not.
    #[inline(always)]
    fn at_opening(socket: Socket, new: bool) -> Self {
        let acked: u64 = socket.tcp(&offset::TCP_BYTES_ACKED);
        if new {
            Self {
                sent: 0,
                acked: acked.min(1),
                received: 0,
            }
        } else {
            Self {
                sent: socket.tcp(&offset::TCP_BYTES_SENT),
                acked,
                received: socket.tcp(&offset::TCP_BYTES_RECEIVED),
            }
        }
    }
}

/// Adds what the socket did since the last look to the totals of its path and
/// to its controller's slot.
#[inline(always)]
pub fn account(socket: Socket, connection: &Connection, subflow: Entry, now_ns: u64) {
    let sent: u64 = socket.tcp(&offset::TCP_BYTES_SENT);
    let acked: u64 = socket.tcp(&offset::TCP_BYTES_ACKED);
    let received: u64 = socket.tcp(&offset::TCP_BYTES_RECEIVED);
    let retransmitted: u32 = socket.tcp(&offset::TCP_TOTAL_RETRANS);
    let segments: u32 = socket.tcp(&offset::TCP_DATA_SEGS_OUT);
    let newly_acked = acked.wrapping_sub(subflow.acked_bytes());
    rule::count_rule(
        connection.rule.get() as u32,
        sent.wrapping_sub(subflow.sent_bytes()),
        newly_acked,
        received.wrapping_sub(subflow.received_bytes()),
    );
    path_stats(subflow.path(), |stats| {
        add(&stats.sent_bytes, sent.wrapping_sub(subflow.sent_bytes()));
        add(&stats.acked_bytes, newly_acked);
        add(
            &stats.received_bytes,
            received.wrapping_sub(subflow.received_bytes()),
        );
        let again = retransmitted.wrapping_sub(subflow.retransmitted_segments());
        add(&stats.retransmitted_segments, u64::from(again));
        let out = segments.wrapping_sub(subflow.sent_segments());
        add(&stats.sent_segments, u64::from(out));
    });
    let (srtt_us, queued) = (socket.srtt_us(), socket.queued());
    subflow.set_srtt_us(srtt_us);
    subflow.set_min_rtt_us(socket.min_rtt_us());
    subflow.set_cwnd(socket.cwnd());
    subflow.set_queued(queued);
    let marks = Marks {
        backlog_ns: subflow.backlog_ns(),
        bulk_ns: subflow.bulk_ns(),
    };
    let marks = marks.look(queued, subflow.seen_ns(), now_ns);
    subflow.set_backlog_ns(marks.backlog_ns);
    subflow.set_bulk_ns(marks.bulk_ns);
    subflow.set_sent_bytes(sent);
    subflow.set_acked_bytes(acked);
    subflow.set_received_bytes(received);
    subflow.set_retransmitted_segments(retransmitted);
    subflow.set_sent_segments(segments);
    subflow.set_seen_ns(now_ns);
    subflow.set_quiet_ns(now_ns);
    subflow.set_quiet_bytes(acked);
    limit::note(subflow.path(), newly_acked, srtt_us, now_ns);
    count_backup(connection, subflow);
    if let Some(slot) = slot(connection, subflow) {
        slot.progress(newly_acked, u64::from(srtt_us), u64::from(queued), now_ns);
    }
    refresh_token(socket, connection);
}

/// Looks the subflow's path up again, after the selectors, the devices or its
/// route changed. Does the same with the connection's policy, after the rules
/// may have changed.
#[inline(always)]
pub fn find_path(socket: Socket, connection: &Connection, subflow: Entry, now_ns: u64) {
    let generation = config().generation;
    if connection.chosen.get() != u64::from(generation) {
        rule::choose(connection, subflow.connection(), now_ns, 1);
    }
    subflow.set_generation(generation);
    subflow.set_ids(socket.refresh(subflow.ids()));
    let ifindex = socket.ifindex();
    if ifindex != 0 {
        subflow.set_ifindex(ifindex);
    }
    let Some(path) = path::find(subflow.tuple_ptr(), ifindex) else {
        return;
    };
    if path == subflow.path() {
        return;
    }
    path_stats(subflow.path(), |stats| add(&stats.live, LESS_ONE));
    path_stats(path, |stats| add(&stats.live, 1));
    subflow.set_path(path);
    connection.revision.add(1);
    if subflow.flags() & subflow_flag::FALLBACK == 0 {
        leave_slot(connection, subflow);
        take_slot(connection, subflow);
    }
}

/// Accounts for what a closing socket did since the last look.
#[inline(always)]
pub fn settle(socket: Socket, subflow: Entry) {
    if let Some(connection) = connection(subflow.connection()) {
        account(socket, connection, subflow, subflow.seen_ns());
    }
}

/// Removes a subflow from every map, because its socket has closed. Only the
/// totals keep what it did.
#[inline(always)]
pub fn close(subflow: Entry, cookie: u64, ending: Ending) {
    let key = subflow.connection();
    let path = subflow.path();
    let mut token = 0;
    let mut last = false;
    let mut rule = 0;
    if let Some(connection) = connection(key) {
        token = connection.token.get() as u32;
        connection.revision.add(1);
        leave_slot(connection, subflow);
        last = connection.subflows.sub(1) == 1;
        rule = connection.rule.get() as u32;
    }
    path_stats(path, |stats| {
        add(&stats.live, LESS_ONE);
        if let Some(closed) = stats.closed.get(ending.reason()) {
            add(closed, 1);
        }
        if ending.is_early()
            && let Some(resets) = stats.reset_early.get(ending.reset_reason())
        {
            add(resets, 1);
        }
    });
    totals(|totals| {
        add(&totals.subflows, LESS_ONE);
        if last {
            add(&totals.connections, LESS_ONE);
            add(&totals.closed, 1);
            rule::live(rule, LESS_ONE);
        }
    });
    waking::forget(subflow);
    let closed = event_kind::SUBFLOW_CLOSED;
    subflow_event(closed, ending.0, cookie, token, subflow);
    if last {
        subflow_event(event_kind::CLOSED, ending.0, cookie, token, subflow);
        let _ = CONNECTIONS.remove(key);
        // The kernel may use this address again for a connection with another
        // peer.
        let _ = CARRIERS.remove(key);
    }
    let _ = COOKIE_OF.remove(ends(&subflow.tuple()));
    let _ = ARRIVALS.remove(cookie);
    let _ = SUBFLOWS.remove(cookie);
}

/// Lets tc ingress find the subflow by its addresses and ports, if the
/// connection's policy copies segments, and no longer if it does not.
#[inline(always)]
pub fn register(connection: &Connection, tuple: &Tuple, cookie: u64, now_ns: u64) {
    if capabilities(connection, now_ns) & capability::COPIES != 0 {
        let _ = COOKIE_OF.insert(ends(tuple), cookie, u64::from(BPF_ANY));
    } else if redundant().is_some() {
        // Its policy may have been another one.
        let _ = COOKIE_OF.remove(ends(tuple));
    }
}

#[inline(always)]
fn ends(tuple: &Tuple) -> PeerView {
    PeerView {
        local: tuple.local,
        remote: tuple.remote,
        local_port: tuple.local_port,
        remote_port: tuple.remote_port,
    }
}

/// Reads the connection's token and keys unless all are known, and returns the
/// token. The kernel sets them some time after the first subflow is
/// established.
#[inline(always)]
fn refresh_token(socket: Socket, connection: &Connection) -> u32 {
    let known = connection.token.get() as u32;
    if known != 0 && connection.remote_key.get() != 0 {
        return known;
    }
    let token = socket.token();
    connection.token.set(u64::from(token));
    connection.local_key.set(socket.key(&offset::MSK_LOCAL_KEY));
    connection
        .remote_key
        .set(socket.key(&offset::MSK_REMOTE_KEY));
    token
}
