//! Arguments about what agents ask each other for.

use clap::Args;
use ipnet::IpNet;

use crate::peering::prefix;

/// The arguments, of `run` only.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct PeeringArgs {
    /// Ask the agents at the other ends to use this host's weights, too
    ///
    /// Downloads then follow the weights of --policy weighted as uploads do, if
    /// the agent there has --accept-peer-policy. Only bytes of connections with
    /// that host are concerned. Needs --redundant-key FILE, the same at both
    /// ends; nothing is copied, unless a policy says so. Messages go to UDP port
    /// --redundant-port of every host with which there are MPTCP connections.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", hide_default_value = true)]
    pub ask_peer: bool,

    /// Let hosts with these addresses say how their paths are to be used; may be repeated
    ///
    /// PREFIX is an address or a prefix, such as 192.0.2.0/24 or fd00::/64. The
    /// agents of such hosts ask with --ask-peer. What they ask for holds for
    /// their own connections, after this host's own rules, and for 3 s after they
    /// fell silent. Needs --redundant-key FILE, the same at both ends.
    #[arg(long, value_name = "PREFIX", value_parser = prefix)]
    pub accept_peer_policy: Vec<IpNet>,
}

impl PeeringArgs {
    /// Returns the prefixes whose hosts may ask.
    pub fn prefixes_in_words(&self) -> String {
        let nets = self.accept_peer_policy.iter();
        nets.map(IpNet::to_string).collect::<Vec<_>>().join(" ")
    }

    /// Returns whether there is anything to ask or to accept.
    pub fn any(&self) -> bool {
        self.ask_peer || !self.accept_peer_policy.is_empty()
    }
}
