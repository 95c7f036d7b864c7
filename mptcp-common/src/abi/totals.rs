//! Totals per CPU, which the programs count and user space adds up.

use super::event_kind;
#[cfg(doc)]
use super::side;
#[cfg(doc)]
use crate::word::Word;

/// Upper bounds, in microseconds, of the RTT histogram's buckets; the last
/// bucket of [`PathStats::rtt`] has none.
pub const RTT_BOUNDS_US: [u32; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000,
];

/// Totals of one path on one CPU, in per-CPU array `PATH_STATS`. They only
/// grow, except [`PathStats::live`], whose sum over the CPUs is a gauge
/// (modulo 2^64).
///
/// The programs count in a [`Word`] where user space reads a `u64`, here and in
/// all totals.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct PathStats<T = u64> {
    /// `tcp_sock.bytes_sent`: payload, retransmissions included.
    pub sent_bytes: T,
    /// `tcp_sock.bytes_acked`.
    pub acked_bytes: T,
    /// `tcp_sock.bytes_received`.
    pub received_bytes: T,
    /// `tcp_sock.data_segs_out`: segments with payload, retransmissions included.
    pub sent_segments: T,
    /// `tcp_sock.total_retrans`.
    pub retransmitted_segments: T,
    /// Retransmission timeouts (`BPF_SOCK_OPS_RTO_CB`).
    pub timeouts: T,
    /// Subflows that are open now.
    pub live: T,
    /// Subflows opened, by [`subflow_kind`].
    pub opened: [T; 2],
    /// Subflows closed, by [`close_reason`].
    pub closed: [T; close_reason::COUNT],
    /// Joined subflows that were reset soon after their join, by [`reset`].
    pub reset_early: [T; reset::COUNT],
    /// Scheduling decisions that chose this path.
    pub decisions: T,
    /// Decisions that this path won while its send queue was full: the kernel
    /// then sends nothing.
    pub blocked: T,
    /// Candidates seen in decisions, by [`candidate`].
    pub candidates: [T; candidate::COUNT],
    /// Sum of the RTT samples, in microseconds.
    pub rtt_sum_us: T,
    /// RTT samples, by bucket of [`RTT_BOUNDS_US`].
    pub rtt: [T; RTT_BOUNDS_US.len() + 1],
}

impl PathStats {
    /// Returns the sum, modulo 2^64.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        let sum = |a: &mut u64, b: &u64| *a = a.wrapping_add(*b);
        sum(&mut self.sent_bytes, &other.sent_bytes);
        sum(&mut self.acked_bytes, &other.acked_bytes);
        sum(&mut self.received_bytes, &other.received_bytes);
        sum(&mut self.sent_segments, &other.sent_segments);
        sum(
            &mut self.retransmitted_segments,
            &other.retransmitted_segments,
        );
        sum(&mut self.timeouts, &other.timeouts);
        sum(&mut self.live, &other.live);
        sum(&mut self.decisions, &other.decisions);
        sum(&mut self.blocked, &other.blocked);
        sum(&mut self.rtt_sum_us, &other.rtt_sum_us);
        self.opened
            .iter_mut()
            .zip(&other.opened)
            .for_each(|(a, b)| sum(a, b));
        self.closed
            .iter_mut()
            .zip(&other.closed)
            .for_each(|(a, b)| sum(a, b));
        self.reset_early
            .iter_mut()
            .zip(&other.reset_early)
            .for_each(|(a, b)| sum(a, b));
        self.candidates
            .iter_mut()
            .zip(&other.candidates)
            .for_each(|(a, b)| sum(a, b));
        self.rtt
            .iter_mut()
            .zip(&other.rtt)
            .for_each(|(a, b)| sum(a, b));
        self
    }
}

/// Indices of [`PathStats::opened`].
pub mod subflow_kind {
    /// The connection's first subflow (MP_CAPABLE).
    pub const INITIAL: u8 = 0;
    /// A further one (MP_JOIN).
    pub const JOIN: u8 = 1;
}

/// Why a subflow closed: indices of [`PathStats::closed`], from the socket's
/// error and the state that it left.
pub mod close_reason {
    /// Both ends sent a FIN.
    pub const FIN: u8 = 0;
    /// The peer sent a reset (`ECONNRESET`, `EPIPE`).
    pub const RESET: u8 = 1;
    /// No answer (`ETIMEDOUT`).
    pub const TIMEOUT: u8 = 2;
    /// No route (`EHOSTUNREACH`, `ENETUNREACH`).
    pub const UNREACHABLE: u8 = 3;
    /// This end gave it up without an error.
    pub const ABORTED: u8 = 4;
    /// Any other socket error.
    pub const ERROR: u8 = 5;
    /// How many there are.
    pub const COUNT: usize = 6;
    /// Their names, as in labels and events.
    pub const NAMES: [&str; COUNT] = ["fin", "reset", "timeout", "unreachable", "aborted", "error"];
}

/// Properties of a reset: [`Event::reset`](super::Event::reset), and indices of
/// [`PathStats::reset_early`].
pub mod reset {
    /// The bits that hold the reason: a code of the option MP_TCPRST (RFC 8684,
    /// 3.6), or [`NONE`].
    pub const REASON: u8 = 0x0f;
    /// Unspecified error: the first of the RFC's seven codes.
    pub const UNSPECIFIED: u8 = 0;
    /// No reason: there was no reset, the peer's reset had no MP_TCPRST, or the
    /// kernel does not let the reason be read.
    pub const NONE: u8 = 7;
    /// How many reasons there are.
    pub const COUNT: usize = 8;
    /// Their names, as in labels and events.
    pub const NAMES: [&str; COUNT] = [
        "unspecified",
        "mptcp-specific-error",
        "lack-of-resources",
        "administratively-prohibited",
        "too-much-outstanding-data",
        "unacceptable-performance",
        "middlebox-interference",
        "none",
    ];
    /// Bit: the option says that the condition is transient.
    pub const TRANSIENT: u8 = 0x10;
    /// Bit: the peer sent the reset.
    pub const BY_PEER: u8 = 0x20;
    /// Bit: this end sent the reset.
    pub const BY_US: u8 = 0x40;
    /// Bit: a subflow was reset within [`EARLY_NS`] of its join, while its
    /// connection was in use.
    pub const EARLY: u8 = 0x80;
    /// How long after its join a reset counts as early, nanoseconds. A join that
    /// fails does so within a few round trips, the longest of which last about a
    /// second.
    pub const EARLY_NS: u64 = 5_000_000_000;
}

/// How a scheduling decision judged a candidate, by the rules of
/// `mptcp_subflow_get_send`: indices of [`PathStats::candidates`].
pub mod candidate {
    /// Takes part in the choice.
    pub const ELIGIBLE: u8 = 0;
    /// A backup: chosen only where there is no other candidate.
    pub const BACKUP: u8 = 1;
    /// The kernel found it unable to carry data (`subflow->stale`).
    pub const STALE: u8 = 2;
    /// Not established, or closing.
    pub const INACTIVE: u8 = 3;
    /// Standby: this agent holds it out (a pacing rate of 0).
    pub const STANDBY: u8 = 4;
    /// How many there are.
    pub const COUNT: usize = 5;
    /// Their names, as in labels.
    pub const NAMES: [&str; COUNT] = ["eligible", "backup", "stale", "inactive", "standby"];
}

/// Host-wide totals on one CPU, in one-element per-CPU array `TOTALS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct Totals<T = u64> {
    /// Connections opened, by [`side`].
    pub opened: [T; 2],
    /// Connections closed.
    pub closed: T,
    /// Connections known now; a gauge modulo 2^64.
    pub connections: T,
    /// Subflows known now; a gauge modulo 2^64.
    pub subflows: T,
    /// Events written to the ring buffer, by [`event_kind`] minus one.
    pub events: [T; event_kind::COUNT],
    /// Events that found the ring buffer full.
    pub events_lost: T,
    /// Connections that found map `CONNECTIONS` full.
    pub connections_full: T,
    /// Subflows that found map `SUBFLOWS` full.
    pub subflows_full: T,
    /// Subflows beyond the eighth path of their connection: observed, not
    /// steered.
    pub slots_full: T,
    /// How often a connection was left to the default scheduler for a while,
    /// because its lagging path was given nothing although the others were held
    /// back.
    pub left_alone: T,
    /// How often a connection was made to do without a path, so that the host keeps
    /// its ratio.
    pub spared: T,
    /// How often a connection was let in again on such a path.
    pub readmitted: T,
    /// Subflows that have a timer that wakes them; a gauge modulo 2^64.
    pub timers: T,
    /// `bpf_setsockopt` calls that the kernel refused.
    pub setsockopt_failed: T,
}

impl Totals {
    /// Returns the sum, modulo 2^64.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        let sum = u64::wrapping_add;
        Self {
            opened: [
                sum(self.opened[0], other.opened[0]),
                sum(self.opened[1], other.opened[1]),
            ],
            closed: sum(self.closed, other.closed),
            connections: sum(self.connections, other.connections),
            subflows: sum(self.subflows, other.subflows),
            events: core::array::from_fn(|kind| sum(self.events[kind], other.events[kind])),
            events_lost: sum(self.events_lost, other.events_lost),
            connections_full: sum(self.connections_full, other.connections_full),
            subflows_full: sum(self.subflows_full, other.subflows_full),
            slots_full: sum(self.slots_full, other.slots_full),
            left_alone: sum(self.left_alone, other.left_alone),
            spared: sum(self.spared, other.spared),
            readmitted: sum(self.readmitted, other.readmitted),
            timers: sum(self.timers, other.timers),
            setsockopt_failed: sum(self.setsockopt_failed, other.setsockopt_failed),
        }
    }
}
