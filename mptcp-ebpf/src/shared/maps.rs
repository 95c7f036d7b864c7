//! The maps. Those that hold state are created without preallocation: an entry
//! takes memory only while it exists. The buckets of a hash map (16 bytes for
//! each entry that fits, rounded up to a power of two) are allocated in
//! advance.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf},
};
use mptcp_common::{
    abi::{
        Config, Connection, DEFAULT_POLICY, MAX_PATHS, MAX_POLICIES, PathConfig, PathStats, Policy,
        Subflow, Totals,
        redundant::{
            Arrival, Carriers, Channel, ChannelKey, CopyStats, Device, Listener, MAX_ADDRESSES,
            MAX_CHANNELS, MAX_FAMILIAR, MAX_LISTENERS, MAX_STACKED, Patience, PeerChannels,
            PeerView, Redundant, Stacked, Traffic,
        },
        rule::{MAX_RULES, Rule, RuleStats},
        runs::Runs,
    },
    bucket::Bucket,
    controller::{Ledger, ceiling::Ceiling},
    word::Word,
};

use crate::shared::member::global;

pub use mptcp_common::abi::runs::program;

// The agent resizes these two from `--max-connections` before it loads them.
#[map]
pub static CONNECTIONS: HashMap<u64, Connection> =
    HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
pub static SUBFLOWS: HashMap<u64, Subflow> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

// The agent's settings.
#[map]
pub static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
static POLICIES: Array<Policy> = Array::with_max_entries(MAX_POLICIES as u32, 0);
/// The host's account of its paths under each policy.
#[map]
static LEDGERS: Array<Ledger> = Array::with_max_entries(MAX_POLICIES as u32, 0);
/// The accounts of the paths that have a limit, by the paths' index.
#[map]
static CEILINGS: Array<Ceiling> = Array::with_max_entries(MAX_PATHS as u32, 0);
/// The rules, which choose a connection's policy; `Config::rules` of them are in
/// use.
#[map]
pub static RULES: Array<Rule> = Array::with_max_entries(MAX_RULES as u32, 0);
#[map]
pub static PATHS: Array<PathConfig> = Array::with_max_entries(MAX_PATHS as u32, 0);
#[map]
pub static SELECT_ID: HashMap<u32, u32> = HashMap::with_max_entries(512, 0);
#[map]
pub static SELECT_PREFIX: LpmTrie<[u8; 16], u32> =
    LpmTrie::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub static SELECT_REMOTE: LpmTrie<[u8; 16], u32> =
    LpmTrie::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub static SELECT_DEVICE: HashMap<u32, u32> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);
/// The task of the running pass of `iter/tcp`: one of `abi::sweep`.
#[map]
pub static SWEEP: Array<u32> = Array::with_max_entries(1, 0);

/// Cookie of an entry whose socket is gone; 0: none. The entry is removed at
/// the end of the running pass.
#[map]
pub static GONE: Array<u64> = Array::with_max_entries(1, 0);

// The redundant policy: the agent's settings, and the peers that it has proven.
#[map]
pub static REDUNDANT: Array<Redundant> = Array::with_max_entries(1, 0);
#[map]
pub static DEVICES: HashMap<u32, Device> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);
/// Every address of this host, in the form of `Channel::local`; the value means
/// nothing.
#[map]
pub static ADDRESSES: HashMap<[u8; 16], u32> =
    HashMap::with_max_entries(MAX_ADDRESSES, BPF_F_NO_PREALLOC);
/// Devices that run over each other; the value means nothing.
#[map]
pub static STACKED: HashMap<Stacked, u32> =
    HashMap::with_max_entries(MAX_STACKED, BPF_F_NO_PREALLOC);
#[map]
pub static CHANNELS: Array<Channel> = Array::with_max_entries(MAX_CHANNELS, 0);
#[map]
pub static CHANNEL_OF: HashMap<ChannelKey, u32> =
    HashMap::with_max_entries(MAX_CHANNELS, BPF_F_NO_PREALLOC);
#[map]
pub static FAMILIAR: HashMap<ChannelKey, u32> =
    HashMap::with_max_entries(MAX_FAMILIAR, BPF_F_NO_PREALLOC);
#[map]
pub static PEER_CHANNELS: HashMap<u64, PeerChannels> =
    HashMap::with_max_entries(MAX_CHANNELS, BPF_F_NO_PREALLOC);
#[map]
pub static CARRIERS: HashMap<u64, Carriers> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
pub static PEER_VIEW: HashMap<u64, PeerView> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
// State of the redundant policy that the programs keep themselves.
/// New entries of `CARRIERS` are built here, because they would not fit the
/// stack. tc runs with softirqs off, so that no two programs use it at once.
/// Only its first carrier is ever written.
#[map]
pub static NEW_CARRIERS: PerCpuArray<Carriers> = PerCpuArray::with_max_entries(1, 0);
/// Socket cookies by the subflow's addresses and ports.
#[map]
pub static COOKIE_OF: HashMap<PeerView, u64> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
/// Listening sockets whose segment size the policy has lowered.
#[map]
pub static LISTENERS: HashMap<u64, Listener> =
    HashMap::with_max_entries(MAX_LISTENERS, BPF_F_NO_PREALLOC);
#[map]
pub static ARRIVALS: HashMap<u64, Arrival> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);
/// New entries of `ARRIVALS` are copied from here.
#[map]
pub static NEW_ARRIVAL: Array<Arrival> = Array::with_max_entries(1, 0);
#[map]
pub static PATIENCE: PerCpuArray<Patience> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static BUDGETS: Array<Bucket> = Array::with_max_entries(MAX_PATHS as u32, 0);
/// How much copies may take of each channel if there is no budget.
#[map]
pub static CHANNEL_BUDGETS: Array<Bucket> = Array::with_max_entries(MAX_CHANNELS, 0);
#[map]
pub static CHANNEL_TRAFFIC: Array<Traffic<Word>> = Array::with_max_entries(MAX_CHANNELS, 0);

// Statistics and events for the agent.
#[map]
pub static COPY_STATS: PerCpuArray<CopyStats<Word>> =
    PerCpuArray::with_max_entries(MAX_PATHS as u32, 0);
#[map]
pub static PATH_STATS: PerCpuArray<PathStats<Word>> =
    PerCpuArray::with_max_entries(MAX_PATHS as u32, 0);
#[map]
pub static RULE_STATS: PerCpuArray<RuleStats<Word>> =
    PerCpuArray::with_max_entries(MAX_RULES as u32 + 1, 0);
#[map]
pub static TOTALS: PerCpuArray<Totals<Word>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static RUNS: PerCpuArray<Runs<Word>> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// `Connection` is larger than the stack: new ones are copied from here.
#[map]
static NEW_CONNECTION: Array<Connection> = Array::with_max_entries(1, 0);

/// New subflows are copied from here: `Subflow` does not fit the stack beside
/// everything else that opening one needs.
#[map]
static NEW_SUBFLOW: Array<Subflow> = Array::with_max_entries(1, 0);

/// The number of the agent that loaded these programs. The agent sets it.
#[unsafe(no_mangle)]
static OWNER: u32 = 0;

/// Returns the agent's settings, or the defaults (observe only) until it has
/// written any.
#[inline(always)]
pub fn config() -> Config {
    CONFIG.get(0).copied().unwrap_or_default()
}

/// Returns what the connection's policy does with it at `now_ns`: bits of
/// `abi::capability`; none if no policy is in force.
#[inline(always)]
pub fn capabilities(connection: &Connection, now_ns: u64) -> u32 {
    policy_capabilities(connection.policy.get() as u32, now_ns)
}

/// Returns the same of the policy at `index`.
#[inline(always)]
pub fn policy_capabilities(index: u32, now_ns: u64) -> u32 {
    let policy = POLICIES.get(index);
    policy.map_or(0, |policy| policy.capabilities) * config().enforced_at(now_ns)
}

/// Returns the weight of a path under the connection's policy; 1 if the path
/// has no index.
#[inline(always)]
pub fn weight(connection: &Connection, path: u32) -> u32 {
    let policy = POLICIES.get(connection.policy.get() as u32);
    policy.map_or(1, |policy| policy.weight(path))
}

/// Returns whether a path has a limit, whether or not policies are in force.
#[inline(always)]
pub fn has_limits() -> bool {
    POLICIES
        .get(DEFAULT_POLICY)
        .is_some_and(|policy| policy.limited != 0)
}

/// Returns the host's limit for a path at `now_ns`, bytes per second; 0 if it has
/// none, or if no policy is in force.
#[inline(always)]
pub fn limit(path: u32, now_ns: u64) -> u32 {
    let policy = POLICIES.get(DEFAULT_POLICY);
    policy.map_or(0, |policy| policy.limit(path)) * config().enforced_at(now_ns)
}

/// Returns the account of a path that may have a limit.
#[inline(always)]
pub fn ceiling(path: u32) -> Option<&'static Ceiling> {
    CEILINGS.get(path)
}

/// Returns the ledger of the connection's policy.
#[inline(always)]
pub fn ledger(connection: &Connection) -> Option<&'static Ledger> {
    LEDGERS.get(connection.policy.get() as u32)
}

/// Returns whether these programs are in charge. Another agent's programs may
/// be attached as well, before or after that agent took over.
#[inline(always)]
pub fn is_in_charge() -> bool {
    config().owner == global(&OWNER)
}

/// Returns the redundant policy's settings, if it is the policy. Copies need no
/// other check, because the channels that they may take expire by themselves.
#[inline(always)]
pub fn redundant() -> Option<&'static Redundant> {
    REDUNDANT.get(0).filter(|settings| settings.copies > 1)
}

/// Subtracts one when it is added to a total, because totals count modulo 2^64.
pub const LESS_ONE: u64 = u64::MAX;

/// Adds to a total. The addition is atomic even where the total is this CPU's
/// own: a callback in a softirq may interrupt one in process context.
#[inline(always)]
pub fn add(total: &Word, value: u64) {
    total.add(value);
}

/// Runs `change` on this CPU's host-wide totals, which only [`add`] changes.
#[inline(always)]
pub fn totals(change: impl FnOnce(&Totals<Word>)) {
    if let Some(totals) = TOTALS.get(0) {
        change(totals);
    }
}

/// Counts a run of the calling program, one of [`program`].
#[inline(always)]
pub fn ran(program: usize) {
    runs(|runs| {
        // Indexing could panic, which the verifier refuses.
        if let Some(count) = runs.count.get(program) {
            add(count, 1);
        }
    });
}

/// Counts a socket whose callbacks were switched on again.
#[inline(always)]
pub fn rearmed() {
    runs(|runs| add(&runs.rearmed, 1));
}

/// Counts a subflow that was removed because its socket is gone.
#[inline(always)]
pub fn reclaimed() {
    runs(|runs| add(&runs.reclaimed, 1));
}

#[inline(always)]
fn runs(change: impl FnOnce(&Runs<Word>)) {
    if let Some(runs) = RUNS.get(0) {
        change(runs);
    }
}

/// Runs `change` on this CPU's totals of a path, which only [`add`] changes.
#[inline(always)]
pub fn path_stats(path: u32, change: impl FnOnce(&PathStats<Word>)) {
    if let Some(stats) = PATH_STATS.get(path) {
        change(stats);
    }
}

/// Runs `change` on this CPU's totals of a path's copies, which only [`add`]
/// changes.
#[inline(always)]
pub fn copy_stats(path: u32, change: impl FnOnce(&CopyStats<Word>)) {
    if let Some(stats) = COPY_STATS.get(path) {
        change(stats);
    }
}

/// Runs `change` on a channel's totals, which only [`add`] changes.
#[inline(always)]
pub fn traffic(channel: u32, change: impl FnOnce(&Traffic<Word>)) {
    if let Some(traffic) = CHANNEL_TRAFFIC.get(channel) {
        change(traffic);
    }
}

/// Returns the connection at `key`, if it is known. A program may use it until
/// it returns, even if the entry is removed meanwhile.
#[inline(always)]
pub fn connection(key: u64) -> Option<&'static Connection> {
    // SAFETY: a map value of atomics, and of what is `Locked`.
    unsafe { CONNECTIONS.get(key) }
}

/// Returns the connection at `key`, and creates it if need be; `None` if the
/// map is full.
#[inline(always)]
pub fn connection_or_new(key: u64) -> Option<&'static Connection> {
    if let Some(known) = connection(key) {
        return Some(known);
    }
    let blank = NEW_CONNECTION.get(0)?;
    // Another CPU may have inserted the entry first, which is just as good.
    let _ = CONNECTIONS.insert(key, blank, u64::from(BPF_NOEXIST));
    connection(key)
}

/// Returns what new entries of `SUBFLOWS` are copied from.
#[inline(always)]
pub fn blank_subflow() -> Option<&'static Subflow> {
    NEW_SUBFLOW.get(0)
}
