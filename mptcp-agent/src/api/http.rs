//! Serves `/metrics`, `/healthz` and `/` over HTTP, on each place of `--listen`.
//!
//! Nothing here touches the kernel. Requests go to the agent's loop, which
//! answers all that are waiting with the result of one scrape.

mod listener;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{mpsc, oneshot};

use crate::host::Socket;
use crate::web::InForce;

/// Number of requests that may wait for the agent's loop.
const QUEUE: usize = listener::MAX_CONNECTIONS;

/// How long a request waits before it is answered with 503.
const PATIENCE: Duration = Duration::from_secs(5);

const INDEX: &str = "<!doctype html>\n<title>mptcp-agent</title>\n<h1>mptcp-agent</h1>\n\
    <p><a href=\"/metrics\">/metrics</a>: for Prometheus\n\
    <p><a href=\"/healthz\">/healthz</a>: whether the agent answers\n";

/// A request to the agent's loop. The answer is dropped if nobody waits for it.
#[derive(Debug)]
pub enum Request {
    /// Return the metrics in the text format, or why there are none.
    Metrics(oneshot::Sender<Result<String, String>>),
    /// Return a sign of life.
    Health(oneshot::Sender<()>),
}

/// Creates the channel from [`serve`] to the agent's loop.
pub fn channel() -> (mpsc::Sender<Request>, mpsc::Receiver<Request>) {
    mpsc::channel(QUEUE)
}

/// Serves `sockets` for ever. They must be non-blocking. The web configuration
/// holds for addresses: a unix socket has its file's mode instead.
///
/// # Errors
/// A listener fails.
pub async fn serve(sockets: Vec<Socket>, web: InForce, agent: mpsc::Sender<Request>) -> Result<()> {
    serve_within(sockets, web, agent, listener::LIFETIME).await
}

async fn serve_within(
    sockets: Vec<Socket>,
    web: InForce,
    agent: mpsc::Sender<Request>,
    lifetime: Duration,
) -> Result<()> {
    let is_tcp = |socket: &Socket| matches!(socket, Socket::Tcp(_));
    let (tcp, unix): (Vec<_>, Vec<_>) = sockets.into_iter().partition(is_tcp);
    let listeners = |sockets: Vec<Socket>, web: Option<&InForce>| {
        let sockets = sockets.into_iter().map(|socket| (socket, web.cloned()));
        listener::Bounded::new(sockets.collect(), lifetime).context("cannot serve HTTP")
    };
    let (tcp, unix) = (listeners(tcp, Some(&web))?, listeners(unix, None)?);
    let open = router(agent.clone());
    let guarded = router(agent).layer(from_fn_with_state(web, guard));
    let ended = tokio::select! {
        ended = axum::serve(tcp, guarded.layer(map_response(close))) => ended,
        ended = axum::serve(unix, open.layer(map_response(close))) => ended,
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
        if !passwords.let_in(header).await {
            let realm = (header::WWW_AUTHENTICATE, "Basic realm=\"mptcp-agent\"");
            return (StatusCode::UNAUTHORIZED, [realm], "a password is needed\n").into_response();
        }
    }
    next.run(request).await
}

fn router(agent: mpsc::Sender<Request>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/", get(|| async { Html(INDEX) }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found: see /\n") })
        .with_state(agent)
}

/// Ends a connection after one request, since [`listener`] limits its lifetime.
async fn close(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn metrics(State(agent): State<mpsc::Sender<Request>>) -> Response {
    match ask(&agent, Request::Metrics).await {
        Some(Ok(text)) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Some(Err(error)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
        None => unavailable(),
    }
}

async fn healthz(State(agent): State<mpsc::Sender<Request>>) -> Response {
    match ask(&agent, Request::Health).await {
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
