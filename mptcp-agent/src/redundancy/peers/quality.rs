//! The quality of a channel: how fast and lossy it is, from times and counts
//! that its two agents exchange, and at which rate copies may use it.
//!
//! ```text
//!   round trip   of a message and its reply, minus the time in between at the
//!                peer
//!   delay        one way, from here to the peer, measured by two clocks: only
//!                a change means something, namely a queue
//!   loss         the datagrams (copies and messages) that were sent before a
//!                message, and had not arrived at the peer when it arrived
//!   rate         what copies may use: it falls while they, or anybody else,
//!                make a queue, and grows while there is none
//! ```
//!
//! Messages travel over this channel alone and are not copied, so neither
//! another path nor TCP has a part in these figures.
//!
//! Limits: a queue that exists from the beginning looks like a long path. A
//! path that has become longer looks like a queue until [`WINDOW`] has passed.
//! Meanwhile the rate falls to [`LEAST_RATE`], but thin connections are copied
//! at any rate.

use std::collections::VecDeque;

use mptcp_api::hello::Timing;
use mptcp_common::abi::redundant::{MAX_COST, Traffic};

const US: u64 = 1_000;
const SECOND: u64 = 1_000_000_000;

/// Number of messages remembered until their reply comes.
const REMEMBERED: usize = 8;

/// How long a least value counts, in steps of [`STEP`], nanoseconds.
const WINDOW: usize = 6;
const STEP: u64 = 10 * SECOND;

/// A delay counts as a queue if it is longer than this, microseconds, and than
/// a quarter of the round trip. Smaller delays may come from the agents, which
/// are late now and then.
const QUEUE_US: u64 = 10_000;

/// Rate for copies on a new channel, bytes per second.
const FIRST_RATE: u64 = 1_250_000;
/// The least rate for copies.
const LEAST_RATE: u64 = 64_000;
/// The largest rate for copies: it must fit into `Channel::rate`.
const MOST_RATE: u64 = u32::MAX as u64;

/// Loss is measured over about this many datagrams, ...
const WEIGHT: f64 = 100.0;
/// ... and half of it is forgotten in this time, nanoseconds, so that a channel
/// that copies avoid is tried again.
const HALF_LIFE: f64 = 60e9;
/// Number of datagrams without loss that a channel is credited with at first.
const PRIOR: f64 = 5.0;
/// Number of copies that a message may overtake. If more datagrams than that
/// seem to have arrived without having been sent, the peer's count is ignored.
const SLACK: f64 = 1_000.0;
/// The loss at which one class ends and the next one begins.
const CLASSES: [f64; 3] = [0.03, 0.1, 0.3];

/// Number of bits of a cost that hold the round trip, microseconds; the class
/// of loss is above them.
const RTT_BITS: u32 = 27;
const _: () = assert!((CLASSES.len() as u32 + 1) << RTT_BITS <= MAX_COST);
/// The round trip, microseconds, while it is not known.
const UNKNOWN_US: u64 = 1_000_000;

/// A channel with more datagrams a second, both ways together, is lively:
/// hellos on it go out more often.
const MANY: f64 = 200.0;

/// A message that was sent.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at_us: u64,
    /// Number of datagrams sent until then, itself included.
    datagrams: u64,
    bytes: u64,
}

/// The newest message that was received.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    sent_us: u64,
    at_us: u64,
    /// Number of datagrams that had arrived by then, itself included.
    arrived: u64,
}

/// A reply, with the message that it answers.
#[derive(Clone, Copy, Debug)]
struct Reply {
    sent: Sent,
    arrived: u64,
    /// Number of datagrams that had arrived here.
    arrived_here: u64,
    at_ns: u64,
}

/// The state of the measurement of a channel.
#[derive(Debug)]
pub struct Quality {
    /// Offset of the clock in messages from this host's clock.
    epoch_us: u64,
    sent: VecDeque<Sent>,
    messages_sent: u64,
    messages_heard: u64,
    heard: Heard,
    last: Option<Reply>,
    least_rtt: Least,
    least_delay: Least,
    rtt_us: u64,
    /// The queueing delay that both of the last two replies have seen.
    queue_us: u64,
    newest_queue_us: u64,
    datagrams: f64,
    lost: f64,
    rate: u64,
    is_lively: bool,
}

impl Quality {
    /// Starts without measurements. Times in messages begin at `epoch_us`, a
    /// random number, so that the peer does not learn how long this host has
    /// been up.
    pub fn new(epoch_us: u64) -> Self {
        Self {
            epoch_us,
            sent: VecDeque::new(),
            messages_sent: 0,
            messages_heard: 0,
            heard: Heard::default(),
            last: None,
            least_rtt: Least::default(),
            least_delay: Least::default(),
            rtt_us: UNKNOWN_US,
            queue_us: 0,
            newest_queue_us: 0,
            datagrams: 0.0,
            lost: 0.0,
            rate: FIRST_RATE,
            is_lively: false,
        }
    }

    fn clock_us(&self, now_ns: u64) -> u64 {
        self.epoch_us.wrapping_add(now_ns / US)
    }

    /// Returns the timing for the next message, which goes out now.
    pub fn speak(&mut self, traffic: &Traffic, now_ns: u64) -> Timing {
        self.messages_sent += 1;
        let at_us = self.clock_us(now_ns);
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back(Sent {
            at_us,
            datagrams: traffic.sent.wrapping_add(self.messages_sent),
            bytes: traffic.sent_bytes,
        });
        Timing {
            sent_us: at_us,
            heard_us: self.heard.sent_us,
            heard_at_us: self.heard.at_us,
            arrived: self.heard.arrived,
        }
    }

    /// Takes the timing of a message of the peer that has just proven to be
    /// fresh.
    pub fn hear(&mut self, timing: &Timing, traffic: &Traffic, now_ns: u64) {
        self.messages_heard += 1;
        let arrived_here = traffic.arrived.wrapping_add(self.messages_heard);
        self.heard = Heard {
            sent_us: timing.sent_us,
            at_us: self.clock_us(now_ns),
            arrived: arrived_here,
        };
        let known = self
            .sent
            .iter()
            .position(|sent| sent.at_us == timing.heard_us);
        let Some(at) = known else {
            return;
        };
        // No reply to older messages is expected any more.
        self.sent.drain(..at);
        let Some(sent) = self.sent.pop_front() else {
            return;
        };
        let reply = Reply {
            sent,
            arrived: timing.arrived,
            arrived_here,
            at_ns: now_ns,
        };
        self.see_time(timing, &sent, now_ns);
        if let Some(before) = self.last.replace(reply) {
            self.see_loss(&before, &reply);
            self.adapt(&before, &reply);
        }
    }

    /// Notes that a message has had no reply for `waited_ns`.
    pub fn miss(&mut self, waited_ns: u64) {
        if waited_ns / US > 2 * self.rtt_us {
            self.weigh(1.0, 1.0);
        }
    }

    /// Returns the cost of a copy over the channel; copies prefer cheaper
    /// channels.
    pub fn cost(&self) -> u32 {
        let loss = self.lost / (self.datagrams + PRIOR);
        let class = CLASSES.iter().filter(|least| loss >= **least).count() as u32;
        let most = (1 << RTT_BITS) - 1;
        class << RTT_BITS | u32::try_from(self.rtt_us).map_or(most, |rtt| rtt.min(most))
    }

    /// Returns the rate that copies may use, bytes per second.
    pub fn rate(&self) -> u32 {
        u32::try_from(self.rate).unwrap_or(u32::MAX)
    }

    /// Returns whether so much is copied that hellos must go out often.
    pub fn is_lively(&self) -> bool {
        self.is_lively
    }

    /// Updates round trip and queue. The queue towards the peer is the smaller
    /// increase of delay and round trip: the delay also grows if a clock is
    /// set, and the round trip also grows with a queue on the way back.
    fn see_time(&mut self, timing: &Timing, sent: &Sent, now_ns: u64) {
        let kept_us = timing.sent_us.wrapping_sub(timing.heard_at_us);
        let away_us = self.clock_us(now_ns).wrapping_sub(sent.at_us);
        self.rtt_us = away_us.saturating_sub(kept_us);
        let delay_us = timing.heard_at_us.wrapping_sub(sent.at_us);
        let longer = self.least_rtt.over(self.rtt_us.cast_signed(), now_ns);
        let later = self.least_delay.over(delay_us.cast_signed(), now_ns);
        let queue_us = longer.min(later);
        // An agent that is late once looks like a queue, so two replies must
        // agree.
        self.queue_us = queue_us.min(self.newest_queue_us);
        self.newest_queue_us = queue_us;
    }

    fn see_loss(&mut self, before: &Reply, now: &Reply) {
        let sent = now.sent.datagrams.wrapping_sub(before.sent.datagrams);
        let arrived = now.arrived.wrapping_sub(before.arrived);
        let elapsed_ns = now.at_ns.saturating_sub(before.at_ns) as f64;
        let kept = 0.5_f64.powf(elapsed_ns / HALF_LIFE);
        self.datagrams *= kept;
        self.lost *= kept;
        // `lost` may be negative: a message may have overtaken copies, which
        // count as lost until they arrive.
        let lost = sent as f64 - arrived as f64;
        if lost + SLACK >= 0.0 {
            self.weigh(sent as f64, lost);
        }
    }

    fn weigh(&mut self, datagrams: f64, lost: f64) {
        let room = (WEIGHT - datagrams).max(0.0);
        let kept = (room / self.datagrams.max(1.0)).min(1.0);
        self.datagrams = self.datagrams * kept + datagrams;
        self.lost = (self.lost * kept + lost).max(0.0);
    }

    /// Adapts the rate of copies to the queue, and to what they used since the
    /// previous reply. A low rate grows even if copies do not use it, since the
    /// reason for that is not known here.
    fn adapt(&mut self, before: &Reply, now: &Reply) {
        let elapsed_us = now.sent.at_us.wrapping_sub(before.sent.at_us).max(1);
        let bytes = now.sent.bytes.wrapping_sub(before.sent.bytes);
        let taken = bytes.saturating_mul(1_000_000) / elapsed_us;
        let datagrams = now.sent.datagrams.wrapping_sub(before.sent.datagrams)
            + now.arrived_here.wrapping_sub(before.arrived_here);
        self.is_lively = datagrams as f64 * 1e6 / elapsed_us as f64 > MANY;
        let quarter = self.rtt_us.saturating_sub(self.queue_us) / 4;
        if self.queue_us > QUEUE_US.max(quarter) {
            let used = self.rate.min(taken.saturating_mul(2));
            self.rate = (used / 10 * 7).max(LEAST_RATE);
        } else if taken > self.rate / 4 || self.rate < FIRST_RATE {
            self.rate = (self.rate + self.rate / 2).min(MOST_RATE);
        }
    }
}

/// The least value of the last [`WINDOW`] steps.
#[derive(Debug, Default)]
struct Least {
    /// The start and the least value of each step, newest last.
    steps: VecDeque<(u64, i64)>,
}

impl Least {
    /// Takes a value, and returns by how much it exceeds the least one.
    fn over(&mut self, value: i64, now_ns: u64) -> u64 {
        match self.steps.back_mut() {
            Some((since_ns, least)) if now_ns.saturating_sub(*since_ns) < STEP => {
                *least = value.min(*least);
            }
            _ => self.steps.push_back((now_ns, value)),
        }
        let oldest = now_ns.saturating_sub(WINDOW as u64 * STEP);
        while self.steps.front().is_some_and(|(since, _)| *since < oldest) {
            self.steps.pop_front();
        }
        let least = self.steps.iter().map(|(_, least)| *least).min();
        value.abs_diff(least.unwrap_or(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const RTT_BITS_OF_COST: u32 = (1 << RTT_BITS) - 1;

    /// Two agents and the network between them.
    struct Pair {
        here: Quality,
        there: Quality,
        now_ns: u64,
        /// Delays from here to there, and back, nanoseconds.
        delays: [u64; 2],
        /// The counters of both kernels.
        here_has: Traffic,
        there_has: Traffic,
    }

    impl Pair {
        fn new(delays_ms: [u64; 2]) -> Self {
            Self {
                here: Quality::new(0),
                there: Quality::new(u64::MAX - 5),
                now_ns: 77 * SECOND,
                delays: delays_ms.map(|delay| delay * MS),
                here_has: Traffic::default(),
                there_has: Traffic::default(),
            }
        }

        /// Exchanges a hello and an answer, then lets `interval_ms` pass. In
        /// that time, `copies` go from here to there, of which `arrive` arrive.
        fn round(&mut self, interval_ms: u64, copies: u64, arrive: u64) {
            let began_ns = self.now_ns;
            let hello = self.here.speak(&self.here_has, self.now_ns);
            self.now_ns += self.delays[0];
            self.there.hear(&hello, &self.there_has, self.now_ns);
            let answer = self.there.speak(&self.there_has, self.now_ns);
            self.now_ns += self.delays[1];
            self.here.hear(&answer, &self.here_has, self.now_ns);
            self.here_has.sent += copies;
            self.here_has.sent_bytes += copies * 1_500;
            self.there_has.arrived += arrive;
            self.now_ns = began_ns + interval_ms * MS;
        }

        fn rtt_us(quality: &Quality) -> u32 {
            quality.cost() & RTT_BITS_OF_COST
        }

        fn class(quality: &Quality) -> u32 {
            quality.cost() >> RTT_BITS
        }
    }

    #[test]
    fn both_ends_know_the_round_trip() {
        let mut pair = Pair::new([30, 20]);
        assert_eq!(Pair::rtt_us(&pair.here), 1_000_000);
        for _ in 0..3 {
            pair.round(500, 0, 0);
        }
        assert_eq!(Pair::rtt_us(&pair.here), 50_000);
        // Here the next hello is the reply, half a second after the answer.
        assert_eq!(Pair::rtt_us(&pair.there), 50_000);
    }

    #[test]
    fn a_queue_slows_copies_in_its_direction_only() {
        let mut pair = Pair::new([10, 10]);
        for _ in 0..10 {
            pair.round(100, 0, 0);
        }
        let before = pair.here.rate();
        pair.delays[0] += 40 * MS;
        for _ in 0..10 {
            pair.round(100, 50, 50);
        }
        assert!(pair.here.rate() < before / 4, "{}", pair.here.rate());
        assert_eq!(pair.there.rate(), before);
        // When the queue is gone, the rate grows while it is used.
        pair.delays[0] -= 40 * MS;
        for _ in 0..20 {
            pair.round(100, 100, 100);
        }
        assert!(pair.here.rate() >= before, "{}", pair.here.rate());
        assert!(pair.here.is_lively());
    }

    #[test]
    fn an_agent_that_is_late_once_is_no_queue() {
        let mut pair = Pair::new([10, 10]);
        for _ in 0..10 {
            pair.round(100, 0, 0);
        }
        let before = pair.here.rate();
        pair.delays[0] += 40 * MS;
        pair.round(100, 50, 50);
        pair.delays[0] -= 40 * MS;
        pair.round(100, 50, 50);
        assert!(pair.here.rate() >= before);
    }

    #[test]
    fn loss_costs_more_than_any_round_trip_and_slows_nothing() {
        let mut pair = Pair::new([100, 100]);
        for _ in 0..20 {
            pair.round(500, 25, 20);
        }
        assert_eq!(Pair::class(&pair.here), 2);
        assert_eq!(Pair::class(&pair.there), 0);
        assert!(pair.here.rate() >= FIRST_RATE as u32);
        // After two minutes without copies, the channel is worth another try.
        for _ in 0..240 {
            pair.round(500, 0, 0);
        }
        assert_eq!(Pair::class(&pair.here), 0);
    }

    #[test]
    fn messages_that_get_no_reply_are_losses() {
        let mut pair = Pair::new([1, 1]);
        for _ in 0..3 {
            pair.round(500, 0, 0);
        }
        for _ in 0..4 {
            pair.here.miss(250 * MS);
        }
        assert_eq!(Pair::class(&pair.here), 3);
        let mut far = Pair::new([200, 200]);
        for _ in 0..3 {
            far.round(1_000, 0, 0);
        }
        far.here.miss(250 * MS);
        assert_eq!(Pair::class(&far.here), 0, "its reply is still on the way");
    }

    #[test]
    fn a_longer_way_is_a_queue_for_a_minute() {
        let mut pair = Pair::new([10, 10]);
        pair.round(500, 0, 0);
        pair.delays[0] += 100 * MS;
        for _ in 0..60 {
            pair.round(500, 1, 1);
        }
        assert_eq!(u64::from(pair.here.rate()), LEAST_RATE);
        for _ in 0..80 {
            pair.round(500, 500, 500);
        }
        assert!(u64::from(pair.here.rate()) > LEAST_RATE);
    }

    #[test]
    fn what_a_peer_claims_does_no_harm() {
        let mut quality = Quality::new(3);
        for claimed in [0, 1, u64::MAX / 2, u64::MAX] {
            for now_ns in [0, SECOND, 3 * SECOND] {
                let said = quality.speak(&Traffic::default(), now_ns);
                let timing = Timing {
                    sent_us: claimed,
                    heard_us: said.sent_us,
                    heard_at_us: claimed.wrapping_mul(3),
                    arrived: claimed,
                };
                quality.hear(&timing, &Traffic::default(), now_ns + MS);
                assert!(quality.cost() < MAX_COST);
                assert!(u64::from(quality.rate()) >= LEAST_RATE);
            }
        }
    }
}
