//! Which agent this is.

/// The version of the crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that this was built from, or `unknown`.
pub const COMMIT: &str = match option_env!("MPTCP_AGENT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
