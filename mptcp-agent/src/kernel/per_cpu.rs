//! Sums over the CPUs, for maps that hold a value for each CPU.

use anyhow::Result;
use aya::Pod;
use aya::maps::{Map, PerCpuArray};

/// Returns the sum, as `plus` adds, of what every CPU holds in an entry.
///
/// # Errors
/// The map is no per-CPU array of such values, or cannot be read.
pub(super) fn sum<V: Pod + Default>(map: &Map, index: u32, plus: fn(V, &V) -> V) -> Result<V> {
    let map: PerCpuArray<_, V> = PerCpuArray::try_from(map)?;
    Ok(map.get(&index, 0)?.iter().fold(V::default(), plus))
}

/// Returns the sum of each entry, by its index.
///
/// # Errors
/// The map is no per-CPU array of such values, or cannot be read.
pub(super) fn sums<V: Pod + Default>(map: &Map, plus: fn(V, &V) -> V) -> Result<Vec<V>> {
    let entries = PerCpuArray::<_, V>::try_from(map)?.len();
    (0..entries).map(|index| sum(map, index, plus)).collect()
}
