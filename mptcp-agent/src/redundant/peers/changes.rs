//! What the kernel's maps are to hold, as it changes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use mptcp_common::abi::redundant::{Carriers, Link, LinkKey, PeerView};

/// An entry of a kernel map; `None`: it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `LINKS`, by index. Neither `mtu` nor `path` is filled in. An entry whose
    /// addresses or peer change is first taken away.
    Link(u32, Option<Link>),
    /// `CARRIERS`, by connection.
    Carriers(u64, Option<Carriers>),
    /// `PEER_VIEW`, by socket cookie.
    View(u64, Option<PeerView>),
    /// `FAMILIAR`: index of the link.
    Familiar(LinkKey, Option<u32>),
}

/// Changes since they were last taken, the last one of each entry.
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
    /// A link is new or was extended.
    pub fn link(&mut self, index: u32, link: Link) {
        self.links.insert(index, link);
    }

    /// A link is no more what it was; its index may be taken anew.
    pub fn link_gone(&mut self, index: u32) {
        self.links.remove(&index);
        self.gone_links.insert(index);
    }

    /// New connections like `key` are with the peer of link `index`.
    pub fn familiar(&mut self, key: LinkKey, index: u32) {
        self.familiar.insert(key, index);
    }

    /// They are no more.
    pub fn strange(&mut self, key: LinkKey) {
        self.familiar.remove(&key);
        self.strange.insert(key);
    }

    /// A connection's carriers.
    pub fn carriers(&mut self, connection: u64, carriers: Option<Carriers>) {
        self.carriers.insert(connection, carriers);
    }

    /// How the peer knows a subflow.
    pub fn view(&mut self, cookie: u64, view: Option<PeerView>) {
        self.views.insert(cookie, view);
    }

    /// All of them, in an order in which no copy can go astray while they are
    /// written one by one: what goes, before what takes its place (first what
    /// leads new connections to a link); a
    /// connection's carriers before an index that they left is another link;
    /// views while a carrier says that it is translated.
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
