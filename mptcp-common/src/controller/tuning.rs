//! The policy's constants, each with its purpose.

/// Paths of one connection that can be steered.
pub const MAX_SLOTS: usize = 8;

/// Paths that one agent can tell apart: selectors and unlisted devices. Index
/// [`crate::abi::UNKNOWN_PATH`] is reserved.
pub const MAX_PATHS: usize = 64;

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

/// The traffic of a thin connection is added to the totals this often, at its
/// next ACK.
pub const REST_NS: u64 = 1_000_000_000;

/// No cap is lower: one full-size segment every 0.7 seconds.
pub const MIN_CAP_BYTES_PER_SEC: u64 = 2_000;

/// No host's limit lets a subflow carry less: one full-size segment every 0.36 seconds.
/// With a lower level, what many thin connections carry under a limit swings by more.
pub const MIN_LEVEL_BYTES_PER_SEC: u64 = 4_000;

/// A connection that the ledger steers is not capped for this long after it
/// stopped being thin. The other connections make up for it.
pub(super) const FRESH_NS: u64 = 250_000_000;

/// Bytes of a frame of a video, at most.
pub(super) const FRAME: u64 = 65_536;

/// A message begins when data is given to subflows after a gap of at least this,
/// in which nothing waited.
pub(super) const GAP_NS: u64 = 20_000_000;

/// After no data was given to subflows for this long, and two round trips, the
/// connection's traffic begins anew.
pub(super) const PAUSE_NS: u64 = 150_000_000;

/// Within [`FRESH_NS`] a path is capped only if the host's lead on it is at
/// least this.
pub(super) const FRESH_LEAD_PERMILLE: i64 = 200;

/// An answer that is longer than [`FRAME`], and shorter than this, is an object:
/// most of them use all paths, and a few make up for the ratio.
pub(super) const OBJECT: u64 = 8 * FRAME;

/// An object does without a path if the path's excess is more than all paths carry
/// in this part of a horizon, so that few objects have to.
pub(super) const OBJECT_EXCESS_PERMILLE: u64 = 300;

/// An object does without a path in any case if the path's lead is larger than this,
/// however small its weight. It is less than the two horizons beyond which a lead is forgotten.
pub(super) const OBJECT_LEAD_PERMILLE: u64 = 1500;

/// The host's lead on a path is remembered up to this part of what all paths carry
/// in a horizon, even if that is more than two horizons of a light path. Ten
/// connections that each give such a path a chunk exceed its two horizons. It would
/// exceed its share for ever if what is beyond them were forgotten each time.
pub(super) const CHUNKS_PERMILLE: u64 = 333;

/// A message begins on another path once the host's lead on a path is larger
/// than this, and may use that path again once the path lags by as much.
pub(super) const SWITCH_LEAD_PERMILLE: i64 = 100;

/// A sweep lets a subflow in again within this time.
pub(super) const READMIT_NS: u64 = 100_000_000;

/// While the host's lead on a path is larger than this, each of few connections does
/// without the path: the least cap would still be too much.
pub(super) const FULL_LEAD_PERMILLE: i64 = 800;

/// From so many connections with a choice on, each has a cap on every path, however
/// low. Fewer connections do without a path that leads by too much, and have no cap on
/// one that lags.
pub(super) const MIN_USERS: u64 = 4;

/// The least value of `1 - lead` in a cap.
pub(super) const LEAST_PERMILLE: i64 = 200;

/// The same for one of many connections: what a hundred of them carry on a light path
/// before they are steered would take seconds to work off otherwise.
pub(super) const LEAST_OF_MANY_PERMILLE: i64 = 100;

/// `spill` lets a connection exceed its ratio after data has waited for this
/// long that no subflow takes.
pub(super) const SPILL_NS: u64 = 100_000_000;

/// A connection that has had data within this time that no subflow takes does
/// not wait for answers. So a path that it gives nothing is no reason to leave
/// it alone, as long as other connections use that path.
pub(super) const FULL_NS: u64 = 2_000_000_000;

/// It exceeds its ratio for this long after data has last waited for so long.
pub(super) const SPILLING_NS: u64 = 500_000_000;

/// A path takes part in the ledger for this long, and four round trips, after a
/// connection that has a choice has used it.
pub(super) const USED_NS: u64 = 500_000_000;

/// A path on which nothing was acked for this long, and four round trips, while
/// other paths went on, takes no part in the ledger.
pub(super) const SILENT_NS: u64 = 500_000_000;

/// How many times its present rate a connection may regain on a path that the
/// host has used too little.
pub(super) const MAX_REGAIN: u64 = 4;

/// A connection is placed on a path after it has been thin for this long.
pub(super) const PLACE_NS: u64 = 500_000_000;

/// The load that a connection adds to the path on which it is placed, bytes.
pub(super) const PLACE_CHARGE: u64 = 32_768;

/// The bytes that a path carries count in its load for about this long.
pub(super) const LOAD_NS: u64 = 10_000_000_000;

/// The `SO_MAX_PACING_RATE` that means no cap.
pub const NO_CAP: u32 = u32::MAX;

/// The `SO_MAX_PACING_RATE` that keeps a path out of the scheduler's choice.
pub const HELD_OUT: u32 = 0;

/// Send queue of a path without a cap, in bytes: one burst of the scheduler
/// (`MPTCP_SEND_BURST_SIZE`).
pub const BASE_LOWAT: u64 = 65_536;

/// How much a capped path may queue, as time at its cap. All of it delays the
/// connection.
pub const QUEUE_NS: u64 = 25_000_000;

/// Shortest send queue of a capped path, in bytes.
pub const MIN_LOWAT: u64 = 8_192;

/// Longest send queue, in bytes.
pub const MAX_LOWAT: u64 = 4_000_000;

/// The `TCP_NOTSENT_LOWAT` that limits nothing.
pub const NO_LOWAT: u32 = u32::MAX;

/// Lowest byte of each send queue's length that an agent sets. By this byte the
/// next agent tells such a length from those that others set.
pub(super) const LOWAT_MARK: u32 = 0xa7;

/// The bits of a send queue's length that [`LOWAT_MARK`] leaves.
pub(super) const LOWAT_MASK: u32 = !0xff;

/// A length that limits nothing and has the mark.
pub const MARKED_LOWAT: u32 = LOWAT_MASK | LOWAT_MARK;

/// Bytes that the scheduler hands out at once: a page fragment
/// (`SKB_FRAG_PAGE_ORDER`). TCP sends it in one piece and paces what follows.
pub const CHUNK: u64 = 32_768;

/// A queue that is longer than allowed drains within one second divided by
/// this.
pub const DRAIN: u64 = 8;

/// Within this time caps follow a falling rate while data waits that no subflow
/// takes: the connection may have been stalled by its own caps. They follow a
/// rising rate at once.
pub const UNIT_MEMORY_NS: u64 = 1_000_000_000;

/// Within this time caps follow a falling rate while subflows take all data
/// that there is: the connection has less to send, or has caught up.
pub const IDLE_UNIT_MEMORY_NS: u64 = 300_000_000;

/// A connection that has been steered for less than this is still starting.
pub const YOUNG_NS: u64 = 1_000_000_000;

/// After this long without data, assume that the scheduler will not pick the
/// lagging path.
pub(super) const FORGOTTEN_NS: u64 = 1_000_000_000;

/// How long the connection is left alone at first if a path lags and is given
/// nothing.
pub const MIN_FREE_NS: u64 = 1_000_000_000;

/// How long it is left alone at most.
pub const MAX_FREE_NS: u64 = 60_000_000_000;

/// A path is dead after this many timeouts without progress.
pub const DEAD_TIMEOUTS: u64 = 2;

/// A path is also dead after one timeout and this long without progress.
pub(super) const DEAD_NS: u64 = 1_000_000_000;

/// A longer round trip comes from a full queue, not from the path itself, and
/// does not lengthen the queues of the other paths.
pub(super) const MAX_SRTT_US: u64 = 1_000_000;

/// `1 + eps` while nothing waits to be sent.
pub(super) const ROOM_PERMILLE: u64 = 1080;

/// `1 + eps` while data waits to be sent.
pub(super) const ROOM_BACKLOGGED_PERMILLE: u64 = 1250;

/// `1 + eps` while the connection becomes faster, so that caps do not slow that
/// down.
pub(super) const ROOM_GROWING_PERMILLE: u64 = 2000;

pub(super) const NS_PER_SEC: u64 = 1_000_000_000;
pub(super) const US_PER_SEC: u64 = 1_000_000;
pub(super) const PERMILLE: u64 = 1000;
