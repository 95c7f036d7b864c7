//! The policy's constants, each with what it is there for.

/// Paths of one connection that can be steered.
pub const MAX_SLOTS: usize = 8;

/// The largest weight.
pub const MAX_WEIGHT: u32 = 65_535;

/// Least time between two steps.
pub const STEP_NS: u64 = 20_000_000;

/// A step that comes later than this after the last one follows a pause.
pub(super) const MAX_STEP_NS: u64 = 100_000_000;

/// The horizon over which a lead or a lag is worked off.
pub const TAU_NS: u64 = 250_000_000;

/// Below this total rate a connection is left to the kernel alone. A request
/// and its response of a few hundred bytes every 20 ms stay well below.
pub const THIN_BYTES_PER_SEC: u64 = 64_000;

/// What a thin connection does is added to the totals this often, at its next ACK.
pub const REST_NS: u64 = 1_000_000_000;

/// No cap is lower: one full-size segment every 25 ms.
pub const MIN_CAP_BYTES_PER_SEC: u64 = 64_000;

/// `SO_MAX_PACING_RATE` that means none.
pub const NO_CAP: u32 = u32::MAX;

/// `SO_MAX_PACING_RATE` that keeps a path out of the scheduler's choice.
pub const HELD_OUT: u32 = 0;

/// Send queue of a path without a cap, in bytes: one burst of the scheduler
/// (`MPTCP_SEND_BURST_SIZE`).
pub const BASE_LOWAT: u64 = 65_536;

/// What a capped path may queue, as time: all of it delays the connection.
pub const QUEUE_NS: u64 = 25_000_000;

/// Shortest send queue of a capped path, in bytes.
pub const MIN_LOWAT: u64 = 8_192;

/// Longest send queue, in bytes.
pub const MAX_LOWAT: u64 = 4_000_000;

/// `TCP_NOTSENT_LOWAT` that limits nothing.
pub const NO_LOWAT: u32 = u32::MAX;

/// The lowest byte of each send queue's length that an agent sets: the next one
/// tells it by that from what others set.
pub(super) const LOWAT_MARK: u32 = 0xa7;

/// What is left of a send queue's length beside [`LOWAT_MARK`].
pub(super) const LOWAT_MASK: u32 = !0xff;

/// What the scheduler hands out at once, in bytes: a page fragment
/// (`SKB_FRAG_PAGE_ORDER`). TCP sends it in one piece and paces what follows.
pub const CHUNK: u64 = 32_768;

/// A queue longer than allowed drains within one such part of a second.
pub const DRAIN: u64 = 8;

/// A connection that has become slower while data waits that no subflow takes may
/// have been stalled by its own caps: they follow its rate down within this time,
/// and up at once.
pub const UNIT_MEMORY_NS: u64 = 1_000_000_000;

/// One that has become slower though its subflows took all that there was has
/// less to send, or has caught up: its caps follow sooner.
pub const IDLE_UNIT_MEMORY_NS: u64 = 300_000_000;

/// A connection that has been steered for less than this is still starting.
pub const YOUNG_NS: u64 = 1_000_000_000;

/// A path that lags and is given nothing for so long will be given nothing.
pub(super) const FORGOTTEN_NS: u64 = 1_000_000_000;

/// While a path lags and is given nothing the connection is left alone, for so
/// long at first, ...
pub const MIN_FREE_NS: u64 = 1_000_000_000;

/// ... and for so long at last.
pub const MAX_FREE_NS: u64 = 60_000_000_000;

/// A path is dead after so many timeouts without progress ...
pub const DEAD_TIMEOUTS: u64 = 2;

/// ... or after one, and this long without progress.
pub(super) const DEAD_NS: u64 = 1_000_000_000;

/// Round trips above this are a full queue's, not a path's: they do not
/// lengthen the others' queues.
pub(super) const MAX_SRTT_US: u64 = 300_000;

/// `1 + eps` while nothing waits to be sent, ...
pub(super) const ROOM_PERMILLE: u64 = 1080;

/// ... while something does, ...
pub(super) const ROOM_BACKLOGGED_PERMILLE: u64 = 1250;

/// ... and while the connection becomes faster: caps are not to slow that down.
pub(super) const ROOM_GROWING_PERMILLE: u64 = 2000;

pub(super) const NS_PER_SEC: u64 = 1_000_000_000;
pub(super) const PERMILLE: u64 = 1000;
