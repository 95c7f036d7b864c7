//! Simulates a host: links with a rate, a round trip, a queue and random loss;
//! connections that share them, each with congestion control that cuts its
//! window on loss, the kernel's default scheduler, and the controller, called
//! as the eBPF side calls it.
//!
//! Time runs in ticks of a millisecond. The simulation models what the policy
//! acts on: the scheduler's choice by `wmem / pace`, which sends nothing while
//! its favourite's queue is full; pacing caps, which a socket learns of at its
//! own ACKs only; and the send buffer, which data stuck on one path fills.
//!
//! [`World`] has any number of connections, [`Simulation`] has one.

mod connection;
mod link;
mod load;
mod outcome;
mod overflow;
mod path;
mod world;

use mptcp_common::abi::{Policy, capability};
use mptcp_common::controller::Controller;

pub use link::{Link, Variation};
pub use load::Load;
pub use outcome::Outcome;
pub use world::{Steering, World};

pub const MS: u64 = 1_000_000;
pub const MSS: f64 = 1448.0;

/// A world with one connection, in which losses are repaired in place.
pub struct Simulation {
    pub spill: bool,
    overflows: bool,
    world: World,
}

impl Simulation {
    pub fn new(links: &[Link], seed: u64) -> Self {
        let mut world = World::new(links, seed, Steering::Strict);
        world.repair_in_place();
        world.add(Load::Idle);
        Self {
            spill: false,
            overflows: false,
            world,
        }
    }

    /// Applies a policy to the connection, as the programs do by
    /// `Connection::policy`. The first link is path 0 of the policy, and so on.
    pub fn obey(&mut self, policy: &Policy) {
        self.spill = policy.capabilities & capability::SPILLS != 0;
        self.world.connection(0).weigh(policy);
    }

    /// Puts the connection under the overflow policy, from now on.
    pub fn overflows(&mut self) {
        self.overflows = true;
        self.world.steer(Steering::Overflow);
        self.world.sweep();
    }

    pub fn controller(&self) -> &Controller {
        &self.world.connections[0].controller
    }

    /// Returns a link, to change it while the connection runs. A link of rate 0
    /// is dead.
    pub fn link(&mut self, path: usize) -> &mut Link {
        self.world.link(path)
    }

    /// Runs for `ms` and returns the bytes that each path got acked.
    pub fn run(&mut self, ms: u64, load: Load) -> Vec<u64> {
        self.world.steer(match (self.overflows, self.spill) {
            (true, _) => Steering::Overflow,
            (false, true) => Steering::Spill,
            (false, false) => Steering::Strict,
        });
        self.world.connection(0).load = load;
        self.world.run(ms).acked
    }

    /// Lets the host stand still for `ms`, as a shared machine does at times:
    /// the load goes on, and nothing else does.
    pub fn stand_still(&mut self, ms: u64, rate: f64) {
        self.world.stand_still(ms);
        self.world.connection(0).write(rate * ms as f64 / 1000.0);
    }
}
