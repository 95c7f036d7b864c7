//! Serves `/metrics`, `/healthz` and `/` over HTTP.
//!
//! Nothing here touches the kernel. Requests go to the agent's loop, which
//! answers all that are waiting with the result of one scrape.

mod listener;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::sync::{mpsc, oneshot};

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

/// Serves `listener` for ever. It must be non-blocking.
///
/// # Errors
/// The listener fails.
pub async fn serve(listener: std::net::TcpListener, agent: mpsc::Sender<Request>) -> Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener).context("cannot serve HTTP")?;
    let bounded = listener::Bounded::new(listener);
    axum::serve(bounded, router(agent))
        .await
        .context("cannot serve HTTP")?;
    bail!("the HTTP server ended")
}

fn router(agent: mpsc::Sender<Request>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/", get(|| async { Html(INDEX) }))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found: see /\n") })
        .layer(axum::middleware::map_response(close))
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
