//! Work that grows with the number of connections, cut into pages.
//!
//! The loop that does such work also sends the heartbeat. So the work stops
//! after each page, and offers a moment in which a heartbeat can be sent.

use anyhow::Result;

/// The number of entries of a page. Reading an entry of a map takes two system
/// calls, so a page takes about a millisecond.
pub const PAGE: usize = 512;

/// Passes each of `entries` to `take`, and calls `between` after every
/// [`PAGE`] of them.
///
/// # Errors
/// An entry cannot be read, or `take` or `between` fails.
pub fn in_pages<T, E: Into<anyhow::Error>>(
    entries: impl IntoIterator<Item = Result<T, E>>,
    between: &mut dyn FnMut() -> Result<()>,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    for (entry, left) in entries.into_iter().zip((0..PAGE).rev().cycle()) {
        take(entry.map_err(Into::into)?)?;
        if left == 0 {
            between()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::convert::Infallible;

    use anyhow::{anyhow, bail};
    use aya::EbpfLoader;
    use aya::maps::{HashMap, MapData, MapError};
    use mptcp_common::abi::Subflow;
    use mptcp_common::names;

    use super::*;
    use crate::host::skip::skip;
    use crate::kernel::load::OBJECT;

    /// Returns how many entries were taken before each offer of a heartbeat.
    fn offers<E: Into<anyhow::Error>>(
        entries: impl IntoIterator<Item = Result<u64, E>>,
    ) -> Vec<usize> {
        let taken = std::cell::Cell::new(0);
        let mut offers = Vec::new();
        let mut between = || {
            offers.push(taken.get());
            Ok(())
        };
        in_pages(entries, &mut between, |_| {
            taken.set(taken.get() + 1);
            Ok(())
        })
        .unwrap();
        offers
    }

    fn fake(count: usize) -> impl Iterator<Item = Result<u64, Infallible>> {
        (0..count as u64).map(Ok)
    }

    #[test]
    fn a_heartbeat_is_offered_after_each_page() {
        assert!(offers(fake(0)).is_empty());
        assert!(offers(fake(PAGE - 1)).is_empty());
        assert_eq!(offers(fake(PAGE)), [PAGE]);
        assert_eq!(offers(fake(3 * PAGE + 1)), [PAGE, 2 * PAGE, 3 * PAGE]);
        assert_eq!(offers(fake(100_000)).len(), 100_000 / PAGE);
    }

    #[test]
    fn the_first_failure_ends_the_work() {
        let entries = (0..).map(|number| match number {
            3 => Err(anyhow!("unreadable")),
            number => Ok(number),
        });
        let mut taken = Vec::new();
        let done = in_pages(entries, &mut || Ok(()), |entry: i32| {
            taken.push(entry);
            Ok(())
        });
        assert_eq!(
            (done.unwrap_err().to_string().as_str(), taken),
            ("unreadable", vec![0, 1, 2])
        );
        let late = in_pages(fake(2 * PAGE), &mut || bail!("no heartbeat"), |_| Ok(()));
        assert_eq!(late.unwrap_err().to_string(), "no heartbeat");
    }

    /// Makes the maps of the eBPF object, with room for `count` subflows.
    fn subflows(count: u32) -> Result<HashMap<MapData, u64, Subflow>> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(names::map::SUBFLOWS, count);
        let map = loader.load(OBJECT)?.take_map(names::map::SUBFLOWS);
        Ok(HashMap::try_from(
            map.unwrap_or_else(|| unreachable!("no SUBFLOWS")),
        )?)
    }

    #[test]
    fn a_map_of_the_kernel_is_read_in_pages() {
        const COUNT: usize = 10 * PAGE;
        let mut map = match subflows(COUNT as u32) {
            Ok(map) => map,
            Err(error) => return skip(&format!("no BPF map can be made here: {error:#}")),
        };
        for cookie in 0..COUNT as u64 {
            map.insert(cookie, Subflow::default(), 0).unwrap();
        }
        assert_eq!(offers::<MapError>(map.keys()).len(), COUNT / PAGE);
        let cookies = map.iter().map(|entry| entry.map(|(cookie, _)| cookie));
        assert_eq!(offers::<MapError>(cookies).len(), COUNT / PAGE);
    }
}
