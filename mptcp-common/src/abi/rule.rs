//! Rules, which choose a connection's policy: what the agent asks for, and what
//! is known of a connection. [`crate::rule`] compares the two.

use crate::word::Word;

/// Entries of array `RULES`: how many rules there can be.
pub const MAX_RULES: usize = 64;

/// Elements that a list of a rule can have.
pub const MAX_ELEMENTS: usize = 8;

/// The number of cgroups that are known of a connection: that of its socket, its
/// parent, and so on. Those further up match no rule.
pub const CGROUP_LEVELS: usize = 8;

/// Bits of [`Rule::asked`]: what a rule asks about a connection.
pub mod criterion {
    /// The far end's address.
    pub const DST: u32 = 1;
    /// This host's address.
    pub const SRC: u32 = 2;
    /// The far end's port.
    pub const DPORT: u32 = 4;
    /// This host's port.
    pub const LPORT: u32 = 8;
    /// The socket's cgroup.
    pub const CGROUP: u32 = 16;
    /// The socket's owner.
    pub const UID: u32 = 32;
    /// The socket's mark.
    pub const FWMARK: u32 = 64;
    /// The differentiated services code point.
    pub const DSCP: u32 = 128;
    /// The end that this host is.
    pub const SIDE: u32 = 256;
    /// The congestion control.
    pub const CONGESTION: u32 = 512;
}

/// Addresses that begin with the same bits, as two big-endian numbers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Prefix {
    /// The address, whose remaining bits are 0.
    pub address: [u64; 2],
    /// The bits that count.
    pub mask: [u64; 2],
    /// 4 or 6: an IPv6 prefix holds no IPv4 address, though these are kept as
    /// `::ffff:a.b.c.d`. 0: not in use, which holds no address.
    pub family: u64,
}

/// Numbers that follow each other.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Range {
    /// The first one.
    pub first: u64,
    /// How many there are; 0: not in use.
    pub count: u64,
}

/// An entry of array `RULES`. A connection matches if it meets every criterion
/// of [`Rule::asked`]; the members of the others mean nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Rule {
    /// Bits of [`criterion`].
    pub asked: u32,
    /// Index in `POLICIES` of the policy that connections get which match.
    pub policy: u32,
    /// The bits that the mark must have.
    pub mark: u32,
    /// The bits of the mark that count.
    pub mark_mask: u32,
    /// The code point, 0 to 63.
    pub dscp: u32,
    /// One of [`super::side`].
    pub side: u32,
    /// The id of the cgroup that holds the socket; [`Rule::NO_CGROUP`]: there is
    /// none of that name.
    pub cgroup: u64,
    /// The name of the congestion control, padded with zeros, as two
    /// little-endian numbers.
    pub congestion: [u64; 2],
    /// One of these holds the far end.
    pub dst: [Prefix; MAX_ELEMENTS],
    /// One of these holds this host's end.
    pub src: [Prefix; MAX_ELEMENTS],
    /// One of these holds the far end's port.
    pub dport: [Range; MAX_ELEMENTS],
    /// One of these holds this host's port.
    pub lport: [Range; MAX_ELEMENTS],
    /// One of these holds the owner.
    pub uid: [Range; MAX_ELEMENTS],
}

impl Rule {
    /// The value of [`Rule::cgroup`] that no cgroup has.
    pub const NO_CGROUP: u64 = u64::MAX;
}

/// Facts about a connection's first subflow, as they were when it was established.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Facts {
    /// The far end's address, as two big-endian numbers; IPv4 as
    /// `::ffff:a.b.c.d`.
    pub remote: [Word; 2],
    /// This host's address, likewise.
    pub local: [Word; 2],
    /// The far end's port.
    pub remote_port: Word,
    /// This host's port.
    pub local_port: Word,
    /// One of [`super::side`].
    pub side: Word,
    /// The owner.
    pub uid: Word,
    /// The mark.
    pub mark: Word,
    /// The code points that the socket sends to IPv4 and to IPv6 addresses, 0 to
    /// 63.
    pub dscp: [Word; 2],
    /// The congestion control's name, as in [`Rule::congestion`].
    pub congestion: [Word; 2],
    /// Ids of the socket's cgroup, that one's parent, and so on; 0 beyond the
    /// root.
    pub cgroups: [Word; CGROUP_LEVELS],
}

/// Totals of a rule on one CPU, in per-CPU array `RULE_STATS`: entry 0 is for
/// the connections that no rule matches, and that of a rule is its index plus
/// one. They only grow, except [`RuleStats::live`], whose sum over the CPUs is a
/// gauge (modulo 2^64).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct RuleStats<T = u64> {
    /// Connections that are open now.
    pub live: T,
    /// Connections that opened.
    pub opened: T,
    /// Payload sent, retransmissions included.
    pub sent_bytes: T,
    /// Payload sent and acknowledged.
    pub acked_bytes: T,
    /// Payload received.
    pub received_bytes: T,
}

impl RuleStats {
    /// Returns the sum, modulo 2^64.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            live: self.live.wrapping_add(other.live),
            opened: self.opened.wrapping_add(other.opened),
            sent_bytes: self.sent_bytes.wrapping_add(other.sent_bytes),
            acked_bytes: self.acked_bytes.wrapping_add(other.acked_bytes),
            received_bytes: self.received_bytes.wrapping_add(other.received_bytes),
        }
    }

    /// Returns the difference, modulo 2^64.
    #[must_use]
    pub fn minus(self, other: &Self) -> Self {
        Self {
            live: self.live.wrapping_sub(other.live),
            opened: self.opened.wrapping_sub(other.opened),
            sent_bytes: self.sent_bytes.wrapping_sub(other.sent_bytes),
            acked_bytes: self.acked_bytes.wrapping_sub(other.acked_bytes),
            received_bytes: self.received_bytes.wrapping_sub(other.received_bytes),
        }
    }
}

crate::layout::layout! {
    Prefix { address, mask, family }
    Range { first, count }
    Rule {
        asked, policy, mark, mark_mask, dscp, side, cgroup, congestion, dst, src, dport, lport, uid,
    }
    Facts {
        remote, local, remote_port, local_port, side, uid, mark, dscp, congestion, cgroups,
    }
    RuleStats { live, opened, sent_bytes, acked_bytes, received_bytes }
}

const _: () = assert!(size_of::<Prefix>() == 40);
const _: () = assert!(size_of::<Rule>() == 48 + MAX_ELEMENTS * (2 * 40 + 3 * 16));
const _: () = assert!(size_of::<Facts>() == 8 * (13 + CGROUP_LEVELS));
const _: () = assert!(size_of::<RuleStats>() == 40);
const _: () = assert!(size_of::<RuleStats<Word>>() == size_of::<RuleStats>());
