//! The commands that talk to a running agent, through the real binary: exit
//! codes, and one line that says why. The agent here is a script; against the
//! real one, see the tests in `tests/e2e`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const POLICY: &str =
    r#"{"version":1,"reply":"policy","policy":{"name":"default"},"backend":"none"}"#;
const LISTENING: &str = r#"{"version":1,"reply":"lost","in_ring":0,"to_client":0}"#;
const LOST: &str = r#"{"version":1,"reply":"lost","in_ring":2,"to_client":3}"#;
const EVENT: &str = r#"{"version":1,"reply":"event","time":"t","event":"path_down","path":"p1"}"#;

fn command(arguments: &str, control: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mptcp-agent"));
    command.args(arguments.split_whitespace());
    if let Some(path) = control {
        command.arg("--control").arg(path);
    }
    command
}

/// A server that reads a line from each client, and writes these.
fn agent(directory: &Path, lines: &[&str], stay: bool) -> PathBuf {
    let path = directory.join("x.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let answer = lines
        .iter()
        .map(|line| format!("{line}\n"))
        .collect::<String>();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let _ = reader.read_line(&mut String::new());
            let _ = reader.get_mut().write_all(answer.as_bytes());
            if stay {
                // Until the client closes.
                let _ = reader.read_to_end(&mut Vec::new());
            }
        }
    });
    path
}

/// Its exit code, and what it says on stderr, which is one line.
fn said(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(text.lines().count() <= 1, "{text}");
    (output.status.code().unwrap(), text)
}

#[test]
fn the_example_of_a_configuration_passes_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let example = command("config example", None).output().unwrap();
    assert!(example.status.success());
    let path = dir.path().join("config.toml");
    std::fs::write(&path, &example.stdout).unwrap();
    let check = |path: &Path| command("config check", None).arg(path).output().unwrap();
    let output = check(&path);
    assert_eq!(said(&output), (0, String::new()));
    let ok = format!("{}: ok\n", path.display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), ok);
    // The command shows what the example says, with its lines.
    let mut show = command("config show --weight eth0=7 --config", None);
    let shown = show.arg(&path).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let row = |key: &str| {
        let row = shown.lines().find(|line| line.starts_with(key)).unwrap();
        row.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(row("policy.default.weights")[1..], ["fibre=7", "--weight"]);
    let line = format!("{}:14", path.display());
    assert_eq!(row("listen")[1..], ["127.0.0.1:8684", &line]);

    std::fs::write(&path, "[policy.default]\n policy = \"fast\"\n").unwrap();
    let (code, why) = said(&check(&path));
    assert_eq!(code, 2);
    assert!(why.contains("config.toml:2:11: policy is `fast`"), "{why}");
    assert_eq!(said(&check(dir.path())).0, 1);
}

#[test]
fn every_command_has_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let dead = dir.path().join("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let none = dir.path().join("none.sock");
    let version = r#"{"version":9,"reply":"of the future"}"#;
    let refusal = r#"{"version":1,"reply":"error","code":"failed","message":"no maps"}"#;
    let make = |name: &str, line: &str| {
        let place = dir.path().join(name);
        std::fs::create_dir(&place).unwrap();
        agent(&place, &[line], false)
    };
    let future = make("future", version);
    let garbage = make("garbage", "220 mail.example ESMTP");
    let failing = make("failing", refusal);
    for verb in [
        "policy show",
        "policy set default",
        "policy set weighted --weight eth0=4 --for 10m",
        "status",
        "status --json",
        "connections",
        "events",
    ] {
        for (path, code, reason) in [
            (&none, 3, "there is no agent at"),
            (&dead, 3, "one that has ended left its socket"),
            (&future, 5, "version 9 of the protocol"),
            (&garbage, 5, "does not speak this protocol"),
            (&failing, 1, "the agent refuses: no maps"),
        ] {
            let output = command(verb, Some(path)).output().unwrap();
            let (found, text) = said(&output);
            assert_eq!(found, code, "{verb}: {text}");
            assert!(text.contains(reason), "{verb}: {text}");
            assert!(output.stdout.is_empty(), "{verb}");
        }
    }
    let wrong = command("policy set default --weight eth0=4", Some(&none));
    let output = { wrong }.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn json_is_what_came_over_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = agent(dir.path(), &[POLICY], false);
    let output = command("policy show --json", Some(&path)).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("{POLICY}\n")
    );
    let output = command("policy show", Some(&path)).output().unwrap();
    assert_eq!(output.stdout, b"default (backend none)\n");
    assert_eq!(said(&output), (0, String::new()));
}

#[test]
fn events_end_with_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let path = agent(dir.path(), &[LISTENING, EVENT, LOST], false);
    let output = command("events --json", Some(&path)).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert_eq!(shown.lines().collect::<Vec<_>>(), [LISTENING, EVENT, LOST]);
    let (code, text) = said(&output);
    assert_eq!(
        (code, text.as_str()),
        (
            0,
            "the agent has closed the connection; 5 events were lost\n"
        )
    );
}

#[test]
fn events_end_with_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let path = agent(dir.path(), &[LISTENING, EVENT], true);
    let mut child = command("events", Some(&path))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Once this is there, it waits.
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    let pid = child.id().to_string();
    let killed = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(killed.success());
    let output = within(Duration::from_secs(10), child);
    assert_eq!(said(&output), (0, "no event was lost\n".to_owned()));
}

#[test]
fn a_closed_stdout_ends_it_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let many = vec![EVENT; 10_000];
    let lines: Vec<_> = std::iter::once(LISTENING).chain(many).collect();
    let path = agent(dir.path(), &lines, true);
    let mut child = command("events", Some(&path))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = within(Duration::from_secs(10), child);
    assert_eq!(said(&output), (0, String::new()));
}

/// Waits for the end, which must come in time.
fn within(time: Duration, mut child: Child) -> Output {
    let deadline = Instant::now() + time;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}
