//! The events of the kernel side, typed.

use std::net::SocketAddr;

use mptcp_common::abi::{self, close_reason, event_kind, reset, subflow_flag};
use mptcp_common::address::address;

/// The change that an event reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A connection's first subflow is established.
    Opened,
    /// A further subflow is established.
    Joined,
    /// A subflow became a backup, or ceased to be one.
    Priority {
        /// Its state now.
        backup: bool,
    },
    /// The kernel found a subflow unable to carry data, or able again.
    Stale {
        /// Its state now.
        stale: bool,
    },
    /// A subflow closed.
    SubflowClosed {
        /// One of [`close_reason::NAMES`].
        reason: &'static str,
        /// The reset that closed it, if one did.
        reset: Option<Reset>,
    },
    /// A connection's last subflow closed.
    Closed,
    /// The peer has no MPTCP.
    Fallback,
    /// The controller leaves a path out.
    PathDown,
    /// The controller uses the path again.
    PathUp,
    /// The overflow policy lets a path carry what the preferred ones cannot.
    PathLetIn,
    /// The overflow policy holds the path out again.
    PathHeldOut,
    /// The weighted policy lets a connection use a path again.
    PathReadmitted,
    /// An event of a kind that this agent does not know.
    Unknown(u8),
}

/// A reset of a subflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Whether the peer sent it; else this end did.
    pub by_peer: bool,
    /// The reason that its option MP_TCPRST gave, and whether that is transient.
    /// The reason is one of [`reset::NAMES`]; `None` without the option, or if
    /// the kernel does not let it be read.
    pub reason: Option<(&'static str, bool)>,
    /// Whether it came soon after the subflow's join, while the connection was
    /// in use.
    pub early: bool,
}

impl Reset {
    /// Returns the reset that bits of [`reset`] tell of, if there was one.
    fn from_bits(bits: u8) -> Option<Self> {
        let has = |bit| bits & bit != 0;
        let reason = bits & reset::REASON;
        let name = reset::NAMES.get(usize::from(reason));
        let name = name.filter(|_| reason != reset::NONE);
        (has(reset::BY_PEER) || has(reset::BY_US)).then(|| Self {
            by_peer: has(reset::BY_PEER),
            reason: name.map(|&name| (name, has(reset::TRANSIENT))),
            early: has(reset::EARLY),
        })
    }
}

/// The kinds of events, as in `mptcp_agent_events_total{event}`, in the order
/// of [`event_kind`]. The last one stands for any other kind.
pub const KINDS: [&str; event_kind::COUNT + 1] = [
    "opened",
    "joined",
    "priority",
    "stale",
    "subflow_closed",
    "closed",
    "fallback",
    "path_down",
    "path_up",
    "path_let_in",
    "path_held_out",
    "path_readmitted",
    "unknown",
];

impl From<&abi::Event> for Change {
    fn from(event: &abi::Event) -> Self {
        let flag = |bit| event.tuple.flags & bit != 0;
        match event.kind {
            event_kind::OPENED => Self::Opened,
            event_kind::JOINED => Self::Joined,
            event_kind::PRIORITY => Self::Priority {
                backup: flag(subflow_flag::BACKUP),
            },
            event_kind::STALE => Self::Stale {
                stale: flag(subflow_flag::STALE),
            },
            event_kind::SUBFLOW_CLOSED => Self::SubflowClosed {
                reason: close_reason::NAMES
                    .get(usize::from(event.reason))
                    .unwrap_or(&"unknown"),
                reset: Reset::from_bits(event.reset),
            },
            event_kind::CLOSED => Self::Closed,
            event_kind::FALLBACK => Self::Fallback,
            event_kind::PATH_DOWN => Self::PathDown,
            event_kind::PATH_UP => Self::PathUp,
            event_kind::PATH_LET_IN => Self::PathLetIn,
            event_kind::PATH_HELD_OUT => Self::PathHeldOut,
            event_kind::PATH_READMITTED => Self::PathReadmitted,
            other => Self::Unknown(other),
        }
    }
}

impl Change {
    /// Returns the index in [`KINDS`].
    pub fn kind(self) -> usize {
        match self {
            Self::Opened => 0,
            Self::Joined => 1,
            Self::Priority { .. } => 2,
            Self::Stale { .. } => 3,
            Self::SubflowClosed { .. } => 4,
            Self::Closed => 5,
            Self::Fallback => 6,
            Self::PathDown => 7,
            Self::PathUp => 8,
            Self::PathLetIn => 9,
            Self::PathHeldOut => 10,
            Self::PathReadmitted => 11,
            Self::Unknown(_) => 12,
        }
    }

    /// Returns whether an idle path of the connection may have to be brought
    /// back now, or held out.
    pub fn moves_idle_paths(self) -> bool {
        matches!(
            self,
            Self::PathDown
                | Self::PathLetIn
                | Self::PathHeldOut
                | Self::SubflowClosed { .. }
                | Self::Closed
                | Self::Priority { backup: true }
        )
    }

    /// Returns whether the connection's standby paths may rest now, provided
    /// that the path of this event carries data.
    pub fn gains_a_path(self) -> bool {
        matches!(
            self,
            Self::Joined | Self::PathUp | Self::Priority { backup: false }
        )
    }

    /// Returns whether this is the ordinary coming and going of connections, or
    /// of the load on them, of which a busy host sees thousands a second.
    pub fn is_routine(self) -> bool {
        match self {
            Self::Opened | Self::Joined | Self::Closed | Self::Fallback => true,
            Self::PathLetIn | Self::PathHeldOut | Self::PathReadmitted => true,
            Self::SubflowClosed { reason, .. } => {
                reason == close_reason::NAMES[usize::from(close_reason::FIN)]
            }
            _ => false,
        }
    }

    /// Describes what happened, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Opened => "connection opened",
            Self::Joined => "subflow joined",
            Self::Priority { .. } => "subflow priority changed",
            Self::Stale { stale: true } => "subflow is stale",
            Self::Stale { stale: false } => "subflow recovered",
            Self::SubflowClosed {
                reset: Some(reset), ..
            } if reset.early => {
                if reset.by_peer {
                    "subflow was reset by the peer soon after its join"
                } else {
                    "subflow was reset by this host soon after its join"
                }
            }
            Self::SubflowClosed { .. } => "subflow closed",
            Self::Closed => "connection closed",
            Self::Fallback => "connection fell back to TCP",
            Self::PathDown => "path makes no progress and is left out",
            Self::PathUp => "path makes progress again",
            Self::PathLetIn => "preferred paths are full: path is let in",
            Self::PathHeldOut => "preferred paths have room: path is held out",
            Self::PathReadmitted => "path lags behind its weight: the connection may use it again",
            Self::Unknown(_) => "event of an unknown kind",
        }
    }
}

/// Returns a token as `ip mptcp monitor` prints it; `None` while it is not
/// known.
pub fn token(token: u32) -> Option<String> {
    (token != 0).then(|| format!("{token:08x}"))
}

/// Returns the local and the remote address and port.
pub fn endpoints(tuple: &abi::Tuple) -> (SocketAddr, SocketAddr) {
    (
        SocketAddr::new(address(tuple.local), tuple.local_port),
        SocketAddr::new(address(tuple.remote), tuple.remote_port),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: u8, flags: u8, reason: u8) -> Change {
        let mut event = abi::Event {
            kind,
            reason,
            ..Default::default()
        };
        event.tuple.flags = flags;
        Change::from(&event)
    }

    #[test]
    fn every_kind_has_its_change_and_name() {
        for (kind, flags, reason, expected, name) in [
            (event_kind::OPENED, 0, 0, Change::Opened, "opened"),
            (event_kind::JOINED, 0, 0, Change::Joined, "joined"),
            (
                event_kind::PRIORITY,
                subflow_flag::BACKUP,
                0,
                Change::Priority { backup: true },
                "priority",
            ),
            (
                event_kind::PRIORITY,
                0,
                0,
                Change::Priority { backup: false },
                "priority",
            ),
            (
                event_kind::STALE,
                subflow_flag::STALE,
                0,
                Change::Stale { stale: true },
                "stale",
            ),
            (
                event_kind::SUBFLOW_CLOSED,
                0,
                close_reason::TIMEOUT,
                Change::SubflowClosed {
                    reason: "timeout",
                    reset: None,
                },
                "subflow_closed",
            ),
            (
                event_kind::SUBFLOW_CLOSED,
                0,
                99,
                Change::SubflowClosed {
                    reason: "unknown",
                    reset: None,
                },
                "subflow_closed",
            ),
            (event_kind::CLOSED, 0, 0, Change::Closed, "closed"),
            (event_kind::FALLBACK, 0, 0, Change::Fallback, "fallback"),
            (event_kind::PATH_DOWN, 0, 0, Change::PathDown, "path_down"),
            (event_kind::PATH_UP, 0, 0, Change::PathUp, "path_up"),
            (
                event_kind::PATH_LET_IN,
                0,
                0,
                Change::PathLetIn,
                "path_let_in",
            ),
            (
                event_kind::PATH_HELD_OUT,
                0,
                0,
                Change::PathHeldOut,
                "path_held_out",
            ),
            (
                event_kind::PATH_READMITTED,
                0,
                0,
                Change::PathReadmitted,
                "path_readmitted",
            ),
            (200, 0, 0, Change::Unknown(200), "unknown"),
        ] {
            let change = change(kind, flags, reason);
            assert_eq!(change, expected);
            assert_eq!(KINDS[change.kind()], name);
        }
    }

    #[test]
    fn a_reset_has_a_sender_and_perhaps_a_reason() {
        let reset = |bits| Reset::from_bits(bits);
        // Other events leave the field 0.
        assert_eq!(reset(0), None);
        assert_eq!(reset(reset::NONE), None);
        for (code, name) in (0..reset::NONE).zip(reset::NAMES) {
            let expected = Reset {
                by_peer: true,
                reason: Some((name, true)),
                early: true,
            };
            let bits = reset::BY_PEER | reset::TRANSIENT | reset::EARLY | code;
            assert_eq!(reset(bits), Some(expected));
        }
        let without = Reset {
            by_peer: false,
            reason: None,
            early: false,
        };
        assert_eq!(reset(reset::BY_US | reset::NONE), Some(without));
        // No program sends such a code.
        assert_eq!(reset(reset::BY_US | reset::REASON), Some(without));
    }

    #[test]
    fn an_early_reset_is_told_in_words() {
        let words = |bits| {
            let event = abi::Event {
                kind: event_kind::SUBFLOW_CLOSED,
                reset: bits,
                ..Default::default()
            };
            Change::from(&event).words()
        };
        assert_eq!(words(reset::BY_PEER | reset::NONE), "subflow closed");
        let early = "subflow was reset by the peer soon after its join";
        assert_eq!(words(reset::BY_PEER | reset::EARLY | 1), early);
        let early = "subflow was reset by this host soon after its join";
        assert_eq!(words(reset::BY_US | reset::EARLY | 1), early);
    }

    #[test]
    fn what_an_operator_acts_on_is_not_routine() {
        assert!(change(event_kind::SUBFLOW_CLOSED, 0, close_reason::FIN).is_routine());
        assert!(!change(event_kind::SUBFLOW_CLOSED, 0, close_reason::RESET).is_routine());
        assert!(change(event_kind::OPENED, 0, 0).is_routine());
        assert!(!change(event_kind::PATH_DOWN, 0, 0).is_routine());
        assert!(change(event_kind::PATH_DOWN, 0, 0).moves_idle_paths());
        assert!(!change(event_kind::PATH_UP, 0, 0).moves_idle_paths());
    }

    #[test]
    fn tokens_and_addresses_read_as_the_tools_print_them() {
        assert_eq!(token(0), None);
        assert_eq!(token(0x00ab_cdef).as_deref(), Some("00abcdef"));
        let mut tuple = abi::Tuple {
            local_port: 80,
            remote_port: 443,
            ..Default::default()
        };
        tuple.local[10..].copy_from_slice(&[255, 255, 10, 0, 0, 1]);
        tuple.remote[0] = 0xfd;
        tuple.remote[15] = 1;
        let (local, remote) = endpoints(&tuple);
        assert_eq!(local.to_string(), "10.0.0.1:80");
        assert_eq!(remote.to_string(), "[fd00::1]:443");
    }
}
