//! The network, the hosts' kernels (their maps), and NAT.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use mptcp_common::abi::{
    Tuple,
    redundant::{Carriers, Channel, DEFAULT_PORT, PeerView},
    subflow_flag,
};

use crate::redundancy::{
    peers::{
        Change, ConnectionInfo, Datagram, Notice, Peers, Settings, SubflowInfo,
        address as address_of, octets,
    },
    proof,
};

pub const MS: u64 = 1_000_000;

/// The address that hosts behind the NAT seem to have.
const PUBLIC: &str = "203.0.113.1";

pub fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub payload: Vec<u8>,
}

/// A connection to open. At both ends, the cookie of its n-th subflow is
/// `10 * number + n`, and its key in the kernel is its number.
#[derive(Clone, Copy)]
pub struct Connect<'a> {
    pub number: u64,
    pub client: usize,
    pub server: usize,
    pub subflows: &'a [(&'a str, &'a str)],
}

impl Connect<'_> {
    pub fn cookie(&self, subflow: u64) -> u64 {
        self.number * 10 + subflow
    }
}

/// A host: its agent, and the content of the kernel's maps.
pub struct Host {
    pub peers: Peers,
    pub channels: BTreeMap<u32, Channel>,
    pub carriers: BTreeMap<u64, Carriers>,
    pub views: BTreeMap<u64, PeerView>,
    /// Content of map `FAMILIAR`: addresses, port, and the channel.
    pub familiar: BTreeMap<(IpAddr, IpAddr, u16), u32>,
    pub notices: Vec<Notice>,
    addresses: HashSet<IpAddr>,
    key: Vec<u8>,
}

impl Host {
    /// Returns the channel of a subflow among its connection's carriers.
    pub fn channel_of(&self, connection: u64, cookie: u64) -> Option<u32> {
        let carriers = self.carriers.get(&connection)?.carriers;
        let carrier = carriers.iter().find(|carrier| carrier.cookie == cookie)?;
        Some(carrier.channel)
    }

    /// Returns how many of a connection's subflows can carry copies at
    /// `now_ns`.
    pub fn ready(&self, connection: u64, now_ns: u64) -> usize {
        let Some(carriers) = self.carriers.get(&connection) else {
            return 0;
        };
        let ready = carriers.carriers.iter().filter(|carrier| {
            let channel = self.channels.get(&carrier.channel);
            carrier.cookie != 0
                && channel.is_some_and(|channel| {
                    channel.peer == carriers.peer && channel.expires_ns > now_ns
                })
        });
        ready.count()
    }

    fn apply(&mut self) -> usize {
        let changes = self.peers.changes();
        for change in &changes {
            match *change {
                Change::Channel(index, channel) => set(&mut self.channels, index, channel),
                Change::Carriers(connection, all) => set(&mut self.carriers, connection, all),
                Change::View(cookie, view) => set(&mut self.views, cookie, view),
                Change::Familiar(key, channel) => {
                    let key = (
                        address_of(key.local),
                        address_of(key.remote),
                        key.remote_port,
                    );
                    set(&mut self.familiar, key, channel);
                }
            }
        }
        self.notices.extend(self.peers.notices());
        changes.len()
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// The hosts and the network between them.
pub struct Network {
    pub now_ns: u64,
    pub hosts: Vec<Host>,
    /// Delay of one direction, nanoseconds.
    pub delay_ns: u64,
    /// Everything that was sent, as its receiver saw it.
    pub log: Vec<(u64, Packet)>,
    /// Addresses that nothing reaches.
    pub cut: HashSet<IpAddr>,
    /// Number of datagrams out of 100 that are lost.
    pub loss: u64,
    /// Whether a server sees the same address ids on all subflows.
    pub alike: bool,
    /// Addresses behind the NAT.
    pub inside: HashSet<IpAddr>,
    mappings: HashMap<SocketAddr, u16>,
    next_port: u16,
    flying: Vec<(u64, Packet)>,
    dice: Dice,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            now_ns: 1_000_000 * MS,
            hosts: Vec::new(),
            delay_ns: MS,
            log: Vec::new(),
            cut: HashSet::new(),
            loss: 0,
            alike: false,
            inside: HashSet::new(),
            mappings: HashMap::new(),
            next_port: 61_000,
            flying: Vec::new(),
            dice: Dice(7),
        }
    }
}

impl Network {
    /// Adds a host with an agent.
    pub fn host(&mut self, addresses: &[&str], key: &[u8]) {
        let id = 100 + self.hosts.len() as u64;
        self.hosts.push(Host {
            peers: agent(id, key),
            channels: BTreeMap::new(),
            carriers: BTreeMap::new(),
            views: BTreeMap::new(),
            familiar: BTreeMap::new(),
            notices: Vec::new(),
            addresses: addresses.iter().map(|text| address(text)).collect(),
            key: key.to_vec(),
        });
    }

    /// Replaces a host's agent by another one, with empty kernel maps.
    pub fn restart(&mut self, host: usize, id: u64) {
        let host = &mut self.hosts[host];
        host.peers = agent(id, &host.key);
        host.channels.clear();
        host.carriers.clear();
        host.views.clear();
        host.familiar.clear();
    }

    /// Opens a connection with all its subflows.
    pub fn connect(&mut self, connect: Connect<'_>) {
        self.announce(connect);
        for subflow in 0..connect.subflows.len() {
            self.join(connect, subflow);
        }
    }

    /// Reports a connection to the agents at both ends.
    pub fn announce(&mut self, connect: Connect<'_>) {
        for server in [false, true] {
            self.announce_to(connect, server);
        }
    }

    /// Reports a connection to the agent at one end.
    pub fn announce_to(&mut self, connect: Connect<'_>, server: bool) {
        let keys = [0xc11e_0000, 0x5e12_0000].map(|base| base + connect.number);
        let (host, local_key, remote_key) = if server {
            (connect.server, keys[1], keys[0])
        } else {
            (connect.client, keys[0], keys[1])
        };
        self.hosts[host].peers.connection(ConnectionInfo {
            key: connect.number,
            server,
            token: proof::token(local_key),
            local_key,
            remote_key,
        });
    }

    /// Opens one subflow of a connection.
    pub fn join(&mut self, connect: Connect<'_>, subflow: usize) {
        for server in [false, true] {
            self.join_at(connect, subflow, server);
        }
    }

    /// Reports a subflow to the agent at one end. Through NAT, the server sees
    /// another address and port.
    pub fn join_at(&mut self, connect: Connect<'_>, subflow: usize, server: bool) {
        let (local, remote) = connect.subflows[subflow];
        let (local, remote) = (address(local), address(remote));
        let port = 40_000 + (connect.number % 1000 * 10) as u16 + subflow as u16;
        let id = subflow as u8;
        let seen = match self.inside.contains(&local) {
            true => (octets(address(PUBLIC)), port + 10_000),
            false => (octets(local), port),
        };
        let tuple = if server {
            Tuple {
                local: octets(remote),
                remote: seen.0,
                local_port: 443,
                remote_port: seen.1,
                remote_id: if self.alike { 0 } else { id },
                flags: subflow_flag::IDS,
                ..Tuple::default()
            }
        } else {
            Tuple {
                local: octets(local),
                remote: octets(remote),
                local_port: port,
                remote_port: 443,
                local_id: id,
                flags: subflow_flag::IDS,
                ..Tuple::default()
            }
        };
        let host = if server {
            connect.server
        } else {
            connect.client
        };
        let info = SubflowInfo {
            cookie: connect.cookie(subflow as u64),
            connection: connect.number,
            tuple,
            ifindex: 3 + u32::from(id),
            path: id.into(),
        };
        self.hosts[host].peers.subflow(info, self.now_ns);
    }

    /// Closes a subflow at both ends.
    pub fn close(&mut self, connect: Connect<'_>, subflow: u64) {
        for host in [connect.client, connect.server] {
            let now_ns = self.now_ns;
            self.hosts[host]
                .peers
                .closed(connect.cookie(subflow), now_ns);
            self.hosts[host].apply();
        }
    }

    /// Lets the NAT forget its mappings.
    pub fn rebind(&mut self) {
        self.mappings.clear();
    }

    /// Lets time pass.
    pub fn run(&mut self, for_ns: u64) {
        let end = self.now_ns + for_ns;
        loop {
            let timers = self
                .hosts
                .iter()
                .filter_map(|host| host.peers.next_due_ns());
            let arrivals = self.flying.iter().map(|(at, _)| *at);
            let next = timers.chain(arrivals).min().filter(|next| *next <= end);
            self.now_ns = next.unwrap_or(end).max(self.now_ns);
            let now_ns = self.now_ns;
            for host in 0..self.hosts.len() {
                let sent = self.hosts[host].peers.due(now_ns, usize::MAX);
                let more = self.hosts[host].peers.next_due_ns();
                assert!(more.is_none_or(|due| due > now_ns), "no timer spins");
                sent.into_iter().for_each(|datagram| self.send(datagram));
            }
            let flying = std::mem::take(&mut self.flying);
            let (here, later) = flying.into_iter().partition(|(at, _)| *at <= now_ns);
            self.flying = later;
            for (_, packet) in here {
                self.deliver(&packet);
            }
            self.hosts.iter_mut().for_each(|host| {
                host.apply();
            });
            if next.is_none() {
                return;
            }
        }
    }

    /// Delivers a packet, whoever sent it. Returns how many map entries it
    /// changed, and whether it was answered.
    pub fn deliver(&mut self, packet: &Packet) -> (usize, bool) {
        let mut to = packet.to.ip();
        if to == address(PUBLIC) {
            let port = packet.to.port();
            let mapping = self.mappings.iter().find(|(_, public)| **public == port);
            match mapping {
                Some((inside, _)) => to = inside.ip(),
                None => return (0, false),
            }
        }
        let now_ns = self.now_ns;
        let mut hosts = self.hosts.iter_mut();
        let Some(host) = hosts.find(|host| host.addresses.contains(&to)) else {
            return (0, false);
        };
        let before = host.apply();
        assert_eq!(before, 0, "changes are applied at once");
        let reply = host
            .peers
            .receive(&packet.payload, to, packet.from, 2, now_ns);
        let changed = host.apply();
        let answered = reply.is_some();
        reply.into_iter().for_each(|datagram| self.send(datagram));
        (changed, answered)
    }

    /// Returns all packets that were sent to an address so far.
    pub fn sent_to(&self, address: IpAddr) -> Vec<(u64, Packet)> {
        let mut log = self.log.clone();
        log.retain(|(_, packet)| packet.to.ip() == address);
        log
    }

    fn send(&mut self, datagram: Datagram) {
        let mut from = SocketAddr::new(datagram.from, DEFAULT_PORT);
        assert_ne!(datagram.ifindex, 0, "both ways the device is known");
        if self.inside.contains(&from.ip()) {
            let next_port = &mut self.next_port;
            let port = *self.mappings.entry(from).or_insert_with(|| {
                *next_port += 1;
                *next_port
            });
            from = SocketAddr::new(address(PUBLIC), port);
        }
        let packet = Packet {
            from,
            to: datagram.to,
            payload: datagram.payload,
        };
        let cut = self.cut.contains(&from.ip()) || self.cut.contains(&packet.to.ip());
        if cut || self.dice.roll() % 100 < self.loss {
            return;
        }
        self.log.push((self.now_ns, packet.clone()));
        self.flying.push((self.now_ns + self.delay_ns, packet));
    }
}

fn agent(id: u64, key: &[u8]) -> Peers {
    let settings = Settings {
        agent_id: id,
        port: DEFAULT_PORT,
        key: key.to_vec(),
    };
    let mut dice = Dice(id);
    Peers::new(settings, move || dice.roll())
}

/// A random number generator: SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
