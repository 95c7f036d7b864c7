//! Connections and subflows as the kernel reported them, and what each has
//! proven so far.

use std::collections::HashMap;

use mptcp_api::hello::{Ends, Ids};
use mptcp_common::abi::{
    Tuple,
    redundant::{Carriers, ChannelKey, PeerView},
    subflow_flag,
};

use super::{ConnectionInfo, SubflowInfo, nonces::Exchange};
use crate::redundancy::proof::{self, Keys};

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// The connection as reported.
    pub info: ConnectionInfo,
    /// The keys for the proof.
    pub keys: Keys,
    /// The peer's token.
    pub remote_token: u32,
    /// The peer's agent id; 0: not proven.
    pub peer: u64,
    /// Cookies of its subflows, oldest first.
    pub subflows: Vec<u64>,
    /// The carriers that were last published to the kernel.
    pub carriers: Option<Carriers>,
}

/// One subflow.
#[derive(Debug)]
pub struct Subflow {
    /// Its connection.
    pub connection: u64,
    /// Addresses, ports, ids.
    pub tuple: Tuple,
    /// Its device; 0: not known.
    pub ifindex: u32,
    /// Index of its path.
    pub path: u32,
    /// Index of its channel, once there is one.
    pub channel: Option<u32>,
    /// The addresses and ports by which the peer knows it, if they differ.
    pub view: Option<PeerView>,
    /// The exchange with its channel's address, or with the one that the client
    /// sends hellos to.
    pub exchange: Option<Exchange>,
    /// The exchange with the newest other address that the server got hellos
    /// from. It replaces `exchange` once it is proven.
    pub candidate: Option<Exchange>,
    /// Hellos sent since it was last settled.
    pub tries: u32,
    /// Whether the server said that this end is proven (client only).
    pub settled: bool,
    /// Whether the next answer may be followed by a hello at once. Each
    /// scheduled hello allows this once.
    pub may_repeat: bool,
    /// Whether it has closed and is kept only for its channel.
    pub closed: bool,
}

impl Subflow {
    fn new(info: &SubflowInfo) -> Self {
        Self {
            connection: info.connection,
            tuple: info.tuple,
            ifindex: info.ifindex,
            path: info.path,
            channel: None,
            view: None,
            exchange: None,
            candidate: None,
            tries: 0,
            settled: false,
            may_repeat: false,
            closed: false,
        }
    }

    /// Returns the road between its own addresses; the peer's agent listens on
    /// `port`.
    pub fn road(&self, port: u16) -> ChannelKey {
        ChannelKey {
            local: self.tuple.local,
            remote: self.tuple.remote,
            remote_port: port,
            scope: ChannelKey::scope_of(&self.tuple.remote, self.ifindex),
        }
    }

    /// Returns its ends as messages describe them to the peer.
    pub fn ends(&self) -> Ends {
        let Tuple {
            local,
            remote,
            local_port,
            remote_port,
            ..
        } = self.tuple;
        Ends {
            local,
            remote,
            local_port,
            remote_port,
            ids: (self.tuple.flags & subflow_flag::IDS != 0).then_some(Ids {
                local: self.tuple.local_id,
                remote: self.tuple.remote_id,
            }),
        }
    }

    /// Returns the exchange over a road: the one in use, or else the candidate.
    /// A candidate on another road is replaced.
    pub fn exchange_on(&mut self, road: ChannelKey) -> &mut Exchange {
        let in_use = self.exchange.as_ref();
        if in_use.is_some_and(|exchange| exchange.road == road) {
            return self.exchange.get_or_insert_with(|| Exchange::new(road));
        }
        self.candidate.take_if(|candidate| candidate.road != road);
        self.candidate.get_or_insert_with(|| Exchange::new(road))
    }

    /// Puts the candidate on this road into use, as it was proven.
    pub fn promote(&mut self, road: &ChannelKey) {
        if let Some(proven) = self.candidate.take_if(|candidate| candidate.road == *road) {
            self.exchange = Some(proven);
        }
    }
}

/// Returns the addresses and ports by which the peer knows a subflow, according
/// to its message; `None` if they are the subflow's own.
pub fn view(own: &Ends, peers: &Ends) -> Option<PeerView> {
    let theirs = PeerView {
        local: peers.remote,
        remote: peers.local,
        local_port: peers.remote_port,
        remote_port: peers.local_port,
    };
    let ours = PeerView {
        local: own.local,
        remote: own.remote,
        local_port: own.local_port,
        remote_port: own.remote_port,
    };
    (theirs != ours).then_some(theirs)
}

/// All connections and subflows.
#[derive(Debug, Default)]
pub struct Connections {
    connections: HashMap<u64, Connection>,
    by_token: HashMap<u32, u64>,
    subflows: HashMap<u64, Subflow>,
}

impl Connections {
    /// Returns a connection, by its address in the kernel.
    pub fn get(&self, key: u64) -> Option<&Connection> {
        self.connections.get(&key)
    }

    /// Returns a connection, to change it.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut Connection> {
        self.connections.get_mut(&key)
    }

    /// Returns whether a connection is known and this host opened it.
    pub fn is_client_of(&self, key: u64) -> bool {
        self.get(key).is_some_and(|known| !known.info.server)
    }

    /// Returns the connection with this token at this end.
    pub fn with_token(&self, token: u32) -> Option<&Connection> {
        self.get(*self.by_token.get(&token)?)
    }

    /// Returns a subflow, by its socket's cookie.
    pub fn subflow(&self, cookie: u64) -> Option<&Subflow> {
        self.subflows.get(&cookie)
    }

    /// Returns a subflow, to change it.
    pub fn subflow_mut(&mut self, cookie: u64) -> Option<&mut Subflow> {
        self.subflows.get_mut(&cookie)
    }

    /// Adds a connection that is not known yet.
    pub fn add(&mut self, info: ConnectionInfo) {
        let keys = if info.server {
            Keys {
                client: info.remote_key,
                server: info.local_key,
            }
        } else {
            Keys {
                client: info.local_key,
                server: info.remote_key,
            }
        };
        self.by_token.insert(info.token, info.key);
        self.connections.insert(
            info.key,
            Connection {
                keys,
                remote_token: proof::token(info.remote_key),
                peer: 0,
                subflows: Vec::new(),
                carriers: None,
                info,
            },
        );
    }

    /// Forgets a connection whose subflows are gone already.
    pub fn remove(&mut self, key: u64) -> Option<Connection> {
        let connection = self.connections.remove(&key)?;
        // The token may be another connection's by now.
        if self.by_token.get(&connection.info.token) == Some(&key) {
            self.by_token.remove(&connection.info.token);
        }
        Some(connection)
    }

    /// Returns whether all subflows of a known connection have closed.
    pub fn is_over(&self, key: u64) -> bool {
        let mut subflows = self.get(key).into_iter().flat_map(|known| &known.subflows);
        subflows.all(|cookie| self.subflow(*cookie).is_none_or(|subflow| subflow.closed))
    }

    /// Gives another key to a connection that is over, since the kernel may
    /// reuse its address.
    pub fn retire(&mut self, key: u64, new: u64) {
        let Some(mut connection) = self.connections.remove(&key) else {
            return;
        };
        for cookie in &connection.subflows {
            if let Some(subflow) = self.subflows.get_mut(cookie) {
                subflow.connection = new;
            }
        }
        if let Some(by_token) = self.by_token.get_mut(&connection.info.token)
            && *by_token == key
        {
            *by_token = new;
        }
        connection.info.key = new;
        self.connections.insert(new, connection);
    }

    /// Adds a subflow of a known connection.
    pub fn add_subflow(&mut self, info: &SubflowInfo) -> Option<&mut Subflow> {
        let connection = self.connections.get_mut(&info.connection)?;
        connection.subflows.push(info.cookie);
        let entry = self.subflows.entry(info.cookie);
        Some(entry.insert_entry(Subflow::new(info)).into_mut())
    }

    /// Forgets a subflow.
    pub fn remove_subflow(&mut self, cookie: u64) -> Option<Subflow> {
        let subflow = self.subflows.remove(&cookie)?;
        if let Some(connection) = self.connections.get_mut(&subflow.connection) {
            connection.subflows.retain(|other| *other != cookie);
        }
        Some(subflow)
    }

    /// Returns the subflow of a connection that the peer means: the one with
    /// the same addresses and ports. If there is none because NAT changed them,
    /// it is the one with the same address ids, if there is only one.
    pub fn meant(&self, connection: &Connection, ends: &Ends) -> Option<u64> {
        let own = || {
            let cookies = connection.subflows.iter();
            cookies.filter_map(|cookie| Some((*cookie, self.subflows.get(cookie)?.ends())))
        };
        let exact = own().find(|(_, own)| view(own, ends).is_none());
        if let Some((cookie, _)) = exact {
            return Some(cookie);
        }
        let swapped = ends.ids.map(|ids| Ids {
            local: ids.remote,
            remote: ids.local,
        })?;
        let mut same_ids = own().filter(|(_, own)| own.ids == Some(swapped));
        let (cookie, _) = same_ids.next()?;
        same_ids.next().is_none().then_some(cookie)
    }
}
