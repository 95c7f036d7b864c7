//! Links: two agents, an address of each.
//!
//! A link is known by the peer and the two addresses as the connection's client
//! has them (`Pair`). What the peer's address and port look like from here (its
//! road) may change under it: when NAT drops the mapping, all subflows move
//! with the link. One road leads to one peer: if another proves to be there (a
//! restarted agent has a new id), it replaces the first.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use mptcp_api::hello::Message;
use mptcp_common::abi::redundant::{self, LinkKey, MAX_LINKS, Traffic};

use super::{address, changes::Changes, quality::Quality, report::Report, schedule};
use crate::redundant::gate::prefix;

/// The addresses of a link's ends, as the client of the connection has them.
pub type Pair = ([u8; 16], [u8; 16]);

/// Links between one address of this host and one remote address (one prefix of
/// 64 bits over IPv6). There is more than one where several hosts share it (NAT).
/// Who takes many identities there leaves room for others.
pub const MAX_OF_ONE: usize = 256;

/// Why there is no room for another link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// The remote address has [`MAX_OF_ONE`].
    Quota,
    /// There are [`MAX_LINKS`].
    Full,
}

/// Services (TCP ports) at one address that new connections are known by.
const MAX_SERVICES: usize = 16;

/// One link.
#[derive(Debug)]
pub struct Link {
    /// Between which addresses and ports, as they are from here.
    pub road: LinkKey,
    /// The peer's agent id.
    pub peer: u64,
    /// By which device its subflows leave; 0: not known.
    pub ifindex: u32,
    /// Until when the peer counts as there.
    pub expires_ns: u64,
    /// Since when it does not.
    pub silent_since_ns: Option<u64>,
    /// Another peer is at the other end of its road now: the kernel does not
    /// have it any more.
    pub replaced: bool,
    /// The peer's device, by the peer's own number; 0: not known.
    peer_ifindex: u32,
    /// What it is like for copies.
    pub quality: Quality,
    pair: Pair,
    /// What new connections between its addresses are known by: keys in
    /// `FAMILIAR`.
    familiar: HashSet<LinkKey>,
    /// Its last member, whose subflow has closed, and until when it stays.
    lingers: Option<(u64, u64)>,
    members: usize,
    /// Those members that may say hello: this end is their client.
    speakers: BTreeSet<u64>,
    speaker: u64,
    /// The last hello is not answered yet.
    awaiting: bool,
    said_ns: u64,
    next_hello_ns: u64,
    /// Hellos that still go out at [`schedule::REPLACED`].
    hurried: usize,
}

impl Link {
    /// When something is to happen: a hello, or the peer has fallen silent.
    pub fn due_ns(&self) -> Option<u64> {
        let expiry = self.silent_since_ns.is_none().then_some(self.expires_ns);
        let hello = (!self.speakers.is_empty()).then_some(self.next_hello_ns);
        let end = self.lingers.map(|(_, until_ns)| until_ns);
        expiry.into_iter().chain(hello).chain(end).min()
    }

    /// Its last member, if its subflow has closed and its time is over; that of
    /// a `silent` link is.
    pub fn outlived(&self, silent: bool, now_ns: u64) -> Option<u64> {
        let (cookie, until_ns) = self.lingers?;
        (silent || until_ns <= now_ns).then_some(cookie)
    }

    /// The kernel is not to have it any more.
    fn withdraw(&mut self, index: u32, changes: &mut Changes) {
        self.estrange(changes);
        changes.link_gone(index);
    }

    /// New connections are not to be taken for its peer's any more.
    fn estrange(&mut self, changes: &mut Changes) {
        self.familiar.drain().for_each(|key| changes.strange(key));
    }

    /// Notes that the peer fell silent if its time is over; whether it did so
    /// now.
    pub fn expire(&mut self, now_ns: u64) -> bool {
        let over = self.silent_since_ns.is_none() && self.expires_ns <= now_ns;
        if over {
            self.silent_since_ns = Some(self.expires_ns);
        }
        over
    }

    /// Whose hello goes out now, if it is time. The same as ever, while it is
    /// answered; else the next one: the peer may have closed that connection.
    pub fn speak(&mut self, now_ns: u64) -> Option<u64> {
        if self.next_hello_ns > now_ns {
            return None;
        }
        let after = if self.awaiting {
            self.quality.miss(now_ns.saturating_sub(self.said_ns));
            self.speaker.saturating_add(1)
        } else {
            self.speaker
        };
        let next = self.speakers.range(after..).next();
        self.speaker = *next.or_else(|| self.speakers.first())?;
        self.awaiting = true;
        self.said_ns = now_ns;
        let wait = match self.silent_since_ns {
            None => schedule::KEEP_UNANSWERED,
            Some(_) if self.hurried > 0 => schedule::REPLACED,
            Some(since_ns) => schedule::keep_silent(now_ns.saturating_sub(since_ns)),
        };
        self.hurried = self.hurried.saturating_sub(1);
        self.next_hello_ns = now_ns.saturating_add(wait);
        Some(self.speaker)
    }

    /// The peer said something valid and fresh; whether it was not there
    /// before.
    fn heard(&mut self, keep_ns: u64, now_ns: u64) -> bool {
        self.expires_ns = now_ns.saturating_add(schedule::ALIVE);
        self.awaiting = false;
        self.next_hello_ns = self.said_ns.saturating_add(keep_ns).max(now_ns);
        self.silent_since_ns.take().is_some()
    }

    /// What the kernel is told of it.
    fn image(&self, local_port: u16) -> redundant::Link {
        redundant::Link {
            local: self.road.local,
            remote: self.road.remote,
            peer: self.peer,
            expires_ns: self.expires_ns,
            ifindex: self.ifindex,
            remote_port: self.road.remote_port,
            local_port,
            cost: self.quality.cost(),
            rate: self.quality.rate(),
            peer_ifindex: self.peer_ifindex,
            ..redundant::Link::default()
        }
    }
}

/// All links, at most [`MAX_LINKS`] - 1, by index.
#[derive(Debug)]
pub struct Links {
    port: u16,
    /// See [`Quality::new`].
    epoch_us: u64,
    slots: HashMap<u32, Link>,
    /// By peer, addresses and, of link-local ones, the device.
    by_pair: HashMap<(u64, Pair, u16), u32>,
    by_road: HashMap<LinkKey, u32>,
    /// How many links there are between an address and another (or its prefix).
    by_ends: HashMap<Pair, usize>,
    /// Indices not used yet start here; 0 never is.
    unused: u32,
    /// Indices used before, oldest first: a new link takes one as late as
    /// possible.
    free: VecDeque<u32>,
    /// Links without an open subflow, by when they go.
    lingering: BTreeSet<(u64, u32)>,
}

impl Links {
    /// No link; `port` is this agent's, and `epoch_us` random.
    pub fn new(port: u16, epoch_us: u64) -> Self {
        Self {
            port,
            epoch_us,
            slots: HashMap::new(),
            by_pair: HashMap::new(),
            by_road: HashMap::new(),
            by_ends: HashMap::new(),
            unused: 1,
            free: VecDeque::new(),
            lingering: BTreeSet::new(),
        }
    }

    /// A link.
    pub fn get(&self, index: u32) -> Option<&Link> {
        self.slots.get(&index)
    }

    /// A link, to change.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Link> {
        self.slots.get_mut(&index)
    }

    /// Every link.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.slots.values()
    }

    /// Whether a peer is, or was, at the end of this road.
    pub fn leads_to_a_peer(&self, road: &LinkKey) -> bool {
        self.by_road.contains_key(road)
    }

    /// The link to `peer`, which has proven to be at the end of `road`: an old
    /// one, moved if need be, or a new one, without members. Also the index of
    /// a link that it replaces there.
    ///
    /// # Errors
    /// There is no room for a new one.
    pub fn place(
        &mut self,
        peer: u64,
        pair: Pair,
        road: LinkKey,
        now_ns: u64,
        changes: &mut Changes,
    ) -> Result<(u32, Option<u32>), Crowded> {
        let there = self.by_road.get(&road).copied();
        if let Some(index) = there
            && self.get(index).is_some_and(|link| link.peer == peer)
        {
            return Ok((index, None));
        }
        let index = match self.by_pair.get(&(peer, pair, road.scope)) {
            Some(&index) => index,
            None => self.open(peer, pair, road, now_ns)?,
        };
        if let Some(link) = self.slots.get_mut(&index)
            && (link.road != road || link.replaced)
        {
            let before = std::mem::replace(&mut link.road, road);
            let replaced = std::mem::take(&mut link.replaced);
            link.hurried = 0;
            if !replaced {
                self.by_road.remove(&before);
                link.withdraw(index, changes);
            }
            self.count(&before, false);
            self.count(&road, true);
        }
        if let Some(before) = there.and_then(|before| self.slots.get_mut(&before)) {
            before.replaced = true;
            before.expires_ns = now_ns;
            before.silent_since_ns.get_or_insert(now_ns);
            before.hurried = before.speakers.len();
            before.next_hello_ns = now_ns;
            before.withdraw(there.unwrap_or_default(), changes);
        }
        self.by_road.insert(road, index);
        Ok((index, there))
    }

    /// Extends a link: its peer has just said something valid and fresh.
    pub fn heard(
        &mut self,
        index: u32,
        ifindex: u32,
        now_ns: u64,
        changes: &mut Changes,
        report: &mut Report,
    ) {
        let few = self.slots.len() <= schedule::FEW_LINKS;
        if let Some(link) = self.slots.get_mut(&index) {
            let keep_ns = if few && link.quality.is_lively() {
                schedule::KEEP_LIVELY
            } else {
                schedule::KEEP
            };
            if link.heard(keep_ns, now_ns) {
                report.there(&link.road, true);
            }
            link.ifindex = ifindex;
            changes.link(index, link.image(self.port));
        }
    }

    /// Takes in what a message of a link's peer, valid and fresh, says of the
    /// link; `traffic` is what the kernel has counted of it here.
    pub fn measure(&mut self, index: u32, message: &Message, traffic: &Traffic, now_ns: u64) {
        if let Some(link) = self.slots.get_mut(&index) {
            link.peer_ifindex = message.device;
            link.quality.hear(&message.timing, traffic, now_ns);
        }
    }

    /// A subflow takes a link's device along.
    pub fn set_device(&mut self, index: u32, ifindex: u32, changes: &mut Changes) {
        if let Some(link) = self.slots.get_mut(&index)
            && link.ifindex != ifindex
        {
            link.ifindex = ifindex;
            if !link.replaced {
                changes.link(index, link.image(self.port));
            }
        }
    }

    /// From now on the link's peer is taken for that of new connections between
    /// its addresses, if their remote end has this TCP port (0: any).
    pub fn befriend(&mut self, index: u32, port: u16, changes: &mut Changes) {
        let Some(link) = self.slots.get_mut(&index) else {
            return;
        };
        let key = LinkKey {
            remote_port: port,
            ..link.road
        };
        let room = link.familiar.len() < MAX_SERVICES && !link.replaced;
        if room && link.familiar.insert(key) {
            changes.familiar(key, index);
        }
    }

    /// The opposite of [`Links::befriend`], for every port.
    pub fn estrange(&mut self, index: u32, changes: &mut Changes) {
        if let Some(link) = self.slots.get_mut(&index) {
            link.estrange(changes);
        }
    }

    /// The subflow of a link's last member has closed. If the peer is there, the
    /// link stays until `until_ns`, with that member, for connections to come.
    pub fn linger(&mut self, index: u32, cookie: u64, until_ns: u64) -> bool {
        let last = self
            .slots
            .get_mut(&index)
            .filter(|link| link.members == 1 && !link.replaced && link.silent_since_ns.is_none());
        let Some(link) = last else {
            return false;
        };
        link.lingers = Some((cookie, until_ns));
        self.lingering.insert((until_ns, index));
        true
    }

    /// Somebody else keeps the link, or nobody: the member that stayed on, which
    /// may go.
    pub fn relieve(&mut self, index: u32) -> Option<u64> {
        let (cookie, until_ns) = self.slots.get_mut(&index)?.lingers.take()?;
        self.lingering.remove(&(until_ns, index));
        Some(cookie)
    }

    /// The member that keeps a link which goes first, of those without an open
    /// subflow.
    pub fn first_to_go(&self) -> Option<u64> {
        let (_, index) = self.lingering.first()?;
        self.slots.get(index)?.lingers.map(|(cookie, _)| cookie)
    }

    /// A subflow is on the link from now on; `speaks` if this end is its
    /// client.
    pub fn join(&mut self, index: u32, cookie: u64, speaks: bool) {
        if let Some(link) = self.slots.get_mut(&index) {
            link.members += 1;
            if speaks {
                link.speakers.insert(cookie);
            }
        }
    }

    /// A subflow leaves the link, which goes with its last one.
    pub fn leave(&mut self, index: u32, cookie: u64, changes: &mut Changes) {
        let Some(link) = self.slots.get_mut(&index) else {
            return;
        };
        link.members = link.members.saturating_sub(1);
        link.speakers.remove(&cookie);
        if link.members > 0 {
            return;
        }
        self.relieve(index);
        if let Some(mut link) = self.slots.remove(&index) {
            self.by_pair
                .remove(&(link.peer, link.pair, link.road.scope));
            self.count(&link.road, false);
            if !link.replaced {
                self.by_road.remove(&link.road);
                link.withdraw(index, changes);
            }
            self.free.push_back(index);
        }
    }

    /// Counts a link between these ends, or no more.
    fn count(&mut self, road: &LinkKey, more: bool) {
        let ends = ends(road);
        let count = self.by_ends.entry(ends).or_default();
        if more {
            *count += 1;
        } else {
            *count = count.saturating_sub(1);
        }
        if *count == 0 {
            self.by_ends.remove(&ends);
        }
    }

    fn open(&mut self, peer: u64, pair: Pair, road: LinkKey, now_ns: u64) -> Result<u32, Crowded> {
        if self
            .by_ends
            .get(&ends(&road))
            .is_some_and(|count| *count >= MAX_OF_ONE)
        {
            return Err(Crowded::Quota);
        }
        let index = if self.unused < MAX_LINKS {
            self.unused += 1;
            self.unused - 1
        } else {
            self.free.pop_front().ok_or(Crowded::Full)?
        };
        self.count(&road, true);
        self.by_pair.insert((peer, pair, road.scope), index);
        self.slots.insert(
            index,
            Link {
                road,
                peer,
                ifindex: 0,
                expires_ns: now_ns,
                // So that the first message is news.
                silent_since_ns: Some(now_ns),
                replaced: false,
                peer_ifindex: 0,
                quality: Quality::new(self.epoch_us),
                pair,
                familiar: HashSet::new(),
                lingers: None,
                members: 0,
                speakers: BTreeSet::new(),
                speaker: 0,
                awaiting: false,
                said_ns: now_ns,
                next_hello_ns: now_ns.saturating_add(schedule::KEEP),
                hurried: 0,
            },
        );
        Ok(index)
    }
}

/// What the quota of links is for.
fn ends(road: &LinkKey) -> Pair {
    (road.local, prefix(address(road.remote)))
}
