//! Events as they come: what arrives, and what clients that misbehave cost.

use mptcp_api::schema::{Event, Reply};

use super::super::stream::MAX_STREAMS;
use super::*;

const REQUEST: &str = "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n";

fn event(number: usize) -> Arc<Reply> {
    Arc::new(Reply::Event(Event {
        time: number.to_string(),
        event: "joined".to_owned(),
        path: "x".repeat(200),
        ..Event::default()
    }))
}

/// A server whose events come from `events`.
struct Scene {
    address: SocketAddr,
    events: EventSender,
    streams: Streams,
    requests: mpsc::Receiver<Request>,
}

impl Scene {
    fn new(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (events, streams) = (control::events(), Streams::default());
        let (address, requests) = start_within(
            directory.path(),
            None,
            limits,
            events.clone(),
            streams.clone(),
        );
        Self {
            address,
            events,
            streams,
            requests,
        }
    }

    /// Returns how many streams are open, and how many clients were dropped.
    fn count(&self) -> (usize, u64) {
        let count = self.streams.count();
        (count.open, count.dropped)
    }
}

async fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(REQUEST.as_bytes()).await.unwrap();
    stream
}

/// Reads until `part` has come, and returns what has come lately.
async fn read_until(stream: &mut TcpStream, part: &str) -> String {
    let mut text = String::new();
    while !text.contains(part) {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "closed after: {text}");
        if text.len() > 64 * 1024 {
            text.drain(..32 * 1024);
        }
        text += &String::from_utf8_lossy(&buffer[..count]);
    }
    text
}

async fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn events_come_as_lines_of_the_control_socket_for_longer_than_other_answers() {
    let scene = Scene::new(Limits {
        lifetime: Duration::from_millis(100),
        ..Limits::default()
    });
    let mut stream = open(scene.address).await;
    let head = read_until(&mut stream, "retry: 1000\n\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    assert!(head.contains("retry: 1000\n"), "{head}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    scene.events.send(event(7)).unwrap();
    let text = read_until(&mut stream, "\n\n").await;
    let line = text.split_once("data: ").unwrap().1;
    let line = line.split('\n').next().unwrap();
    assert_eq!(
        mptcp_api::line::decode_reply(line.as_bytes()).unwrap(),
        *event(7)
    );
}

#[tokio::test]
async fn a_stream_has_signs_of_life_and_an_end() {
    let scene = Scene::new(Limits {
        stall: Duration::from_millis(100),
        longest: Duration::from_millis(700),
        ..Limits::default()
    });
    let mut stream = open(scene.address).await;
    let start = Instant::now();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(600));
    assert!(text.matches(":\n\n").count() >= 3, "{text}");
    // Such an end is not the client's fault.
    wait_for("the stream is forgotten", || scene.count() == (0, 0)).await;
}

#[tokio::test]
async fn the_number_of_streams_is_bounded_and_others_are_still_served() {
    let scene = Scene::new(Limits::default());
    let address = scene.address;
    answer(scene.requests);
    let mut streams = Vec::new();
    for _ in 0..MAX_STREAMS {
        let mut stream = open(address).await;
        read_until(&mut stream, "to_client").await;
        streams.push(stream);
    }
    let refused = fetch(address, "GET /api/v1/events").await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(
        refused.contains("16 clients follow the events already"),
        "{refused}"
    );
    assert!(fetch(address, "GET /healthz").await.ends_with("ok\n"));
    assert_eq!(scene.streams.count().open, MAX_STREAMS);
    // A place is free again once a client is gone.
    streams.pop();
    wait_for("a stream to end", || {
        scene.streams.count().open < MAX_STREAMS
    })
    .await;
    read_until(&mut open(address).await, "to_client").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped_and_delays_nobody() {
    let scene = Scene::new(Limits {
        stall: Duration::from_millis(300),
        ..Limits::default()
    });
    let silent = open(scene.address).await;
    let mut reader = open(scene.address).await;
    read_until(&mut reader, "to_client").await;
    wait_for("both to follow", || scene.count() == (2, 0)).await;
    let reading = tokio::spawn(async move { read_until(&mut reader, "\"time\":\"last\"").await });
    let mut number = 0;
    let mut slowest = Duration::ZERO;
    wait_for("the silent client to be dropped", || {
        for _ in 0..200 {
            number += 1;
            let start = Instant::now();
            let _ = scene.events.send(event(number));
            slowest = slowest.max(start.elapsed());
        }
        scene.count() == (1, 1)
    })
    .await;
    // The loop of the agent only ever puts an event into a queue of fixed length.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let last = Event {
        time: "last".to_owned(),
        ..Event::default()
    };
    scene.events.send(Arc::new(Reply::Event(last))).unwrap();
    reading.await.unwrap();
    drop(silent);
    // A client that leaves by itself, as the reader did, was not dropped.
    wait_for("the reader to be gone", || scene.count() == (0, 1)).await;
}
