//! The weights that agents ask each other to use: whom to ask, who may ask, and over which
//! channel.

use std::path::PathBuf;

use ipnet::IpNet;
use mptcp_api::config::{At, File};

use super::resolve::{DEFAULT, Row};
use super::source::{Origin, Source, Wrong};
use crate::cli::{Flags, RunArgs};
use crate::peering::{MOST_PREFIXES, Settings, prefix};
use crate::policy::{Policy, Redundant};

/// The settings of the channel, and the flags without those that are not for the
/// policy.
pub struct Channel {
    /// The settings; the key is missing if only a policy may have it.
    pub settings: Settings,
    /// The flags without `--redundant-key` and `--redundant-port`, unless those
    /// are for the default policy as well.
    pub flags: Flags,
}

/// Reads the prefixes whose hosts may ask.
///
/// # Errors
/// One is none, or there are too many.
pub fn accepted(source: Source<'_>, file: &File) -> Result<Vec<IpNet>, Wrong> {
    let list = file.accept_peer_policy.iter().flat_map(|list| list.iter());
    let nets = list.map(|text| {
        let why = |why| source.wrong(text.start(), &format!("accept-peer-policy: {why}"));
        prefix(text).map_err(why)
    });
    nets.collect()
}

/// Returns the channel, if the agent asks or accepts.
///
/// # Errors
/// A value is wrong.
pub fn channel(
    flags: &Flags,
    source: Source<'_>,
    file: &File,
    args: &RunArgs,
    rows: &mut Vec<Row>,
) -> Result<Option<Channel>, Wrong> {
    let accept = &args.peering.accept_peer_policy;
    if accept.len() > MOST_PREFIXES {
        let why = format!(
            "accept-peer-policy has {} prefixes: expected at most {MOST_PREFIXES}",
            accept.len()
        );
        let start = file.accept_peer_policy.as_ref().map_or(0, At::start);
        return Err(source.wrong(start, &why));
    }
    let mut key = None;
    let mut origins = [Origin::Default, Origin::Default];
    if let Some(path) = &file.redundant_key {
        if !path.starts_with('/') {
            let why = format!("redundant-key is \"{}\": expected an absolute path", **path);
            return Err(source.wrong(path.start(), &why));
        }
        key = Some(PathBuf::from(path.as_str()));
        origins[0] = source.origin(path.start());
    }
    let mut port = Redundant::default().port;
    if let Some(number) = &file.redundant_port {
        port = u16::try_from(**number)
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| {
                let why = format!("redundant-port is {}: expected 1 to 65535", **number);
                source.wrong(number.start(), &why)
            })?;
        origins[1] = source.origin(number.start());
    }
    if !args.peering.any() {
        return Ok(None);
    }
    let mut flags = flags.clone();
    let given = &flags.policy.redundant;
    if let Some(path) = &given.redundant_key {
        key = Some(path.clone());
        origins[0] = Origin::Flag("--redundant-key".to_owned());
    }
    if let Some(number) = given.redundant_port {
        port = number;
        origins[1] = Origin::Flag("--redundant-port".to_owned());
    }
    let named = file.policy.iter().find(|(name, _)| ***name == *DEFAULT);
    let of_file = named.map_or(DEFAULT, |(_, policy)| policy.policy.as_str());
    let name = match flags.has("policy") {
        true => flags.policy.name.as_str(),
        false => of_file,
    };
    // The flags of a file's settings count as well.
    flags.args.peering = args.peering.clone();
    let flags = flags.of_policy(name);
    let values = [
        key.as_ref()
            .map_or_else(String::new, |key| key.display().to_string()),
        port.to_string(),
    ];
    for ((name, value), origin) in ["redundant-key", "redundant-port"]
        .into_iter()
        .zip(values)
        .zip(origins)
    {
        rows.push(Row {
            key: name.to_owned(),
            value,
            origin,
        });
    }
    let channel = Redundant {
        port,
        key,
        ..Redundant::default()
    };
    Ok(Some(Channel {
        settings: Settings {
            ask: args.peering.ask_peer,
            accept: accept.clone(),
            channel,
        },
        flags,
    }))
}

/// Completes the settings with the port and the key of a policy that copies.
///
/// # Errors
/// There is no key.
pub fn complete(
    source: Source<'_>,
    file: &File,
    mut settings: Settings,
    policies: impl Iterator<Item = Policy>,
) -> Result<Settings, Wrong> {
    let copying = policies.filter_map(|policy| policy.copies().cloned());
    if settings.channel.key.is_none()
        && let Some(redundant) = copying.into_iter().next()
    {
        settings.channel.key = redundant.key;
        settings.channel.port = redundant.port;
    }
    if settings.channel.key.is_some() {
        return Ok(settings);
    }
    let why = "ask-peer and accept-peer-policy need a key that both ends have: give \
               redundant-key, the absolute path of a file with 16 to 1024 bytes";
    let ask = file.ask_peer.as_ref().map(At::start);
    let accept = file.accept_peer_policy.as_ref().map(At::start);
    Err(match ask.or(accept) {
        Some(start) => source.wrong(start, why),
        None => Wrong::new(
            "--ask-peer and --accept-peer-policy need a key that both ends have: give \
             --redundant-key FILE",
        ),
    })
}
