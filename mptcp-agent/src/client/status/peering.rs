//! The weights that agents ask each other to use, in `status`.

use mptcp_api::schema::{HeardPeer, Peering};

/// Returns a line for each peer that is asked, and for each that asks.
pub fn lines(peering: &Peering) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for peer in &peering.asked {
        let state = in_words(&peer.state, peer.reason.as_deref());
        lines.push(("asks peer", format!("{}: {state}", peer.address)));
    }
    if !peering.unanswered.is_empty() {
        let remotes = peering.unanswered.join(", ");
        lines.push((
            "asks peer",
            format!(
                "{remotes}: no agent answers that takes wishes (--accept-peer-policy) with this key"
            ),
        ));
    }
    if peering.asks && lines.is_empty() {
        lines.push(("asks peer", "nobody yet: no connection is open".to_owned()));
    }
    if !peering.accepts.is_empty() {
        let accepts = peering.accepts.join(", ");
        let none = if peering.heard.is_empty() {
            "; none asks"
        } else {
            ""
        };
        lines.push(("accepts", format!("wishes from {accepts}{none}")));
    }
    for peer in &peering.heard {
        let state = in_words(&peer.state, peer.reason.as_deref());
        lines.push(("peer asks", format!("{}: {state}", weights(peer))));
    }
    lines
}

fn weights(peer: &HeardPeer) -> String {
    let weights = peer.weights.iter().map(|one| {
        let proven = if one.proven { "" } else { " (not proven)" };
        format!("{}={}{proven}", one.address, one.weight)
    });
    let weights: Vec<String> = weights.collect();
    if weights.is_empty() {
        return "nothing that can be read".to_owned();
    }
    weights.join(" ")
}

fn in_words(state: &str, reason: Option<&str>) -> String {
    let words = match state {
        "waits" => "not decided yet",
        "in-force" => "in force",
        "not-accepted" => "it takes no wishes (--accept-peer-policy)",
        "silent" => "its agent is silent",
        state => state,
    };
    match reason {
        Some(reason) => format!("{words}: {reason}"),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use mptcp_api::schema::{AskedPeer, PeerWeight};

    use super::*;

    #[test]
    fn both_ends_say_what_has_become_of_a_wish() {
        let peering = Peering {
            asks: true,
            accepts: vec!["10.0.0.0/8".to_owned()],
            asked: vec![AskedPeer {
                address: "192.0.2.1".to_owned(),
                state: "refused".to_owned(),
                reason: Some("10.1.1.1 is in no prefix".to_owned()),
            }],
            unanswered: vec!["192.0.2.9".to_owned()],
            heard: vec![HeardPeer {
                weights: vec![PeerWeight {
                    address: "10.0.0.2".to_owned(),
                    weight: 3,
                    proven: false,
                }],
                state: "waits".to_owned(),
                reason: None,
            }],
            refused: 0,
        };
        let lines: Vec<String> = lines(&peering)
            .into_iter()
            .map(|(name, text)| format!("{name}: {text}"))
            .collect();
        assert_eq!(
            lines,
            [
                "asks peer: 192.0.2.1: refused: 10.1.1.1 is in no prefix",
                "asks peer: 192.0.2.9: no agent answers that takes wishes (--accept-peer-policy) \
                 with this key",
                "accepts: wishes from 10.0.0.0/8",
                "peer asks: 10.0.0.2=3 (not proven): not decided yet",
            ]
        );
    }
}
