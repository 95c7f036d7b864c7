//! The kernel members that the programs read, by name.
//!
//! rustc emits no CO-RE relocations. So each member's offset is a global of the
//! eBPF object, which the agent sets from the running kernel's BTF before it
//! loads the object (`read_volatile` keeps it a global). If BTF lacks a member,
//! the hooks that need it are left out; an offset is never guessed.

/// A hook, as a bit: which programs need a member.
pub mod hook {
    /// None: the code that reads the member does without it.
    pub const NONE: u8 = 0;
    /// `sockops`.
    pub const SOCKOPS: u8 = 1;
    /// `tp_btf/mptcp_subflow_get_send`.
    pub const GET_SEND: u8 = 2;
    /// `iter/tcp`.
    pub const ITER: u8 = 4;
    /// Both hooks that hold a socket.
    pub const SOCKETS: u8 = SOCKOPS | ITER;
    /// Those two and the tracepoint.
    pub const ALL: u8 = SOCKETS | GET_SEND;
    /// tc, under the redundant policy: ingress, and egress for some.
    pub const INGRESS: u8 = 8;
    /// Both hooks that hold a socket, and tc ingress.
    pub const SOCKETS_INGRESS: u8 = SOCKETS | INGRESS;
}

/// One member and the global that receives its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Global in the eBPF object, a `u32`.
    pub global: &'static str,
    /// Kernel structure.
    pub structure: &'static str,
    /// Member, or a path of names if it is nested.
    pub member: &'static str,
    /// Whether the offset counts bits, for flags that may be bit-fields.
    pub in_bits: bool,
    /// Programs that cannot work without it: bits of [`hook`].
    pub needed_by: u8,
}

/// The value of a global if the kernel has no such member.
pub const ABSENT: u32 = u32::MAX;

/// Hands every member to the macro `$then`, as
/// `GLOBAL = "structure"."member" unit hooks;`.
#[macro_export]
macro_rules! for_each_member {
    ($then:ident) => {
        $then! {
            MSK_TOKEN = "mptcp_sock"."token" bytes SOCKETS;
            MSK_WRITE_SEQ = "mptcp_sock"."write_seq" bytes SOCKETS;
            MSK_SND_NXT = "mptcp_sock"."snd_nxt" bytes SOCKETS;
            MSK_ACK_SEQ = "mptcp_sock"."ack_seq" bytes SOCKETS;
            MSK_CONN_LIST = "mptcp_sock"."conn_list" bytes GET_SEND;
            MSK_SERVER_SIDE = "mptcp_sock"."pm.server_side" bytes NONE;
            MSK_RCV_FASTCLOSE = "mptcp_sock"."rcv_fastclose" bits NONE;
            MSK_LOCAL_KEY = "mptcp_sock"."local_key" bytes NONE;
            MSK_REMOTE_KEY = "mptcp_sock"."remote_key" bytes NONE;

            TCP_WRITE_SEQ = "tcp_sock"."write_seq" bytes SOCKETS_INGRESS;
            TCP_SND_NXT = "tcp_sock"."snd_nxt" bytes SOCKETS;
            TCP_BYTES_SENT = "tcp_sock"."bytes_sent" bytes SOCKETS;
            TCP_BYTES_ACKED = "tcp_sock"."bytes_acked" bytes SOCKETS;
            TCP_BYTES_RECEIVED = "tcp_sock"."bytes_received" bytes SOCKETS;
            TCP_DATA_SEGS_OUT = "tcp_sock"."data_segs_out" bytes SOCKETS;
            TCP_TOTAL_RETRANS = "tcp_sock"."total_retrans" bytes SOCKETS;
            TCP_SRTT_US = "tcp_sock"."srtt_us" bytes SOCKETS;
            TCP_NOTSENT_LOWAT = "tcp_sock"."notsent_lowat" bytes SOCKETS;
            TCP_SND_CWND = "tcp_sock"."snd_cwnd" bytes NONE;
            TCP_RTT_MIN = "tcp_sock"."rtt_min.s" bytes NONE;
            TCP_USER_MSS = "tcp_sock"."rx_opt.user_mss" bytes NONE;
            TCP_RCV_NXT = "tcp_sock"."rcv_nxt" bytes INGRESS;
            TCP_RCV_WUP = "tcp_sock"."rcv_wup" bytes INGRESS;
            TCP_RCV_WND = "tcp_sock"."rcv_wnd" bytes INGRESS;
            TCP_SND_UNA = "tcp_sock"."snd_una" bytes INGRESS;
            TCP_TS_RECENT = "tcp_sock"."rx_opt.ts_recent" bytes INGRESS;
            TCP_NUM_SACKS = "tcp_sock"."rx_opt.num_sacks" bytes INGRESS;
            TCP_SELECTIVE_ACKS = "tcp_sock"."selective_acks" bytes INGRESS;
            TCP_CB_FLAGS = "tcp_sock"."bpf_sock_ops_cb_flags" bytes ITER;
            TCP_IS_MPTCP = "tcp_sock"."is_mptcp" bits ITER;

            SK_FAMILY = "sock_common"."skc_family" bytes SOCKETS;
            SK_STATE = "sock_common"."skc_state" bytes ALL;
            SK_LOCAL_PORT = "sock_common"."skc_num" bytes SOCKETS;
            SK_REMOTE_PORT = "sock_common"."skc_dport" bytes SOCKETS;
            SK_LOCAL_V4 = "sock_common"."skc_rcv_saddr" bytes SOCKETS;
            SK_REMOTE_V4 = "sock_common"."skc_daddr" bytes SOCKETS;
            SK_LOCAL_V6 = "sock_common"."skc_v6_rcv_saddr" bytes SOCKETS;
            SK_REMOTE_V6 = "sock_common"."skc_v6_daddr" bytes SOCKETS;
            SK_FLAGS = "sock_common"."skc_flags" bytes SOCKETS;
            SK_BOUND_DEV = "sock_common"."skc_bound_dev_if" bytes SOCKETS;
            SK_ERR = "sock"."sk_err" bytes SOCKETS;
            SK_MAX_PACING_RATE = "sock"."sk_max_pacing_rate" bytes SOCKETS;
            SK_PACING_RATE = "sock"."sk_pacing_rate" bytes ALL;
            SK_WMEM_QUEUED = "sock"."sk_wmem_queued" bytes GET_SEND;
            SK_SNDBUF = "sock"."sk_sndbuf" bytes ALL;
            SK_BACKLOG_LEN = "sock"."sk_backlog.len" bytes INGRESS;
            SK_BACKLOG_HEAD = "sock"."sk_backlog.head" bytes INGRESS;
            SK_BACKLOG_TAIL = "sock"."sk_backlog.tail" bytes INGRESS;
            SKB_NEXT = "sk_buff"."next" bytes INGRESS;
            SKB_CB = "sk_buff"."cb" bytes INGRESS;
            SK_DST_CACHE = "sock"."sk_dst_cache" bytes SOCKETS;
            DST_DEV = "dst_entry"."dev" bytes SOCKETS;
            DEV_IFINDEX = "net_device"."ifindex" bytes SOCKETS;
            ICSK_CA_DST_LOCKED = "inet_connection_sock"."icsk_ca_dst_locked" bits NONE;
            ICSK_CA_OPS = "inet_connection_sock"."icsk_ca_ops" bytes NONE;
            CA_NAME = "tcp_congestion_ops"."name" bytes NONE;
            INET_TOS = "inet_sock"."tos" bytes NONE;
            INET_PINET6 = "inet_sock"."pinet6" bytes NONE;
            PINET6_TCLASS = "ipv6_pinfo"."tclass" bytes NONE;
            SK_UID = "sock"."sk_uid" bytes NONE;
            SK_MARK = "sock"."sk_mark" bytes NONE;
            SK_CGROUP = "sock"."sk_cgrp_data.cgroup" bytes NONE;
            CGROUP_SELF_PARENT = "cgroup"."self.parent" bytes NONE;
            CSS_CGROUP = "cgroup_subsys_state"."cgroup" bytes NONE;
            CGROUP_KN = "cgroup"."kn" bytes NONE;
            KN_ID = "kernfs_node"."id" bytes NONE;
            ICSK_ULP_DATA = "inet_connection_sock"."icsk_ulp_data" bytes SOCKETS;

            SUBFLOW_NODE = "mptcp_subflow_context"."node" bytes GET_SEND;
            SUBFLOW_AVG_PACING_RATE = "mptcp_subflow_context"."avg_pacing_rate" bytes GET_SEND;
            SUBFLOW_REQUEST_JOIN = "mptcp_subflow_context"."request_join" bits GET_SEND;
            SUBFLOW_REQUEST_BKUP = "mptcp_subflow_context"."request_bkup" bits ALL;
            SUBFLOW_MP_CAPABLE = "mptcp_subflow_context"."mp_capable" bits SOCKETS;
            SUBFLOW_MP_JOIN = "mptcp_subflow_context"."mp_join" bits SOCKETS;
            SUBFLOW_BACKUP = "mptcp_subflow_context"."backup" bits ALL;
            SUBFLOW_STALE = "mptcp_subflow_context"."stale" bits ALL;
            SUBFLOW_FULLY_ESTABLISHED = "mptcp_subflow_context"."fully_established" bits GET_SEND;
            SUBFLOW_RESET_SEEN = "mptcp_subflow_context"."reset_seen" bits NONE;
            SUBFLOW_RESET_TRANSIENT = "mptcp_subflow_context"."reset_transient" bits NONE;
            SUBFLOW_RESET_REASON = "mptcp_subflow_context"."reset_reason" bits NONE;
            SUBFLOW_LOCAL_ID = "mptcp_subflow_context"."local_id" bytes ALL;
            SUBFLOW_REMOTE_ID = "mptcp_subflow_context"."remote_id" bytes ALL;
            SUBFLOW_TCP_SOCK = "mptcp_subflow_context"."tcp_sock" bytes GET_SEND;
            SUBFLOW_CONN = "mptcp_subflow_context"."conn" bytes GET_SEND;
            LIST_PREV = "list_head"."prev" bytes GET_SEND;
            LIST_NEXT = "list_head"."next" bytes GET_SEND;
        }
    };
}

macro_rules! table {
    ($($global:ident = $structure:literal . $member:literal $unit:ident $hooks:ident;)*) => {
        /// Every member, by structure.
        pub const MEMBERS: &[Member] = &[$(Member {
            global: stringify!($global),
            structure: $structure,
            member: $member,
            in_bits: table!(@ $unit),
            needed_by: hook::$hooks,
        }),*];
    };
    (@ bytes) => { false };
    (@ bits) => { true };
}

for_each_member!(table);
