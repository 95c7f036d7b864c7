//! Connections and subflows, as the kernel reported them, and what was proven
//! of each.

use std::collections::HashMap;

use mptcp_api::hello::{Ends, Ids};
use mptcp_common::abi::{
    Tuple,
    redundant::{Carriers, LinkKey, PeerView},
    subflow_flag,
};

use super::{ConnectionInfo, SubflowInfo, nonces::Exchange};
use crate::redundant::proof::{self, Keys};

/// One connection.
#[derive(Debug)]
pub struct Connection {
    /// What was reported.
    pub info: ConnectionInfo,
    /// The proof's keys.
    pub keys: Keys,
    /// The peer's token.
    pub remote_token: u32,
    /// The peer's agent id; 0: not proven.
    pub peer: u64,
    /// Cookies, oldest first.
    pub subflows: Vec<u64>,
    /// What the kernel was told last.
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
    /// Index of its link, once there is one.
    pub link: Option<u32>,
    /// How the peer knows it, if by other addresses or ports.
    pub view: Option<PeerView>,
    /// With the address that is its link's, or that a client asks.
    pub exchange: Option<Exchange>,
    /// With another that may become it: the newest that a server was asked
    /// from.
    pub candidate: Option<Exchange>,
    /// Hellos sent since it was last settled.
    pub tries: u32,
    /// The server said that this end is proven to it (client only).
    pub settled: bool,
    /// An answer may be followed by a hello at once: one for each of the
    /// schedule.
    pub may_repeat: bool,
    /// It has closed, and is kept for its link's sake.
    pub closed: bool,
}

impl Subflow {
    fn new(info: &SubflowInfo) -> Self {
        Self {
            connection: info.connection,
            tuple: info.tuple,
            ifindex: info.ifindex,
            link: None,
            view: None,
            exchange: None,
            candidate: None,
            tries: 0,
            settled: false,
            may_repeat: false,
            closed: false,
        }
    }

    /// Between its own addresses; the peer's agent listens on `port`.
    pub fn road(&self, port: u16) -> LinkKey {
        LinkKey {
            local: self.tuple.local,
            remote: self.tuple.remote,
            remote_port: port,
            scope: LinkKey::scope_of(&self.tuple.remote, self.ifindex),
        }
    }

    /// As it is told to the peer.
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

    /// The exchange over a road: the one in use, or the candidate, which a new
    /// one replaces.
    pub fn exchange_on(&mut self, road: LinkKey) -> &mut Exchange {
        let in_use = self.exchange.as_ref();
        if in_use.is_some_and(|exchange| exchange.road == road) {
            return self.exchange.get_or_insert_with(|| Exchange::new(road));
        }
        self.candidate.take_if(|candidate| candidate.road != road);
        self.candidate.get_or_insert_with(|| Exchange::new(road))
    }

    /// The candidate on this road has proven itself.
    pub fn promote(&mut self, road: &LinkKey) {
        if let Some(proven) = self.candidate.take_if(|candidate| candidate.road == *road) {
            self.exchange = Some(proven);
        }
    }
}

/// How the peer's message says that it knows a subflow; `None` if as it is.
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

/// All of them.
#[derive(Debug, Default)]
pub struct Connections {
    connections: HashMap<u64, Connection>,
    by_token: HashMap<u32, u64>,
    subflows: HashMap<u64, Subflow>,
}

impl Connections {
    /// A connection, by the kernel's address of it.
    pub fn get(&self, key: u64) -> Option<&Connection> {
        self.connections.get(&key)
    }

    /// To change.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut Connection> {
        self.connections.get_mut(&key)
    }

    /// Whether a connection is known and this host opened it.
    pub fn is_client_of(&self, key: u64) -> bool {
        self.get(key).is_some_and(|known| !known.info.server)
    }

    /// The connection with this token at this end.
    pub fn with_token(&self, token: u32) -> Option<&Connection> {
        self.get(*self.by_token.get(&token)?)
    }

    /// A subflow, by its socket's cookie.
    pub fn subflow(&self, cookie: u64) -> Option<&Subflow> {
        self.subflows.get(&cookie)
    }

    /// To change.
    pub fn subflow_mut(&mut self, cookie: u64) -> Option<&mut Subflow> {
        self.subflows.get_mut(&cookie)
    }

    /// Adds a connection that is not known.
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

    /// Forgets a connection; its subflows are gone already.
    pub fn remove(&mut self, key: u64) -> Option<Connection> {
        let connection = self.connections.remove(&key)?;
        // The token may be another connection's by now.
        if self.by_token.get(&connection.info.token) == Some(&key) {
            self.by_token.remove(&connection.info.token);
        }
        Some(connection)
    }

    /// Whether all subflows of a known connection have closed.
    pub fn is_over(&self, key: u64) -> bool {
        let mut subflows = self.get(key).into_iter().flat_map(|known| &known.subflows);
        subflows.all(|cookie| self.subflow(*cookie).is_none_or(|subflow| subflow.closed))
    }

    /// Gives a connection that is over another key: the kernel may use its
    /// address again.
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

    /// Which subflow of a connection the peer means. The one with the same
    /// addresses and ports; else, where NAT changed them, the one with the same
    /// address ids, if there is only one.
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
