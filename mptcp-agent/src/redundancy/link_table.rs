//! The wanted content of maps `LINKS`, `LINK_OF` and `PEER_LINKS`.
//!
//! Pure: returns the writes, in an order in which a key never leads to the
//! wrong link.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mptcp_common::abi::redundant::{Link, LinkKey, PeerLinks};

/// One write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets an entry of `LINKS`.
    Link(u32, Link),
    /// Sets an entry of `LINK_OF`.
    Key(LinkKey, u32),
    /// Removes an entry of `LINK_OF`.
    Gone(LinkKey),
    /// Sets an entry of `PEER_LINKS`, or removes it.
    Peer(u64, Option<PeerLinks>),
}

/// The links that exist.
#[derive(Debug, Default)]
pub struct LinkTable {
    links: BTreeMap<u32, Link>,
    /// The link that each key leads to. Two links may have the same key for a
    /// while: a restarted agent has a new id at its old address.
    owners: HashMap<LinkKey, u32>,
    /// The links to each peer.
    peers: HashMap<u64, BTreeSet<u32>>,
}

impl LinkTable {
    /// Puts `link` at `index`, or removes the link there, and adds the writes
    /// that this takes to `writes`.
    pub fn set(&mut self, index: u32, link: Option<Link>, writes: &mut Vec<Write>) {
        let before = self.links.get(&index).copied();
        let Some(link) = link else {
            if let Some(before) = before {
                self.links.remove(&index);
                self.leave_peer(before.peer, index, writes);
                self.release(index, key(&before), writes);
                writes.push(Write::Link(index, Link::default()));
            }
            return;
        };
        let same = before.is_some_and(|before| {
            (key(&before), before.peer, before.local_port)
                == (key(&link), link.peer, link.local_port)
        });
        if let Some(before) = before
            && key(&before) != key(&link)
        {
            self.release(index, key(&before), writes);
        }
        if let Some(before) = before
            && before.peer != link.peer
        {
            self.leave_peer(before.peer, index, writes);
        }
        self.links.insert(index, link);
        if before != Some(link) {
            writes.push(Write::Link(index, link));
        }
        if self.peers.entry(link.peer).or_default().insert(index) {
            writes.push(self.peer(link.peer));
        }
        // A link that is only kept alive does not take its key back from
        // another link.
        if !same && self.owners.insert(key(&link), index) != Some(index) {
            writes.push(Write::Key(key(&link), index));
        }
    }

    /// Returns every link with its index.
    pub fn all(&self) -> Vec<(u32, Link)> {
        self.links
            .iter()
            .map(|(&index, &link)| (index, link))
            .collect()
    }

    /// Returns the devices (by ifindex) of links that a peer has answered on.
    pub fn devices(&self) -> BTreeSet<u32> {
        let links = self.links.values().filter(|link| link.peer != 0);
        links.map(|link| link.ifindex).collect()
    }

    /// Returns the link at `index`.
    pub fn get(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// Takes link `index` off the list of a peer's links.
    fn leave_peer(&mut self, peer: u64, index: u32, writes: &mut Vec<Write>) {
        if let Some(links) = self.peers.get_mut(&peer)
            && links.remove(&index)
        {
            if links.is_empty() {
                self.peers.remove(&peer);
            }
            writes.push(self.peer(peer));
        }
    }

    /// Returns the write of the list of a peer's links: as many of them as the
    /// list has room for.
    fn peer(&self, peer: u64) -> Write {
        let list = self.peers.get(&peer).map(|links| {
            let mut list = PeerLinks::default();
            for (place, &index) in list.links.iter_mut().zip(links) {
                *place = index;
            }
            list
        });
        Write::Peer(peer, list)
    }

    /// Takes key `gone` from link `index`, if the key leads there. If other
    /// links have the same key, it then leads to the one that expires last.
    fn release(&mut self, index: u32, gone: LinkKey, writes: &mut Vec<Write>) {
        if self.owners.get(&gone) != Some(&index) {
            return;
        }
        let heir = self
            .links
            .iter()
            .filter(|&(&other, link)| other != index && key(link) == gone)
            .max_by_key(|(_, link)| link.expires_ns)
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

/// Returns the key in `LINK_OF`: the addresses and the port that datagrams
/// from the link's peer arrive with.
fn key(link: &Link) -> LinkKey {
    LinkKey {
        local: link.local,
        remote: link.remote,
        remote_port: link.remote_port,
        scope: LinkKey::scope_of(&link.remote, link.ifindex),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(peer: u64, remote: u8, expires_ns: u64) -> Link {
        Link {
            local: [1; 16],
            remote: [remote; 16],
            peer,
            expires_ns,
            remote_port: 8684,
            local_port: 8684,
            ..Link::default()
        }
    }

    /// Returns the writes to `LINKS` and `LINK_OF`.
    fn set(table: &mut LinkTable, index: u32, link: Option<Link>) -> Vec<Write> {
        let mut writes = Vec::new();
        table.set(index, link, &mut writes);
        writes.retain(|write| !matches!(write, Write::Peer(..)));
        writes
    }

    /// Returns the last list of links to `peer` that `set` writes, if any.
    fn list(
        table: &mut LinkTable,
        peer: u64,
        index: u32,
        link: Option<Link>,
    ) -> Option<Option<PeerLinks>> {
        let mut writes = Vec::new();
        table.set(index, link, &mut writes);
        let mut lists = writes.into_iter().filter_map(|write| match write {
            Write::Peer(of, list) if of == peer => Some(list),
            _ => None,
        });
        lists.next_back()
    }

    #[test]
    fn a_peers_links_are_listed() {
        let mut table = LinkTable::default();
        let links = |first: &[u32]| {
            let mut list = PeerLinks::default();
            list.links[..first.len()].copy_from_slice(first);
            Some(Some(list))
        };
        let (one, two) = (link(7, 2, 10), link(7, 3, 10));
        assert_eq!(list(&mut table, 7, 1, Some(one)), links(&[1]));
        assert_eq!(list(&mut table, 7, 2, Some(two)), links(&[1, 2]));
        // A link that is only kept alive does not change the list.
        assert_eq!(list(&mut table, 7, 2, Some(link(7, 3, 20))), None);
        // Now another peer is at the other end of the link.
        assert_eq!(list(&mut table, 7, 1, Some(link(8, 2, 20))), links(&[2]));
        assert_eq!(list(&mut table, 7, 2, None), Some(None));
        for index in 10..30 {
            list(&mut table, 9, index, Some(link(9, index as u8, 10)));
        }
        assert_eq!(
            list(&mut table, 9, 10, None),
            links(&[11, 12, 13, 14, 15, 16, 17, 18])
        );
    }

    #[test]
    fn the_link_comes_before_its_key_and_goes_after_it() {
        let mut table = LinkTable::default();
        let one = link(7, 2, 10);
        assert_eq!(
            set(&mut table, 1, Some(one)),
            [Write::Link(1, one), Write::Key(key(&one), 1)]
        );
        // If a link is kept alive, only its entry is written. If it did not
        // change, nothing is.
        let later = link(7, 2, 20);
        assert_eq!(set(&mut table, 1, Some(later)), [Write::Link(1, later)]);
        assert_eq!(set(&mut table, 1, Some(later)), []);
        assert_eq!(
            set(&mut table, 1, None),
            [Write::Gone(key(&one)), Write::Link(1, Link::default())]
        );
        assert_eq!(set(&mut table, 1, None), []);
    }

    #[test]
    fn another_remote_is_another_key() {
        let mut table = LinkTable::default();
        let (one, two) = (link(7, 2, 10), link(7, 3, 10));
        set(&mut table, 1, Some(one));
        assert_eq!(
            set(&mut table, 1, Some(two)),
            [
                Write::Gone(key(&one)),
                Write::Link(1, two),
                Write::Key(key(&two), 1)
            ]
        );
    }

    #[test]
    fn a_restarted_peer_takes_the_key_over_and_the_old_one_leaves_it() {
        let mut table = LinkTable::default();
        let (old, new) = (link(7, 2, 10), link(8, 2, 20));
        set(&mut table, 1, Some(old));
        assert_eq!(
            set(&mut table, 2, Some(new)),
            [Write::Link(2, new), Write::Key(key(&new), 2)]
        );
        let late = link(7, 2, 30);
        assert_eq!(set(&mut table, 1, Some(late)), [Write::Link(1, late)]);
        assert_eq!(
            set(&mut table, 1, None),
            [Write::Link(1, Link::default())],
            "the key is the new one's"
        );
        // The other way round, the key falls to the one that stays.
        set(&mut table, 1, Some(old));
        assert_eq!(
            set(&mut table, 1, None),
            [Write::Key(key(&new), 2), Write::Link(1, Link::default())]
        );
    }

    #[test]
    fn what_a_device_changes_is_written_and_the_key_stays() {
        let mut table = LinkTable::default();
        set(&mut table, 1, Some(link(7, 2, 10)));
        let smaller = Link {
            mtu: 1400,
            path: 3,
            ..link(7, 2, 10)
        };
        assert_eq!(set(&mut table, 1, Some(smaller)), [Write::Link(1, smaller)]);
        assert_eq!(table.get(1), Some(&smaller));
        assert_eq!(table.all(), [(1, smaller)]);
    }
}
