//! The types that the redundant policy's tc programs share with user space.
//!
//! ```text
//!   channel      an address of this agent and one of a peer: hello and answer go
//!             there, and so do wrapped copies (UDP)
//!   carriers  the subflows of a connection, each with its channel: user space
//!             lists them once the peer has proven to know the connection
//!   arrival   what has arrived for a subflow lately
//! ```
//!
//! A copy is the original's whole IP packet, as the payload of a UDP datagram
//! between the two addresses of another subflow's channel. The first four bits
//! of a copy are an IP version; those of a hello (`HELLO_NIBBLE`) are not.

use crate::word::Word;

/// Default of `--redundant-port`.
pub const DEFAULT_PORT: u16 = 8684;

/// Entries of `FAMILIAR`: address pairs whose new connections are known to be
/// with a peer.
pub const MAX_FAMILIAR: u32 = 4 * MAX_CHANNELS;

/// The largest number of copies of a segment, the original included.
pub const MAX_COPIES: u32 = 4;

/// Channels that one agent can hold. Index 0 of `CHANNELS` is never used.
pub const MAX_CHANNELS: u32 = 4096;

/// Listening sockets whose segment size the programs can lower and restore.
pub const MAX_LISTENERS: u32 = 4096;

/// Addresses of this host that the programs know. If there are more, a datagram
/// to one of them is left to the agent's socket, which refuses it.
pub const MAX_ADDRESSES: u32 = 4096;

/// Pairs of devices that the programs know to run over each other.
pub const MAX_STACKED: u32 = 8192;

/// Subflows of one connection that can carry copies.
pub const MAX_CARRIERS: usize = 8;

/// Segments that a receiver remembers having let through; a power of two.
pub const MAX_PASSED: usize = 16;

/// Upper bound of a channel's cost, which is always less; a power of two.
pub const MAX_COST: u32 = 1 << 29;

/// First four bits of a hello. Those of a copy are 4 or 6.
pub const HELLO_NIBBLE: u8 = 0xA;

/// Bytes that wrapping adds between IPv4 addresses: IPv4 and UDP headers.
pub const OVERHEAD_V4: u32 = 20 + 8;

/// Bytes that wrapping adds between IPv6 addresses.
pub const OVERHEAD_V6: u32 = 40 + 8;

/// The policy's settings, in one-element array `REDUNDANT`; all zero while
/// another policy is in force.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Redundant {
    /// Bytes per second of copies that each path may carry, on the wire; 0: no
    /// budget, copies yield to the path's own subflows instead.
    pub budget_bytes_per_sec: u64,
    /// Copies of each segment, the original included: 2 to [`MAX_COPIES`].
    pub copies: u32,
    /// UDP port of this agent, host byte order.
    pub port: u16,
    /// Keeps the size a multiple of four.
    pub reserved: u16,
    /// `TCP_MAXSEG` of sockets that connect or listen over IPv4; 0: leave it
    /// unchanged.
    pub mss_v4: u32,
    /// `TCP_MAXSEG` of sockets that connect or listen over IPv6; 0: leave it
    /// unchanged.
    pub mss_v6: u32,
}

/// A device that the tc programs are attached to, in hash map `DEVICES` by
/// ifindex.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Device {
    /// Length of its link-layer header: 14 (Ethernet) or 0 (TUN, WWAN,
    /// WireGuard). The programs are not attached to other devices.
    pub header: u32,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// 1 if it drops packets whose source it would not route back over itself
    /// (`rp_filter` 1). An unwrapped packet then enters by the original's
    /// device.
    pub strict: u32,
    /// Index in `PATHS`.
    pub path: u32,
}

/// Key of hash map `STACKED`: two devices, in either order, of which one runs
/// over the other (a macvlan or VLAN and its parent, a bridge and its port). A
/// packet of one passes the hooks of both.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Stacked {
    /// The ifindex of one.
    pub one: u32,
    /// The ifindex of the other.
    pub other: u32,
}

/// An address of this agent and one of a peer, in array `CHANNELS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Channel {
    /// Source address of copies; IPv4 as `::ffff:a.b.c.d`.
    pub local: [u8; 16],
    /// Destination address of copies, likewise.
    pub remote: [u8; 16],
    /// Agent id of the peer that answers there; 0: the entry is free.
    pub peer: u64,
    /// Until when the peer counts as present (`bpf_ktime_get_ns`).
    pub expires_ns: u64,
    /// The device that copies leave by.
    pub ifindex: u32,
    /// The largest IP packet for `remote`, bytes.
    pub mtu: u32,
    /// UDP port of the peer as seen from here (NAT may have changed it), host
    /// byte order.
    pub remote_port: u16,
    /// UDP port here.
    pub local_port: u16,
    /// Index in `PATHS` of the device.
    pub path: u32,
    /// Cost of a copy over this channel, less than [`MAX_COST`]. Channels of
    /// lower cost are preferred.
    pub cost: u32,
    /// Bytes per second that copies may take without a budget, on the wire.
    pub rate: u32,
    /// The peer's device at the other end, by the peer's own number; 0: not
    /// known.
    pub peer_ifindex: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}

/// Totals of the datagrams of one channel, in array `CHANNEL_TRAFFIC`. When
/// another channel takes over an index, its totals continue from the present
/// values.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct Traffic<T = u64> {
    /// Copies sent, counted in packets as they are on the wire.
    pub sent: T,
    /// Their bytes.
    pub sent_bytes: T,
    /// Copies that arrived, likewise.
    pub arrived: T,
}

/// The channels to one peer, in hash map `PEER_CHANNELS` by agent id. They
/// carry the copies of a connection that has no second path yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct PeerChannels {
    /// Indices in `CHANNELS`, in no order; 0: unused.
    pub channels: [u32; MAX_CARRIERS],
}

/// Key of hash map `CHANNEL_OF`: where a datagram came from, and where it went.
///
/// It is also the key of hash map `FAMILIAR`, whose values are indices in
/// `CHANNELS` as well: the addresses of a subflow, and the TCP port at its
/// remote end (0: any). A new connection there is with the peer of that
/// channel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct ChannelKey {
    /// Destination of the datagram; IPv4 as `::ffff:a.b.c.d`.
    pub local: [u8; 16],
    /// Its source, likewise.
    pub remote: [u8; 16],
    /// Its source port, host byte order.
    pub remote_port: u16,
    /// The lower half of the device's index if the addresses are link-local,
    /// because such addresses mean nothing without their device. Otherwise 0.
    pub scope: u16,
}

impl ChannelKey {
    /// Returns [`ChannelKey::scope`] for this remote address and this device.
    #[inline(always)]
    #[must_use]
    pub const fn scope_of(remote: &[u8; 16], ifindex: u32) -> u16 {
        if remote[0] == 0xfe && remote[1] & 0xc0 == 0x80 {
            ifindex as u16
        } else {
            0
        }
    }
}

/// The subflows of a connection whose peer is proven, in hash map `CARRIERS`
/// by connection (as `CONNECTIONS`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Carriers {
    /// The peer's agent id.
    pub peer: u64,
    /// In no order. Entries with cookie 0 are unused.
    pub carriers: [Carrier; MAX_CARRIERS],
}

/// One subflow that can carry copies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Carrier {
    /// Socket cookie: key in `SUBFLOWS`.
    pub cookie: u64,
    /// Index in `CHANNELS` of the channel between its two addresses.
    pub channel: u32,
    /// 1 if the peer knows the subflow by other addresses or ports, which are
    /// in `PEER_VIEW`.
    pub translated: u32,
}

/// A subflow as its peer knows it if there is NAT between the two, in hash map
/// `PEER_VIEW` by socket cookie. `local` is this end's address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct PeerView {
    /// This end's address as the peer sees it; IPv4 as `::ffff:a.b.c.d`.
    pub local: [u8; 16],
    /// The peer's own address, as the peer has it.
    pub remote: [u8; 16],
    /// This end's port as the peer sees it, host byte order.
    pub local_port: u16,
    /// The peer's own port, host byte order.
    pub remote_port: u16,
}

/// A listening MPTCP socket whose segment size (`TCP_MAXSEG`) the policy has
/// lowered, in hash map `LISTENERS` by socket cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Listener {
    /// The size that the socket had and gets back; 0: the application had set
    /// none.
    pub own: u32,
    /// The size that the policy has set. If the socket has another one now, the
    /// application has set that one since.
    pub given: u32,
}

/// The segments that have arrived for a subflow, in hash map `ARRIVALS` by
/// socket cookie: see [`crate::arrival`].
#[repr(C)]
#[derive(Debug, Default)]
pub struct Arrival {
    /// Newest timestamp (TSval) of a segment that brought missing bytes, in the
    /// lower half.
    pub newest: Word,
    /// When the last such segment came (`bpf_ktime_get_ns`).
    pub fresh_ns: Word,
    /// The latest segments that were let through. The upper half holds the
    /// first sequence number, the lower half the one after the last.
    pub passed: [Word; MAX_PASSED],
    /// How many segments were let through.
    pub count: Word,
    /// When the last of them was let through.
    pub passed_ns: Word,
    /// When a segment last waited in vain.
    pub in_vain_ns: Word,
    /// How many segments have waited in vain since one did not.
    pub in_vain: Word,
}

/// The rounds that one CPU has left for segments that wait for their other
/// arrival, in per-CPU array `PATIENCE`: see [`crate::arrival`].
#[repr(C)]
#[derive(Debug, Default)]
pub struct Patience {
    /// Number of the current period.
    pub period: Word,
    /// Rounds that were asked for in this period.
    pub used: Word,
}

/// Totals of the copies of one path on one CPU, in per-CPU array
/// `COPY_STATS`; the path is that of the channel's device.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct CopyStats<T = u64> {
    /// Copies sent over this path.
    pub sent: T,
    /// Their bytes, outer IP header included.
    pub sent_bytes: T,
    /// Copies that arrived over this path, by [`outcome`].
    pub received: [T; outcome::COUNT],
    /// Payload bytes that a copy delivered before any other arrival had brought
    /// them.
    pub rescued_bytes: T,
    /// Originals that arrived after their copy, over this path, and were
    /// dropped.
    pub late_originals: T,
    /// Rounds that segments which came over this path have waited for their
    /// other arrival: see [`crate::arrival`].
    pub wait_rounds: T,
    /// Waits that ended without the other arrival.
    pub waits_in_vain: T,
    /// Segments that got no copy over this path, by [`not_sent`].
    pub not_sent: [T; not_sent::COUNT],
    /// Datagrams that were refused, by [`refused`].
    pub refused: [T; refused::COUNT],
    /// Copies for this path that shared a device with their original, at this
    /// end or at the peer's, because no other carrier was available.
    pub shared_device: T,
}

impl CopyStats {
    /// Returns the sum, modulo 2^64.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        let sum = |a: &mut u64, b: &u64| *a = a.wrapping_add(*b);
        sum(&mut self.sent, &other.sent);
        sum(&mut self.sent_bytes, &other.sent_bytes);
        sum(&mut self.rescued_bytes, &other.rescued_bytes);
        sum(&mut self.late_originals, &other.late_originals);
        sum(&mut self.shared_device, &other.shared_device);
        sum(&mut self.wait_rounds, &other.wait_rounds);
        sum(&mut self.waits_in_vain, &other.waits_in_vain);
        let each = |a: &mut [u64], b: &[u64]| a.iter_mut().zip(b).for_each(|(a, b)| sum(a, b));
        each(&mut self.received, &other.received);
        each(&mut self.not_sent, &other.not_sent);
        each(&mut self.refused, &other.refused);
        self
    }
}

/// The fate of a copy that arrived: indices of [`CopyStats::received`].
pub mod outcome {
    /// It came before the original.
    pub const FIRST: u8 = 0;
    /// The original, or another copy, had come before.
    pub const DUPLICATE: u8 = 1;
    /// It was refused: see [`super::refused`].
    pub const REFUSED: u8 = 2;
    /// How many there are.
    pub const COUNT: usize = 3;
    /// Their names, as in labels.
    pub const NAMES: [&str; COUNT] = ["first", "duplicate", "refused"];
}

/// Why a segment got no copy: indices of [`CopyStats::not_sent`].
pub mod not_sent {
    /// The segment's connection is not thin, and there is no room for a copy:
    /// the path's own subflow has more to send than the path takes
    /// ([`crate::spare`]), or copies have already used what the channel can
    /// spare ([`super::Channel::rate`]).
    pub const BUSY: u8 = 0;
    /// The path's `--redundant-budget` is used up.
    pub const BUDGET: u8 = 1;
    /// The wrapped segment would not fit the path's MTU.
    pub const MTU: u8 = 2;
    /// The connection's peer has shown no agent, or has fallen silent on this
    /// path. If there is no other path, this is counted for the original's
    /// path.
    pub const NO_PEER: u8 = 3;
    /// TCP timestamps are off: the receiver could not tell copies from
    /// retransmissions.
    pub const NO_TIMESTAMPS: u8 = 4;
    /// The kernel refused: no memory, no route, the device is gone, or the
    /// address families cannot be mixed (before Linux 6.3).
    pub const KERNEL: u8 = 5;
    /// How many there are.
    pub const COUNT: usize = 6;
    /// Their names, as in labels.
    pub const NAMES: [&str; COUNT] = [
        "busy",
        "budget",
        "mtu",
        "no-peer",
        "no-timestamps",
        "kernel",
    ];
}

/// Why a datagram to the agent's port was refused: indices of
/// [`CopyStats::refused`].
pub mod refused {
    /// Its source has not proven to be a peer, or is a peer that has fallen
    /// silent.
    pub const UNPROVEN: u8 = 0;
    /// It holds no complete IP packet with a complete TCP header, or its
    /// lengths contradict each other.
    pub const MALFORMED: u8 = 1;
    /// The datagram or the packet in it is a fragment.
    pub const FRAGMENT: u8 = 2;
    /// It holds something other than TCP.
    pub const NOT_TCP: u8 = 3;
    /// It belongs to no MPTCP subflow with that peer.
    pub const FOREIGN: u8 = 4;
    /// The kernel refused to unwrap it.
    pub const KERNEL: u8 = 5;
    /// How many there are.
    pub const COUNT: usize = 6;
    /// Their names, as in labels.
    pub const NAMES: [&str; COUNT] = [
        "unproven",
        "malformed",
        "fragment",
        "not-tcp",
        "foreign",
        "kernel",
    ];
}

crate::layout::layout! {
    Redundant { budget_bytes_per_sec, copies, port, reserved, mss_v4, mss_v6 }
    Device { header, mtu, strict, path }
    Stacked { one, other }
    Channel {
        local, remote, peer, expires_ns, ifindex, mtu, remote_port, local_port, path, cost,
        rate, peer_ifindex, reserved,
    }
    Traffic { sent, sent_bytes, arrived }
    PeerChannels { channels }
    ChannelKey { local, remote, remote_port, scope }
    Carriers { peer, carriers }
    Carrier { cookie, channel, translated }
    PeerView { local, remote, local_port, remote_port }
    Listener { own, given }
    Arrival { newest, fresh_ns, passed, count, passed_ns, in_vain_ns, in_vain }
    Patience { period, used }
    CopyStats {
        sent, sent_bytes, received, rescued_bytes, late_originals, wait_rounds, waits_in_vain,
        not_sent, refused, shared_device,
    }
}

const _: () = assert!(size_of::<Redundant>() == 24);
const _: () = assert!(size_of::<Device>() == 16);
const _: () = assert!(size_of::<Stacked>() == 8);
const _: () = assert!(size_of::<Channel>() == 80);
const _: () = assert!(size_of::<Traffic>() == 24);
const _: () = assert!(size_of::<ChannelKey>() == 36);
const _: () = assert!(size_of::<PeerChannels>() == 4 * MAX_CARRIERS);
const _: () = assert!(size_of::<Carriers>() == 8 + 16 * MAX_CARRIERS);
const _: () = assert!(size_of::<PeerView>() == 36);
const _: () = assert!(size_of::<Arrival>() == 8 * (MAX_PASSED + 6));
const _: () = assert!(size_of::<Listener>() == 8);
const _: () = assert!(size_of::<Patience>() == 16);
const _: () = assert!(size_of::<CopyStats>() == 8 * (7 + 3 + 6 + 6));
