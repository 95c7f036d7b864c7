//! The maps. Those that hold state are created without preallocation: what is
//! not used takes no memory.

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap, LpmTrie, PerCpuArray, RingBuf},
};
use mptcp_common::{
    abi::{Config, Connection, MAX_PATHS, PathConfig, PathStats, Subflow, Totals},
    word::Word,
};

// The agent resizes these two from `--max-connections` before it loads them.
#[map]
pub static CONNECTIONS: HashMap<u64, Connection> =
    HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
pub static SUBFLOWS: HashMap<u64, Subflow> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

// What the agent wants.
#[map]
pub static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
pub static PATHS: Array<PathConfig> = Array::with_max_entries(MAX_PATHS as u32, 0);
#[map]
pub static SELECT_ID: HashMap<u32, u32> = HashMap::with_max_entries(512, 0);
#[map]
pub static SELECT_PREFIX: LpmTrie<[u8; 16], u32> =
    LpmTrie::with_max_entries(1024, BPF_F_NO_PREALLOC);
#[map]
pub static SELECT_DEVICE: HashMap<u32, u32> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);
/// What the running pass of `iter/tcp` is to do: one of `abi::sweep`.
#[map]
pub static SWEEP: Array<u32> = Array::with_max_entries(1, 0);

// What the agent is told.
#[map]
pub static PATH_STATS: PerCpuArray<PathStats> = PerCpuArray::with_max_entries(MAX_PATHS as u32, 0);
#[map]
pub static TOTALS: PerCpuArray<Totals> = PerCpuArray::with_max_entries(1, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// `Connection` is larger than the stack: new ones are copied from here.
#[map]
static NEW_CONNECTION: Array<Connection> = Array::with_max_entries(1, 0);

/// The agent's wishes; the defaults (observe only) before it has said any.
#[inline(always)]
pub fn config() -> Config {
    CONFIG.get(0).copied().unwrap_or_default()
}

/// What takes one away: totals count modulo 2^64.
pub const LESS_ONE: u64 = u64::MAX;

/// Adds to a total. Atomically, although it is this CPU's own: a callback in
/// process context may be interrupted by one in a softirq.
#[inline(always)]
pub fn add(total: &mut u64, value: u64) {
    // SAFETY: a valid reference, of the size and alignment of a `Word`.
    unsafe { &*(&raw mut *total).cast::<Word>() }.add(value);
}

/// Runs `change` on this CPU's host-wide totals, which only [`add`] changes.
#[inline(always)]
pub fn totals(change: impl FnOnce(&mut Totals)) {
    if let Some(totals) = TOTALS.get_ptr_mut(0) {
        // SAFETY: a map value; see `add`.
        change(unsafe { &mut *totals });
    }
}

/// Runs `change` on this CPU's totals of a path, which only [`add`] changes.
#[inline(always)]
pub fn path_stats(path: u32, change: impl FnOnce(&mut PathStats)) {
    if let Some(stats) = PATH_STATS.get_ptr_mut(path) {
        // SAFETY: a map value; see `add`.
        change(unsafe { &mut *stats });
    }
}

/// The connection at `key`, if it is known.
#[inline(always)]
pub fn connection(key: u64) -> Option<*mut Connection> {
    CONNECTIONS.get_ptr_mut(key)
}

/// The connection at `key`, made if need be; `None` if the map is full.
#[inline(always)]
pub fn connection_or_new(key: u64) -> Option<*mut Connection> {
    if let Some(known) = connection(key) {
        return Some(known);
    }
    let blank = NEW_CONNECTION.get(0)?;
    // Another CPU may have been first: what counts is that it is there.
    let _ = CONNECTIONS.insert(key, blank, u64::from(BPF_NOEXIST));
    connection(key)
}
