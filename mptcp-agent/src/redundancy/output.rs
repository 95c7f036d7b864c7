//! The policy's output: entries of the kernel's maps, lines in the log, and
//! numbers.

use anyhow::Result;

use super::channel_table;
use super::peers::{Counts, Hellos, Notice};
use super::unwritten::Write;
use crate::kernel::Kernel;
use crate::state::snapshot::{Hello, NoRoom, PeerState, Peers};

/// Writes one entry to its map, or removes it. There may be an entry for each
/// connection, so a heartbeat is sent if one is due.
///
/// # Errors
/// The map refused it, or the heartbeat.
pub fn apply(write: &Write, kernel: &mut Kernel) -> Result<()> {
    kernel.beat_if_due()?;
    match write {
        Write::Channels(write) => match write {
            channel_table::Write::Channel(index, channel) => kernel.set_channel(*index, channel),
            channel_table::Write::Key(key, index) => kernel.set_channel_key(key, Some(*index)),
            channel_table::Write::Gone(key) => kernel.set_channel_key(key, None),
            channel_table::Write::Peer(peer, channels) => {
                kernel.set_peer_channels(*peer, *channels)
            }
        },
        Write::Carriers(connection, carriers) => kernel.set_carriers(*connection, *carriers),
        Write::View(cookie, view) => kernel.set_peer_view(*cookie, *view),
        Write::Familiar(key, channel) => kernel.set_familiar(key, *channel),
    }
}

/// Logs a notice about a peer.
pub fn log(notice: Notice) {
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
        Notice::Crowded { remote, quota } => {
            let why = if quota {
                "its address has too many channels already"
            } else {
                "there are too many channels"
            };
            tracing::warn!(%remote, "no copies with the agent there: {why}");
        }
        Notice::Refused { remote } => tracing::warn!(
            %remote,
            "the agent's proof is wrong: is --redundant-key the same at both ends?"
        ),
    }
}

/// Logs a notice about a peer that asks for weights, or is asked.
pub fn log_wishing(notice: Notice) {
    match notice {
        Notice::Proven { remote } => {
            tracing::info!(%remote, "an agent answers: weights can be asked for");
        }
        Notice::Silent { remote } => {
            tracing::warn!(%remote, "the agent is silent: its wishes no longer count");
        }
        Notice::NoAgent { remote } => {
            tracing::info!("no agent that takes wishes answers at {remote}");
        }
        Notice::Crowded { remote, quota: _ } => {
            tracing::warn!(%remote, "no wishes with the agent there: there are too many channels");
        }
        Notice::Refused { remote } => tracing::warn!(
            %remote,
            "the agent's wish is refused, because its proof is wrong: is --redundant-key the same \
             at both ends?"
        ),
    }
}

/// Returns the numbers of the protocol as the model has them. The listeners
/// have thrown away `malformed` datagrams that are no message, and have
/// `dropped` others that came too fast.
pub fn peers(counts: &Counts, malformed: u64, dropped: u64) -> Peers {
    let Counts {
        proven,
        silent,
        asking,
        refused,
        crowded: [quota, full],
        hellos,
    } = *counts;
    let Hellos {
        sent,
        answered,
        verified,
        refused: wrong,
        malformed: no_message,
        unknown,
    } = hellos;
    Peers {
        states: [
            (PeerState::Proven, proven),
            (PeerState::Silent, silent),
            (PeerState::Asking, asking),
            (PeerState::Refused, refused),
        ]
        .into(),
        no_room: [(NoRoom::Quota, quota), (NoRoom::Full, full)].into(),
        hellos: [
            (Hello::Sent, sent),
            (Hello::Answered, answered),
            (Hello::Verified, verified),
            (Hello::Refused, wrong),
            (Hello::Malformed, no_message + malformed),
            (Hello::Unknown, unknown),
            (Hello::Dropped, dropped),
        ]
        .into(),
    }
}
