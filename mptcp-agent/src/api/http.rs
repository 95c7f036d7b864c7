//! Serves the metrics, the page and the state as JSON over HTTP, on each place of
//! `--listen`. Everything is read-only: there is no method but GET and HEAD.
//!
//! Nothing here touches the kernel. Requests go to the agent's loop, which
//! answers all that are waiting with the result of one scrape.
//!
//! | file | what it is |
//! |---|---|
//! | this file | `/metrics` and `/healthz`, and what all answers have in common |
//! | `listener` | connections: their number, their lifetime, TLS |
//! | `json` | `/api/v1/`: the state of the agent |
//! | `looks` | looks at that state, which all who ask share |
//! | `speeds` | rates of subflows, from one look to the next |
//! | `stream` | `/api/v1/events`: events as they come |
//! | `page` | `/`: the files of the page |

mod json;
mod listener;
mod looks;
mod page;
mod speeds;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{mpsc, oneshot};

use crate::api::control::EventSender;
use crate::host::Socket;
use crate::state::snapshot::Snapshot;
use crate::web::{InForce, Verdict};
use listener::{Lease, Limits};
use looks::Looks;
pub use stream::Streams;

/// Number of requests that may wait for the agent's loop.
const QUEUE: usize = listener::MAX_CONNECTIONS;

/// How long a request waits before it is answered with 503.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request to the agent's loop. The answer is dropped if nobody waits for it.
#[derive(Debug)]
pub enum Request {
    /// Return the metrics in the text format, or why there are none.
    Metrics(oneshot::Sender<Result<String, String>>),
    /// Return the state of the agent, with its open connections.
    Look(oneshot::Sender<Result<Box<Snapshot>, String>>),
    /// Return a sign of life.
    Health(oneshot::Sender<()>),
}

/// Creates the channel from [`serve`] to the agent's loop.
pub fn channel() -> (mpsc::Sender<Request>, mpsc::Receiver<Request>) {
    mpsc::channel(QUEUE)
}

/// The state that all requests share.
#[derive(Clone, Debug)]
struct Shared {
    agent: mpsc::Sender<Request>,
    looks: Looks,
    events: EventSender,
    streams: Streams,
    limits: Limits,
}

/// Serves `sockets` for ever. They must be non-blocking. The web configuration
/// holds for addresses: a unix socket has its file's mode instead. `events` brings
/// the events to those who follow them, whom `streams` counts.
///
/// # Errors
/// A listener fails.
pub async fn serve(
    sockets: Vec<Socket>,
    web: InForce,
    agent: mpsc::Sender<Request>,
    events: EventSender,
    streams: Streams,
) -> Result<()> {
    serve_within(sockets, web, agent, events, streams, Limits::default()).await
}

async fn serve_within(
    sockets: Vec<Socket>,
    web: InForce,
    agent: mpsc::Sender<Request>,
    events: EventSender,
    streams: Streams,
    limits: Limits,
) -> Result<()> {
    let is_tcp = |socket: &Socket| matches!(socket, Socket::Tcp(_));
    let (tcp, unix): (Vec<_>, Vec<_>) = sockets.into_iter().partition(is_tcp);
    let listeners = |sockets: Vec<Socket>, web: Option<&InForce>| {
        let sockets = sockets.into_iter().map(|socket| (socket, web.cloned()));
        listener::Bounded::new(sockets.collect(), limits).context("cannot serve HTTP")
    };
    let (tcp, unix) = (listeners(tcp, Some(&web))?, listeners(unix, None)?);
    let shared = Shared {
        looks: Looks::new(agent.clone()),
        agent,
        events,
        streams,
        limits,
    };
    let open = router(shared.clone());
    let guarded = router(shared).layer(from_fn_with_state(web, guard));
    let service = |router: Router| {
        let router = router.layer(map_response(finish));
        router.into_make_service_with_connect_info::<Lease>()
    };
    let ended = tokio::select! {
        ended = axum::serve(tcp, service(guarded)) => ended,
        ended = axum::serve(unix, service(open)) => ended,
    };
    ended.context("cannot serve HTTP")?;
    bail!("the HTTP server ended")
}

/// Lets a request through if it needs no password, or has one.
async fn guard(State(web): State<InForce>, request: HttpRequest, next: Next) -> Response {
    let settings = Arc::clone(&web.borrow());
    if let Some(passwords) = &settings.passwords {
        let header = request.headers().get(header::AUTHORIZATION);
        let header = header.map_or(&[][..], |header| header.as_bytes());
        match passwords.judge(header).await {
            Verdict::LetIn => {}
            Verdict::Refused => {
                let realm = (header::WWW_AUTHENTICATE, "Basic realm=\"mptcp-agent\"");
                let why = "a password is needed\n";
                return (StatusCode::UNAUTHORIZED, [realm], why).into_response();
            }
            Verdict::Busy => {
                let soon = (header::RETRY_AFTER, "1");
                let why = "too many passwords are being checked for this name: try again\n";
                return (StatusCode::TOO_MANY_REQUESTS, [soon], why).into_response();
            }
        }
    }
    next.run(request).await
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/api/v1/events", get(stream::events))
        .merge(json::routes())
        .merge(page::routes())
        .method_not_allowed_fallback(|| async {
            let why = "everything here is read-only: use GET or HEAD\n";
            (StatusCode::METHOD_NOT_ALLOWED, why)
        })
        .fallback(|uri: Uri| async move {
            let is_api = uri.path().starts_with("/api");
            let why = if is_api {
                json::KNOWN
            } else {
                "not found: see /\n"
            };
            (StatusCode::NOT_FOUND, why)
        })
        .with_state(shared)
}

/// Says what browsers may do with an answer. Ends a connection after one request,
/// since [`listener`] limits its lifetime.
async fn finish(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONNECTION, "close"),
        (header::CONTENT_SECURITY_POLICY, page::POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn metrics(State(shared): State<Shared>) -> Response {
    match ask(&shared.agent, Request::Metrics).await {
        Some(Ok(text)) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Some(Err(error)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
        None => unavailable(),
    }
}

async fn healthz(State(shared): State<Shared>) -> Response {
    match ask(&shared.agent, Request::Health).await {
        Some(()) => "ok\n".into_response(),
        None => unavailable(),
    }
}

fn unavailable() -> Response {
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "the agent does not answer\n",
    )
        .into_response()
}

async fn ask<T>(
    agent: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    let exchange = async {
        agent.send(request(sender)).await.ok()?;
        answer.await.ok()
    };
    tokio::time::timeout(PATIENCE, exchange).await.ok()?
}

#[cfg(test)]
mod tests;
