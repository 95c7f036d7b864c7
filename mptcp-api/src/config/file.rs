//! The keys of the configuration file. Their doc comments describe them in
//! docs/config.schema.json.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{At, Texts};
#[cfg(test)]
use crate::rule::ListSchema;
use crate::rule::Rule;

/// The configuration file of mptcp-agent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct File {
    /// Where to serve /metrics and /healthz: `ADDR:PORT`, where port 0 takes any
    /// free one, or `unix:PATH`; or a list of these. A change needs a restart.
    #[serde(default, deserialize_with = "super::at::one_or_more")]
    #[cfg_attr(test, schemars(with = "Option<ListSchema<String>>"))]
    pub listen: Option<Texts>,
    /// The absolute path of a file with TLS and passwords for HTTP, in the format
    /// of Prometheus' exporters. A change of the path needs a restart, one of the
    /// file does not.
    pub web_config_file: Option<At<String>>,
    /// The absolute path of the control socket. A change needs a restart.
    pub control: Option<At<String>>,
    /// The cgroup2 directory whose sockets are observed and steered. A change
    /// needs a restart.
    pub cgroup: Option<At<String>>,
    /// The absolute path of a file with the kernel's types (BTF), where the kernel
    /// does not show them itself. A change needs a restart.
    pub btf: Option<At<String>>,
    /// Connections that are tracked at once. A change needs a restart.
    #[cfg_attr(test, schemars(range(min = 1, max = 1_048_576)))]
    pub max_connections: Option<At<i64>>,
    /// Whether to measure the CPU time of the agent's programs. A change needs a
    /// restart.
    pub measure_programs: Option<At<bool>>,
    /// How to log: `text` or `json`. A change needs a restart.
    pub log_format: Option<At<String>>,
    /// The absolute path of the directory in which the agent keeps what paths have
    /// used of their quotas. A change needs a restart.
    pub state_dir: Option<At<String>>,
    /// Whether the agent keeps the kernel's endpoints in step with the addresses
    /// of the paths that the policy names. A change needs a restart.
    pub manage_endpoints: Option<At<bool>>,
    /// The role of these endpoints: `subflow`, `signal` or `fullmesh`. A change
    /// needs a restart.
    pub endpoint_role: Option<At<String>>,
    /// Whether the agent gives packets from each address of these paths a way by
    /// its own device. A change needs a restart.
    pub manage_routes: Option<At<bool>>,
    /// Whether the agents at the other ends are asked to use this host's weights,
    /// too. A change needs a restart.
    pub ask_peer: Option<At<bool>>,
    /// Addresses and prefixes of hosts that may say how their paths are to be
    /// used. A change needs a restart.
    pub accept_peer_policy: Option<At<Vec<At<String>>>>,
    /// The file with the key of `ask-peer` and `accept-peer-policy`, the same at
    /// both ends. A change needs a restart.
    pub redundant_key: Option<At<String>>,
    /// The UDP port of `ask-peer` and `accept-peer-policy`, the same at both ends.
    /// A change needs a restart.
    #[cfg_attr(test, schemars(range(min = 1, max = 65535)))]
    pub redundant_port: Option<At<i64>>,
    /// Paths by name, `[path.NAME]`. A name stands wherever a selector is
    /// expected.
    #[serde(default)]
    pub path: BTreeMap<At<String>, At<Path>>,
    /// Policies by name, `[policy.NAME]`. `[policy.default]` is the one that
    /// `--policy` sets.
    #[serde(default)]
    pub policy: BTreeMap<At<String>, At<Policy>>,
    /// Rules, `[[rule]]`: the first that matches a connection gives it its policy.
    #[serde(default)]
    #[cfg_attr(test, schemars(length(max = 64)))]
    pub rule: Vec<At<Rule>>,
}

/// A path: exactly one selector, and what holds for the path. `[path.default]`
/// has no selector: it is every path that no other one is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Path {
    /// Selector: subflows that leave by this device.
    pub device: Option<At<String>>,
    /// Selector: subflows whose local address is this one, or in this prefix.
    pub address: Option<At<String>>,
    /// Selector: subflows whose local end has this address id.
    #[cfg_attr(test, schemars(range(min = 0, max = 255)))]
    pub id: Option<At<i64>>,
    /// Selector: subflows whose remote end has this address id.
    #[cfg_attr(test, schemars(range(min = 0, max = 255)))]
    pub remote_id: Option<At<i64>>,
    /// Selector: subflows whose remote address is this one, or in this prefix.
    pub remote: Option<At<String>>,
    /// Selector: subflows whose remote end has this port.
    #[cfg_attr(test, schemars(range(min = 1, max = 65535)))]
    pub remote_port: Option<At<i64>>,
    /// The most that this host may send over the path, such as `20mbit`.
    pub limit: Option<At<String>>,
    /// The bounds beyond which the path is left out: `loss:5%`, `rtt:300ms`, or
    /// both with a comma between.
    pub leave_out: Option<At<String>>,
    /// The path's data plan, such as `50GB/month,reset:15`.
    pub quota: Option<At<String>>,
    /// Whether the path carries data only while no other can: it has the weight
    /// 0, or the last rank.
    pub standby: Option<At<bool>>,
}

/// A policy and its settings.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Policy {
    /// What to do with connections: `default`, `weighted`, `overflow`,
    /// `aggregate` or `redundant`.
    pub policy: At<String>,
    /// The weight of each path, 0 (standby) to 65535. For policy weighted.
    pub weights: Option<At<BTreeMap<At<String>, At<i64>>>>,
    /// How strictly the weights hold: `strict` or `spill`. For policy weighted.
    pub mode: Option<At<String>>,
    /// The connections whose bytes follow the weights together: `host` or
    /// `connection`. For policy weighted.
    pub scope: Option<At<String>>,
    /// What happens to connections that are too thin to be steered: `free` or
    /// `place`. For policy weighted.
    pub thin: Option<At<String>>,
    /// Paths in the order of preference, the best one first. For policy overflow.
    pub prefer: Option<At<Vec<At<String>>>>,
    /// How often each segment is sent, the original included. For policy
    /// redundant.
    #[cfg_attr(test, schemars(range(min = 2, max = 4)))]
    pub copies: Option<At<i64>>,
    /// The UDP port of copies and hellos, the same at both ends. For policy
    /// redundant.
    #[cfg_attr(test, schemars(range(min = 1, max = 65535)))]
    pub port: Option<At<i64>>,
    /// The absolute path of the file with the key that the peers share. For
    /// policy redundant.
    pub key: Option<At<String>>,
    /// What copies may take of each path, such as `40mbit`. For policy redundant.
    pub budget: Option<At<String>>,
}
