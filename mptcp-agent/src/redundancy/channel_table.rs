//! The wanted content of maps `CHANNELS`, `CHANNEL_OF` and `PEER_CHANNELS`.
//!
//! Pure: returns the writes, in an order in which a key never leads to the
//! wrong channel.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mptcp_common::abi::redundant::{Channel, ChannelKey, PeerChannels};

/// One write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets an entry of `CHANNELS`.
    Channel(u32, Channel),
    /// Sets an entry of `CHANNEL_OF`.
    Key(ChannelKey, u32),
    /// Removes an entry of `CHANNEL_OF`.
    Gone(ChannelKey),
    /// Sets an entry of `PEER_CHANNELS`, or removes it.
    Peer(u64, Option<PeerChannels>),
}

/// The channels that exist.
#[derive(Debug, Default)]
pub struct ChannelTable {
    channels: BTreeMap<u32, Channel>,
    /// The channel that each key leads to. Two channels may have the same key
    /// for a while: a restarted agent has a new id at its old address.
    owners: HashMap<ChannelKey, u32>,
    /// The channels to each peer.
    peers: HashMap<u64, BTreeSet<u32>>,
}

impl ChannelTable {
    /// Puts `channel` at `index`, or removes the channel there, and adds the
    /// writes that this takes to `writes`.
    pub fn set(&mut self, index: u32, channel: Option<Channel>, writes: &mut Vec<Write>) {
        let before = self.channels.get(&index).copied();
        let Some(channel) = channel else {
            if let Some(before) = before {
                self.channels.remove(&index);
                self.leave_peer(before.peer, index, writes);
                self.release(index, key(&before), writes);
                writes.push(Write::Channel(index, Channel::default()));
            }
            return;
        };
        let same = before.is_some_and(|before| {
            (key(&before), before.peer, before.local_port)
                == (key(&channel), channel.peer, channel.local_port)
        });
        if let Some(before) = before
            && key(&before) != key(&channel)
        {
            self.release(index, key(&before), writes);
        }
        if let Some(before) = before
            && before.peer != channel.peer
        {
            self.leave_peer(before.peer, index, writes);
        }
        self.channels.insert(index, channel);
        if before != Some(channel) {
            writes.push(Write::Channel(index, channel));
        }
        if self.peers.entry(channel.peer).or_default().insert(index) {
            writes.push(self.peer(channel.peer));
        }
        // A channel that is only kept alive does not take its key back from
        // another channel.
        if !same && self.owners.insert(key(&channel), index) != Some(index) {
            writes.push(Write::Key(key(&channel), index));
        }
    }

    /// Returns every channel with its index.
    pub fn all(&self) -> Vec<(u32, Channel)> {
        self.channels
            .iter()
            .map(|(&index, &channel)| (index, channel))
            .collect()
    }

    /// Returns the devices (by ifindex) of channels that a peer has answered
    /// on.
    pub fn devices(&self) -> BTreeSet<u32> {
        let channels = self.channels.values().filter(|channel| channel.peer != 0);
        channels.map(|channel| channel.ifindex).collect()
    }

    /// Returns the channel at `index`.
    pub fn get(&self, index: u32) -> Option<&Channel> {
        self.channels.get(&index)
    }

    /// Takes channel `index` off the list of a peer's channels.
    fn leave_peer(&mut self, peer: u64, index: u32, writes: &mut Vec<Write>) {
        if let Some(channels) = self.peers.get_mut(&peer)
            && channels.remove(&index)
        {
            if channels.is_empty() {
                self.peers.remove(&peer);
            }
            writes.push(self.peer(peer));
        }
    }

    /// Returns the write of the list of a peer's channels: as many of them as
    /// the list has room for.
    fn peer(&self, peer: u64) -> Write {
        let list = self.peers.get(&peer).map(|channels| {
            let mut list = PeerChannels::default();
            for (place, &index) in list.channels.iter_mut().zip(channels) {
                *place = index;
            }
            list
        });
        Write::Peer(peer, list)
    }

    /// Takes key `gone` from channel `index`, if the key leads there. If other
    /// channels have the same key, it then leads to the one that expires last.
    fn release(&mut self, index: u32, gone: ChannelKey, writes: &mut Vec<Write>) {
        if self.owners.get(&gone) != Some(&index) {
            return;
        }
        let heir = self
            .channels
            .iter()
            .filter(|&(&other, channel)| other != index && key(channel) == gone)
            .max_by_key(|(_, channel)| channel.expires_ns)
            .map(|(&other, _)| other);
        match heir {
            Some(heir) => {
                self.owners.insert(gone, heir);
                writes.push(Write::Key(gone, heir));
            }
            None => {
                self.owners.remove(&gone);
                writes.push(Write::Gone(gone));
            }
        }
    }
}

/// Returns the key in `CHANNEL_OF`: the addresses and the port that datagrams
/// from the channel's peer arrive with.
fn key(channel: &Channel) -> ChannelKey {
    ChannelKey {
        local: channel.local,
        remote: channel.remote,
        remote_port: channel.remote_port,
        scope: ChannelKey::scope_of(&channel.remote, channel.ifindex),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(peer: u64, remote: u8, expires_ns: u64) -> Channel {
        Channel {
            local: [1; 16],
            remote: [remote; 16],
            peer,
            expires_ns,
            remote_port: 8684,
            local_port: 8684,
            ..Channel::default()
        }
    }

    /// Returns the writes to `CHANNELS` and `CHANNEL_OF`.
    fn set(table: &mut ChannelTable, index: u32, channel: Option<Channel>) -> Vec<Write> {
        let mut writes = Vec::new();
        table.set(index, channel, &mut writes);
        writes.retain(|write| !matches!(write, Write::Peer(..)));
        writes
    }

    /// Returns the last list of channels to `peer` that `set` writes, if any.
    fn list(
        table: &mut ChannelTable,
        peer: u64,
        index: u32,
        channel: Option<Channel>,
    ) -> Option<Option<PeerChannels>> {
        let mut writes = Vec::new();
        table.set(index, channel, &mut writes);
        let mut lists = writes.into_iter().filter_map(|write| match write {
            Write::Peer(of, list) if of == peer => Some(list),
            _ => None,
        });
        lists.next_back()
    }

    #[test]
    fn a_peers_channels_are_listed() {
        let mut table = ChannelTable::default();
        let channels = |first: &[u32]| {
            let mut list = PeerChannels::default();
            list.channels[..first.len()].copy_from_slice(first);
            Some(Some(list))
        };
        let (one, two) = (channel(7, 2, 10), channel(7, 3, 10));
        assert_eq!(list(&mut table, 7, 1, Some(one)), channels(&[1]));
        assert_eq!(list(&mut table, 7, 2, Some(two)), channels(&[1, 2]));
        // A channel that is only kept alive does not change the list.
        assert_eq!(list(&mut table, 7, 2, Some(channel(7, 3, 20))), None);
        // Now another peer is at the other end of the channel.
        assert_eq!(
            list(&mut table, 7, 1, Some(channel(8, 2, 20))),
            channels(&[2])
        );
        assert_eq!(list(&mut table, 7, 2, None), Some(None));
        for index in 10..30 {
            list(&mut table, 9, index, Some(channel(9, index as u8, 10)));
        }
        assert_eq!(
            list(&mut table, 9, 10, None),
            channels(&[11, 12, 13, 14, 15, 16, 17, 18])
        );
    }

    #[test]
    fn the_channel_comes_before_its_key_and_goes_after_it() {
        let mut table = ChannelTable::default();
        let one = channel(7, 2, 10);
        assert_eq!(
            set(&mut table, 1, Some(one)),
            [Write::Channel(1, one), Write::Key(key(&one), 1)]
        );
        // If a channel is kept alive, only its entry is written. If it did not
        // change, nothing is.
        let later = channel(7, 2, 20);
        assert_eq!(set(&mut table, 1, Some(later)), [Write::Channel(1, later)]);
        assert_eq!(set(&mut table, 1, Some(later)), []);
        assert_eq!(
            set(&mut table, 1, None),
            [
                Write::Gone(key(&one)),
                Write::Channel(1, Channel::default())
            ]
        );
        assert_eq!(set(&mut table, 1, None), []);
    }

    #[test]
    fn another_remote_is_another_key() {
        let mut table = ChannelTable::default();
        let (one, two) = (channel(7, 2, 10), channel(7, 3, 10));
        set(&mut table, 1, Some(one));
        assert_eq!(
            set(&mut table, 1, Some(two)),
            [
                Write::Gone(key(&one)),
                Write::Channel(1, two),
                Write::Key(key(&two), 1)
            ]
        );
    }

    #[test]
    fn a_restarted_peer_takes_the_key_over_and_the_old_one_leaves_it() {
        let mut table = ChannelTable::default();
        let (old, new) = (channel(7, 2, 10), channel(8, 2, 20));
        set(&mut table, 1, Some(old));
        assert_eq!(
            set(&mut table, 2, Some(new)),
            [Write::Channel(2, new), Write::Key(key(&new), 2)]
        );
        let late = channel(7, 2, 30);
        assert_eq!(set(&mut table, 1, Some(late)), [Write::Channel(1, late)]);
        assert_eq!(
            set(&mut table, 1, None),
            [Write::Channel(1, Channel::default())],
            "the key is the new one's"
        );
        // The other way round, the key falls to the one that stays.
        set(&mut table, 1, Some(old));
        assert_eq!(
            set(&mut table, 1, None),
            [
                Write::Key(key(&new), 2),
                Write::Channel(1, Channel::default())
            ]
        );
    }

    #[test]
    fn what_a_device_changes_is_written_and_the_key_stays() {
        let mut table = ChannelTable::default();
        set(&mut table, 1, Some(channel(7, 2, 10)));
        let smaller = Channel {
            mtu: 1400,
            path: 3,
            ..channel(7, 2, 10)
        };
        assert_eq!(
            set(&mut table, 1, Some(smaller)),
            [Write::Channel(1, smaller)]
        );
        assert_eq!(table.get(1), Some(&smaller));
        assert_eq!(table.all(), [(1, smaller)]);
    }
}
