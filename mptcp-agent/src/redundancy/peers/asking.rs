//! Sends hellos when they are due.

use std::net::SocketAddr;

use mptcp_api::hello::{BLOCK, Kind, Message, Timing};
use mptcp_common::abi::redundant::ChannelKey;

use super::{
    Connection, Datagram, Peers, Timer, address,
    nonces::Exchange,
    schedule::{NO_AGENT_TRIES, ask_again},
};
use crate::redundancy::proof;

impl Peers {
    /// Returns the hellos to send now. Must be called when
    /// [`Peers::next_due_ns`] says so. Looks at `most` timers at most: if more
    /// are due, they stay due.
    pub fn due(&mut self, now_ns: u64, most: usize) -> Vec<Datagram> {
        self.report.forget_refused(now_ns);
        let mut datagrams = Vec::new();
        for _ in 0..most {
            let Some(timer) = self.schedule.pop(now_ns) else {
                break;
            };
            datagrams.extend(match timer {
                Timer::Subflow(cookie) => self.ask(cookie, now_ns),
                Timer::Channel(index) => self.keep(index, now_ns),
            });
        }
        datagrams
    }

    /// Starts to send hellos about a new subflow whose client is this end.
    pub(super) fn start_asking(&mut self, cookie: u64, now_ns: u64) {
        let port = self.port;
        if let Some(subflow) = self.connections.subflow_mut(cookie) {
            let road = subflow.road(port);
            subflow.exchange = Some(Exchange::new(road));
            self.count_asking(road, true);
            self.ask_anew(cookie, now_ns);
        }
    }

    /// Restarts the hellos about a subflow that the peer does not regard as
    /// proven (any more).
    pub(super) fn ask_anew(&mut self, cookie: u64, due_ns: u64) {
        if let Some(subflow) = self.connections.subflow_mut(cookie) {
            subflow.settled = false;
            subflow.tries = 0;
            self.schedule.set(Timer::Subflow(cookie), Some(due_ns));
        }
    }

    /// Returns a subflow's next hello. At the server's end there is none: there
    /// the timer means that the client's first hello is late.
    fn ask(&mut self, cookie: u64, now_ns: u64) -> Option<Datagram> {
        let subflow = self.connections.subflow_mut(cookie)?;
        let alone = subflow.channel.is_none();
        let remote = subflow.tuple.remote;
        let connection = subflow.connection;
        if !self.connections.is_client_of(connection) {
            if alone {
                self.report.no_agent(remote);
            }
            return None;
        }
        let subflow = self.connections.subflow_mut(cookie)?;
        if subflow.settled {
            return None;
        }
        subflow.tries = subflow.tries.saturating_add(1);
        subflow.may_repeat = true;
        let tries = subflow.tries;
        if alone && tries > NO_AGENT_TRIES {
            self.report.no_agent(remote);
            self.disown(connection);
        }
        let again = now_ns.saturating_add(ask_again(tries));
        self.schedule.set(Timer::Subflow(cookie), Some(again));
        self.hello(cookie, now_ns)
    }

    /// Handles a channel's timer: its next hello is due, its peer has fallen
    /// silent, or it was kept long enough without an open subflow.
    fn keep(&mut self, index: u32, now_ns: u64) -> Option<Datagram> {
        let channel = self.channels.get_mut(index)?;
        let silent = channel.expire(now_ns);
        if let Some(cookie) = channel.outlived(silent, now_ns) {
            self.forget_entirely(cookie);
            return None;
        }
        if silent {
            self.report.there(&channel.road, false);
        }
        let speaker = channel.speak(now_ns);
        self.reschedule(index);
        let cookie = speaker?;
        self.connections.subflow_mut(cookie)?.may_repeat = true;
        self.hello(cookie, now_ns)
    }

    /// Makes a hello about a subflow, with a new nonce.
    pub(super) fn hello(&mut self, cookie: u64, now_ns: u64) -> Option<Datagram> {
        let nonce = self.nonce();
        let subflow = self.connections.subflow_mut(cookie)?;
        let exchange = subflow.exchange.as_mut()?;
        exchange.send(nonce, now_ns);
        let (echo, road) = (exchange.heard, exchange.road);
        let (ends, ifindex) = (subflow.ends(), subflow.ifindex);
        let (key, channel) = (subflow.connection, subflow.channel);
        let timing = self.timing(channel, now_ns);
        let connection = self.connections.get(key)?;
        let message = Message {
            kind: Kind::Hello,
            sender: self.id,
            token: connection.remote_token,
            nonce,
            echo,
            ends,
            timing,
            device: ifindex,
        };
        let block = self.asked(key, address(road.remote), now_ns);
        let connection = self.connections.get(key)?;
        let datagram = self.datagram(connection, &message, &road, ifindex, block);
        self.report.hellos.sent += 1;
        Some(datagram)
    }

    /// Returns the timing to put into a message that goes out now over this
    /// channel; zeros if there is no channel.
    pub(super) fn timing(&mut self, channel: Option<u32>, now_ns: u64) -> Timing {
        let known = channel.and_then(|index| Some((index, self.channels.get_mut(index)?)));
        known.map_or_else(Timing::default, |(index, channel)| {
            channel.quality.speak(&(self.traffic)(index), now_ns)
        })
    }

    /// Makes a datagram of a message, its block if there is one, and its tag.
    pub(super) fn datagram(
        &self,
        connection: &Connection,
        message: &Message,
        road: &ChannelKey,
        ifindex: u32,
        block: Option<[u8; BLOCK]>,
    ) -> Datagram {
        let mut payload = match block {
            Some(block) => message.body_with(&block),
            None => message.body(),
        };
        let tag = proof::tag(&self.key, connection.keys, &payload);
        payload.extend(tag);
        Datagram {
            from: address(road.local),
            ifindex,
            to: SocketAddr::new(address(road.remote), road.remote_port),
            payload,
        }
    }
}
