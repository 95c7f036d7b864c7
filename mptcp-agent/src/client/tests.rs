#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::time::Duration;

use mptcp_api::schema::{Event, Lost};

use super::*;
use server::{Scripted, Step};

/// For a server that never answers in full.
const SHORT: Duration = Duration::from_millis(200);

/// For a server that does. It is slow on a busy machine.
const LONG: Duration = Duration::from_secs(30);

const OUTPUT: Output = Output {
    terminal: Terminal {
        width: None,
        colours: false,
    },
    json: false,
};

fn open(path: &Path) -> Result<Connection, Failure> {
    Connection::with_patience(path.to_owned(), LONG)
}

/// Returns the result of a request to a server that does `steps`.
fn asked(steps: &[Step]) -> Result<Reply, (Fault, String)> {
    asked_with_patience(steps, LONG)
}

fn asked_with_patience(steps: &[Step], patience: Duration) -> Result<Reply, (Fault, String)> {
    let server = Scripted::start(steps);
    let connect = || Connection::with_patience(server.path().to_owned(), patience);
    let exchange = || connect()?.exchange(&Request::PolicyShow);
    exchange().map_err(|failure| (failure.fault, failure.message))
}

#[test]
fn an_answer_and_every_kind_of_refusal() {
    let good = br#"{"version":1,"reply":"policy","policy":{"name":"default"},"backend":"none"}"#;
    assert!(matches!(
        asked(&[Step::Read, Step::Line(good)]),
        Ok(Reply::Policy(_))
    ));
    for (code, fault) in [
        ("malformed", Fault::Foreign),
        ("version", Fault::Foreign),
        ("forbidden", Fault::Denied),
        ("busy", Fault::Failed),
        ("refused", Fault::Failed),
        ("failed", Fault::Failed),
        ("too-long", Fault::Failed),
    ] {
        let line = format!(
            r#"{{"version":1,"reply":"error","code":"{code}","message":"not\n\u001b[2Jnow"}}"#
        );
        for steps in [
            &[Step::Read, Step::Line(line.as_bytes())][..],
            // Here the server refuses before it reads anything.
            &[Step::Line(line.as_bytes())],
        ] {
            let (found, message) = asked(steps).unwrap_err();
            assert_eq!(found, fault, "{code}");
            assert!(message.contains("the agent refuses: not"), "{message}");
            assert!(!message.contains(char::is_control), "{message}");
        }
    }
}

#[test]
fn another_version_and_other_protocols() {
    for (line, reason) in [
        (
            &b"{\"version\":2,\"reply\":\"new\"}"[..],
            "version 2 of the protocol",
        ),
        (b"HTTP/1.1 400 Bad Request", "does not speak this protocol"),
        (b"\x00\xff\x1b[2J", "does not speak this protocol"),
        (b"", "does not speak this protocol"),
        (b"{\"version\":1,\"reply\":\"new\"}", "makes no sense"),
    ] {
        let (fault, message) = asked(&[Step::Read, Step::Line(line)]).unwrap_err();
        assert_eq!(fault, Fault::Foreign, "{message}");
        assert!(message.contains(reason), "{message}");
    }
    let (fault, message) = asked(&[Step::Read, Step::Flood]).unwrap_err();
    assert_eq!(fault, Fault::Foreign, "{message}");
    assert!(message.contains("more than 16777216 bytes"), "{message}");
}

#[test]
fn silence_and_an_early_end() {
    for (steps, reason) in [
        (&[Step::Read, Step::Wait][..], "does not answer"),
        (
            &[Step::Read, Step::Bytes(b"{\"ver"), Step::Wait],
            "does not answer",
        ),
        (&[Step::Read, Step::Trickle], "does not answer"),
        (&[Step::Read], "closed the connection without an answer"),
        (&[], "closed the connection without an answer"),
        (
            &[Step::Read, Step::Bytes(b"{\"ver")],
            "in the middle of its answer",
        ),
    ] {
        let patience = match reason {
            "does not answer" => SHORT,
            _ => LONG,
        };
        let (fault, message) = asked_with_patience(steps, patience).unwrap_err();
        assert_eq!(fault, Fault::Failed, "{message}");
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn no_agent_and_no_permission() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    std::fs::write(at("file"), "").unwrap();
    drop(UnixListener::bind(at("dead")).unwrap());
    let _datagrams = UnixDatagram::bind(at("datagrams")).unwrap();
    for (name, fault, reason) in [
        ("none", Fault::NoAgent, "start one with mptcp-agent run"),
        ("file", Fault::NoAgent, "that is no socket"),
        ("file/x", Fault::NoAgent, "that is no socket"),
        ("dead", Fault::NoAgent, "one that has ended left its socket"),
        ("datagrams", Fault::Foreign, "a socket of another kind"),
    ] {
        let failure = open(&at(name)).unwrap_err();
        assert_eq!(failure.fault, fault, "{failure:?}");
        assert!(failure.message.contains(reason), "{failure:?}");
    }

    // The mode does not stop root, so root skips this part of the test.
    let _listener = UnixListener::bind(at("closed")).unwrap();
    std::fs::set_permissions(at("closed"), std::fs::Permissions::from_mode(0o000)).unwrap();
    if !rustix::process::geteuid().is_root() {
        let failure = open(&at("closed")).unwrap_err();
        assert_eq!(failure.fault, Fault::Denied, "{failure:?}");
    }
    let denied = connection::unreachable(&at("closed"), &ErrorKind::PermissionDenied.into());
    assert_eq!(denied.fault, Fault::Denied);
    assert!(
        denied.message.contains("member of group mptcp"),
        "{denied:?}"
    );
}

#[test]
fn connections_are_put_together_or_refused() {
    let part = |count: usize, last: bool| {
        let connection = r#"{"side":"client","fallback":false,"steered":false,"subflows":[]}"#;
        let all = vec![connection; count].join(",");
        format!(r#"{{"version":1,"reply":"connections","connections":[{all}],"last":{last}}}"#)
    };
    let (some, none, end) = (part(3, false), part(0, false), part(1, true));
    let lines = |lines: &[&str]| {
        let lines = lines.iter().map(|line| Step::Line(line.as_bytes()));
        let steps: Vec<_> = std::iter::once(Step::Read).chain(lines).collect();
        let server = Scripted::start(&steps);
        let got = connections::all(&mut open(server.path()).unwrap());
        got.map(|all| all.len()).map_err(|failure| failure.fault)
    };
    assert_eq!(lines(&[&some, &some, &end]), Ok(7));
    assert_eq!(lines(&[&part(0, true)]), Ok(0));
    assert_eq!(lines(&[&some, &none, &end]), Err(Fault::Foreign));
    assert_eq!(lines(&[&some]), Err(Fault::Failed));
}

#[test]
fn an_agent_hands_over_or_says_why_not() {
    let said = |line: &[u8]| {
        let server = Scripted::start(&[Step::Read, Step::Line(line)]);
        hand_over(Some(server.path())).map_err(|error| error.to_string())
    };
    assert_eq!(said(br#"{"version":1,"reply":"handed-over"}"#), Ok(true));
    let refused = br#"{"version":1,"reply":"error","code":"forbidden","message":"no"}"#;
    assert_eq!(said(refused), Err("the agent refuses: no".to_owned()));
    assert!(said(br#"{"version":2}"#).is_err());
    let dir = tempfile::tempdir().unwrap();
    assert!(!hand_over(Some(&dir.path().join("none"))).unwrap());
}

#[test]
fn lost_events_are_added_up() {
    let reply = |reply: &Reply| line::reply(reply).unwrap();
    let lost = |in_ring, to_client| reply(&Reply::Lost(Lost { in_ring, to_client }));
    let event = reply(&Reply::Event(Event::default()));
    let lines = [lost(0, 0), event, lost(3, 0), lost(0, 4)].concat();
    let server = Scripted::start(&[Step::Read, Step::Bytes(&lines)]);
    let mut total = 0;
    let quiet = Output {
        json: true,
        ..OUTPUT
    };
    events::listen(&mut open(server.path()).unwrap(), quiet, &mut total).unwrap();
    assert_eq!(total, 7);
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let closed = Failure::output(&ErrorKind::BrokenPipe.into());
    let full = Failure::output(&ErrorKind::StorageFull.into());
    assert_eq!((closed.quiet, full.quiet), (true, false));
}
