//! The control socket: through it, clients query and control a running agent.
//!
//! ```text
//!   mptcp-agent policy|reload|status|connections|events   (client/)
//!        |  a line of JSON (schema)
//!        v
//!   server   checks access, limits the clients and the length of their lines
//!        |  a Call, with a channel for its answer
//!        v
//!   the agent's loop, which owns the kernel side
//! ```
//!
//! The server runs on the runtime's other thread, so that a slow or hostile
//! client cannot hold up the agent's loop. It also renders the answers there
//! (`view`), which takes long on a host with many connections. Calls wait in a short queue, and
//! events that a client does not read in time are dropped, and counted.

pub mod access;
pub mod reload;
mod rules;
pub mod server;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use mptcp_api::schema::{PolicyView, Refusal, Reloaded, Reply, RulesView};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::config::Fresh;
use crate::policy::Provided;
use crate::rules::{Provided as ProvidedRules, Rules};
use crate::state::snapshot::{Open, Quotas, Snapshot};
pub use rules::rules;

/// Number of calls that may wait for the agent's loop.
const QUEUE: usize = 32;

/// Number of events that a client may lag behind before it loses some.
const EVENT_QUEUE: usize = 4096;

/// A client's request to the agent's loop. The answer is dropped if nobody
/// waits for it any more.
#[derive(Debug)]
pub enum Call {
    /// Return the policy in force.
    PolicyShow(oneshot::Sender<PolicyView>),
    /// Change the policy.
    PolicySet {
        /// The new policy, with the resources of the host that it needs.
        provided: Provided,
        /// The time after which the previous policy comes back; `None`: never.
        lasting: Option<Duration>,
        /// Gets the policy in force then, or why it is still the old one.
        reply: oneshot::Sender<Result<PolicyView, Refusal>>,
    },
    /// Return the rules in force.
    RulesShow(oneshot::Sender<Result<RulesView, Refusal>>),
    /// Return the rules in force, as the agent has them.
    RulesHeld(oneshot::Sender<Rules>),
    /// Replace the rules and the policies that they choose.
    RulesSet {
        /// The new rules, with the resources of the host that they need.
        provided: ProvidedRules,
        /// Gets the rules in force then, or why they are still the old ones.
        reply: oneshot::Sender<Result<RulesView, Refusal>>,
    },
    /// Apply settings that were read anew.
    Reload {
        /// The settings, with the resources of the host that they need.
        fresh: Box<Fresh>,
        /// Gets what has changed, or why nothing has.
        reply: oneshot::Sender<Result<Reloaded, Refusal>>,
    },
    /// Return the state of the agent.
    Status(oneshot::Sender<Result<Box<Snapshot>, Refusal>>),
    /// Return every connection.
    Connections(oneshot::Sender<Result<Open, Refusal>>),
    /// Return the quotas of all paths.
    QuotaShow(oneshot::Sender<Quotas>),
    /// Forget what a path has used of its quota.
    QuotaReset {
        /// The path.
        path: String,
        /// Gets the quotas then.
        reply: oneshot::Sender<Result<Quotas, Refusal>>,
    },
    /// End the agent, and leave everything in place for its successor.
    HandOver(oneshot::Sender<()>),
}

/// Events on their way to clients: [`Reply::Event`] and [`Reply::Lost`].
pub type EventSender = broadcast::Sender<Arc<Reply>>;

/// Creates the channel from the server to the agent's loop.
pub fn channel() -> (mpsc::Sender<Call>, mpsc::Receiver<Call>) {
    mpsc::channel(QUEUE)
}

/// Creates the channel from the agent's loop to the clients that want events.
pub fn events() -> EventSender {
    broadcast::channel(EVENT_QUEUE).0
}
