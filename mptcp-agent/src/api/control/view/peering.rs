//! The weights that agents ask each other to use, as the control socket shows them.

use mptcp_api::schema::{AskedPeer, HeardPeer, PeerWeight, Peering};

use crate::state::snapshot;

/// Converts what is asked for, and by whom.
pub fn peering(peering: &snapshot::Peering) -> Peering {
    let snapshot::Peering {
        asks,
        accepts,
        asked,
        unanswered,
        heard,
        refused,
    } = peering;
    let asked = asked.iter().map(|peer| AskedPeer {
        address: peer.remote.to_string(),
        state: peer.state.name().to_owned(),
        reason: peer.reason.clone(),
    });
    let heard = heard.iter().map(|peer| HeardPeer {
        weights: peer.weights.iter().map(weight).collect(),
        state: peer.state.name().to_owned(),
        reason: peer.reason.clone(),
    });
    Peering {
        asks: *asks,
        accepts: accepts.iter().map(ToString::to_string).collect(),
        asked: asked.collect(),
        unanswered: unanswered.iter().map(ToString::to_string).collect(),
        heard: heard.collect(),
        refused: *refused,
    }
}

fn weight((address, weight, proven): &(std::net::IpAddr, u16, bool)) -> PeerWeight {
    PeerWeight {
        address: address.to_string(),
        weight: *weight,
        proven: *proven,
    }
}
