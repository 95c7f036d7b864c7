#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod page;
mod stream;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mptcp_api::listen::Listen;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::api::control;
use crate::host::Listener;
use crate::web::Web;

/// Starts a server on a free port and on a unix socket in `directory`, with this
/// web configuration. Returns the port's address and the agent's end of the channel.
fn start_with(
    directory: &Path,
    web: Option<&Path>,
    lifetime: Duration,
) -> (SocketAddr, mpsc::Receiver<Request>) {
    let limits = Limits {
        lifetime,
        ..Limits::default()
    };
    start_within(
        directory,
        web,
        limits,
        control::events(),
        Streams::default(),
    )
}

/// Starts a server as [`start_with`] does, with these limits, and with events from
/// this sender, whose followers `streams` counts.
fn start_within(
    directory: &Path,
    web: Option<&Path>,
    limits: Limits,
    events: EventSender,
    streams: Streams,
) -> (SocketAddr, mpsc::Receiver<Request>) {
    let unix = format!("unix:{}", unix_path(directory).display());
    let places = ["127.0.0.1:0", "127.0.0.1:0", &unix].map(|place| place.parse().unwrap());
    let listeners = Listener::take_all(&places).unwrap();
    let Listen::Tcp(address) = *listeners[1].place() else {
        panic!("no address")
    };
    let sockets: Vec<_> = listeners.iter().map(|one| one.socket().unwrap()).collect();
    // The file of the unix socket stays as long as its directory.
    std::mem::forget(listeners);
    let (sender, requests) = channel();
    let web = Web::read(web).unwrap().in_force();
    tokio::spawn(serve_within(sockets, web, sender, events, streams, limits));
    (address, requests)
}

fn start(lifetime: Duration) -> (SocketAddr, mpsc::Receiver<Request>) {
    let directory = tempfile::tempdir().unwrap();
    start_with(directory.path(), None, lifetime)
}

fn unix_path(directory: &Path) -> PathBuf {
    directory.join("metrics.sock")
}

/// Answers every request, as the agent's loop does.
fn answer(mut requests: mpsc::Receiver<Request>) {
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            match request {
                Request::Metrics(reply) => drop(reply.send(Ok("x 1\n".to_owned()))),
                Request::Health(reply) => drop(reply.send(())),
                Request::Look(reply) => drop(reply.send(Ok(Box::default()))),
            }
        }
    });
}

/// Sends a request and returns the whole answer, from the status line on, until
/// the server closes.
async fn fetch(address: SocketAddr, request: &str) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    ask_over(stream, &format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

/// Sends these bytes and returns the whole answer.
async fn ask_over(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn pages_and_their_answers() {
    let (address, requests) = start(Duration::from_secs(10));
    answer(requests);
    for (request, status, part) in [
        ("GET /metrics", "200", "x 1\n"),
        (
            "GET /metrics",
            "200",
            "content-type: text/plain; version=0.0.4",
        ),
        ("GET /healthz", "200", "ok\n"),
        ("GET /", "200", "href=\"/metrics\""),
        ("HEAD /", "200", "content-type: text/html"),
        ("HEAD /metrics", "200", ""),
        ("GET /else", "404", "not found: see /\n"),
        ("GET /metrics/", "404", "not found"),
        ("GET /page/", "404", "not found"),
        ("GET /page/../web.yml", "404", "not found"),
        (
            "GET /api/v1/",
            "404",
            "not found: /api/v1/ has connections,",
        ),
        ("GET /api/v2/status", "404", "not found: /api/v1/ has"),
        ("GET /api/v1/connections?top=0", "400", "from 1 to 1000"),
        ("POST /metrics", "405", "read-only: use GET or HEAD"),
        ("POST /", "405", "read-only"),
        ("PUT /api/v1/policy", "405", "read-only"),
        ("DELETE /api/v1/events", "405", "read-only"),
    ] {
        let answer = fetch(address, request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {answer}"
        );
        assert!(answer.contains(part), "{request}: {answer}");
        assert!(answer.contains("connection: close"), "{request}: {answer}");
    }
}

/// Checks that a client learns why the agent cannot answer its request.
async fn tells_of_trouble(
    address: SocketAddr,
    requests: &mut mpsc::Receiver<Request>,
    request: &'static str,
) {
    let answer = tokio::spawn(fetch(address, request));
    let trouble = "no maps".to_owned();
    match requests.recv().await {
        Some(Request::Metrics(reply)) => reply.send(Err(trouble)).unwrap(),
        Some(Request::Look(reply)) => reply.send(Err(trouble)).unwrap(),
        other => panic!("{other:?}"),
    }
    let answer = answer.await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 500") && answer.contains("no maps"),
        "{answer}"
    );
}

#[tokio::test]
async fn trouble_in_the_agent_is_told() {
    let (address, mut requests) = start(Duration::from_secs(10));
    tells_of_trouble(address, &mut requests, "GET /metrics").await;
    drop(requests);
    let answer = fetch(address, "GET /healthz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn a_silent_client_is_dropped() {
    let (address, _requests) = start(Duration::from_millis(50));
    let start = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // The connection may be closed or reset, but must not be kept.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn every_listener_answers_and_has_places_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let (address, requests) = start_with(directory.path(), None, Duration::from_secs(10));
    answer(requests);
    assert!(fetch(address, "GET /healthz").await.ends_with("ok\n"));
    // Idle clients take all places of the address.
    let mut idle = Vec::new();
    for _ in 0..2 * listener::MAX_CONNECTIONS {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let unix = UnixStream::connect(unix_path(directory.path())).await;
    let text = ask_over(unix.unwrap(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(text.ends_with("x 1\n"), "{text}");
    // Once they are gone, others get in.
    drop(idle);
    assert!(fetch(address, "GET /metrics").await.ends_with("x 1\n"));
}

#[tokio::test]
async fn a_password_is_asked_for_on_addresses_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("web.yml");
    let hash = bcrypt::hash("secret", 4).unwrap();
    std::fs::write(&file, format!("basic_auth_users:\n  me: {hash}\n")).unwrap();
    let (address, requests) = start_with(directory.path(), Some(&file), Duration::from_secs(10));
    answer(requests);
    // me:secret and me:wrong
    for (header, status) in [
        ("", "401"),
        ("Authorization: Basic bWU6c2VjcmV0\r\n", "200"),
        ("Authorization: Basic bWU6d3Jvbmc=\r\n", "401"),
    ] {
        for page in ["metrics", "healthz", ""] {
            let stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET /{page} HTTP/1.1\r\nHost: x\r\n{header}\r\n");
            let text = ask_over(stream, &request).await;
            assert!(
                text.starts_with(&format!("HTTP/1.1 {status}")),
                "{request}: {text}"
            );
            assert!(text.contains("connection: close"), "{text}");
            let asks = text.contains("www-authenticate: Basic realm=\"mptcp-agent\"");
            assert_eq!(asks, status == "401", "{text}");
        }
    }
    let unix = UnixStream::connect(unix_path(directory.path())).await;
    let text = ask_over(unix.unwrap(), "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(text.ends_with("x 1\n"), "{text}");
}

#[tokio::test]
async fn huge_requests_are_refused() {
    let (address, requests) = start(Duration::from_secs(10));
    answer(requests);
    let mut many = String::new();
    for number in 0..200 {
        many += &format!("x-{number}: y\r\n");
    }
    for (header, status) in [
        (format!("x: {}\r\n", "y".repeat(10_000)), "200"),
        (format!("x: {}\r\n", "y".repeat(1_000_000)), "431"),
        (many, "431"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{header}\r\n");
        // The server may answer, and close, before it has read everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text).await;
        let text = String::from_utf8_lossy(&text);
        let is_reset = text.is_empty() && status == "431";
        assert!(
            is_reset || text.starts_with(&format!("HTTP/1.1 {status}")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn clients_that_never_read_lose_their_places() {
    let (address, mut requests) = start(Duration::from_millis(300));
    let text = "x".repeat(8 << 20);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            match request {
                Request::Metrics(reply) => drop(reply.send(Ok(text.clone()))),
                Request::Health(reply) => drop(reply.send(())),
                Request::Look(_) => {}
            }
        }
    });
    let mut clients = Vec::new();
    for _ in 0..listener::MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        clients.push(stream);
    }
    let start = Instant::now();
    let answer = fetch(address, "GET /healthz").await;
    assert!(answer.ends_with("ok\n"), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(clients);
}
