//! Channels: each one joins two agents, by one address of each.
//!
//! A channel is identified by the peer and the two addresses as the
//! connection's client has them (`Pair`). The channel's road is the peer's
//! address and port as they look from here. It may change: when a NAT drops the
//! mapping, the channel moves to a new road, with all its subflows. One road
//! leads to one peer: if another one proves to be there (a restarted agent has
//! a new id), its channel replaces the first.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use mptcp_api::hello::Message;
use mptcp_common::abi::redundant::{self, ChannelKey, MAX_CHANNELS, Traffic};

use super::{address, changes::Changes, quality::Quality, report::Report, schedule};
use crate::redundancy::gate::prefix;

/// The addresses of a channel's ends, as the connection's client has them: the
/// client's, then the server's.
pub type Pair = ([u8; 16], [u8; 16]);

/// Largest number of channels between one address of this host and one remote
/// address (one prefix of 64 bits over IPv6). Several hosts may share a remote
/// address (NAT). The limit leaves room for others if somebody there claims
/// many identities.
pub const MAX_OF_ONE: usize = 256;

/// Why there is no room for another channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// The remote address has [`MAX_OF_ONE`] channels already.
    Quota,
    /// All indices below [`MAX_CHANNELS`] are in use.
    Full,
}

/// Largest number of services (TCP ports) of a channel whose new connections
/// are taken to be with its peer.
const MAX_SERVICES: usize = 16;

/// One channel.
#[derive(Debug)]
pub struct Channel {
    /// Its addresses and the peer's port, as they look from here.
    pub road: ChannelKey,
    /// The peer's agent id.
    pub peer: u64,
    /// The device that its subflows leave by; 0: not known.
    pub ifindex: u32,
    /// The time until which the peer counts as present.
    pub expires_ns: u64,
    /// The time since which it does not.
    pub silent_since_ns: Option<u64>,
    /// Whether another peer is at the other end of its road now, so that the
    /// kernel does not have this channel any more.
    pub replaced: bool,
    /// The peer's device, by the peer's own number; 0: not known.
    peer_ifindex: u32,
    /// Its quality: round trip, loss, and the rate for copies.
    pub quality: Quality,
    pair: Pair,
    /// The keys in `FAMILIAR` by which new connections between its addresses
    /// are taken to be with its peer.
    familiar: HashSet<ChannelKey>,
    /// Its last member, if that has closed, and the time until which it stays.
    lingers: Option<(u64, u64)>,
    members: usize,
    /// The members that may send hellos, since this end is their client.
    speakers: BTreeSet<u64>,
    speaker: u64,
    /// Whether the last hello is still unanswered.
    awaiting: bool,
    said_ns: u64,
    next_hello_ns: u64,
    /// Number of hellos that still go out at intervals of
    /// [`schedule::REPLACED`].
    hurried: usize,
}

impl Channel {
    /// Returns the time at which a hello is due, the peer falls silent, or the
    /// channel was kept long enough without an open subflow.
    pub fn due_ns(&self) -> Option<u64> {
        let expiry = self.silent_since_ns.is_none().then_some(self.expires_ns);
        let hello = (!self.speakers.is_empty()).then_some(self.next_hello_ns);
        let end = self.lingers.map(|(_, until_ns)| until_ns);
        expiry.into_iter().chain(hello).chain(end).min()
    }

    /// Returns the last member if it has closed and its time is over. On a
    /// `silent` channel, its time is over at once.
    pub fn outlived(&self, silent: bool, now_ns: u64) -> Option<u64> {
        let (cookie, until_ns) = self.lingers?;
        (silent || until_ns <= now_ns).then_some(cookie)
    }

    /// Removes the channel from the kernel's maps.
    fn withdraw(&mut self, index: u32, changes: &mut Changes) {
        self.estrange(changes);
        changes.channel_gone(index);
    }

    /// Stops taking new connections for connections with its peer.
    fn estrange(&mut self, changes: &mut Changes) {
        self.familiar.drain().for_each(|key| changes.strange(key));
    }

    /// Notes that the peer is silent if its time is over. Returns whether that
    /// has just happened.
    pub fn expire(&mut self, now_ns: u64) -> bool {
        let over = self.silent_since_ns.is_none() && self.expires_ns <= now_ns;
        if over {
            self.silent_since_ns = Some(self.expires_ns);
        }
        over
    }

    /// Returns the member whose hello goes out now, if it is time. It is the
    /// same member as before if its last hello was answered. Else it is the
    /// next one, since the peer may have closed the other's connection.
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

    /// Extends the channel after a valid and fresh message. Returns whether the
    /// peer was silent before.
    fn heard(&mut self, keep_ns: u64, now_ns: u64) -> bool {
        self.expires_ns = now_ns.saturating_add(schedule::ALIVE);
        self.awaiting = false;
        self.next_hello_ns = self.said_ns.saturating_add(keep_ns).max(now_ns);
        self.silent_since_ns.take().is_some()
    }

    /// Returns the channel as the kernel's map has it.
    fn image(&self, local_port: u16) -> redundant::Channel {
        redundant::Channel {
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
            ..redundant::Channel::default()
        }
    }
}

/// All channels, at most [`MAX_CHANNELS`] - 1, by index.
#[derive(Debug)]
pub struct Channels {
    port: u16,
    /// See [`Quality::new`].
    epoch_us: u64,
    slots: HashMap<u32, Channel>,
    /// Indices by peer, addresses and, if these are link-local, the device.
    by_pair: HashMap<(u64, Pair, u16), u32>,
    by_road: HashMap<ChannelKey, u32>,
    /// Number of channels between a local and a remote address (or its prefix).
    by_ends: HashMap<Pair, usize>,
    /// The first index that was never used. Index 0 never is.
    unused: u32,
    /// Indices that are free again, oldest first, so that each one is reused as
    /// late as possible.
    free: VecDeque<u32>,
    /// Channels without an open subflow, by the time at which they go.
    lingering: BTreeSet<(u64, u32)>,
}

impl Channels {
    /// Starts without channels; `port` is this agent's, and `epoch_us` random.
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

    /// Returns a channel.
    pub fn get(&self, index: u32) -> Option<&Channel> {
        self.slots.get(&index)
    }

    /// Returns a channel, to change it.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut Channel> {
        self.slots.get_mut(&index)
    }

    /// Returns every channel.
    pub fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.slots.values()
    }

    /// Returns whether a peer is, or was, at the end of this road.
    pub fn leads_to_a_peer(&self, road: &ChannelKey) -> bool {
        self.by_road.contains_key(road)
    }

    /// Returns the index of the channel to `peer`, which has proven to be at
    /// the end of `road`: an old channel, moved if necessary, or a new one
    /// without members. Also returns the index of a channel that it replaces
    /// there.
    ///
    /// # Errors
    /// There is no room for a new channel.
    pub fn place(
        &mut self,
        peer: u64,
        pair: Pair,
        road: ChannelKey,
        now_ns: u64,
        changes: &mut Changes,
    ) -> Result<(u32, Option<u32>), Crowded> {
        let there = self.by_road.get(&road).copied();
        if let Some(index) = there
            && self.get(index).is_some_and(|channel| channel.peer == peer)
        {
            return Ok((index, None));
        }
        let index = match self.by_pair.get(&(peer, pair, road.scope)) {
            Some(&index) => index,
            None => self.open(peer, pair, road, now_ns)?,
        };
        if let Some(channel) = self.slots.get_mut(&index)
            && (channel.road != road || channel.replaced)
        {
            let before = std::mem::replace(&mut channel.road, road);
            let replaced = std::mem::take(&mut channel.replaced);
            channel.hurried = 0;
            if !replaced {
                self.by_road.remove(&before);
                channel.withdraw(index, changes);
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

    /// Extends a channel after a valid and fresh message of its peer.
    pub fn heard(
        &mut self,
        index: u32,
        ifindex: u32,
        now_ns: u64,
        changes: &mut Changes,
        report: &mut Report,
    ) {
        let few = self.slots.len() <= schedule::FEW_CHANNELS;
        if let Some(channel) = self.slots.get_mut(&index) {
            let keep_ns = if few && channel.quality.is_lively() {
                schedule::KEEP_LIVELY
            } else {
                schedule::KEEP
            };
            if channel.heard(keep_ns, now_ns) {
                report.there(&channel.road, true);
            }
            channel.ifindex = ifindex;
            changes.channel(index, channel.image(self.port));
        }
    }

    /// Takes what a valid and fresh message of a channel's peer says about the
    /// channel; `traffic` holds the kernel's counters of the channel at this
    /// end.
    pub fn measure(&mut self, index: u32, message: &Message, traffic: &Traffic, now_ns: u64) {
        if let Some(channel) = self.slots.get_mut(&index) {
            channel.peer_ifindex = message.device;
            channel.quality.hear(&message.timing, traffic, now_ns);
        }
    }

    /// Sets a channel's device after one of its subflows has moved to it.
    pub fn set_device(&mut self, index: u32, ifindex: u32, changes: &mut Changes) {
        if let Some(channel) = self.slots.get_mut(&index)
            && channel.ifindex != ifindex
        {
            channel.ifindex = ifindex;
            if !channel.replaced {
                changes.channel(index, channel.image(self.port));
            }
        }
    }

    /// From now on, takes new connections between the channel's addresses for
    /// connections with its peer, if their remote TCP port is `port` (0: any).
    pub fn befriend(&mut self, index: u32, port: u16, changes: &mut Changes) {
        let Some(channel) = self.slots.get_mut(&index) else {
            return;
        };
        let key = ChannelKey {
            remote_port: port,
            ..channel.road
        };
        let room = channel.familiar.len() < MAX_SERVICES && !channel.replaced;
        if room && channel.familiar.insert(key) {
            changes.familiar(key, index);
        }
    }

    /// Does the opposite of [`Channels::befriend`], for every port.
    pub fn estrange(&mut self, index: u32, changes: &mut Changes) {
        if let Some(channel) = self.slots.get_mut(&index) {
            channel.estrange(changes);
        }
    }

    /// Keeps a channel for connections to come, until `until_ns`, though its
    /// subflow `cookie` has closed. Returns `false` if that is not its last
    /// member, or the peer is not present.
    pub fn linger(&mut self, index: u32, cookie: u64, until_ns: u64) -> bool {
        let last = self.slots.get_mut(&index).filter(|channel| {
            channel.members == 1 && !channel.replaced && channel.silent_since_ns.is_none()
        });
        let Some(channel) = last else {
            return false;
        };
        channel.lingers = Some((cookie, until_ns));
        self.lingering.insert((until_ns, index));
        true
    }

    /// Returns the closed member that kept the channel, which may go now:
    /// another member has joined, or the channel itself goes.
    pub fn relieve(&mut self, index: u32) -> Option<u64> {
        let (cookie, until_ns) = self.slots.get_mut(&index)?.lingers.take()?;
        self.lingering.remove(&(until_ns, index));
        Some(cookie)
    }

    /// Returns the closed member of the channel that goes first, among the
    /// channels without an open subflow.
    pub fn first_to_go(&self) -> Option<u64> {
        let (_, index) = self.lingering.first()?;
        self.slots.get(index)?.lingers.map(|(cookie, _)| cookie)
    }

    /// Puts a subflow on the channel; `speaks` if this end is its client.
    pub fn join(&mut self, index: u32, cookie: u64, speaks: bool) {
        if let Some(channel) = self.slots.get_mut(&index) {
            channel.members += 1;
            if speaks {
                channel.speakers.insert(cookie);
            }
        }
    }

    /// Takes a subflow off the channel. The channel goes with its last subflow.
    pub fn leave(&mut self, index: u32, cookie: u64, changes: &mut Changes) {
        let Some(channel) = self.slots.get_mut(&index) else {
            return;
        };
        channel.members = channel.members.saturating_sub(1);
        channel.speakers.remove(&cookie);
        if channel.members > 0 {
            return;
        }
        self.relieve(index);
        if let Some(mut channel) = self.slots.remove(&index) {
            self.by_pair
                .remove(&(channel.peer, channel.pair, channel.road.scope));
            self.count(&channel.road, false);
            if !channel.replaced {
                self.by_road.remove(&channel.road);
                channel.withdraw(index, changes);
            }
            self.free.push_back(index);
        }
    }

    /// Counts one channel more between these ends, or one less.
    fn count(&mut self, road: &ChannelKey, more: bool) {
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

    fn open(
        &mut self,
        peer: u64,
        pair: Pair,
        road: ChannelKey,
        now_ns: u64,
    ) -> Result<u32, Crowded> {
        if self
            .by_ends
            .get(&ends(&road))
            .is_some_and(|count| *count >= MAX_OF_ONE)
        {
            return Err(Crowded::Quota);
        }
        let index = if self.unused < MAX_CHANNELS {
            self.unused += 1;
            self.unused - 1
        } else {
            self.free.pop_front().ok_or(Crowded::Full)?
        };
        self.count(&road, true);
        self.by_pair.insert((peer, pair, road.scope), index);
        self.slots.insert(
            index,
            Channel {
                road,
                peer,
                ifindex: 0,
                expires_ns: now_ns,
                // The first message then counts as the peer's return, and is
                // reported.
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

/// Returns the pair of addresses that the quota of channels applies to.
fn ends(road: &ChannelKey) -> Pair {
    (road.local, prefix(address(road.remote)))
}
