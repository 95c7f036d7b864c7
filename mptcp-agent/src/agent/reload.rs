//! Applies a configuration file that was read anew.

use mptcp_api::schema::{Refusal, Reloaded};

use super::together::Wanted;
use super::{Agent, change};
use crate::api::control::reload;
use crate::config::{Fresh, Loaded};
use crate::rules;

/// Warns of what the file says without effect.
pub(super) fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
}

impl Agent {
    /// Acts on SIGHUP: reads the file anew beside the loop, which applies it then.
    pub(super) fn on_hangup(&self) {
        let Some(file) = self.reloader.file() else {
            if let Some(file) = self.reloader.web_file() {
                tracing::info!(file = %file.display(), "SIGHUP: reading the web configuration anew");
                self.web_again.notify_one();
                return;
            }
            tracing::info!(
                "SIGHUP changes nothing: the agent goes on as before; `mptcp-agent policy set` \
                 changes the policy"
            );
            return;
        };
        tracing::info!(file = %file.display(), "SIGHUP: reading the configuration anew");
        let (reloader, caller) = (self.reloader.clone(), self.caller.clone());
        tokio::spawn(async move {
            // The reload logs its own outcome, so the reply is not needed.
            let _ = reload::reload(&reloader, &caller).await;
        });
    }

    /// Applies what differs from the settings in force. The file's policy and
    /// rules replace those that `policy set` has set, for a time or for good.
    ///
    /// # Errors
    /// Those of [`Agent::set_policy`].
    pub(super) fn reload(&mut self, fresh: Fresh) -> Result<Reloaded, Refusal> {
        self.web_again.notify_one();
        let Fresh {
            provided,
            rules,
            needs_restart,
            warnings,
        } = fresh;
        let same = provided.policy == self.policy && provided.key == self.key;
        let rules = rules::Provided {
            rules: rules.rules.follow(&self.rules.rules),
            ..rules
        };
        let same = same && rules == self.own_rules;
        let changed = !same || self.revert.is_some() || self.unpublished;
        if changed {
            let default = provided;
            let own = rules.clone();
            change::set_all(self, Wanted { default, rules }, None)?;
            self.own_rules = own;
        }
        tracing::info!(policy = %self.policy, changed, "configuration reloaded");
        if !needs_restart.is_empty() {
            tracing::warn!(
                "these settings of the configuration need a restart of the agent: {}",
                needs_restart.join(", ")
            );
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        Ok(Reloaded {
            policy: self.policy_view(),
            changed,
            needs_restart,
            warnings,
        })
    }
}
