//! The part of a policy that the programs read. A change of it is a list of
//! writes, of which either all hold or none.
//!
//! ```text
//!   read      what the maps hold now
//!   changes   the writes that make it what is wanted; `CONFIG`, which makes
//!             them count, comes last
//!   commit    one write after the other; once one fails, those before it are
//!             taken back, the last one first
//! ```
//!
//! Pure but for [`PolicyMaps`], so that a test can let any write fail.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use mptcp_common::abi::{PathConfig, PathStats, Policy, redundant::CopyStats, rule::Rule};

/// Bits and address of a prefix, as maps `SELECT_PREFIX` and `SELECT_REMOTE` have
/// them.
pub type PrefixKey = (u32, [u8; 16]);

/// The content of the maps that a policy sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Published {
    /// `PATHS`, by index.
    pub paths: Vec<PathConfig>,
    /// `POLICIES`, by index.
    pub policies: Vec<Policy>,
    /// `RULES`, by index. Those beyond [`Head::rules`] are not in use.
    pub rules: Vec<Rule>,
    /// `SELECT_ID`.
    pub ids: BTreeMap<u32, u32>,
    /// `SELECT_DEVICE`.
    pub devices: BTreeMap<u32, u32>,
    /// `SELECT_PREFIX`.
    pub prefixes: BTreeMap<PrefixKey, u32>,
    /// `SELECT_REMOTE`.
    pub remote_prefixes: BTreeMap<PrefixKey, u32>,
    /// `PATH_STATS` and `COPY_STATS`, by CPU, of each index that goes to
    /// another path.
    pub totals: BTreeMap<u32, (Vec<PathStats>, Vec<CopyStats>)>,
    /// The part of `CONFIG` that a policy sets.
    pub head: Head,
}

/// The part of `CONFIG` that a policy sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// 1 if policies are in force.
    pub enforced: u32,
    /// A new value makes subflows look their path up in the maps again.
    pub generation: u32,
    /// The agent whose programs act.
    pub owner: u32,
    /// How many rules there are.
    pub rules: u32,
}

/// One write. `None` removes the entry.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a change of policy makes a few dozen"
)]
pub enum Write {
    /// An entry of `PATHS`.
    Path(u32, PathConfig),
    /// An entry of `POLICIES`.
    Policy(u32, Policy),
    /// An entry of `RULES`.
    Rule(u32, Rule),
    /// An entry of `SELECT_ID`.
    Id(u32, Option<u32>),
    /// An entry of `SELECT_DEVICE`.
    Device(u32, Option<u32>),
    /// An entry of `SELECT_PREFIX`.
    Prefix(PrefixKey, Option<u32>),
    /// An entry of `SELECT_REMOTE`.
    Remote(PrefixKey, Option<u32>),
    /// An entry of `PATH_STATS`.
    PathStats(u32, Vec<PathStats>),
    /// An entry of `COPY_STATS`.
    CopyStats(u32, Vec<CopyStats>),
    /// `CONFIG`.
    Head(Head),
}

/// Makes writes.
pub trait PolicyMaps {
    /// Makes one write.
    ///
    /// # Errors
    /// The map refused it and is as it was.
    fn write(&mut self, write: &Write) -> Result<()>;
}

/// Why a policy was not published.
#[derive(Debug)]
pub enum PublishError {
    /// The maps hold what they held before. Only the generation may differ.
    TakenBack(anyhow::Error),
    /// The maps hold parts of both policies, because what had been written
    /// could not be taken back in full.
    Mixed {
        /// The first failure.
        error: anyhow::Error,
        /// The failure of taking back.
        then: anyhow::Error,
    },
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakenBack(error) => write!(f, "{error:#}"),
            Self::Mixed { error, then } => {
                write!(f, "{error:#}; going back failed, too: {then:#}")
            }
        }
    }
}

impl std::error::Error for PublishError {}

/// Changes the maps, which hold `before`, so that they hold `wanted`.
///
/// # Errors
/// A map refused an entry; [`PublishError`] tells what the maps hold then.
pub fn commit(
    maps: &mut impl PolicyMaps,
    before: &Published,
    wanted: &Published,
) -> Result<(), PublishError> {
    let writes = changes(before, wanted);
    for (count, write) in writes.iter().enumerate() {
        if let Err(error) = maps.write(write) {
            return Err(take_back(maps, before, wanted, &writes[..count], error));
        }
    }
    Ok(())
}

fn take_back(
    maps: &mut impl PolicyMaps,
    before: &Published,
    wanted: &Published,
    done: &[Write],
    error: anyhow::Error,
) -> PublishError {
    let mut undo: Vec<Write> = done
        .iter()
        .rev()
        .map(|write| inverse(write, before))
        .collect();
    if !undo.is_empty() {
        // Subflows that opened meanwhile may have found their path in the
        // half-written maps. A generation that nobody has seen makes them look
        // once more.
        undo.push(Write::Head(Head {
            generation: wanted.head.generation.wrapping_add(1),
            ..before.head
        }));
    }
    // Try all of them, so that as little as possible stays behind.
    let failures = undo.iter().filter_map(|write| maps.write(write).err());
    match failures.reduce(|first, _| first) {
        None => PublishError::TakenBack(error),
        Some(then) => PublishError::Mixed { error, then },
    }
}

/// Returns the writes that lead from `before` to `wanted`. Each key is written
/// once.
fn changes(before: &Published, wanted: &Published) -> Vec<Write> {
    let mut writes = Vec::new();
    for (&path, (paths, copies)) in &wanted.totals {
        writes.push(Write::PathStats(path, paths.clone()));
        writes.push(Write::CopyStats(path, copies.clone()));
    }
    let paths = (0..).zip(&wanted.paths);
    writes.extend(
        paths
            .filter(|&(index, path)| before.paths.get(index as usize) != Some(path))
            .map(|(index, path)| Write::Path(index, *path)),
    );
    let policies = (0..).zip(&wanted.policies);
    writes.extend(
        policies
            .filter(|&(index, policy)| before.policies.get(index as usize) != Some(policy))
            .map(|(index, policy)| Write::Policy(index, *policy)),
    );
    let rules = (0..).zip(&wanted.rules);
    writes.extend(
        rules
            .filter(|&(index, rule)| before.rules.get(index as usize) != Some(rule))
            .map(|(index, rule)| Write::Rule(index, *rule)),
    );
    writes.extend(entries(&before.ids, &wanted.ids, Write::Id));
    writes.extend(entries(&before.devices, &wanted.devices, Write::Device));
    writes.extend(entries(&before.prefixes, &wanted.prefixes, Write::Prefix));
    let remote = entries(
        &before.remote_prefixes,
        &wanted.remote_prefixes,
        Write::Remote,
    );
    writes.extend(remote);
    writes.push(Write::Head(wanted.head));
    writes
}

/// Returns the writes of one map. Those for new or different entries come
/// first, then the removals, so that an entry that stays is never missing.
fn entries<K: Copy + Ord>(
    before: &BTreeMap<K, u32>,
    wanted: &BTreeMap<K, u32>,
    write: impl Fn(K, Option<u32>) -> Write,
) -> Vec<Write> {
    let put = wanted
        .iter()
        .filter(|&(key, value)| before.get(key) != Some(value))
        .map(|(&key, &value)| write(key, Some(value)));
    let gone = before
        .keys()
        .filter(|&key| !wanted.contains_key(key))
        .map(|&key| write(key, None));
    put.chain(gone).collect()
}

/// Returns the write that restores the entry of `write` to what `before` has.
fn inverse(write: &Write, before: &Published) -> Write {
    match *write {
        Write::Path(index, _) => {
            let path = before.paths.get(index as usize);
            Write::Path(index, path.copied().unwrap_or_default())
        }
        Write::Policy(index, _) => {
            let policy = before.policies.get(index as usize);
            Write::Policy(index, policy.copied().unwrap_or_default())
        }
        Write::Rule(index, _) => {
            let rule = before.rules.get(index as usize);
            Write::Rule(index, rule.copied().unwrap_or_default())
        }
        Write::Id(key, _) => Write::Id(key, before.ids.get(&key).copied()),
        Write::Device(key, _) => Write::Device(key, before.devices.get(&key).copied()),
        Write::Prefix(key, _) => Write::Prefix(key, before.prefixes.get(&key).copied()),
        Write::Remote(key, _) => Write::Remote(key, before.remote_prefixes.get(&key).copied()),
        Write::PathStats(path, _) => {
            let totals = before.totals.get(&path).cloned().unwrap_or_default();
            Write::PathStats(path, totals.0)
        }
        Write::CopyStats(path, _) => {
            let totals = before.totals.get(&path).cloned().unwrap_or_default();
            Write::CopyStats(path, totals.1)
        }
        Write::Head(_) => Write::Head(before.head),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use anyhow::ensure;
    use mptcp_common::abi::{LABEL, MAX_PATHS};

    use super::*;

    /// Maps that refuse some writes, by their number.
    struct Maps {
        held: Published,
        writes: usize,
        refused: std::ops::Range<usize>,
    }

    impl PolicyMaps for Maps {
        fn write(&mut self, write: &Write) -> Result<()> {
            let number = self.writes;
            self.writes += 1;
            ensure!(!self.refused.contains(&number), "write {number} is refused");
            fn put<K: Ord>(map: &mut BTreeMap<K, u32>, key: K, value: Option<u32>) {
                match value {
                    Some(value) => map.insert(key, value),
                    None => map.remove(&key),
                };
            }
            let held = &mut self.held;
            match write.clone() {
                Write::Path(index, path) => held.paths[index as usize] = path,
                Write::Policy(index, policy) => held.policies[index as usize] = policy,
                Write::Rule(index, rule) => held.rules[index as usize] = rule,
                Write::Id(key, value) => put(&mut held.ids, key, value),
                Write::Device(key, value) => put(&mut held.devices, key, value),
                Write::Prefix(key, value) => put(&mut held.prefixes, key, value),
                Write::Remote(key, value) => put(&mut held.remote_prefixes, key, value),
                Write::PathStats(path, stats) => held.totals.get_mut(&path).unwrap().0 = stats,
                Write::CopyStats(path, stats) => held.totals.get_mut(&path).unwrap().1 = stats,
                Write::Head(head) => held.head = head,
            }
            Ok(())
        }
    }

    fn path(label: u8) -> PathConfig {
        PathConfig {
            label: [label; LABEL],
            ..PathConfig::default()
        }
    }

    fn policy(weight: u32) -> Policy {
        Policy {
            weights: [weight; MAX_PATHS],
            ..Policy::default()
        }
    }

    fn rule(policy: u32) -> Rule {
        Rule {
            policy,
            ..Rule::default()
        }
    }

    fn stats(acked_bytes: u64) -> (Vec<PathStats>, Vec<CopyStats>) {
        let path = PathStats {
            acked_bytes,
            ..PathStats::default()
        };
        (vec![path; 2], vec![CopyStats::default(); 2])
    }

    /// Returns two policies that differ in every kind of entry, in every way.
    fn policies() -> (Published, Published) {
        let prefix = |number| (120, [number; 16]);
        let before = Published {
            paths: vec![path(1), path(2), path(3), path(4)],
            policies: vec![policy(1), policy(2)],
            rules: vec![rule(1), rule(2)],
            ids: [(1, 1), (2, 2)].into(),
            devices: [(7, 3), (8, 4)].into(),
            prefixes: [(prefix(1), 1), (prefix(2), 2)].into(),
            remote_prefixes: [(prefix(4), 1), (prefix(5), 2)].into(),
            totals: [(2, stats(1_000))].into(),
            head: Head {
                enforced: 0,
                generation: 10,
                owner: 5,
                rules: 1,
            },
        };
        let wanted = Published {
            paths: vec![path(1), path(20), path(30), path(4)],
            policies: vec![policy(3), policy(2)],
            rules: vec![rule(1), rule(3)],
            ids: [(2, 3), (3, 1)].into(),
            devices: [(8, 1), (9, 2)].into(),
            prefixes: [(prefix(2), 3), (prefix(3), 1)].into(),
            remote_prefixes: [(prefix(5), 3), (prefix(6), 1)].into(),
            totals: [(2, stats(0))].into(),
            head: Head {
                enforced: 1,
                generation: 11,
                owner: 5,
                rules: 2,
            },
        };
        (before, wanted)
    }

    fn maps(held: &Published, refused: std::ops::Range<usize>) -> Maps {
        Maps {
            held: held.clone(),
            writes: 0,
            refused,
        }
    }

    #[test]
    fn all_writes_hold() {
        let (before, wanted) = policies();
        let mut maps = maps(&before, 0..0);
        commit(&mut maps, &before, &wanted).unwrap();
        assert_eq!(maps.held, wanted);
        // Two totals, two paths, a policy, a rule, three entries in each of four
        // maps, CONFIG.
        assert_eq!(maps.writes, 19);
    }

    #[test]
    fn a_failure_at_any_write_leaves_the_policy_before() {
        let (before, wanted) = policies();
        for number in 0..changes(&before, &wanted).len() {
            let mut maps = maps(&before, number..number + 1);
            let error = commit(&mut maps, &before, &wanted).unwrap_err();
            assert!(matches!(error, PublishError::TakenBack(_)), "{error}");
            assert!(error.to_string().contains(&format!("write {number}")));
            let generation = maps.held.head.generation;
            maps.held.head.generation = before.head.generation;
            assert_eq!(maps.held, before, "write {number}");
            // A subflow that has looked at a map meanwhile looks once more.
            let expected = if number == 0 { 10 } else { 12 };
            assert_eq!(generation, expected, "write {number}");
        }
    }

    #[test]
    fn a_failure_of_going_back_is_reported() {
        let (before, wanted) = policies();
        // If the very first write is refused, nothing can stay behind.
        for number in 1..changes(&before, &wanted).len() {
            let mut maps = maps(&before, number..usize::MAX);
            let error = commit(&mut maps, &before, &wanted).unwrap_err();
            assert!(matches!(error, PublishError::Mixed { .. }), "{error}");
        }
        // One entry is stuck; all the others go back all the same.
        let number = changes(&before, &wanted).len() - 1;
        let mut maps = maps(&before, number..number + 2);
        let error = commit(&mut maps, &before, &wanted).unwrap_err();
        assert!(matches!(error, PublishError::Mixed { .. }), "{error}");
        assert_eq!(maps.held.remote_prefixes.len(), 1);
        maps.held.remote_prefixes = before.remote_prefixes.clone();
        maps.held.head.generation = before.head.generation;
        assert_eq!(maps.held, before);
    }

    #[test]
    fn a_second_attempt_mends_what_was_left_mixed() {
        let (before, wanted) = policies();
        for number in 1..changes(&before, &wanted).len() {
            let mut maps = maps(&before, number..usize::MAX);
            commit(&mut maps, &before, &wanted).unwrap_err();
            maps.refused = 0..0;
            let mixed = maps.held.clone();
            let again = Published {
                head: Head {
                    generation: 13,
                    ..before.head
                },
                ..before.clone()
            };
            commit(&mut maps, &mixed, &again).unwrap();
            assert_eq!(maps.held, again);
        }
    }
}
