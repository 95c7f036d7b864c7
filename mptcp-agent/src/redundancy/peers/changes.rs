//! Collects the changes of the kernel's maps.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use mptcp_common::abi::redundant::{Carriers, Link, LinkKey, PeerView};

/// A new value for an entry of a kernel map; `None` removes the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `LINKS`, by index. Neither `mtu` nor `path` is filled in. If an entry's
    /// addresses or peer change, it is removed first.
    Link(u32, Option<Link>),
    /// `CARRIERS`, by connection.
    Carriers(u64, Option<Carriers>),
    /// `PEER_VIEW`, by socket cookie.
    View(u64, Option<PeerView>),
    /// `FAMILIAR`: the index of a link.
    Familiar(LinkKey, Option<u32>),
}

/// The changes since they were last taken. Of each entry, only the newest
/// change is kept.
#[derive(Debug, Default)]
pub struct Changes {
    strange: HashSet<LinkKey>,
    gone_links: BTreeSet<u32>,
    links: BTreeMap<u32, Link>,
    carriers: BTreeMap<u64, Option<Carriers>>,
    views: BTreeMap<u64, Option<PeerView>>,
    familiar: HashMap<LinkKey, u32>,
}

impl Changes {
    /// Notes that a link is new or was extended.
    pub fn link(&mut self, index: u32, link: Link) {
        self.links.insert(index, link);
    }

    /// Notes that a link is gone or has changed. Its index may be reused.
    pub fn link_gone(&mut self, index: u32) {
        self.links.remove(&index);
        self.gone_links.insert(index);
    }

    /// Notes that new connections that match `key` are with the peer of link
    /// `index`.
    pub fn familiar(&mut self, key: LinkKey, index: u32) {
        self.familiar.insert(key, index);
    }

    /// Takes back what [`Changes::familiar`] noted for `key`.
    pub fn strange(&mut self, key: LinkKey) {
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
    ///   those of keys that lead new connections to a link.
    /// - A connection's carriers come before the new link at an index that they
    ///   no longer use.
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
                std::mem::take(&mut self.gone_links)
                    .into_iter()
                    .map(|index| Change::Link(index, None)),
            )
            .chain(coming)
            .chain(
                std::mem::take(&mut self.carriers)
                    .into_iter()
                    .map(|(connection, carriers)| Change::Carriers(connection, carriers)),
            )
            .chain(going)
            .chain(
                std::mem::take(&mut self.links)
                    .into_iter()
                    .map(|(index, link)| Change::Link(index, Some(link))),
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
        let link = |peer| Link {
            peer,
            ..Link::default()
        };
        let view = Some(PeerView::default());
        changes.link(1, link(8));
        changes.view(10, None);
        changes.view(11, view);
        changes.carriers(20, None);
        changes.link_gone(1);
        changes.link(1, link(9));
        let key = LinkKey::default();
        changes.familiar(key, 4);
        changes.strange(key);
        changes.familiar(key, 1);
        assert_eq!(
            changes.take(),
            [
                Change::Familiar(key, None),
                Change::Link(1, None),
                Change::View(11, view),
                Change::Carriers(20, None),
                Change::View(10, None),
                Change::Link(1, Some(link(9))),
                Change::Familiar(key, Some(1)),
            ]
        );
        assert_eq!(changes.take(), []);
    }
}
