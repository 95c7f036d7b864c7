//! The settings that the agent publishes for the programs.

/// The agent's settings, in one-element map `CONFIG`. The programs read them at
/// every callback, so that a new policy holds from the next callback on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// One of [`mode`].
    pub mode: u32,
    /// Raised whenever selectors or devices change. A subflow that carries
    /// another value looks its path up again.
    pub generation: u32,
    /// Number of the agent in charge: only programs whose global `OWNER` has
    /// this value act. Programs that a killed agent left behind do nothing, and
    /// one write hands over to another agent.
    pub owner: u32,
    /// Keeps `alive_until_ns` aligned.
    pub reserved: u32,
    /// Until when the agent counts as alive (`bpf_ktime_get_ns`) unless it
    /// renews this. After that no policy is in force: see [`Config::at`].
    pub alive_until_ns: u64,
}

impl Config {
    /// Returns the configuration that holds at `now_ns`. If the agent has died
    /// or hangs, no policy is in force, so every limit that a callback finds is
    /// lifted.
    #[inline(always)]
    #[must_use]
    pub fn at(self, now_ns: u64) -> Self {
        // Written without a branch, which the verifier would follow through all
        // the code that comes after.
        let alive = u32::from(now_ns < self.alive_until_ns);
        Self {
            mode: self.mode * alive,
            ..self
        }
    }

    /// Returns whether subflows are capped.
    #[inline(always)]
    #[must_use]
    pub fn is_weighted(&self) -> bool {
        // A single comparison, because the verifier follows both results of
        // each.
        self.mode.wrapping_sub(mode::STRICT) <= mode::SPILL - mode::STRICT
    }

    /// Returns whether segments are copied.
    #[inline(always)]
    #[must_use]
    pub fn is_redundant(&self) -> bool {
        self.mode == mode::REDUNDANT
    }
}

/// Values of [`Config::mode`].
pub mod mode {
    /// Observe only, and lift any cap that is found. It is 0 because
    /// [`super::Config::at`] multiplies.
    pub const DEFAULT: u32 = 0;
    /// Acked bytes follow the weights.
    pub const STRICT: u32 = 1;
    /// Like `STRICT` until a path is full. Then the others may take more.
    pub const SPILL: u32 = 2;
    /// Segments are copied to other paths; nothing is capped.
    pub const REDUNDANT: u32 = 3;
}

/// How long an agent counts as alive after a heartbeat.
pub const ALIVE_NS: u64 = 2_000_000_000;

/// Offset of `alive_until_ns` in every version of [`Config`], so that an agent
/// can tell whether an agent of another version is alive.
pub const HEARTBEAT_OFFSET: usize = 16;

/// Bytes of a path's label in [`PathConfig`]: the longest is an IPv6 prefix, 43
/// characters.
pub const LABEL: usize = 56;

/// The agent's settings for one path, in array `PATHS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathConfig {
    /// 0 (standby) to 65535.
    pub weight: u32,
    /// One of [`path_kind`].
    pub kind: u32,
    /// The path's label, padded with zeros, for the next agent, which continues
    /// this one's totals. No program reads it.
    pub label: [u8; LABEL],
}

impl Default for PathConfig {
    fn default() -> Self {
        Self {
            weight: 0,
            kind: path_kind::FREE,
            label: [0; LABEL],
        }
    }
}

/// Values of [`PathConfig::kind`].
pub mod path_kind {
    /// The index is free.
    pub const FREE: u32 = 0;
    /// The path is a device.
    pub const DEVICE: u32 = 1;
    /// The path is named by another selector: an id or a prefix.
    pub const SELECTOR: u32 = 2;
}

/// Keys of map `SELECT_ID`: `kind << 8 | id`.
pub mod id_kind {
    /// The address id of the local end (RFC 8684, 3.2): `id:N`.
    pub const LOCAL: u32 = 1;
    /// The address id of the remote end: `remote-id:N`.
    pub const REMOTE: u32 = 2;
}

crate::layout::layout! {
    Config { mode, generation, owner, reserved, alive_until_ns }
    PathConfig { weight, kind, label }
}

const _: () = assert!(size_of::<Config>() == 24);
const _: () = assert!(core::mem::offset_of!(Config, alive_until_ns) == HEARTBEAT_OFFSET);
const _: () = assert!(mode::DEFAULT == 0);
const _: () = assert!(size_of::<PathConfig>() == 64);
