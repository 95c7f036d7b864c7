//! Events as they come, as server-sent events: `/api/v1/events`.
//!
//! Each message is a line as on the control socket, `event` or `lost`. A client that
//! does not read costs a place, what the kernel buffers for its socket, and one line:
//! the queue of events is that of all clients, and whoever lags behind loses events.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream, StreamExt as _};
use mptcp_api::line;
use mptcp_api::schema::{Lost, Reply};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::Shared;
use super::listener::Lease;
use crate::state::snapshot;

/// Number of streams at once, over all listeners. There are fewer of them than
/// places of one listener, so that short requests are still served.
pub const MAX_STREAMS: usize = 16;

/// After this time a browser asks again when a stream has ended.
const RETRY: Duration = Duration::from_secs(1);

/// The streams over all listeners: their places, and the clients that were dropped.
#[derive(Clone, Debug)]
pub struct Streams {
    places: Arc<Semaphore>,
    dropped: Arc<AtomicU64>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_STREAMS)),
            dropped: Arc::default(),
        }
    }
}

impl Streams {
    /// Counts the streams, for the metrics.
    pub fn count(&self) -> snapshot::Streams {
        snapshot::Streams {
            open: MAX_STREAMS - self.places.available_permits(),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }
}

/// A client that follows the events.
struct Follower {
    events: Receiver<Arc<Reply>>,
    started: bool,
    _place: OwnedSemaphorePermit,
}

/// Answers with the events from now on, or with 503 if too many follow them already.
pub async fn events(
    State(shared): State<Shared>,
    ConnectInfo(lease): ConnectInfo<Lease>,
) -> Response {
    let Ok(place) = Arc::clone(&shared.streams.places).try_acquire_owned() else {
        let why = format!("{MAX_STREAMS} clients follow the events already: try again later\n");
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let follower = Follower {
        events: shared.events.subscribe(),
        started: false,
        _place: place,
    };
    lease.stream(shared.streams.dropped);
    let limits = shared.limits;
    let messages = follow(follower).take_until(sleep(limits.longest));
    // Something is written so often that a client that reads never seems stalled.
    let keep_alive = KeepAlive::new().interval(limits.stall / 2);
    Sse::new(messages).keep_alive(keep_alive).into_response()
}

fn follow(follower: Follower) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(follower, async |mut follower| {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    })
}

impl Follower {
    /// Returns the next message; `None` once the agent ends.
    async fn next(&mut self) -> Option<Event> {
        if !self.started {
            self.started = true;
            // This message says that no event is missed from here on.
            return message(&lost(0)).map(|event| event.retry(RETRY));
        }
        match self.events.recv().await {
            Ok(reply) => message(&reply),
            Err(RecvError::Lagged(count)) => message(&lost(count)),
            Err(RecvError::Closed) => None,
        }
    }
}

fn lost(to_client: u64) -> Reply {
    Reply::Lost(Lost {
        in_ring: 0,
        to_client,
    })
}

fn message(reply: &Reply) -> Option<Event> {
    let line = line::reply(reply).ok()?;
    // JSON has no line breaks of its own, which would end the message.
    let text = String::from_utf8(line).ok()?;
    Some(Event::default().data(text.trim_end()))
}
