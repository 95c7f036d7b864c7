//! Typed reads of a subflow's socket, and of its connection.

use aya_ebpf::{
    cty::c_void,
    helpers::{bpf_skc_to_mptcp_sock, bpf_skc_to_tcp_sock},
};
use mptcp_common::{
    abi::{Tuple, reset, subflow_flag},
    controller::{Limits, NO_CAP},
};

use crate::shared::member::{
    PROBE_READ, can_probe, global, has, load, load_bit, offset, probe, probe_bits, probe_flag,
};

const AF_INET: u16 = 2;

/// `SO_KEEPALIVE`, in `skc_flags` (`enum sock_flags`).
const SOCK_KEEPOPEN: u64 = 1 << 3;

/// The part of a [`Tuple`] that changes.
#[derive(Clone, Copy, Default)]
pub struct Ids {
    pub local: u8,
    pub remote: u8,
    /// Bits of [`subflow_flag`].
    pub flags: u8,
}

/// The kernel's record of a subflow's reset: the reason and the flag of the
/// option MP_TCPRST in the bits of `abi::reset`, and the bits below.
#[derive(Clone, Copy, Default)]
pub struct KeptReset(pub u8);

impl KeptReset {
    /// The kernel lets all this be read.
    pub const READ: u8 = 0x20;
    /// The peer's reset had the option.
    pub const SEEN: u8 = 0x40;
}

/// A subflow's socket and its connection.
#[derive(Clone, Copy)]
pub struct Socket {
    /// `struct tcp_sock`, BTF-typed.
    tcp: *const u8,
    /// `struct mptcp_sock`, BTF-typed; null in `iter/tcp`, where no helper
    /// types it.
    msk: *const u8,
    /// Address of that `struct mptcp_sock`.
    connection: u64,
}

impl Socket {
    /// Returns the subflow behind a socket of a sockops context; `None` if it
    /// is no MPTCP subflow.
    ///
    /// # Safety
    /// `sk` must be a socket that the verifier lets these helpers take.
    #[inline(always)]
    pub unsafe fn of_sockops(sk: *mut c_void) -> Option<Self> {
        // SAFETY: the caller's promise; null means another kind of socket.
        let msk = unsafe { bpf_skc_to_mptcp_sock(sk) } as *const u8;
        if msk.is_null() {
            return None;
        }
        // SAFETY: likewise.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk) } as *const u8;
        if tcp.is_null() {
            return None;
        }
        Some(Self {
            tcp,
            msk,
            connection: msk as u64,
        })
    }

    /// Returns a socket that is closing. It may already have left its
    /// connection, so nothing can be read of the connection.
    ///
    /// # Safety
    /// The same promise is needed as for [`Socket::of_sockops`].
    #[inline(always)]
    pub unsafe fn of_closing(sk: *mut c_void) -> Option<Self> {
        // SAFETY: the caller's promise; null means another kind of socket.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk) } as *const u8;
        if tcp.is_null() {
            return None;
        }
        Some(Self {
            tcp,
            msk: core::ptr::null(),
            connection: 0,
        })
    }

    /// Returns the subflow behind a socket of `iter/tcp`; `None` if it is no
    /// MPTCP subflow. Its connection stays 0 where the kernel does not let it
    /// be read.
    ///
    /// # Safety
    /// `sk` must be a BTF-typed socket.
    #[inline(always)]
    pub unsafe fn of_iter(sk: *mut c_void) -> Option<Self> {
        // SAFETY: the caller's promise; null means another kind of socket.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk) } as *const u8;
        // SAFETY: typed by the helper.
        if tcp.is_null() || unsafe { !load_bit(tcp, &offset::TCP_IS_MPTCP) } {
            return None;
        }
        let mut socket = Self {
            tcp,
            msk: core::ptr::null(),
            connection: 0,
        };
        socket.connection = probe(socket.context(), &offset::SUBFLOW_CONN).unwrap_or_default();
        Some(socket)
    }

    /// Returns the connection's key in `CONNECTIONS`.
    #[inline(always)]
    pub fn connection(self) -> u64 {
        self.connection
    }

    /// Returns the connection's token; 0 while it has none.
    #[inline(always)]
    pub fn token(self) -> u32 {
        self.msk(&offset::MSK_TOKEN)
    }

    /// Returns 1 if this host accepted the connection, else 0.
    #[inline(always)]
    pub fn is_server(self) -> u8 {
        if has(&offset::MSK_SERVER_SIDE) {
            self.msk::<u8>(&offset::MSK_SERVER_SIDE) & 1
        } else {
            0
        }
    }

    /// Returns up to where the connection's data was given to subflows
    /// (`snd_nxt`), and whether there is more.
    #[inline(always)]
    pub fn given(self) -> (u64, bool) {
        let written: u64 = self.msk(&offset::MSK_WRITE_SEQ);
        let given: u64 = self.msk(&offset::MSK_SND_NXT);
        (given, written != given)
    }

    /// Returns up to where the connection has received data in order (`ack_seq`).
    #[inline(always)]
    pub fn received(self) -> u64 {
        self.msk(&offset::MSK_ACK_SEQ)
    }

    /// Returns the size of the connection's send buffer, bytes.
    #[inline(always)]
    pub fn send_buffer(self) -> u64 {
        // `mptcp_sock` begins with its `sock`.
        u64::from(self.msk::<u32>(&offset::SK_SNDBUF))
    }

    /// Returns how many bytes this subflow was given and has not sent.
    #[inline(always)]
    pub fn queued(self) -> u32 {
        let written: u32 = self.tcp(&offset::TCP_WRITE_SEQ);
        written.wrapping_sub(self.tcp(&offset::TCP_SND_NXT))
    }

    /// Returns the smoothed round trip, microseconds; 0 before the first
    /// sample.
    #[inline(always)]
    pub fn srtt_us(self) -> u32 {
        self.tcp::<u32>(&offset::TCP_SRTT_US) >> 3
    }

    /// Returns the shortest round trip of late (`tcp_min_rtt`), microseconds; 0
    /// where the kernel does not let it be read.
    #[inline(always)]
    pub fn min_rtt_us(self) -> u32 {
        if !has(&offset::TCP_RTT_MIN) {
            return 0;
        }
        // SAFETY: typed, as in `tcp`; `struct minmax_sample { t; v }`.
        unsafe {
            let sample = self.tcp.add(global(&offset::TCP_RTT_MIN) as usize);
            core::ptr::read_volatile(sample.cast::<u32>().add(1))
        }
    }

    /// Returns the congestion window, segments; 0 where the kernel does not let
    /// it be read.
    #[inline(always)]
    pub fn cwnd(self) -> u32 {
        if has(&offset::TCP_SND_CWND) {
            self.tcp(&offset::TCP_SND_CWND)
        } else {
            0
        }
    }

    /// Returns one of the connection's two keys (RFC 8684, 3.1); 0 while it is
    /// unknown.
    #[inline(always)]
    pub fn key(self, offset: &'static u32) -> u64 {
        if has(offset) { self.msk(offset) } else { 0 }
    }

    /// Reads a member of `struct tcp_sock` or of the structures that it begins
    /// with (`sock`, `sock_common`, `inet_connection_sock`).
    #[inline(always)]
    pub fn tcp<T: Copy>(self, offset: &'static u32) -> T {
        // SAFETY: `tcp` is typed by the helper that returned it.
        unsafe { load(self.tcp, offset) }
    }

    /// Reads a member of `struct mptcp_sock`; zero where the kernel does not
    /// let it be read.
    #[inline(always)]
    fn msk<T: Copy + Default>(self, offset: &'static u32) -> T {
        if self.msk.is_null() {
            return probe(self.connection, offset).unwrap_or_default();
        }
        // SAFETY: `msk` is typed by the helper that returned it.
        unsafe { load(self.msk, offset) }
    }

    /// Returns the device that carries the subflow: the one that its cached
    /// route leaves by, else the one it is bound to; 0 if neither is known. The
    /// route comes first because a socket in a VRF is bound to the VRF, while
    /// its packets leave and arrive by a device in it. For any other bound
    /// socket the two are the same.
    #[inline(always)]
    pub fn ifindex(self) -> u32 {
        let routed = self.route_ifindex();
        if routed == 0 {
            self.tcp(&offset::SK_BOUND_DEV)
        } else {
            routed
        }
    }

    /// Returns the device that the cached route leaves by; 0 if there is none.
    #[inline(always)]
    fn route_ifindex(self) -> u32 {
        let route: *const u8 = self.tcp(&offset::SK_DST_CACHE);
        if route.is_null() {
            return 0;
        }
        // SAFETY: typed by the members they come from; a stale pointer reads
        // as zero.
        unsafe {
            let device: *const u8 = load(route, &offset::DST_DEV);
            if device.is_null() {
                0
            } else {
                load(device, &offset::DEV_IFINDEX)
            }
        }
    }

    /// Returns 1 if the subflow's route locks its congestion control, else 0; 0
    /// where that cannot be read.
    #[inline(always)]
    pub fn is_locked(self) -> u8 {
        if !has(&offset::ICSK_CA_DST_LOCKED) {
            return 0;
        }
        let bit = global(&offset::ICSK_CA_DST_LOCKED);
        // SAFETY: typed, as in `tcp`. No branch depends on the flag.
        let byte: u8 = unsafe { core::ptr::read_volatile(self.tcp.add(bit as usize / 8)) };
        byte >> (bit % 8) & 1
    }

    /// Returns the callbacks that are switched on for the socket:
    /// `BPF_SOCK_OPS_*_CB_FLAG`.
    #[inline(always)]
    pub fn callbacks(self) -> u32 {
        u32::from(self.tcp::<u8>(&offset::TCP_CB_FLAGS))
    }

    /// Returns whether the subflow's socket has `SO_KEEPALIVE`, whoever has set it.
    #[inline(always)]
    pub fn keeps_alive(self) -> bool {
        self.tcp::<u64>(&offset::SK_FLAGS) & SOCK_KEEPOPEN != 0
    }

    /// Returns whether the application has set `SO_KEEPALIVE`: the connection's
    /// socket has it.
    #[inline(always)]
    pub fn application_keeps_alive(self) -> bool {
        // `mptcp_sock` begins with its `sock`.
        self.msk::<u64>(&offset::SK_FLAGS) & SOCK_KEEPOPEN != 0
    }

    /// Returns the limits that are set on the socket, whoever has set them.
    /// Besides the agent, the kernel itself gives subflows a
    /// `TCP_NOTSENT_LOWAT` since Linux 6.10, an application can set that of a
    /// connection that fell back to TCP, and another program can set both.
    #[inline(always)]
    pub fn limits(self) -> Limits {
        let rate: u64 = self.tcp(&offset::SK_MAX_PACING_RATE);
        Limits {
            cap: if rate >= u64::from(NO_CAP) {
                NO_CAP
            } else {
                rate as u32
            },
            lowat: self.tcp(&offset::TCP_NOTSENT_LOWAT),
        }
    }

    /// Returns the address of this subflow's `struct mptcp_subflow_context`.
    /// The kernel's member is a `void *`, so only [`probe`] can read what is
    /// there.
    #[inline(always)]
    pub fn context(self) -> u64 {
        self.tcp(&offset::ICSK_ULP_DATA)
    }

    /// Returns the subflow's addresses, ports, ids and flags (bits of
    /// `abi::subflow_flag`).
    #[inline(always)]
    pub fn tuple(self) -> Tuple {
        let mut tuple = Tuple {
            local_port: self.tcp(&offset::SK_LOCAL_PORT),
            remote_port: u16::from_be(self.tcp(&offset::SK_REMOTE_PORT)),
            ..Tuple::default()
        };
        if self.tcp::<u16>(&offset::SK_FAMILY) == AF_INET {
            tuple.local = mapped(self.tcp(&offset::SK_LOCAL_V4));
            tuple.remote = mapped(self.tcp(&offset::SK_REMOTE_V4));
        } else {
            tuple.local = self.address(&offset::SK_LOCAL_V6);
            tuple.remote = self.address(&offset::SK_REMOTE_V6);
        }
        let ids = self.refresh(Ids::default());
        (tuple.local_id, tuple.remote_id, tuple.flags) = (ids.local, ids.remote, ids.flags);
        tuple
    }

    /// Brings ids and flags up to date, as far as the kernel lets them be read.
    #[inline(always)]
    pub fn refresh(self, mut ids: Ids) -> Ids {
        if global(&PROBE_READ) == 0 {
            return ids;
        }
        let context = self.context();
        let flag = |offset, flag| probe_flag(context, offset) * flag;
        ids.local = probe(context, &offset::SUBFLOW_LOCAL_ID).unwrap_or_default();
        ids.remote = probe(context, &offset::SUBFLOW_REMOTE_ID).unwrap_or_default();
        const READ: u8 = subflow_flag::BACKUP | subflow_flag::STALE | subflow_flag::JOIN;
        ids.flags = ids.flags & !READ
            | subflow_flag::IDS
            | flag(&offset::SUBFLOW_BACKUP, subflow_flag::BACKUP)
            | flag(&offset::SUBFLOW_REQUEST_BKUP, subflow_flag::BACKUP)
            | flag(&offset::SUBFLOW_STALE, subflow_flag::STALE)
            | flag(&offset::SUBFLOW_MP_JOIN, subflow_flag::JOIN);
        ids
    }

    /// Returns what the kernel keeps of a reset. (The context's address is no
    /// number for the verifier, so no global function could do this.)
    #[inline(always)]
    pub fn reset(self) -> KeptReset {
        if !can_probe(&offset::SUBFLOW_RESET_REASON) {
            return KeptReset::default();
        }
        let context = self.context();
        let flag = |offset, flag| probe_flag(context, offset) * flag;
        KeptReset(
            KeptReset::READ
                | probe_bits(context, &offset::SUBFLOW_RESET_REASON, reset::REASON)
                | flag(&offset::SUBFLOW_RESET_TRANSIENT, reset::TRANSIENT)
                | flag(&offset::SUBFLOW_RESET_SEEN, KeptReset::SEEN),
        )
    }

    /// Returns whether the peer turned out to have no MPTCP: an established
    /// subflow that is neither the first (MP_CAPABLE) nor joined (MP_JOIN).
    #[inline(always)]
    pub fn is_fallback(self) -> bool {
        let context = self.context();
        let mptcp = probe_flag(context, &offset::SUBFLOW_MP_CAPABLE)
            | probe_flag(context, &offset::SUBFLOW_MP_JOIN);
        global(&PROBE_READ) != 0 && mptcp == 0
    }

    #[inline(always)]
    fn address(self, offset: &'static u32) -> [u8; 16] {
        // Read words: the kernel's type is a union of arrays, and the verifier
        // wants each load to match an element.
        // SAFETY: typed, as in `tcp`.
        let words: [u32; 4] = unsafe {
            let base = self.tcp.add(global(offset) as usize).cast::<u32>();
            [
                core::ptr::read_volatile(base),
                core::ptr::read_volatile(base.add(1)),
                core::ptr::read_volatile(base.add(2)),
                core::ptr::read_volatile(base.add(3)),
            ]
        };
        // SAFETY: same size, any bit pattern.
        unsafe { core::mem::transmute(words) }
    }
}

/// Returns an IPv4 address, which is in network byte order, as
/// `::ffff:a.b.c.d`.
#[inline(always)]
fn mapped(address: u32) -> [u8; 16] {
    let words = [0, 0, 0xffff_u32.to_be(), address];
    // SAFETY: same size, any bit pattern.
    unsafe { core::mem::transmute::<[u32; 4], [u8; 16]>(words) }
}
