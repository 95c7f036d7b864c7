//! A policy with what it needs of the host.

use anyhow::Result;

use super::kind::HoldsOut;
use super::{Key, Policy};
use crate::host;

/// A policy, and what it needs of the host that can take long to get.
#[derive(Clone, Debug, PartialEq)]
pub struct Provided {
    /// The policy.
    pub policy: Policy,
    /// The content of its key file, as it was when the policy was asked for.
    pub key: Key,
}

/// Gets what `policy` needs. Waits for file systems, and for the kernel to load
/// a module, so the agent's loop never calls it.
///
/// # Errors
/// The host has no BBR for a path that is held out, or the key cannot be read; the error
/// is one line.
pub fn provide(policy: Policy) -> Result<Provided> {
    let needs = policy.needs();
    let key = needs.key_file.map(host::read_key).transpose()?;
    let key = key.map(Key::new).unwrap_or_default();
    if let Some(HoldsOut { what, instead }) = needs.holds_out {
        host::check_standby(what, instead)?;
    }
    Ok(Provided { policy, key })
}
