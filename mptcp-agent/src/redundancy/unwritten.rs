//! Writes to the kernel's maps that failed and must be retried.
//!
//! For a moment, a map may be full or the kernel short of memory. A write that
//! failed is kept, one for each entry, until it succeeds or a newer write
//! to the same entry replaces it.
//!
//! Pure: the function that writes is an argument, and so is time.

use std::collections::BTreeMap;

use mptcp_common::abi::redundant::{Carriers, ChannelKey, PeerView};

use super::channel_table;

/// Time between two attempts.
const AGAIN_NS: u64 = 250_000_000;

/// One write to a map of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// `CHANNELS`, or a map that leads to its entries.
    Channels(channel_table::Write),
    /// `FAMILIAR`.
    Familiar(ChannelKey, Option<u32>),
    /// `CARRIERS`, by connection.
    Carriers(u64, Option<Carriers>),
    /// `PEER_VIEW`, by socket cookie.
    View(u64, Option<PeerView>),
}

/// The entry that a write is for. Retries follow this order: the maps that lead
/// to a channel come before the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Familiar(ChannelKey),
    Key(ChannelKey),
    Peer(u64),
    Carriers(u64),
    View(u64),
    Channel(u32),
}

impl Write {
    fn entry(&self) -> Entry {
        match *self {
            Self::Channels(channel_table::Write::Channel(index, _)) => Entry::Channel(index),
            Self::Channels(channel_table::Write::Key(key, _) | channel_table::Write::Gone(key)) => {
                Entry::Key(key)
            }
            Self::Channels(channel_table::Write::Peer(peer, _)) => Entry::Peer(peer),
            Self::Familiar(key, _) => Entry::Familiar(key),
            Self::Carriers(connection, _) => Entry::Carriers(connection),
            Self::View(cookie, _) => Entry::View(cookie),
        }
    }
}

/// The writes that failed so far.
#[derive(Debug, Default)]
pub struct Unwritten {
    writes: BTreeMap<Entry, Write>,
    /// Time of the next attempt.
    due_ns: u64,
}

impl Unwritten {
    /// Does `write` now, and keeps it if it fails. It replaces an earlier write
    /// to the same entry that is still kept.
    ///
    /// # Errors
    /// The error of `apply`.
    pub fn write<E>(
        &mut self,
        write: Write,
        now_ns: u64,
        apply: impl FnOnce(&Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let entry = write.entry();
        self.writes.remove(&entry);
        apply(&write).inspect_err(|_| {
            if self.writes.is_empty() {
                self.due_ns = now_ns.saturating_add(AGAIN_NS);
            }
            self.writes.insert(entry, write);
        })
    }

    /// Returns the time at which [`Unwritten::again`] has something to do.
    pub fn due_ns(&self) -> Option<u64> {
        (!self.writes.is_empty()).then_some(self.due_ns)
    }

    /// Retries the kept writes, if it is time, and keeps those that fail again.
    ///
    /// # Errors
    /// The first error of `apply`. All writes are tried nevertheless.
    pub fn again<E>(
        &mut self,
        now_ns: u64,
        mut apply: impl FnMut(&Write) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.writes.is_empty() || now_ns < self.due_ns {
            return Ok(());
        }
        self.due_ns = now_ns.saturating_add(AGAIN_NS);
        let mut result = Ok(());
        self.writes.retain(|_, write| match apply(write) {
            Ok(()) => false,
            Err(error) => {
                if result.is_ok() {
                    result = Err(error);
                }
                true
            }
        });
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map in which only removals succeed while it is `full`.
    #[derive(Default)]
    struct Map {
        full: bool,
        entries: BTreeMap<u64, Carriers>,
    }

    impl Map {
        fn apply(&mut self, write: &Write) -> Result<(), &'static str> {
            match *write {
                Write::Carriers(key, Some(carriers)) if !self.full => {
                    self.entries.insert(key, carriers);
                    Ok(())
                }
                Write::Carriers(key, None) => {
                    self.entries.remove(&key);
                    Ok(())
                }
                _ => Err("full"),
            }
        }
    }

    fn carriers(peer: u64) -> Carriers {
        Carriers {
            peer,
            ..Carriers::default()
        }
    }

    #[test]
    fn what_fails_once_is_written_later() {
        let mut map = Map {
            full: true,
            ..Map::default()
        };
        let mut unwritten = Unwritten::default();
        for key in [1, 2] {
            let write = Write::Carriers(key, Some(carriers(7)));
            assert!(unwritten.write(write, 0, |write| map.apply(write)).is_err());
        }
        assert_eq!(unwritten.due_ns(), Some(AGAIN_NS));
        assert!(unwritten.again(AGAIN_NS, |write| map.apply(write)).is_err());
        assert_eq!(unwritten.due_ns(), Some(2 * AGAIN_NS));
        map.full = false;
        assert_eq!(
            unwritten.again(2 * AGAIN_NS - 1, |write| map.apply(write)),
            Ok(())
        );
        assert!(map.entries.is_empty(), "it is not time yet");
        assert_eq!(
            unwritten.again(2 * AGAIN_NS, |write| map.apply(write)),
            Ok(())
        );
        assert_eq!(
            map.entries,
            BTreeMap::from([(1, carriers(7)), (2, carriers(7))])
        );
        assert_eq!(unwritten.due_ns(), None);
    }

    #[test]
    fn only_the_last_word_is_tried_again() {
        let mut map = Map {
            full: true,
            ..Map::default()
        };
        let mut unwritten = Unwritten::default();
        for write in [
            Write::Carriers(1, Some(carriers(7))),
            Write::Carriers(1, None),
            Write::Carriers(2, Some(carriers(7))),
            Write::Carriers(2, Some(carriers(8))),
        ] {
            let _ = unwritten.write(write, 0, |write| map.apply(write));
        }
        map.full = false;
        assert_eq!(unwritten.again(AGAIN_NS, |write| map.apply(write)), Ok(()));
        assert_eq!(map.entries, BTreeMap::from([(2, carriers(8))]));
    }
}
