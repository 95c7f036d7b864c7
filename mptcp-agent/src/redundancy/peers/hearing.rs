//! Received datagrams, and what they prove.

use std::net::{IpAddr, SocketAddr};

use mptcp_api::hello::{self, BLOCK, Kind, Message, Timing};
use mptcp_common::abi::redundant::ChannelKey;

use super::{
    Datagram, Peers, Timer, address,
    channels::{Crowded, Pair},
    connections, octets, schedule,
};
use crate::redundancy::proof;

/// The way and the time that a datagram arrived.
#[derive(Clone, Copy)]
struct Origin {
    road: ChannelKey,
    ifindex: u32,
    now_ns: u64,
}

impl Origin {
    /// Returns the device for an answer about a subflow: the `subflow`'s own,
    /// as the hello may have arrived by another one. If that is not known (0),
    /// the kernel chooses (0), except for link-local addresses, which mean
    /// nothing without a device: then it is the one that the hello arrived by.
    fn answer_by(&self, subflow: u32) -> u32 {
        if subflow == 0 && self.road.scope != 0 {
            self.ifindex
        } else {
            subflow
        }
    }
}

impl Peers {
    /// Handles a datagram that came to `local` from `remote` by device
    /// `ifindex`. Returns the reply, if there is one; it is never longer than
    /// the datagram.
    pub fn receive(
        &mut self,
        payload: &[u8],
        local: IpAddr,
        remote: SocketAddr,
        ifindex: u32,
        now_ns: u64,
    ) -> Option<Datagram> {
        let decoded = match self.wishing {
            Some(_) => hello::decode_with_block(payload),
            None => hello::decode(payload),
        };
        let Some(received) = decoded else {
            self.report.hellos.malformed += 1;
            return None;
        };
        let message = received.message;
        let Some(connection) = self.connections.with_token(message.token) else {
            self.report.hellos.unknown += 1;
            return None;
        };
        let server = connection.info.server;
        if server != (message.kind == Kind::Hello) || message.sender == self.id {
            self.report.hellos.refused += 1;
            return None;
        }
        let origin = Origin {
            road: ChannelKey {
                local: octets(local),
                remote: octets(remote.ip()),
                remote_port: remote.port(),
                scope: ChannelKey::scope_of(&octets(remote.ip()), ifindex),
            },
            ifindex,
            now_ns,
        };
        if !proof::verify(&self.key, connection.keys, received.body, received.tag) {
            self.report.hellos.refused += 1;
            self.report.refused(origin.road, now_ns);
            return None;
        }
        let Some(cookie) = self.connections.meant(connection, &message.ends) else {
            self.report.hellos.unknown += 1;
            return None;
        };
        if server {
            self.hear_hello(cookie, &message, received.block, origin)
        } else {
            self.hear_answer(cookie, &message, received.block, origin)
        }
    }

    /// Handles a hello from the client's side and returns the answer. The hello
    /// proves the client if it returns one of our nonces.
    fn hear_hello(
        &mut self,
        cookie: u64,
        message: &Message,
        block: Option<&[u8; BLOCK]>,
        origin: Origin,
    ) -> Option<Datagram> {
        let Origin { road, now_ns, .. } = origin;
        let subflow = self.connections.subflow_mut(cookie)?;
        if subflow.tuple.local != road.local {
            self.report.hellos.refused += 1;
            return None;
        }
        let exchange = subflow.exchange_on(road);
        let fresh = exchange.accept(message.echo, now_ns);
        // A sender that has not proven itself gets the same nonce again, so
        // that it cannot push out nonces.
        let sent_before = exchange.newest(now_ns).filter(|_| !fresh);
        if fresh {
            self.report.hellos.verified += 1;
        }
        let settled = fresh && self.prove(cookie, message, origin);
        let nonce = match sent_before {
            Some(nonce) => nonce,
            None => {
                let nonce = self.nonce();
                let subflow = self.connections.subflow_mut(cookie)?;
                subflow.exchange_on(road).send(nonce, now_ns);
                nonce
            }
        };
        // Only a sender that has just proven itself learns about the channel.
        let channel = self.connections.subflow(cookie)?.channel;
        let timing = if settled {
            self.timing(channel, now_ns)
        } else {
            Timing::default()
        };
        // Likewise, only such a sender has a wish.
        let block = block.map(|block| match settled {
            true => self.note_wish(message.sender.get(), road.remote, block),
            false => [0; BLOCK],
        });
        let subflow = self.connections.subflow(cookie)?;
        let device = if subflow.ifindex == 0 {
            origin.ifindex
        } else {
            subflow.ifindex
        };
        let connection = self.connections.get(subflow.connection)?;
        let answer = Message {
            kind: if settled { Kind::Settled } else { Kind::Answer },
            sender: self.id,
            token: connection.remote_token,
            nonce,
            echo: message.nonce.get(),
            ends: subflow.ends(),
            timing,
            device: if settled { device } else { 0 },
        };
        let ifindex = origin.answer_by(subflow.ifindex);
        let datagram = self.datagram(connection, &answer, &road, ifindex, block);
        self.report.hellos.answered += 1;
        Some(datagram)
    }

    /// Handles an answer from the server's side. Unless it says settled, the
    /// server waits for its nonce to come back, in the hello that is returned.
    fn hear_answer(
        &mut self,
        cookie: u64,
        message: &Message,
        block: Option<&[u8; BLOCK]>,
        origin: Origin,
    ) -> Option<Datagram> {
        let Origin { road, now_ns, .. } = origin;
        let subflow = self.connections.subflow_mut(cookie)?;
        let exchange = subflow.exchange.as_mut();
        let Some(exchange) = exchange
            .filter(|exchange| exchange.road == road)
            .and_then(|exchange| exchange.accept(message.echo, now_ns).then_some(exchange))
        else {
            self.report.hellos.refused += 1;
            return None;
        };
        exchange.heard = message.nonce.get();
        self.report.hellos.verified += 1;
        if !self.prove(cookie, message, origin) {
            return None;
        }
        if let Some(block) = block {
            self.note_answer(message.sender.get(), address(road.remote), block, now_ns);
        }
        let subflow = self.connections.subflow_mut(cookie)?;
        if message.kind == Kind::Settled {
            subflow.settled = true;
            subflow.tries = 0;
            self.schedule.set(Timer::Subflow(cookie), None);
            return None;
        }
        let repeat = std::mem::take(&mut subflow.may_repeat);
        if subflow.settled {
            // The server has forgotten this subflow: its agent was restarted.
            let again = now_ns.saturating_add(schedule::ask_again(1));
            self.ask_anew(cookie, again);
        }
        if repeat {
            self.hello(cookie, now_ns)
        } else {
            None
        }
    }

    /// Notes that the sender of a message has just proven that it knows this
    /// subflow's connection. Returns `false` if there is no room for its
    /// channel, or if the subflow is gone.
    fn prove(&mut self, cookie: u64, message: &Message, origin: Origin) -> bool {
        let Some(subflow) = self.connections.subflow(cookie) else {
            return false;
        };
        let (key, own) = (subflow.connection, subflow.ends());
        let Some(connection) = self.connections.get(key) else {
            return false;
        };
        let client = !connection.info.server;
        let pair = if client {
            (own.local, own.remote)
        } else {
            (message.ends.remote, message.ends.local)
        };
        let peer = message.sender.get();
        let (closed, kept) = (subflow.closed, subflow.channel);
        let kept = kept.and_then(|channel| self.channels.get(channel));
        if closed && kept.is_none_or(|channel| channel.peer != peer) {
            // It was kept only for its channel, which leads to another peer.
            self.forget_entirely(cookie);
            return false;
        }
        let Some((channel, replaced)) = self.place(peer, pair, origin) else {
            return false;
        };
        self.put_on_channel(cookie, channel, client);
        if let Some(replaced) = replaced {
            self.reschedule(replaced);
        }
        let view = connections::view(&own, &message.ends);
        let mut ifindex = origin.ifindex;
        if let Some(subflow) = self.connections.subflow_mut(cookie) {
            subflow.promote(&origin.road);
            if subflow.ifindex != 0 {
                ifindex = subflow.ifindex;
            }
            if subflow.view != view {
                subflow.view = view;
                self.changes.view(cookie, view);
            }
        }
        let traffic = (self.traffic)(channel);
        self.channels
            .measure(channel, message, &traffic, origin.now_ns);
        self.channels.heard(
            channel,
            ifindex,
            origin.now_ns,
            &mut self.changes,
            &mut self.report,
        );
        self.reschedule(channel);
        let direct = origin.road.scope == 0
            && view.is_none()
            && (own.local, own.remote) == (origin.road.local, origin.road.remote);
        self.acquaint(channel, direct, client.then_some(own.remote_port));
        self.set_peer(key, peer, origin.now_ns);
        self.publish(key);
        true
    }

    /// Calls [`super::channels::Channels::place`]. If all indices are taken,
    /// gives up a channel without an open subflow and tries again. Returns
    /// `None` if there is no room, and counts and reports that.
    fn place(&mut self, peer: u64, pair: Pair, origin: Origin) -> Option<(u32, Option<u32>)> {
        let (road, now_ns) = (origin.road, origin.now_ns);
        let changes = &mut self.changes;
        let mut placed = self.channels.place(peer, pair, road, now_ns, changes);
        if placed == Err(Crowded::Full)
            && let Some(cookie) = self.channels.first_to_go()
        {
            self.forget_entirely(cookie);
            let changes = &mut self.changes;
            placed = self.channels.place(peer, pair, road, now_ns, changes);
        }
        placed
            .inspect_err(|why| self.report.crowded(&road, *why))
            .ok()
    }

    /// Lets new connections between the addresses of a channel have copies
    /// before they are proven. With a shared key, the agent assumes that every
    /// connection with the peer's address is with that peer. Without one, the
    /// peer may share its address with other hosts, so this is assumed only for
    /// connections from here to a `service` (TCP port) to which one was proven.
    /// If the channel is not `direct`, it never is: behind a NAT, it is not
    /// known how the peer sees a new connection, and other hosts may have the
    /// same link-local addresses on another device.
    fn acquaint(&mut self, channel: u32, direct: bool, service: Option<u16>) {
        if !direct {
            self.channels.estrange(channel, &mut self.changes);
        } else if !self.key.is_empty() {
            self.channels.befriend(channel, 0, &mut self.changes);
        } else if let Some(port) = service {
            self.channels.befriend(channel, port, &mut self.changes);
        }
    }

    fn put_on_channel(&mut self, cookie: u64, channel: u32, client: bool) {
        let port = self.port;
        let subflow = self.connections.subflow(cookie);
        if subflow.is_none_or(|subflow| subflow.channel == Some(channel)) {
            return;
        }
        self.leave_channel(cookie);
        if let Some(subflow) = self.connections.subflow_mut(cookie) {
            subflow.channel = Some(channel);
            let road = subflow.road(port);
            self.channels.join(channel, cookie, client);
            if client {
                self.count_asking(road, false);
            }
            if let Some(closed) = self.channels.relieve(channel) {
                self.forget_entirely(closed);
            }
        }
    }

    /// Sets the peer of a connection. If it had another one, its subflows on
    /// that peer's channels are no longer proven.
    fn set_peer(&mut self, key: u64, peer: u64, now_ns: u64) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if std::mem::replace(&mut connection.peer, peer) == peer {
            return;
        }
        let client = !connection.info.server;
        for cookie in connection.subflows.clone() {
            let subflow = self.connections.subflow(cookie);
            let channel = subflow.and_then(|subflow| self.channels.get(subflow.channel?));
            if channel.is_none_or(|channel| channel.peer == peer) {
                continue;
            }
            if subflow.is_some_and(|subflow| subflow.closed) {
                self.forget_entirely(cookie);
                continue;
            }
            self.leave_channel(cookie);
            if client {
                self.ask_anew(cookie, now_ns);
            }
        }
    }
}
