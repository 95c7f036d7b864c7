//! Both ends from one place: an agent asks the agent at the other end to use its
//! weights for its connections (`--ask-peer`), and carries out what others ask
//! for (`--accept-peer-policy`).
//!
//! ```text
//!   redundancy   wishes travel in hellos that prove their sender
//!     v
//!   book         who wishes what, which of it counts, and until when (pure)
//!     v
//!   carry_out    the rules and policies of the operator, then those of wishes
//!     v
//!   agent        puts them in force as it does other changes of the rules
//! ```
//!
//! Pure but for [`provide`], which looks at the host.

mod book;
mod carry_out;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use mptcp_api::wish::Manner;
use mptcp_common::abi::MAX_PATHS;

pub use book::{Book, Wanted};
pub use carry_out::{conflict, set};

use crate::host;
use crate::policy::selector::Selector;
use crate::policy::{Key, Policy, Redundant};
use crate::redundancy::Own;
use crate::state::paths::PathTable;

/// The most prefixes whose hosts may ask.
pub const MOST_PREFIXES: usize = 64;

/// The peers that the agent asks, and those that may ask it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether it asks its peers.
    pub ask: bool,
    /// The prefixes whose hosts may ask it.
    pub accept: Vec<IpNet>,
    /// The port, and the file with the key, of the channel. Nothing is copied
    /// because of it.
    pub channel: Redundant,
}

/// The settings, and what they need of the host.
#[derive(Clone, Debug)]
pub struct Peering {
    /// The settings.
    pub settings: Settings,
    /// The content of the key file.
    pub key: Key,
    /// Why no path can be held out here, if so.
    pub no_standby: Option<String>,
}

/// Reads a prefix whose hosts may ask.
///
/// # Errors
/// One line that says what is expected.
pub fn prefix(text: &str) -> Result<IpNet, String> {
    match text.parse() {
        Ok(Selector::Prefix(net)) => Ok(net),
        Ok(_) => Err(format!(
            "`{text}` is no prefix: expected an address or a prefix, such as 192.0.2.0/24"
        )),
        Err(why) => Err(why),
    }
}

/// Gets what the settings need. Waits for file systems and the kernel.
///
/// # Errors
/// The key cannot be read; the error is one line.
pub fn provide(settings: Settings) -> Result<Peering> {
    let file = settings.channel.key.as_deref();
    let file = file.context("asking and accepting need --redundant-key FILE")?;
    let key = Key::new(host::read_key(file)?);
    let standby = match settings.accept.is_empty() {
        true => Ok(()),
        false => host::check_standby("a weight of 0", "give every address a weight above 0"),
    };
    Ok(Peering {
        settings,
        key,
        no_standby: standby.err().map(|error| format!("{error:#}")),
    })
}

impl Peering {
    /// Returns what to ask peers for, under this policy and with these paths.
    pub fn own(&self, policy: &Policy, table: &PathTable) -> Own {
        if !self.settings.ask {
            return Own::Never;
        }
        if !policy.caps() {
            return Own::NoMore;
        }
        let given = policy.given().weighted;
        let is = |setting: Option<String>, name: &str| setting.as_deref() == Some(name);
        let manner = Manner {
            spill: is(given.weighted_mode, "spill"),
            per_connection: is(given.weighted_scope, "connection"),
        };
        // A path that is left out here, or has spent its quota, must not be filled from
        // the other end either.
        let weight = |path: u32| match table.present_weight(path) {
            0 => 0,
            _ => table.weight(path),
        };
        let weights =
            (0..MAX_PATHS as u32).map(|path| table.is_present(path).then(|| weight(path)));
        Own::Weights(manner, weights.collect())
    }
}
