//! Collects the changes of the kernel's maps.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use mptcp_common::abi::redundant::{Carriers, Channel, ChannelKey, PeerView};

/// A new value for an entry of a kernel map; `None` removes the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `CHANNELS`, by index. Neither `mtu` nor `path` is filled in. If an
    /// entry's addresses or peer change, it is removed first.
    Channel(u32, Option<Channel>),
    /// `CARRIERS`, by connection.
    Carriers(u64, Option<Carriers>),
    /// `PEER_VIEW`, by socket cookie.
    View(u64, Option<PeerView>),
    /// `FAMILIAR`: the index of a channel.
    Familiar(ChannelKey, Option<u32>),
}

/// The changes since they were last taken. Of each entry, only the newest
/// change is kept.
#[derive(Debug, Default)]
pub struct Changes {
    strange: HashSet<ChannelKey>,
    gone_channels: BTreeSet<u32>,
    channels: BTreeMap<u32, Channel>,
    carriers: BTreeMap<u64, Option<Carriers>>,
    views: BTreeMap<u64, Option<PeerView>>,
    familiar: HashMap<ChannelKey, u32>,
}

impl Changes {
    /// Notes that a channel is new or was extended.
    pub fn channel(&mut self, index: u32, channel: Channel) {
        self.channels.insert(index, channel);
    }

    /// Notes that a channel is gone or has changed. Its index may be reused.
    pub fn channel_gone(&mut self, index: u32) {
        self.channels.remove(&index);
        self.gone_channels.insert(index);
    }

    /// Notes that new connections that match `key` are with the peer of channel
    /// `index`.
    pub fn familiar(&mut self, key: ChannelKey, index: u32) {
        self.familiar.insert(key, index);
    }

    /// Takes back what [`Changes::familiar`] noted for `key`.
    pub fn strange(&mut self, key: ChannelKey) {
        self.familiar.remove(&key);
        self.strange.insert(key);
    }

    /// Notes a connection's carriers.
    pub fn carriers(&mut self, connection: u64, carriers: Option<Carriers>) {
        self.carriers.insert(connection, carriers);
    }

    /// Notes the addresses and ports by which the peer knows a subflow.
    pub fn view(&mut self, cookie: u64, view: Option<PeerView>) {
        self.views.insert(cookie, view);
    }

    /// Takes all changes, in an order in which no copy can go astray while they
    /// are written one by one:
    ///
    /// - Removals come before the entries that replace them; the first ones are
    ///   those of keys that lead new connections to a channel.
    /// - A connection's carriers come before the new channel at an index that
    ///   they no longer use.
    /// - A view is added before a carrier says that it is translated, and
    ///   removed after the carrier no longer does.
    pub fn take(&mut self) -> Vec<Change> {
        let (going, coming): (Vec<_>, Vec<_>) = std::mem::take(&mut self.views)
            .into_iter()
            .map(|(cookie, view)| Change::View(cookie, view))
            .partition(|change| matches!(change, Change::View(_, None)));
        std::mem::take(&mut self.strange)
            .into_iter()
            .map(|key| Change::Familiar(key, None))
            .chain(
                std::mem::take(&mut self.gone_channels)
                    .into_iter()
                    .map(|index| Change::Channel(index, None)),
            )
            .chain(coming)
            .chain(
                std::mem::take(&mut self.carriers)
                    .into_iter()
                    .map(|(connection, carriers)| Change::Carriers(connection, carriers)),
            )
            .chain(going)
            .chain(
                std::mem::take(&mut self.channels)
                    .into_iter()
                    .map(|(index, channel)| Change::Channel(index, Some(channel))),
            )
            .chain(
                std::mem::take(&mut self.familiar)
                    .into_iter()
                    .map(|(key, index)| Change::Familiar(key, Some(index))),
            )
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_is_gone_before_another_takes_its_place() {
        let mut changes = Changes::default();
        let channel = |peer| Channel {
            peer,
            ..Channel::default()
        };
        let view = Some(PeerView::default());
        changes.channel(1, channel(8));
        changes.view(10, None);
        changes.view(11, view);
        changes.carriers(20, None);
        changes.channel_gone(1);
        changes.channel(1, channel(9));
        let key = ChannelKey::default();
        changes.familiar(key, 4);
        changes.strange(key);
        changes.familiar(key, 1);
        assert_eq!(
            changes.take(),
            [
                Change::Familiar(key, None),
                Change::Channel(1, None),
                Change::View(11, view),
                Change::Carriers(20, None),
                Change::View(10, None),
                Change::Channel(1, Some(channel(9))),
                Change::Familiar(key, Some(1)),
            ]
        );
        assert_eq!(changes.take(), []);
    }
}
