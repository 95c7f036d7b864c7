//! The weights that agents ask each other to use. These metrics exist only with
//! `--ask-peer` or `--accept-peer-policy`.

use super::Families;
use crate::state::snapshot::{Snapshot, WishState};

pub(super) fn describe(snapshot: &Snapshot, families: &mut Families) {
    let Some(peering) = &snapshot.peering else {
        return;
    };
    let count = |states: &mut dyn Iterator<Item = WishState>| {
        let mut counts = WishState::ALL.map(|state| (state, 0_u64));
        for state in states {
            for (known, count) in &mut counts {
                *count += u64::from(*known == state);
            }
        }
        counts
    };
    let asked = count(&mut peering.asked.iter().map(|peer| peer.state));
    let heard = count(&mut peering.heard.iter().map(|peer| peer.state));
    let mut wishes = families.gauge(
        "mptcp_peer_wishes",
        "Agents that this one asks for weights (made), or that ask it (heard), by what has become \
         of the wish.",
    );
    for (direction, counts) in [("made", asked), ("heard", heard)] {
        for (state, count) in counts {
            wishes.add_count(&[("direction", direction), ("state", state.name())], count);
        }
    }
    families
        .counter(
            "mptcp_peer_wishes_refused_total",
            "Wishes of other agents that this one has refused.",
        )
        .add_count(&[], peering.refused);
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::api::metrics::render;
    use crate::state::snapshot::{AskedPeer, HeardPeer, Peering};

    #[test]
    fn wishes_are_counted_by_state_and_only_where_there_can_be_some() {
        let peering = Peering {
            asked: vec![AskedPeer {
                remote: [192, 0, 2, 1].into(),
                state: WishState::Silent,
                reason: None,
            }],
            heard: vec![HeardPeer {
                weights: Vec::new(),
                state: WishState::InForce,
                reason: None,
            }],
            refused: 7,
            ..Peering::default()
        };
        let mut snapshot = Snapshot {
            peering: Some(peering),
            ..Snapshot::default()
        };
        let text = render(&snapshot).unwrap();
        for line in [
            "mptcp_peer_wishes{direction=\"made\",state=\"silent\"} 1",
            "mptcp_peer_wishes{direction=\"made\",state=\"in-force\"} 0",
            "mptcp_peer_wishes{direction=\"heard\",state=\"in-force\"} 1",
            "mptcp_peer_wishes_refused_total 7",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        snapshot.peering = None;
        assert!(!render(&snapshot).unwrap().contains("mptcp_peer"));
    }
}
