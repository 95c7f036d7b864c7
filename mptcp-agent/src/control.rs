//! The control socket: how a running agent is asked, and told.
//!
//! ```text
//!   mptcp-agent policy|status|connections|events      (client/)
//!        |  a line of JSON (schema)
//!        v
//!   server   who may (access), how many, how long a line, how slow
//!        |  a Call, with a channel for its answer
//!        v
//!   the agent's loop, which owns the kernel side
//! ```
//!
//! The server runs on the runtime's other thread, so that a slow or hostile
//! client holds nothing up: what it asks waits in a short queue, and what it
//! does not read is dropped, and counted.

pub mod access;
pub mod server;
pub mod settings;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use mptcp_api::schema::{Connection, PolicyView, Refusal, Reply, Status};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::policy::Provided;

/// Calls that may wait for the agent's loop.
const QUEUE: usize = 32;

/// Events that a client may lag behind before it loses some.
const EVENT_QUEUE: usize = 4096;

/// What a client asks of the agent's loop. The answer is dropped if nobody
/// waits for it any more.
#[derive(Debug)]
pub enum Call {
    /// The policy in force.
    PolicyShow(oneshot::Sender<PolicyView>),
    /// Another policy.
    PolicySet {
        /// The new one, with what it needs of the host.
        provided: Provided,
        /// After which the one before comes back.
        lasting: Option<Duration>,
        /// The policy in force then, or why it is still the old one.
        reply: oneshot::Sender<Result<PolicyView, Refusal>>,
    },
    /// How the agent is.
    Status(oneshot::Sender<Result<Status, Refusal>>),
    /// Every connection.
    Connections(oneshot::Sender<Result<Vec<Connection>, Refusal>>),
    /// End, and leave everything in place.
    HandOver(oneshot::Sender<()>),
}

/// Events on their way to clients: [`Reply::Event`] and [`Reply::Lost`].
pub type EventSender = broadcast::Sender<Arc<Reply>>;

/// The channel from the server to the agent's loop.
pub fn channel() -> (mpsc::Sender<Call>, mpsc::Receiver<Call>) {
    mpsc::channel(QUEUE)
}

/// The channel from the agent's loop to the clients that want events.
pub fn events() -> EventSender {
    broadcast::channel(EVENT_QUEUE).0
}
