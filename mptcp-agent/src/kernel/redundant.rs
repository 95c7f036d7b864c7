//! The redundant policy's part of `Kernel`: its maps and its devices.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::os::fd::AsFd as _;

use anyhow::{Result, bail};
use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapError},
};
use mptcp_common::abi::{
    ConnectionImage, Subflow,
    redundant::{
        Carriers, Channel, ChannelKey, CopyStats, Device, Listener, PeerChannels, PeerView,
        Redundant, Stacked, Traffic,
    },
};
use mptcp_common::names::map;

use super::{Attachment, Kernel, PAGE, per_cpu::sums};

/// The counters that the programs keep of each channel, read through a map
/// handle of its own.
pub struct ChannelTraffic(Array<MapData, Traffic>);

impl ChannelTraffic {
    /// Returns the totals of channel `index`; zero if they cannot be read.
    pub fn get(&self, index: u32) -> Traffic {
        self.0.get(&index, 0).unwrap_or_default()
    }
}

impl Kernel {
    /// Returns a handle on what the programs count of each channel.
    ///
    /// # Errors
    /// Too many open files.
    pub fn channel_traffic(&self) -> Result<ChannelTraffic> {
        let Map::Array(map) = self.map_ref(map::CHANNEL_TRAFFIC)? else {
            bail!("CHANNEL_TRAFFIC is no array");
        };
        let map = MapData::from_fd(map.fd().as_fd().try_clone_to_owned()?)?;
        Ok(ChannelTraffic(Array::try_from(Map::from_map_data(map)?)?))
    }

    /// Checks that this kernel can have the tc programs.
    ///
    /// # Errors
    /// It cannot; the error is one line that says why.
    pub fn can_copy(&self) -> Result<()> {
        match &self.no_tc {
            Some(missing) => bail!("--policy redundant cannot run here: {missing}"),
            None => Ok(()),
        }
    }

    /// Lets [`Kernel::follow_devices`] attach the tc programs.
    ///
    /// # Errors
    /// This kernel cannot have them, or what an earlier policy found out about
    /// peers cannot be removed; the error is one line.
    pub fn start_redundant(&mut self) -> Result<()> {
        if self.tc.is_some() {
            return Ok(());
        }
        self.can_copy()?;
        if self.peers_left {
            // The entries that are left name channels by index, and each index
            // means another channel from now on.
            self.clear_redundant()?;
        }
        let tc = super::tc::Tc::default();
        self.attachments
            .extend(super::tc::PROGRAMS.iter().map(|hook| Attachment {
                program: hook.name,
                purpose: hook.purpose,
                error: tc.error(hook.name),
            }));
        self.tc = Some(tc);
        Ok(())
    }

    /// Ends copying and detaches the tc programs, if they are there. The next
    /// pass over the sockets gives listening sockets their segment size back.
    ///
    /// # Errors
    /// A map cannot be read or refused it.
    pub fn stop_redundant(&mut self) -> Result<()> {
        let Some(mut tc) = self.tc.take() else {
            return Ok(());
        };
        // End copying before the programs that unwrap copies are gone.
        let cleared = self.clear_redundant();
        tc.clear();
        let programs = super::tc::PROGRAMS.map(|program| program.name);
        self.attachments
            .retain(|row| !programs.contains(&row.program));
        let mut map: Array<_, Redundant> = Array::try_from(self.map(map::REDUNDANT)?)?;
        let mut settings = map.get(&0, 0)?;
        settings.copies = 0;
        map.set(0, settings, 0)?;
        cleared
    }

    /// Attaches the tc programs to the devices in `wanted` (names by ifindex)
    /// and detaches them from all others. Returns the ifindex of each device
    /// that has them then. Logs what failed.
    pub fn follow_devices(&mut self, wanted: &BTreeMap<u32, String>) -> BTreeSet<u32> {
        let Some(tc) = &mut self.tc else {
            return BTreeSet::new();
        };
        tc.follow(&mut self.ebpf, wanted);
        for program in super::tc::PROGRAMS.map(|program| program.name) {
            let rows = self.attachments.iter_mut();
            for row in rows.filter(|row| row.program == program) {
                row.error = tc.error(program);
            }
        }
        tc.devices()
    }

    /// Makes the programs obey `settings`.
    ///
    /// # Errors
    /// The map refused it.
    pub fn set_redundant(&mut self, settings: &Redundant) -> Result<()> {
        Ok(Array::try_from(self.map(map::REDUNDANT)?)?.set(0, *settings, 0)?)
    }

    /// Makes `devices` the content of map `DEVICES`.
    ///
    /// # Errors
    /// The map refused an entry.
    pub fn set_devices(&mut self, devices: &BTreeMap<u32, Device>) -> Result<()> {
        replace(HashMap::try_from(self.map(map::DEVICES)?)?, devices)
    }

    /// Makes `addresses` the ones that count as this host's own.
    ///
    /// # Errors
    /// The map refused an entry.
    pub fn set_own_addresses(&mut self, addresses: &BTreeSet<[u8; 16]>) -> Result<()> {
        let wanted = addresses.iter().map(|&address| (address, 0_u32)).collect();
        replace(HashMap::try_from(self.map(map::ADDRESSES)?)?, &wanted)
    }

    /// Publishes `stacked`: pairs of devices of which the first runs over the
    /// second.
    ///
    /// # Errors
    /// The map refused an entry.
    pub fn set_stacked(&mut self, stacked: &BTreeSet<Stacked>) -> Result<()> {
        let wanted = stacked.iter().map(|&pair| (pair, 0_u32)).collect();
        replace(HashMap::try_from(self.map(map::STACKED)?)?, &wanted)
    }

    /// Writes entry `index` of map `CHANNELS`.
    ///
    /// # Errors
    /// The map refused it.
    pub fn set_channel(&mut self, index: u32, channel: &Channel) -> Result<()> {
        Ok(Array::try_from(self.map(map::CHANNELS)?)?.set(index, *channel, 0)?)
    }

    /// Makes `key` lead to channel `index`, or nowhere if that is `None`.
    ///
    /// # Errors
    /// The map refused it.
    pub fn set_channel_key(&mut self, key: &ChannelKey, index: Option<u32>) -> Result<()> {
        put(HashMap::try_from(self.map(map::CHANNEL_OF)?)?, key, index)
    }

    /// Makes the programs take new connections like `key` for connections with
    /// the peer of channel `index`, or with nobody known if that is `None`.
    ///
    /// # Errors
    /// The map refused it.
    pub fn set_familiar(&mut self, key: &ChannelKey, index: Option<u32>) -> Result<()> {
        put(HashMap::try_from(self.map(map::FAMILIAR)?)?, key, index)
    }

    /// Writes or removes the list of channels to a peer.
    ///
    /// # Errors
    /// The map refused it.
    pub fn set_peer_channels(&mut self, peer: u64, channels: Option<PeerChannels>) -> Result<()> {
        put(
            HashMap::try_from(self.map(map::PEER_CHANNELS)?)?,
            &peer,
            channels,
        )
    }

    /// Writes or removes a connection's carriers.
    ///
    /// # Errors
    /// The map refused it.
    pub fn set_carriers(&mut self, connection: u64, carriers: Option<Carriers>) -> Result<()> {
        let map = HashMap::try_from(self.map(map::CARRIERS)?)?;
        put(map, &connection, carriers)
    }

    /// Writes or removes the addresses that a subflow has as its peer sees
    /// them.
    ///
    /// # Errors
    /// The map refused it.
    pub fn set_peer_view(&mut self, cookie: u64, view: Option<PeerView>) -> Result<()> {
        put(HashMap::try_from(self.map(map::PEER_VIEW)?)?, &cookie, view)
    }

    /// Returns the cookies of the listening sockets whose segment size the
    /// policy has lowered.
    ///
    /// # Errors
    /// The map cannot be read.
    pub(super) fn lowered_listeners(&mut self) -> Result<Vec<u64>> {
        let mut cookies = Vec::new();
        self.keys::<u64, Listener>(map::LISTENERS, |cookie| cookies.push(cookie))?;
        Ok(cookies)
    }

    /// Forgets listening sockets that are closed.
    ///
    /// # Errors
    /// The map refused it.
    pub(super) fn forget_listeners(&mut self, closed: impl Iterator<Item = u64>) -> Result<()> {
        let mut map: HashMap<_, u64, Listener> = HashMap::try_from(self.map(map::LISTENERS)?)?;
        for cookie in closed {
            remove(&mut map, &cookie)?;
        }
        Ok(())
    }

    /// Forgets all that was found out about peers. From then on no copy is sent
    /// or accepted.
    ///
    /// # Errors
    /// A map cannot be read or refused it.
    fn clear_redundant(&mut self) -> Result<()> {
        self.peers_left = true;
        self.clear::<ChannelKey, u32>(map::FAMILIAR)?;
        self.clear::<u64, PeerChannels>(map::PEER_CHANNELS)?;
        self.clear::<u64, Carriers>(map::CARRIERS)?;
        self.clear::<ChannelKey, u32>(map::CHANNEL_OF)?;
        self.clear::<u64, PeerView>(map::PEER_VIEW)?;
        let mut channels: Array<_, Channel> = Array::try_from(self.map(map::CHANNELS)?)?;
        for index in 0..channels.len() {
            channels.set(index, Channel::default(), 0)?;
        }
        self.peers_left = false;
        Ok(())
    }

    /// Removes every entry of a hash map, and sends heartbeats meanwhile.
    fn clear<K: Pod, V: Pod>(&mut self, name: &str) -> Result<()> {
        let mut present = Vec::new();
        self.keys::<K, V>(name, |key| present.push(key))?;
        for page in present.chunks(PAGE) {
            let mut map: HashMap<_, K, V> = HashMap::try_from(self.map(name)?)?;
            page.iter().try_for_each(|key| remove(&mut map, key))?;
            self.beat_if_due()?;
        }
        Ok(())
    }

    /// Returns the keys of the connections whose peer is proven. Sends
    /// heartbeats meanwhile.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn proven(&mut self) -> Result<HashSet<u64>> {
        let mut proven = HashSet::new();
        self.keys::<u64, Carriers>(map::CARRIERS, |key| proven.extend([key]))?;
        Ok(proven)
    }

    /// Passes every open connection to `take`, by its key. The limits of
    /// [`Kernel::subflows`] apply here too.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn connections(&mut self, take: impl FnMut(u64, ConnectionImage)) -> Result<()> {
        self.entries(map::CONNECTIONS, take)
    }

    /// Returns what the programs know of a connection, if it is open.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn connection(&self, key: u64) -> Result<Option<ConnectionImage>> {
        let map = HashMap::try_from(self.map_ref(map::CONNECTIONS)?)?;
        get(&map, key)
    }

    /// Returns what the programs know of a subflow, if it is open.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn subflow(&self, cookie: u64) -> Result<Option<Subflow>> {
        let map = HashMap::try_from(self.map_ref(map::SUBFLOWS)?)?;
        get(&map, cookie)
    }

    /// Passes every open subflow to `take`, by its cookie, and sends heartbeats
    /// meanwhile. If subflows open or close at the same time, these and others
    /// may be missed, and others may be passed twice.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn subflows(&mut self, take: impl FnMut(u64, Subflow)) -> Result<()> {
        self.entries(map::SUBFLOWS, take)
    }

    /// Returns the totals of every path's copies, summed over the CPUs. A
    /// path's position is its index.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn copy_stats(&self) -> Result<Vec<CopyStats>> {
        sums(self.map_ref(map::COPY_STATS)?, CopyStats::plus)
    }
}

fn get<V: Pod>(map: &HashMap<&MapData, u64, V>, key: u64) -> Result<Option<V>> {
    match map.get(&key, 0) {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Writes an entry, or removes it.
pub(super) fn put<K: Pod, V: Pod>(
    mut map: HashMap<&mut MapData, K, V>,
    key: &K,
    value: Option<V>,
) -> Result<()> {
    match value {
        Some(value) => Ok(map.insert(key, value, 0)?),
        None => remove(&mut map, key),
    }
}

/// Makes `wanted` the map's content, without a moment in which an entry that
/// stays is missing.
fn replace<K: Pod + Ord, V: Pod>(
    mut map: HashMap<&mut MapData, K, V>,
    wanted: &BTreeMap<K, V>,
) -> Result<()> {
    let present: Vec<K> = map.keys().collect::<Result<_, _>>()?;
    for key in present.iter().filter(|key| !wanted.contains_key(key)) {
        remove(&mut map, key)?;
    }
    wanted
        .iter()
        .try_for_each(|(key, value)| Ok(map.insert(key, value, 0)?))
}

/// Removes an entry. It is no error if there is none.
fn remove<K: Pod, V: Pod>(map: &mut HashMap<&mut MapData, K, V>, key: &K) -> Result<()> {
    match map.remove(key) {
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        other => Ok(other?),
    }
}
