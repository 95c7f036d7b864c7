//! Arguments that say what the policy is. The id of each is the name of its
//! setting, so that [`flag`] finds the flag of a setting.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Command};
use mptcp_api::policy::{Given, LeaveOut, Overflow, Redundant, Setting, Shared, Weighted};
use mptcp_common::abi::redundant::MAX_COPIES;

use crate::policy::selector::Selector;
use crate::policy::{
    Choice, Limit, PathBound, Policy, Quota, Rate, Thin, Weight, WeightedMode, WeightedScope,
};

/// Arguments of the weighted policy.
#[derive(Args, Clone, Debug, Default)]
pub struct WeightedArgs {
    /// A path's weight, 0 to 65535; 0 is standby; may be repeated
    ///
    /// SELECTOR names a path: a device (eth0), a local address or prefix
    /// (10.1.2.3, 10.0.0.0/24, fd00::/64), a remote one (remote:10.0.0.0/24),
    /// the address id of the local end (id:2) or of the remote end
    /// (remote-id:1), the port of the remote end (remote-port:443), or `default`
    /// for every path that no other selector names
    /// (1 if not given). A subflow that several selectors fit belongs to its
    /// id, else its remote-id, else the longest prefix of its local address,
    /// else that of its remote one, else its remote port, else its device. A connection's first
    /// subflow has id 0 at both ends. Subflows that share a path share its
    /// weight. A device may appear later. For policy weighted.
    #[arg(id = "weights", long = "weight", value_name = "SELECTOR=N",
          value_parser = checked::<Weight>)]
    pub weights: Vec<String>,

    /// How strictly the weights hold [default: strict]
    #[arg(id = "weighted_mode", long = "weighted-mode", value_parser = choice::<WeightedMode>())]
    pub mode: Option<String>,

    /// The connections whose bytes follow the weights together [default: host]
    ///
    /// Under `host` a connection that cannot follow the weights, or that is too
    /// short to, is made up for by the others.
    #[arg(id = "weighted_scope", long = "weighted-scope", value_parser = choice::<WeightedScope>())]
    pub scope: Option<String>,

    /// What happens to connections that are too thin to be steered [default: free]
    #[arg(id = "thin", long = "thin", value_parser = choice::<Thin>())]
    pub thin: Option<String>,
}

/// Arguments of the overflow policy.
#[derive(Args, Clone, Debug, Default)]
pub struct OverflowArgs {
    /// A path in the order of preference, the best one first; may be repeated
    ///
    /// SELECTOR names a path as in --weight. The first path carries all that it
    /// can, the second what does not fit, and so on. Paths that are not named
    /// come last, all of one rank (or where `default` stands). At least one
    /// path has to be named. For policy overflow.
    #[arg(id = "prefer", long = "prefer", value_name = "SELECTOR",
          value_parser = checked::<Selector>)]
    pub prefer: Vec<String>,
}

/// Arguments that lie beside those of the policies.
#[derive(Args, Clone, Debug, Default)]
pub struct SharedArgs {
    /// The most that this host may send over a path: 20mbit, 2.5mbit, 500kbit; may be repeated
    ///
    /// SELECTOR names a path as in --weight. RATE is in bit/s without a unit, from
    /// 100kbit to 34gbit; `none` is no limit. All connections of this network
    /// namespace share it, under every policy. What counts are acknowledged
    /// payload bytes, without headers, retransmissions and copies. `default` limits
    /// each path that no other --limit names. A path that only a limit names has
    /// the weight of `default`.
    #[arg(id = "limits", long = "limit", value_name = "SELECTOR=RATE",
          value_parser = checked::<Limit>)]
    pub limits: Vec<String>,

    /// What a path may carry in a period: 50GB/month, 2GB/week, 1GiB/day; may be repeated
    ///
    /// Once the quota is spent, the path becomes standby until the period ends:
    /// it carries nothing while another path is alive. SELECTOR names a path as
    /// in --weight, but `default` has no quota. Options follow after commas.
    /// `reset:15` begins a month on that day (1 to 28), `reset:friday` a week, at
    /// midnight of the local time zone. `count:device` counts every byte on the
    /// device (the default), `count:connections` only the payload of MPTCP
    /// connections (the default of a path that is no device). `direction:both`,
    /// `tx` or `rx` says what counts. `action:warn` lets the path go on;
    /// `action:standby` (the default) is for the policies weighted, overflow and
    /// aggregate. What was used is kept in --state-dir of run.
    #[arg(id = "quotas", long = "quota", value_name = "SELECTOR=AMOUNT/PERIOD[,OPTION...]",
          value_parser = checked::<Quota>)]
    pub quotas: Vec<String>,

    /// Leave a path out beyond these bounds: loss:5%, rtt:300ms; may be repeated
    ///
    /// A path that loses more of its segments, or whose round trip is longer,
    /// for three seconds becomes standby while another path can carry. After 10
    /// seconds, then 20, up to 5 minutes, it is tried again, and comes back once
    /// it loses less than half of the bound, and its round trip is below four
    /// fifths of it. SELECTOR names a path as in --weight; other than a device or
    /// `default` (every path that no other --leave-out names), a --weight or
    /// --prefer has to name it too. `none` takes a path out of `default`. For
    /// policies weighted, overflow and aggregate.
    #[arg(id = "leave_out", long = "leave-out", value_name = "SELECTOR=BOUNDS",
          value_parser = checked::<PathBound>)]
    pub leave_out: Vec<String>,
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
    #[arg(id = "redundant_copies", long = "redundant-copies", value_name = "N",
          value_parser = clap::value_parser!(u32).range(2..=i64::from(MAX_COPIES)))]
    pub copies: Option<u32>,

    /// The UDP port of copies and hellos, the same at both ends [default: 8684]
    #[arg(id = "redundant_port", long = "redundant-port", value_name = "PORT",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,

    /// A file whose content, 16 to 1024 bytes, the peers' agents must have too
    ///
    /// Without it, an agent proves only that it knows the connection, which
    /// whoever saw the handshake does. Others must not be able to read the
    /// file. One newline at its end is not part of the key.
    #[arg(id = "redundant_key", long = "redundant-key", value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// What copies may take of each path: 40mbit, 500kbit, 1gbit, or bit/s; at most 34gbit
    ///
    /// By default a path takes copies only while its own subflows show neither
    /// queueing nor loss.
    #[arg(id = "redundant_budget", long = "redundant-budget", value_name = "RATE",
          value_parser = checked::<Rate>)]
    pub budget: Option<String>,
}

/// Returns a parser of the names of policies, which also lists them in the help
/// text.
pub fn names() -> PossibleValuesParser {
    let names = Policy::names().into_iter();
    names
        .map(|(name, summary)| PossibleValue::new(name).help(summary))
        .into()
}

/// Returns a parser of the names of a setting's values, which also lists them in
/// the help text.
fn choice<T: Choice>() -> PossibleValuesParser {
    let values = T::ALL.iter();
    values
        .map(|value| PossibleValue::new(value.name()).help(value.summary()))
        .into()
}

/// Passes on a value that can be read.
fn checked<T: FromStr>(text: &str) -> Result<String, T::Err> {
    text.parse::<T>().map(|_| text.to_owned())
}

/// Passes on the selector of a path.
///
/// # Errors
/// One line: it cannot be read.
pub fn selector(text: &str) -> Result<String, String> {
    checked::<Selector>(text)
}

/// Returns the flag of `setting`, with its dashes. One that has no flag is named
/// as if it had one.
pub fn flag(setting: Setting) -> String {
    let command = WeightedArgs::augment_args(Command::new("policy"));
    let command = OverflowArgs::augment_args(command);
    let command = SharedArgs::augment_args(command);
    let command = RedundantArgs::augment_args(command);
    let arguments = command.get_arguments();
    let flag = arguments
        .filter(|argument| argument.get_id() == setting.field())
        .find_map(|argument| argument.get_long());
    match flag {
        Some(flag) => format!("--{flag}"),
        // The commands give it each in their own way.
        None if setting == Setting::NAME => "--policy".to_owned(),
        None => format!("--{}", setting.field().replace('_', "-")),
    }
}

/// Returns the settings that the arguments ask for, in `run` and in `policy set`.
///
/// # Errors
/// One line: a path cannot be made absolute.
pub fn given(
    name: String,
    weighted: WeightedArgs,
    overflow: OverflowArgs,
    shared: SharedArgs,
    redundant: RedundantArgs,
) -> Result<Given, String> {
    let RedundantArgs {
        copies,
        port,
        key,
        budget,
    } = redundant;
    // The agent may read the file from another working directory, and later.
    let key = key.map(|key| {
        std::path::absolute(&key)
            .map_err(|error| format!("--redundant-key {}: {error}", key.display()))
    });
    let mut given = Given::named(name);
    given.weighted = Weighted {
        weighted_mode: weighted.mode,
        weighted_scope: weighted.scope,
        thin: weighted.thin,
        weights: weighted.weights,
    };
    given.overflow = Overflow {
        prefer: overflow.prefer,
    };
    given.leave_out = LeaveOut {
        leave_out: shared.leave_out,
    };
    given.shared = Shared {
        limits: shared.limits,
        quotas: shared.quotas,
    };
    given.redundant = Redundant {
        redundant_copies: copies,
        redundant_port: port,
        redundant_key: key.transpose()?,
        redundant_budget: budget,
    };
    Ok(given)
}

/// Returns the policy of settings that all come from flags.
///
/// # Errors
/// One line: arguments do not go together.
pub fn policy(given: Given) -> Result<Policy, String> {
    Policy::new(given).map_err(|error| error.describe(flag))
}
