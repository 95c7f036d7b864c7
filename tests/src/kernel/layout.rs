//! Structures of include/uapi/linux/{mptcp,tcp}.h that `libc` lacks or has only
//! in part. Newer kernels append members and older ones fill in fewer, so each
//! call passes the sizes.

/// `SOL_MPTCP`.
pub(super) const SOL_MPTCP: i32 = 284;
/// Fills a [`MptcpInfoRaw`] (Linux 5.16).
pub(super) const MPTCP_INFO: i32 = 1;
/// Fills a [`FullInfo`] and what it points to (Linux 6.5).
pub(super) const MPTCP_FULL_INFO: i32 = 4;
/// Room for all subflows that the kernel allows: eight beside the first, and
/// those that are closing.
pub(super) const MAX_SUBFLOWS: usize = 16;

/// `struct mptcp_info`, up to Linux 6.10.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MptcpInfoRaw {
    pub subflows: u8,
    pub add_addr_signal: u8,
    pub add_addr_accepted: u8,
    pub subflows_max: u8,
    pub add_addr_signal_max: u8,
    pub add_addr_accepted_max: u8,
    pub _hole: u16,
    pub flags: u32,
    pub token: u32,
    pub write_seq: u64,
    pub snd_una: u64,
    pub rcv_nxt: u64,
    pub local_addr_used: u8,
    pub local_addr_max: u8,
    pub csum_enabled: u8,
    pub _hole2: u8,
    pub retransmits: u32,
    pub bytes_retrans: u64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub bytes_acked: u64,
    pub subflows_total: u8,
    pub _reserved: [u8; 3],
    pub last_data_sent: u32,
    pub last_data_recv: u32,
    pub last_ack_recv: u32,
}

/// `struct mptcp_full_info`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FullInfo {
    pub size_tcpinfo_kernel: u32,
    pub size_tcpinfo_user: u32,
    pub size_sfinfo_kernel: u32,
    pub size_sfinfo_user: u32,
    pub num_subflows: u32,
    pub size_arrays_user: u32,
    /// The address of [`MAX_SUBFLOWS`] [`SubflowRaw`].
    pub subflow_info: u64,
    /// The address of [`MAX_SUBFLOWS`] [`TcpInfo`].
    pub tcp_info: u64,
    pub mptcp_info: MptcpInfoRaw,
}

/// `struct mptcp_subflow_info`; its addresses are `sockaddr_storage`s.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy)]
pub(super) struct SubflowRaw {
    pub id: u32,
    pub _hole: u32,
    pub local: [u8; 128],
    pub remote: [u8; 128],
}

impl Default for SubflowRaw {
    fn default() -> Self {
        Self {
            id: 0,
            _hole: 0,
            local: [0; 128],
            remote: [0; 128],
        }
    }
}

/// `struct tcp_info`, up to `tcpi_snd_wnd`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TcpInfo {
    pub state: u8,
    pub ca_state: u8,
    pub retransmits: u8,
    pub probes: u8,
    pub backoff: u8,
    pub options: u8,
    pub wscale: u8,
    pub bits: u8,
    pub rto: u32,
    pub ato: u32,
    pub snd_mss: u32,
    pub rcv_mss: u32,
    pub unacked: u32,
    pub sacked: u32,
    pub lost: u32,
    pub retrans: u32,
    pub fackets: u32,
    pub last_data_sent: u32,
    pub last_ack_sent: u32,
    pub last_data_recv: u32,
    pub last_ack_recv: u32,
    pub pmtu: u32,
    pub rcv_ssthresh: u32,
    pub rtt: u32,
    pub rttvar: u32,
    pub snd_ssthresh: u32,
    pub snd_cwnd: u32,
    pub advmss: u32,
    pub reordering: u32,
    pub rcv_rtt: u32,
    pub rcv_space: u32,
    pub total_retrans: u32,
    pub pacing_rate: u64,
    pub max_pacing_rate: u64,
    pub bytes_acked: u64,
    pub bytes_received: u64,
    pub segs_out: u32,
    pub segs_in: u32,
    pub notsent_bytes: u32,
    pub min_rtt: u32,
    pub data_segs_in: u32,
    pub data_segs_out: u32,
    pub delivery_rate: u64,
    pub busy_time: u64,
    pub rwnd_limited: u64,
    pub sndbuf_limited: u64,
    pub delivered: u32,
    pub delivered_ce: u32,
    pub bytes_sent: u64,
    pub bytes_retrans: u64,
    pub dsack_dups: u32,
    pub reord_seen: u32,
    pub rcv_ooopack: u32,
    pub snd_wnd: u32,
}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(MptcpInfoRaw, write_seq) == 16);
    assert!(offset_of!(MptcpInfoRaw, bytes_retrans) == 48);
    assert!(size_of::<MptcpInfoRaw>() == 96);
    assert!(offset_of!(FullInfo, mptcp_info) == 40);
    assert!(size_of::<SubflowRaw>() == 264);
    assert!(offset_of!(TcpInfo, rtt) == 68);
    assert!(offset_of!(TcpInfo, pacing_rate) == 104);
    assert!(offset_of!(TcpInfo, bytes_sent) == 200);
    assert!(size_of::<TcpInfo>() == 232);
};
