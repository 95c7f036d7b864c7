//! Looks at the agent's state, which all who ask at about the same time share.
//!
//! A look makes the agent's loop visit every socket. So there is one at a time, and
//! the next one comes after [`SHARED`], or after [`REST`] times as long as the last
//! one took. However many browsers ask, the loop spends at most a part of its time
//! on them.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mptcp_api::schema;
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;

use super::speeds::{Speed, Speeds, Total};
use super::{Request, ask};
use crate::api::control::view;
use crate::state::snapshot::{Connection, Snapshot};

/// A look is good for others who ask for at least this time.
const SHARED: Duration = Duration::from_millis(500);

/// A look is good for at least this many times as long as it has taken.
const REST: u32 = 10;

/// A look is forgotten after this time, because it may be large.
const KEPT: Duration = Duration::from_secs(15);

/// The state of the agent at one moment, and what its subflows did lately.
#[derive(Debug)]
pub struct Look {
    /// The state.
    pub snapshot: Snapshot,
    speeds: HashMap<u64, Speed>,
}

/// Why there is no look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The agent does not answer in time.
    Silent,
    /// The agent cannot look, for this reason.
    Failed(String),
}

type Outcome = Result<Arc<Look>, Trouble>;

/// The last look.
#[derive(Clone, Debug)]
pub struct Looks {
    agent: mpsc::Sender<Request>,
    last: Arc<Mutex<Last>>,
}

#[derive(Debug, Default)]
struct Last {
    outcome: Option<(Instant, Outcome)>,
    speeds: Speeds,
}

impl Looks {
    /// Creates a place for looks at this agent.
    pub fn new(agent: mpsc::Sender<Request>) -> Self {
        Self {
            agent,
            last: Arc::default(),
        }
    }

    /// Returns a look that is at most a moment old.
    ///
    /// # Errors
    /// The agent does not answer, or cannot look.
    pub async fn get(&self) -> Outcome {
        let mut last = self.last.lock().await;
        if let Some((at, outcome)) = &last.outcome {
            let took = outcome
                .as_ref()
                .map_or(Duration::ZERO, |it| it.snapshot.took);
            if at.elapsed() < SHARED.max(took * REST) {
                return outcome.clone();
            }
        }
        let outcome = match ask(&self.agent, Request::Look).await {
            Some(Ok(snapshot)) => Ok(Arc::new(last.speeds.of(*snapshot))),
            Some(Err(why)) => Err(Trouble::Failed(why)),
            None => Err(Trouble::Silent),
        };
        let at = Instant::now();
        last.outcome = Some((at, outcome.clone()));
        self.forget_later(at);
        outcome
    }

    /// Forgets the look of this time later, unless another one has followed.
    fn forget_later(&self, at: Instant) {
        let last = Arc::downgrade(&self.last);
        tokio::spawn(async move {
            sleep(KEPT).await;
            if let Some(last) = last.upgrade() {
                let mut last = last.lock().await;
                if last.outcome.as_ref().is_some_and(|(kept, _)| *kept == at) {
                    *last = Last::default();
                }
            }
        });
    }
}

impl Speeds {
    fn of(&mut self, snapshot: Snapshot) -> Look {
        let connections = snapshot.open.connections.iter();
        let totals = connections.flat_map(|one| &one.subflows).map(|one| Total {
            cookie: one.cookie,
            acked: one.known.acked_bytes,
            received: one.known.received_bytes,
        });
        let speeds = self.look(Instant::now(), &totals.collect::<Vec<_>>());
        Look { snapshot, speeds }
    }
}

impl Look {
    /// Converts the busiest connections, at most `most`: the fastest come first, and
    /// those that are as fast by the bytes that they have carried.
    pub fn busiest(&self, most: usize) -> schema::Connections {
        let open = &self.snapshot.open;
        let mut order: Vec<_> = open.connections.iter().collect();
        order.sort_by_cached_key(|one| Reverse(self.rank(one)));
        let shown = order.iter().take(most);
        schema::Connections {
            connections: shown.map(|one| self.convert(one)).collect(),
            last: true,
            open: Some(open.connections.len() as u64),
        }
    }

    /// Returns bytes per second, and then bytes, in both directions.
    fn rank(&self, connection: &Connection) -> (u64, u64) {
        let speed = self.speed(connection).unwrap_or_default();
        let subflows = connection.subflows.iter();
        let bytes = subflows.map(|one| one.known.acked_bytes + one.known.received_bytes);
        ((speed.acked + speed.received) as u64, bytes.sum())
    }

    /// Sums the rates of a connection's subflows; `None` if none is known.
    fn speed(&self, connection: &Connection) -> Option<Speed> {
        let known = |cookie| self.speeds.get(&cookie).copied();
        let speeds = connection
            .subflows
            .iter()
            .filter_map(|one| known(one.cookie));
        speeds.reduce(|sum, one| Speed {
            acked: sum.acked + one.acked,
            received: sum.received + one.received,
        })
    }

    fn convert(&self, connection: &Connection) -> schema::Connection {
        let mut shown = view::connection(connection, self.snapshot.open.endpoints.as_ref());
        let speed = self.speed(connection);
        shown.acked_bytes_per_second = speed.map(|it| it.acked);
        shown.received_bytes_per_second = speed.map(|it| it.received);
        for subflow in &mut shown.subflows {
            let speed = self.speeds.get(&subflow.cookie);
            subflow.acked_bytes_per_second = speed.map(|it| it.acked);
            subflow.received_bytes_per_second = speed.map(|it| it.received);
        }
        shown
    }
}
