//! The maps that hold a policy: reads what they hold, and writes to them.

use std::collections::BTreeMap;

use anyhow::Result;
use aya::maps::{Array, HashMap, LpmTrie, MapData, MapError, PerCpuArray, PerCpuValues, lpm_trie};
use ipnet::IpNet;
use mptcp_common::abi::{Config, PathStats, Policy, redundant::CopyStats, rule::Rule};
use mptcp_common::address;
use mptcp_common::names::map;

use super::Kernel;
use super::publish::{Head, PolicyMaps, PrefixKey, Published, Write};
use super::redundant::put;

impl Kernel {
    /// Reads what the maps hold of a policy, with the totals of the indices in
    /// `recycled`.
    pub(super) fn published(&self, recycled: &[u32]) -> Result<Published> {
        let entries = |map: &str| -> Result<BTreeMap<u32, u32>> {
            let map: HashMap<_, u32, u32> = HashMap::try_from(self.map_ref(map)?)?;
            Ok(map.iter().collect::<Result<_, _>>()?)
        };
        let prefixes = |map: &str| -> Result<BTreeMap<PrefixKey, u32>> {
            let map: LpmTrie<_, [u8; 16], u32> = LpmTrie::try_from(self.map_ref(map)?)?;
            let entries = map.iter().map(|entry| {
                let (key, path) = entry?;
                Ok(((key.prefix_len(), key.data()), path))
            });
            Ok(entries.collect::<Result<_, MapError>>()?)
        };
        let stats: PerCpuArray<_, PathStats> =
            PerCpuArray::try_from(self.map_ref(map::PATH_STATS)?)?;
        let copies: PerCpuArray<_, CopyStats> =
            PerCpuArray::try_from(self.map_ref(map::COPY_STATS)?)?;
        let totals = recycled.iter().map(|path| {
            let (stats, copies) = (stats.get(path, 0)?, copies.get(path, 0)?);
            Ok((*path, (stats.to_vec(), copies.to_vec())))
        });
        let totals: Result<_> = totals.collect();
        Ok(Published {
            paths: self.paths()?,
            policies: self.policies()?,
            rules: self.rules()?,
            ids: entries(map::SELECT_ID)?,
            devices: entries(map::SELECT_DEVICE)?,
            prefixes: prefixes(map::SELECT_PREFIX)?,
            remote_prefixes: prefixes(map::SELECT_REMOTE)?,
            totals: totals?,
            head: Head {
                enforced: self.heart.config.enforced,
                generation: self.heart.config.generation,
                owner: self.heart.config.owner,
                rules: self.heart.config.rules,
            },
        })
    }

    /// Returns the rules, by index.
    fn rules(&self) -> Result<Vec<Rule>> {
        let map: Array<_, Rule> = Array::try_from(self.map_ref(map::RULES)?)?;
        Ok(map.iter().collect::<Result<_, _>>()?)
    }

    /// Returns the table of policies, by index.
    fn policies(&self) -> Result<Vec<Policy>> {
        let map: Array<_, Policy> = Array::try_from(self.map_ref(map::POLICIES)?)?;
        Ok(map.iter().collect::<Result<_, _>>()?)
    }
}

impl PolicyMaps for Kernel {
    fn write(&mut self, write: &Write) -> Result<()> {
        match write {
            Write::Path(index, path) => {
                Ok(Array::try_from(self.map(map::PATHS)?)?.set(*index, *path, 0)?)
            }
            Write::Policy(index, policy) => {
                Ok(Array::try_from(self.map(map::POLICIES)?)?.set(*index, *policy, 0)?)
            }
            Write::Rule(index, rule) => {
                Ok(Array::try_from(self.map(map::RULES)?)?.set(*index, *rule, 0)?)
            }
            Write::Id(key, path) => put(HashMap::try_from(self.map(map::SELECT_ID)?)?, key, *path),
            Write::Device(key, path) => put(
                HashMap::try_from(self.map(map::SELECT_DEVICE)?)?,
                key,
                *path,
            ),
            Write::Prefix(key, path) => put_prefix(
                LpmTrie::try_from(self.map(map::SELECT_PREFIX)?)?,
                *key,
                *path,
            ),
            Write::Remote(key, path) => put_prefix(
                LpmTrie::try_from(self.map(map::SELECT_REMOTE)?)?,
                *key,
                *path,
            ),
            Write::PathStats(path, stats) => {
                let stats = PerCpuValues::try_from(stats.clone())?;
                Ok(PerCpuArray::try_from(self.map(map::PATH_STATS)?)?.set(*path, stats, 0)?)
            }
            Write::CopyStats(path, stats) => {
                let stats = PerCpuValues::try_from(stats.clone())?;
                Ok(PerCpuArray::try_from(self.map(map::COPY_STATS)?)?.set(*path, stats, 0)?)
            }
            Write::Head(head) => self.heart.write(Config {
                enforced: head.enforced,
                generation: head.generation,
                owner: head.owner,
                rules: head.rules,
                ..self.heart.config
            }),
        }
    }
}

/// Puts an entry into a trie of prefixes, or removes it.
fn put_prefix(
    mut map: LpmTrie<&mut MapData, [u8; 16], u32>,
    (bits, address): PrefixKey,
    path: Option<u32>,
) -> Result<()> {
    let key = lpm_trie::Key::new(bits, address);
    match path {
        Some(path) => map.insert(&key, path, 0)?,
        None => map.remove(&key)?,
    }
    Ok(())
}

/// Returns the key of a prefix. IPv4 becomes `::ffff:a.b.c.d`, because the
/// programs look addresses up in this form.
pub(super) fn prefix_key(net: IpNet) -> PrefixKey {
    let before = match net {
        IpNet::V4(_) => 96,
        IpNet::V6(_) => 0,
    };
    let bits = before + u32::from(net.prefix_len());
    (bits, address::octets(net.network()))
}

#[cfg(test)]
mod tests {
    use super::prefix_key;

    #[test]
    fn ipv4_prefixes_are_looked_up_as_mapped() {
        let (bits, address) = prefix_key("10.1.0.0/16".parse().expect("a prefix"));
        assert_eq!(bits, 112);
        assert_eq!(address[10..], [0xff, 0xff, 10, 1, 0, 0]);
        let (bits, address) = prefix_key("fd00::/8".parse().expect("a prefix"));
        assert_eq!(bits, 8);
        assert_eq!(address[..2], [0xfd, 0]);
    }
}
