//! What the log says of peers.

use super::peers::Notice;

/// Logs what was found out about a peer.
pub(super) fn log(notice: Notice) {
    match notice {
        Notice::Proven { remote } => {
            tracing::info!(%remote, "an agent answers: copies are sent");
        }
        Notice::Silent { remote } => {
            tracing::warn!(%remote, "the agent is silent: no copies to this address");
        }
        Notice::NoAgent { remote } => {
            tracing::warn!("no agent answers at {remote}: single copies");
        }
        Notice::Refused { remote } => tracing::warn!(
            %remote,
            "the agent's proof is wrong: is --redundant-key the same at both ends?"
        ),
    }
}
