//! The layout of everything that crosses between kernel and user space.
//!
//! Every type is `repr(C)`, has no implicit padding (the assertions at the end
//! check sizes and alignments) and is valid for every bit pattern, because user
//! space may read a kernel map while a program writes it.

mod config;
mod decision;
mod image;
pub mod redundant;
pub mod rule;
pub mod runs;
pub mod sweep;
mod totals;

pub use crate::controller::MAX_PATHS;
pub use config::{
    ALIVE_NS, Config, DEFAULT_POLICY, HEARTBEAT_OFFSET, HOLD_ALIVE_NS, LABEL, MAX_POLICIES,
    PathConfig, Policy, WAKE_SECONDS, capability, id_kind, path_kind,
};
pub use decision::{Decision, Seen};
pub use image::ConnectionImage;
pub use sweep::Visit;
pub use totals::{PathStats, RTT_BOUNDS_US, Totals, candidate, close_reason, reset, subflow_kind};

use core::mem::offset_of;

use crate::{
    controller::{Controller, MAX_SLOTS, overflow::Overflow},
    word::{Locked, Word},
};
use rule::Facts;

/// Bytes of a cache line on most CPUs. In a hash map without preallocation a
/// value whose key has eight bytes begins at a cache line (`struct htab_elem`).
const CACHE_LINE: usize = 64;

/// Version of what the values mean. Raise it if a value means something else at
/// the same place; [`ABI`] notices every other change by itself.
const VERSION: u64 = 7;

/// Identifies this layout: a hash of [`VERSION`] and of all types that cross
/// between kernel and user space. Maps that were pinned under another one are
/// never read.
pub const ABI: u64 = {
    let parts = [
        VERSION,
        FINGERPRINT,
        config::FINGERPRINT,
        decision::FINGERPRINT,
        redundant::FINGERPRINT,
        rule::FINGERPRINT,
        runs::FINGERPRINT,
        sweep::FINGERPRINT,
        crate::bucket::FINGERPRINT,
        crate::controller::FINGERPRINT,
        crate::controller::SLOT_FINGERPRINT,
        crate::controller::TALLY_FINGERPRINT,
        crate::controller::UNIT_FINGERPRINT,
        crate::controller::LEDGER_FINGERPRINT,
        crate::controller::PLACE_FINGERPRINT,
        crate::controller::ceiling::FINGERPRINT,
        crate::controller::overflow::FINGERPRINT,
    ];
    let mut hash = crate::layout::SEED;
    let mut index = 0;
    while index < parts.len() {
        hash = crate::layout::number(hash, parts[index]);
        index += 1;
    }
    hash
};

/// The global of the eBPF object that holds [`ABI`]: an object that was built
/// with another layout has another value there, and is not loaded.
pub const ABI_SYMBOL: &str = "MPTCP_AGENT_ABI";

/// The path of a subflow whose device the agent has not registered yet.
pub const UNKNOWN_PATH: u32 = 0;

/// Subflows the maps hold for each connection of `--max-connections`: the
/// first and, as most hosts allow, up to three more.
pub const SUBFLOWS_PER_CONNECTION: u32 = 4;

/// The end that opened the connection: indices of [`Totals::opened`].
pub mod side {
    /// This host connected.
    pub const CLIENT: u8 = 0;
    /// This host accepted.
    pub const SERVER: u8 = 1;
}

/// One connection, in hash map `CONNECTIONS`; its key is the address of the
/// kernel's `mptcp_sock`, which sockops and the tracepoint both know.
///
/// The fields that a scheduling decision needs come first, in two or three
/// cache lines, because a request that follows a pause finds none of them in
/// the CPU's caches.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Connection {
    /// Token (RFC 8684, 3.2); 0 until it is known.
    pub token: Word,
    /// Raised when a subflow is opened, closed or changes its path. Entries of
    /// `seen` that carry an older value no longer hold.
    pub revision: Word,
    /// The running scheduling decision. The msk's lock serialises it.
    pub decision: Locked<Decision>,
    /// Subflows that are open.
    pub subflows: Word,
    /// Candidates of the last decisions, by their place in `msk->conn_list`
    /// (modulo 8). The msk's lock serialises these as well.
    pub seen: Locked<[Seen; MAX_SLOTS]>,
    /// Index of its policy in `POLICIES`: that of the first rule that matches.
    pub policy: Word,
    /// Index of that rule, plus one; 0: none matches.
    pub rule: Word,
    /// [`Config::generation`] under which the rule was chosen.
    pub chosen: Word,
    /// The weighted controller.
    pub controller: Controller,
    /// The overflow policy's state.
    pub overflow: Overflow,
    /// This end's key (RFC 8684, 3.1); 0 until it is known.
    pub local_key: Word,
    /// The peer's key; 0 until it is known.
    pub remote_key: Word,
    /// The facts that rules can ask about it.
    pub facts: Facts,
}

/// Bits of [`Tuple::flags`].
pub mod subflow_flag {
    /// MP_PRIO or the endpoint says backup.
    pub const BACKUP: u8 = 1;
    /// The kernel found it unable to carry data.
    pub const STALE: u8 = 2;
    /// It joined (MP_JOIN); else it is the connection's first.
    pub const JOIN: u8 = 4;
    /// This host accepted the connection.
    pub const SERVER: u8 = 8;
    /// The peer has no MPTCP: the connection fell back to TCP.
    pub const FALLBACK: u8 = 16;
    /// Its address ids are known.
    pub const IDS: u8 = 32;
    /// Its route locks the congestion control (`congctl lock`), so that nothing
    /// could bring it back if it were held out.
    pub const LOCKED: u8 = 64;
}

/// Returns an IPv4 address, which is in network byte order, as `::ffff:a.b.c.d`
/// (RFC 4291, 2.5.5.2).
#[inline(always)]
#[must_use]
pub const fn mapped_v4(address: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Addresses and ids of a subflow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Tuple {
    /// Local address; IPv4 as `::ffff:a.b.c.d`.
    pub local: [u8; 16],
    /// Remote address, likewise.
    pub remote: [u8; 16],
    /// Local port, host byte order.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// Address id of the local end (RFC 8684, 3.2).
    pub local_id: u8,
    /// Address id of the remote end.
    pub remote_id: u8,
    /// Bits of [`subflow_flag`].
    pub flags: u8,
    /// Keeps the size a multiple of four.
    pub reserved: u8,
}

/// One subflow, in hash map `SUBFLOWS`, keyed by socket cookie. Its socket's
/// lock serialises every writer, with two exceptions. The tracepoint may
/// refresh the ids and flags of [`Tuple`], clear [`Subflow::resting`], change
/// [`Subflow::generation`] and move [`Subflow::backup_of`]; tc egress adds to
/// [`Subflow::copies`].
///
/// The fields that a passed-over callback needs come first, in one cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Subflow {
    /// Index in `PATHS`.
    pub path: u32,
    /// [`Config::generation`] under which the path was looked up.
    pub generation: u32,
    /// 1 if the last look found nothing to steer. Most callbacks are passed
    /// over then.
    pub resting: u32,
    /// Congestion window, segments; 0: not known.
    pub cwnd: u32,
    /// When the socket was last looked at (`bpf_ktime_get_ns`).
    pub seen_ns: u64,
    /// Start of the interval over which acked bytes are counted, to tell
    /// whether the subflow is quiet (`controller::is_quiet`).
    pub quiet_ns: u64,
    /// `bytes_acked` at that time.
    pub quiet_bytes: u64,
    /// Key in `CONNECTIONS`.
    pub connection: u64,
    /// When it was established, or when a round trip was last measured; 0:
    /// neither since the agent knows it.
    pub heard_ns: u64,
    /// When it was established; 0: before the agent knew it.
    pub opened_ns: u64,
    /// `bytes_sent` already added to the path's total.
    pub sent_bytes: u64,
    /// `bytes_acked`, likewise.
    pub acked_bytes: u64,
    /// `bytes_received`, likewise.
    pub received_bytes: u64,
    /// Since when each look has found unsent data (`bpf_ktime_get_ns`); 0: the
    /// last look found none.
    pub backlog_ns: u64,
    /// When it was last seen to have more to send than its path takes
    /// (`bpf_ktime_get_ns`): see [`crate::spare`].
    pub bulk_ns: u64,
    /// Copies of its segments that were sent over other paths. tc egress adds
    /// to it.
    pub copies: u64,
    /// `total_retrans` already added.
    pub retransmitted_segments: u32,
    /// `data_segs_out`, likewise.
    pub sent_segments: u32,
    /// `TCP_KEEPIDLE` that was there before the agent set the timer that wakes a
    /// subflow that is held out, seconds; 0: it has no such timer.
    pub prior_keepidle: u32,
    /// Index of the controller's slot, plus one; 0: not steered.
    pub slot: u16,
    /// Callback flags that the socket had before this agent's.
    pub prior_cb_flags: u16,
    /// `SO_MAX_PACING_RATE` that the agent has set, bytes per second;
    /// `controller::NO_CAP`: none.
    pub cap: u32,
    /// `TCP_NOTSENT_LOWAT` that the agent has set, bytes; 0: none.
    pub lowat: u32,
    /// `SO_MAX_PACING_RATE` that was there before the agent set its own.
    /// Lifting the cap restores it.
    pub prior_cap: u32,
    /// `TCP_NOTSENT_LOWAT`, likewise.
    pub prior_lowat: u32,
    /// The cap that the policy wanted last, as in `cap`. Kept in memory for the
    /// verifier, which would follow each value that it could have in a
    /// register.
    pub wanted_cap: u32,
    /// The queue limit that the policy wanted last, as in `lowat`.
    pub wanted_lowat: u32,
    /// The device that carries it; 0: not known.
    pub ifindex: u32,
    /// Smoothed round trip, microseconds; 0: not known.
    pub srtt_us: u32,
    /// Least round trip of late (`tcp_min_rtt`), microseconds.
    pub min_rtt_us: u32,
    /// Bytes that it was given and has not sent.
    pub queued: u32,
    /// The controller's slot, plus one, among whose backups the subflow counts;
    /// 0: none. The tracepoint may change it as well, so it is read and written
    /// as a [`Word`].
    pub backup_of: u64,
    /// Addresses, ids, flags.
    pub tuple: Tuple,
}

/// A change of state, in ring buffer `EVENTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Event {
    /// `bpf_ktime_get_ns` (CLOCK_MONOTONIC).
    pub time_ns: u64,
    /// Key in `CONNECTIONS`: tells connections apart while the token is 0.
    pub connection: u64,
    /// Socket cookie of the subflow.
    pub cookie: u64,
    /// Its `bytes_sent` so far.
    pub sent_bytes: u64,
    /// Its `bytes_acked` so far.
    pub acked_bytes: u64,
    /// Its `bytes_received` so far.
    pub received_bytes: u64,
    /// When it was established, as `time_ns`; 0: not known.
    pub opened_ns: u64,
    /// The connection's token; 0: not known yet.
    pub token: u32,
    /// Index in `PATHS`.
    pub path: u32,
    /// Addresses, ids, flags.
    pub tuple: Tuple,
    /// One of [`event_kind`].
    pub kind: u8,
    /// One of [`close_reason`], for `SUBFLOW_CLOSED`.
    pub reason: u8,
    /// Bits of [`reset`], for `SUBFLOW_CLOSED`.
    pub reset: u8,
    /// Keeps `ifindex` aligned.
    pub reserved: u8,
    /// The device that carries the subflow; 0: not known.
    pub ifindex: u32,
}

/// Values of [`Event::kind`].
pub mod event_kind {
    /// A connection's first subflow is established.
    pub const OPENED: u8 = 1;
    /// A further subflow is established (MP_JOIN).
    pub const JOINED: u8 = 2;
    /// A subflow became, or ceased to be, a backup (MP_PRIO).
    pub const PRIORITY: u8 = 3;
    /// A subflow became, or ceased to be, stale.
    pub const STALE: u8 = 4;
    /// A subflow closed.
    pub const SUBFLOW_CLOSED: u8 = 5;
    /// A connection's last subflow closed.
    pub const CLOSED: u8 = 6;
    /// The peer has no MPTCP: plain TCP goes on.
    pub const FALLBACK: u8 = 7;
    /// The controller leaves a path out: it makes no progress.
    pub const PATH_DOWN: u8 = 8;
    /// The path makes progress again.
    pub const PATH_UP: u8 = 9;
    /// The paths before this one are full, so that it may carry what does not
    /// fit.
    pub const PATH_LET_IN: u8 = 10;
    /// They have room again, so that it may not any more.
    pub const PATH_HELD_OUT: u8 = 11;
    /// A connection may use a path again, which it did without by the ratio.
    pub const PATH_READMITTED: u8 = 12;
    /// How many there are.
    pub const COUNT: usize = 12;
}

crate::layout::layout! {
    PathStats {
        sent_bytes, acked_bytes, received_bytes, sent_segments, retransmitted_segments, timeouts, live, opened,
        closed, reset_early, decisions, blocked, candidates, rtt_sum_us, rtt,
    }
    Totals {
        opened, closed, connections, subflows, events, events_lost, connections_full,
        subflows_full, slots_full, left_alone, spared, readmitted, timers, setsockopt_failed,
    }
    Connection {
        token, revision, decision, subflows, seen, policy, rule, chosen, controller, overflow, local_key, remote_key, facts,
    }
    Tuple { local, remote, local_port, remote_port, local_id, remote_id, flags, reserved }
    Subflow {
        path, generation, resting, cwnd, seen_ns, quiet_ns, quiet_bytes, connection, heard_ns,
        opened_ns, sent_bytes, acked_bytes, received_bytes, backlog_ns, bulk_ns, copies,
        retransmitted_segments, sent_segments, prior_keepidle, slot, prior_cb_flags, cap, lowat, prior_cap, prior_lowat,
        wanted_cap, wanted_lowat, ifindex, srtt_us, min_rtt_us, queued, backup_of, tuple,
    }
    Event {
        time_ns, connection, cookie, sent_bytes, acked_bytes, received_bytes, opened_ns, token,
        path, tuple, kind, reason, reset, reserved, ifindex,
    }
}

const _: () = assert!(size_of::<Word>() == 8);
const _: () = assert!(size_of::<PathStats>() == 8 * (12 + 6 + reset::COUNT + 5 + 16));
const _: () = assert!(size_of::<PathStats<Word>>() == size_of::<PathStats>());
const _: () = assert!(size_of::<Totals>() == 8 * (14 + event_kind::COUNT));
const _: () = assert!(size_of::<Tuple>() == 40);
const _: () = assert!(size_of::<Subflow>() == 216 && align_of::<Subflow>() == 8);
const _: () = assert!(size_of::<Event>() == 112 && align_of::<Event>() == 8);
const _: () = assert!(offset_of!(Connection, seen) == CACHE_LINE);
const _: () = assert!(offset_of!(Subflow, connection) < CACHE_LINE);
const _: () = assert!(size_of::<Connection>().is_multiple_of(8));
