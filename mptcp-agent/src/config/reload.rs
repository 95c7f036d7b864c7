//! Reads the settings of a running agent anew, and saves its policy.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::save::{self, Edit};
use super::{Loaded, load, read};
use crate::cli::{Flags, RunArgs};
use crate::policy::{self, Policy, Provided};
use crate::rules::{self, Rules};

/// The settings that a running agent was started with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reloader {
    flags: Arc<Flags>,
    started: Arc<RunArgs>,
}

/// Settings that were read anew, with what they need of the host.
#[derive(Debug)]
pub struct Fresh {
    /// The policy of connections that no rule names.
    pub provided: Provided,
    /// The rules, and the policies that they name.
    pub rules: rules::Provided,
    /// The settings that differ and need a restart.
    pub needs_restart: Vec<String>,
    /// The settings that have no effect.
    pub warnings: Vec<String>,
}

impl Reloader {
    /// Remembers the flags, and the settings that follow from them and the file.
    pub fn new(flags: Flags, started: RunArgs) -> Self {
        Self {
            flags: Arc::new(flags),
            started: Arc::new(started),
        }
    }

    /// Returns the configuration file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.flags.args.config.as_deref()
    }

    /// Returns the file with TLS and passwords, if there is one.
    pub fn web_file(&self) -> Option<&Path> {
        self.started.web_config_file.as_deref()
    }

    /// Reads the file anew. Waits for file systems and for the kernel, so the
    /// agent's loop never calls it.
    ///
    /// # Errors
    /// The file cannot be read or is wrong, or the host lacks what the policy
    /// needs; one line.
    pub fn fresh(&self) -> Result<Fresh> {
        let loaded = load(&self.flags)?;
        let rules = Rules::new(loaded.rule_set(), &Rules::default())?;
        let Loaded {
            args,
            policy,
            warnings,
            ..
        } = loaded;
        Ok(Fresh {
            provided: policy::provide(policy)?,
            rules: rules::provide(rules)?,
            needs_restart: needs_restart(&self.started, &args),
            warnings,
        })
    }

    /// Prepares to write `policy` into the file, and changes nothing. Waits for
    /// the file system.
    ///
    /// # Errors
    /// There is no file, it is wrong, or a flag takes precedence over what would
    /// be written; one line.
    pub fn edit(&self, policy: &Policy) -> Result<Edit> {
        let path = self.file().context(NO_FILE)?;
        let text = read::read(path)?;
        let after = save::edit(&self.flags, &path.display().to_string(), &text, policy)?;
        Ok(Edit::new(path, text, after))
    }
}

/// Says that there is no file to reload or to save to.
pub const NO_FILE: &str =
    "the agent has no configuration file: it was started without --config FILE";

/// Returns the settings that differ and count from the next start on only.
fn needs_restart(started: &RunArgs, fresh: &RunArgs) -> Vec<String> {
    let differ = [
        ("listen", started.listen != fresh.listen),
        (
            "web-config-file",
            started.web_config_file != fresh.web_config_file,
        ),
        ("control", started.control != fresh.control),
        ("cgroup", started.cgroup != fresh.cgroup),
        ("btf", started.btf != fresh.btf),
        (
            "max-connections",
            started.max_connections != fresh.max_connections,
        ),
        (
            "measure-programs",
            started.measure_programs != fresh.measure_programs,
        ),
        ("log-format", started.log_format != fresh.log_format),
        ("state-dir", started.state_dir != fresh.state_dir),
        (
            "manage-endpoints",
            started.manage.manage_endpoints != fresh.manage.manage_endpoints,
        ),
        (
            "manage-routes",
            started.manage.manage_routes != fresh.manage.manage_routes,
        ),
        (
            "ask-peer",
            started.peering.ask_peer != fresh.peering.ask_peer,
        ),
        (
            "accept-peer-policy",
            started.peering.accept_peer_policy != fresh.peering.accept_peer_policy,
        ),
    ];
    let differ = differ.into_iter().filter(|(_, differs)| *differs);
    differ.map(|(key, _)| key.to_owned()).collect()
}
