//! The settings that the user asked for.

use serde::{Deserialize, Serialize};

use crate::net::endpoints::flag;

/// The things that the agent manages beside its policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// The endpoints of the paths that the user named, and what they are for;
    /// `None`: the agent leaves endpoints alone.
    pub manage_endpoints: Option<Role>,
    /// Whether packets from the addresses of these paths get routes of their own.
    pub manage_routes: bool,
}

/// The role of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Subflows are opened from it, to the address that the connection began
    /// with: a client's.
    Subflow,
    /// It is announced to the other end, which may open subflows to it: a
    /// server's.
    Signal,
    /// Subflows are opened from it to each address of the other end.
    Fullmesh,
}

impl Role {
    /// Returns the flags of such an endpoint.
    pub fn bits(self) -> u32 {
        match self {
            Self::Subflow => flag::SUBFLOW,
            Self::Signal => flag::SIGNAL,
            Self::Fullmesh => flag::SUBFLOW | flag::FULLMESH,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_file_can_hold_them() {
        let read = |text| serde_json::from_str::<Settings>(text);
        assert_eq!(read("{}").unwrap(), Settings::default());
        let settings = read(r#"{"manage-endpoints": "fullmesh", "manage-routes": true}"#).unwrap();
        assert!(settings.manage_routes);
        assert_eq!(settings.manage_endpoints, Some(Role::Fullmesh));
        assert!(read(r#"{"manage-endpoints": "mesh"}"#).is_err());
        assert!(read(r#"{"manage-endpoint": "signal"}"#).is_err());
    }
}
