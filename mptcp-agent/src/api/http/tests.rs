#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Starts a server on a free port. Returns its address and the agent's end of
/// the channel.
async fn start(lifetime: Duration) -> (SocketAddr, mpsc::Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, requests) = channel();
    let bounded = listener::Bounded::with_lifetime(listener, lifetime);
    tokio::spawn(async move { axum::serve(bounded, router(sender)).await });
    (address, requests)
}

/// Sends a request and returns the whole answer, from the status line on, until
/// the server closes.
async fn fetch(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn pages_and_their_answers() {
    let (address, mut requests) = start(Duration::from_secs(10)).await;
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            match request {
                Request::Metrics(reply) => drop(reply.send(Ok("x 1\n".to_owned()))),
                Request::Health(reply) => drop(reply.send(())),
            }
        }
    });
    for (request, status, part) in [
        ("GET /metrics", "200", "x 1\n"),
        (
            "GET /metrics",
            "200",
            "content-type: text/plain; version=0.0.4",
        ),
        ("GET /healthz", "200", "ok\n"),
        ("GET /", "200", "href=\"/metrics\""),
        ("HEAD /metrics", "200", ""),
        ("GET /else", "404", "not found"),
        ("GET /metrics/", "404", "not found"),
        ("POST /metrics", "405", ""),
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

#[tokio::test]
async fn trouble_in_the_agent_is_told() {
    let (address, mut requests) = start(Duration::from_secs(10)).await;
    let answer = tokio::spawn(fetch(address, "GET /metrics"));
    let Some(Request::Metrics(reply)) = requests.recv().await else {
        panic!("no request")
    };
    reply.send(Err("no maps".to_owned())).unwrap();
    let answer = answer.await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 500") && answer.contains("no maps"),
        "{answer}"
    );

    drop(requests);
    let answer = fetch(address, "GET /healthz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn a_silent_client_is_dropped() {
    let (address, _requests) = start(Duration::from_millis(50)).await;
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
