//! Arguments that say what the policy is.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use mptcp_common::abi::redundant::MAX_COPIES;

use crate::policy::{Choice, Policy, PolicyName, Rate, RedundantGiven, Weight, WeightedMode};

/// Arguments of the weighted policy.
#[derive(Args, Clone, Debug, Default)]
pub struct WeightedArgs {
    /// A path's weight, 0 to 65535; 0 is standby; may be repeated
    ///
    /// SELECTOR names a path: a device (eth0), a local address or prefix
    /// (10.1.2.3, 10.0.0.0/24, fd00::/64), a remote one (remote:10.0.0.0/24),
    /// the address id of the local end (id:2) or of the remote end
    /// (remote-id:1), or `default` for every path that no other selector names
    /// (1 if not given). A subflow that several selectors fit belongs to its
    /// id, else its remote-id, else the longest prefix of its local address,
    /// else that of its remote one, else its device. A connection's first
    /// subflow has id 0 at both ends. Subflows that share a path share its
    /// weight. A device may appear later. For policy weighted.
    #[arg(long = "weight", value_name = "SELECTOR=N")]
    pub weights: Vec<Weight>,

    /// How strictly the weights hold [default: strict]
    #[arg(long = "weighted-mode", value_parser = choice::<WeightedMode>())]
    pub mode: Option<WeightedMode>,
}

/// Arguments of the redundant policy.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of --policy redundant")]
pub struct RedundantArgs {
    /// How often each segment is sent, the original included: 2 to 4 [default: 2]
    ///
    /// Copies go over the best other paths of the connection: those that are
    /// alive, the least round trip first. A connection with fewer paths gets
    /// fewer copies.
    #[arg(long = "redundant-copies", value_name = "N",
          value_parser = clap::value_parser!(u32).range(2..=i64::from(MAX_COPIES)))]
    pub copies: Option<u32>,

    /// The UDP port of copies and hellos, the same at both ends [default: 8684]
    #[arg(long = "redundant-port", value_name = "PORT",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,

    /// A file whose content, 16 to 1024 bytes, the peers' agents must have too
    ///
    /// Without it, an agent proves only that it knows the connection, which
    /// whoever saw the handshake does. Others must not be able to read the
    /// file. One newline at its end is not part of the key.
    #[arg(long = "redundant-key", value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// What copies may take of each path: 40mbit, 500kbit, 1gbit, or bit/s; at most 34gbit
    ///
    /// By default a path takes copies only while its own subflows show neither
    /// queueing nor loss.
    #[arg(long = "redundant-budget", value_name = "RATE")]
    pub budget: Option<Rate>,
}

/// Returns a parser of the names of a setting's values, which also lists them in
/// the help text.
pub fn choice<T: Choice>() -> impl TypedValueParser<Value = T> {
    let values = T::ALL
        .iter()
        .map(|value| PossibleValue::new(value.name()).help(value.summary()));
    PossibleValuesParser::new(values).try_map(|name| T::named(&name).ok_or("the name of no value"))
}

/// Returns the policy that the arguments ask for, in `run` and in `policy set`.
///
/// # Errors
/// One line: arguments do not go together.
pub fn policy(
    name: PolicyName,
    weighted: &WeightedArgs,
    redundant: &RedundantArgs,
) -> Result<Policy, String> {
    let RedundantArgs {
        copies,
        port,
        key,
        budget,
    } = redundant.clone();
    // The agent may read the file from another working directory, and later.
    let key = key.map(|key| {
        std::path::absolute(&key)
            .map_err(|error| format!("--redundant-key {}: {error}", key.display()))
    });
    let redundant = RedundantGiven {
        copies,
        port,
        key: key.transpose()?,
        budget,
    };
    Policy::new(name, weighted.mode, &weighted.weights, &redundant)
}
