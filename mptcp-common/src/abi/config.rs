//! The settings that the agent publishes for the programs.

use super::MAX_PATHS;

/// The agent's settings, in one-element map `CONFIG`. The programs read them at
/// every callback.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Config {
    /// 1: connections have the policies of map `POLICIES`; 0: no policy is in
    /// force.
    pub enforced: u32,
    /// Raised whenever selectors or devices change. A subflow that carries
    /// another value looks its path up again.
    pub generation: u32,
    /// Number of the agent in charge: only programs whose global `OWNER` has
    /// this value act. Programs that a killed agent left behind do nothing, and
    /// one write hands over to another agent.
    pub owner: u32,
    /// Number of rules in map `RULES`.
    pub rules: u32,
    /// Until when the agent counts as alive (`bpf_ktime_get_ns`) unless it
    /// renews this. After that no policy is in force: see
    /// [`Config::enforced_at`].
    pub alive_until_ns: u64,
}

impl Config {
    /// Returns 1 if policies are in force at `now_ns`, else 0. If the agent has
    /// died or hangs, none is, so every limit that a callback finds is lifted.
    #[inline(always)]
    #[must_use]
    pub fn enforced_at(&self, now_ns: u64) -> u32 {
        // Written without a branch, which the verifier would follow through all
        // the code that comes after.
        self.enforced * u32::from(now_ns < self.alive_until_ns)
    }

    /// Returns whether subflows may be held out at `now_ns`: only while the last
    /// heartbeat is at most [`HOLD_ALIVE_NS`] old. A subflow that is idle and held
    /// out wakes late ([`WAKE_SECONDS`]), so an agent that may have died is not
    /// obeyed in this for as long as in the rest.
    #[inline(always)]
    #[must_use]
    pub fn holds_out_at(&self, now_ns: u64) -> bool {
        now_ns + (ALIVE_NS - HOLD_ALIVE_NS) < self.alive_until_ns
    }
}

/// Entries of map `POLICIES`.
pub const MAX_POLICIES: usize = 16;

/// The policy of every connection that no other policy was chosen for: the one
/// that `--policy` and `policy set` name.
pub const DEFAULT_POLICY: u32 = 0;

/// An entry of array `POLICIES`: it tells the programs what to do with a
/// connection. They read it at every callback, so that a change holds from the
/// next callback on.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Policy {
    /// Bits of [`capability`]; none: the connection is only observed.
    pub capabilities: u32,
    /// 1 if [`Policy::limits`] limits a path.
    pub limited: u32,
    /// The weight of each path, by its index in `PATHS`: 0 (standby) to 65535.
    pub weights: [u32; MAX_PATHS],
    /// The limit of each path for the whole host, bytes per second; 0: none.
    /// Those of [`DEFAULT_POLICY`] hold for the connections of every policy.
    pub limits: [u32; MAX_PATHS],
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            capabilities: 0,
            limited: 0,
            weights: [0; MAX_PATHS],
            limits: [0; MAX_PATHS],
        }
    }
}

impl Policy {
    /// Returns the weight of a path; 1 if `path` is no index.
    #[inline(always)]
    #[must_use]
    pub fn weight(&self, path: u32) -> u32 {
        self.weights.get(path as usize).map_or(1, |weight| *weight)
    }

    /// Returns the limit of a path, bytes per second; 0 if it has none, or if
    /// `path` is no index.
    #[inline(always)]
    #[must_use]
    pub fn limit(&self, path: u32) -> u32 {
        self.limits.get(path as usize).map_or(0, |limit| *limit)
    }
}

/// Bits of [`Policy::capabilities`]. Each stands for something that a policy does
/// with its connections.
pub mod capability {
    /// Caps subflows, so that acked bytes follow the weights.
    pub const CAPS: u32 = 1;
    /// Once a capped path is full, lets the others take more.
    pub const SPILLS: u32 = 2;
    /// Copies segments to other paths.
    pub const COPIES: u32 = 4;
    /// Holds a path out while those of larger weights have room.
    pub const OVERFLOWS: u32 = 8;
    /// Keeps the ratio over all connections of the policy together
    /// ([`crate::controller::Ledger`]) rather than over each.
    pub const HOST: u32 = 16;
    /// Places each thin connection on one path.
    pub const PLACES: u32 = 32;
}

/// How long an agent counts as alive after a heartbeat.
pub const ALIVE_NS: u64 = 2_000_000_000;

/// How long after a heartbeat subflows may be held out.
pub const HOLD_ALIVE_NS: u64 = 1_000_000_000;

/// How long after the agent's last sweep a subflow wakes that is idle and held
/// out, seconds (`TCP_KEEPIDLE`). The agent sweeps once a second. If the timer runs
/// out within [`HOLD_ALIVE_NS`] after the last heartbeat, the subflow stays held out
/// and wakes when the timer runs out again. So it wakes at most
/// [`HOLD_ALIVE_NS`] and this long after the agent has died.
pub const WAKE_SECONDS: u32 = 2;

const _: () = assert!(HOLD_ALIVE_NS < ALIVE_NS);
const _: () = assert!(WAKE_SECONDS as u64 * 1_000_000_000 > HOLD_ALIVE_NS);

/// Offset of `alive_until_ns` in every version of [`Config`], so that an agent
/// can tell whether an agent of another version is alive.
pub const HEARTBEAT_OFFSET: usize = 16;

/// Bytes of a path's label in [`PathConfig`]: the longest is an IPv6 prefix, 43
/// characters.
pub const LABEL: usize = 56;

/// The identity of one path, in array `PATHS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct PathConfig {
    /// One of [`path_kind`].
    pub kind: u32,
    /// Keeps the size that of a cache line.
    pub reserved: u32,
    /// The path's label, padded with zeros, for the next agent, which continues
    /// this one's totals. No program reads it.
    pub label: [u8; LABEL],
}

impl Default for PathConfig {
    fn default() -> Self {
        Self {
            kind: path_kind::FREE,
            reserved: 0,
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
    /// The remote port: `remote-port:N`. The key is this with the port in its
    /// lower 16 bits.
    pub const REMOTE_PORT: u32 = 1 << 16;
}

crate::layout::layout! {
    Config { enforced, generation, owner, rules, alive_until_ns }
    Policy { capabilities, limited, weights, limits }
    PathConfig { kind, reserved, label }
}

const _: () = assert!(size_of::<Config>() == 24);
const _: () = assert!(core::mem::offset_of!(Config, alive_until_ns) == HEARTBEAT_OFFSET);
const _: () = assert!(size_of::<Policy>() == 8 + 2 * 4 * MAX_PATHS);
const _: () = assert!(size_of::<PathConfig>() == 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_agent_is_obeyed_for_less_long_in_holding_out() {
        let beat_ns = 7_000_000_000;
        let config = Config {
            enforced: 1,
            generation: 0,
            owner: 0,
            rules: 0,
            alive_until_ns: beat_ns + ALIVE_NS,
        };
        let obeyed = |after_ns: u64| {
            let now_ns = beat_ns + after_ns;
            (config.enforced_at(now_ns) == 1, config.holds_out_at(now_ns))
        };
        assert_eq!(obeyed(0), (true, true));
        assert_eq!(obeyed(HOLD_ALIVE_NS - 1), (true, true));
        assert_eq!(obeyed(HOLD_ALIVE_NS), (true, false));
        assert_eq!(obeyed(ALIVE_NS - 1), (true, false));
        assert_eq!(obeyed(ALIVE_NS), (false, false));
    }
}
