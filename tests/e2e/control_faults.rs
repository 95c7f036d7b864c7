//! The control socket when something is wrong: no agent, another program, no
//! permission, hostile clients, or a path in use. The command reports it in one
//! line.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use mptcp_lab::{Agent, Host, Lab, wait};
use tempfile::tempdir;

use crate::support::{
    failure_of, require_agent, two_paths, upload, wait_for_cap, wait_for_shares, weighted,
};
use crate::{SETTLE, SOON};

/// Runs a command that must fail. Returns its exit code and its one line of
/// error.
fn refusal(host: &Host, command: &mut Command) -> Result<(i32, String)> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().context("a signal")?;
    ensure!(
        code != 0 && output.stdout.is_empty(),
        "{}: {said}",
        host.label()
    );
    ensure!(said.lines().count() == 1, "{said}");
    Ok((code, said))
}

/// Listens on `path`, and sends `answer` to the first client.
fn impostor(path: &Path, answer: &'static [u8]) -> Result<()> {
    let listener = UnixListener::bind(path)?;
    std::thread::spawn(move || {
        if let Ok((mut stream, _)) = listener.accept() {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            let _ = stream.write_all(answer);
        }
    });
    Ok(())
}

#[test]
fn without_an_agent_each_command_says_so() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let directory = tempdir()?;
    let dead = directory.path().join("dead.sock");
    drop(UnixListener::bind(&dead)?);
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "")?;
    let absent = directory.path().join("absent.sock");
    for verb in [
        &["status"][..],
        &["connections"],
        &["events"],
        &["policy", "show"],
        &["policy", "set", "default"],
    ] {
        for (control, reason) in [
            (&dead, "has ended"),
            (&absent, "no agent"),
            (&plain, "socket"),
        ] {
            let mut command = host.command(&binary);
            command.args(verb).arg("--control").arg(control);
            let (code, said) = refusal(&host, &mut command)?;
            assert_eq!(code, 3, "{verb:?} {said}");
            assert!(said.contains(reason), "{verb:?} {said}");
        }
    }
    Ok(())
}

#[test]
fn an_agent_of_another_version_and_other_programs_are_told_apart() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let directory = tempdir()?;
    for (number, answer) in [
        b"{\"version\":2,\"reply\":\"policy\"}\n".as_slice(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"{\"version\":1,\"reply\":\"policy\"}\n",
        b"\xff\xfe\n",
    ]
    .into_iter()
    .enumerate()
    {
        let path = directory.path().join(format!("{number}.sock"));
        impostor(&path, answer)?;
        let mut command = host.command(&binary);
        command.args(["status", "--control"]).arg(&path);
        let (code, said) = refusal(&host, &mut command)?;
        assert_eq!(code, 5, "{said}");
    }
    Ok(())
}

#[test]
fn without_permission_there_is_no_answer() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &["--policy", "default"])?;
    // Copy the binary: `nobody` may have no access to its directory.
    let directory = tempdir()?;
    let copy = directory.path().join("mptcp-agent");
    std::fs::copy(&binary, &copy)?;
    for path in [directory.path(), copy.as_path()] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode)?;
    }
    let mut command = net.client.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    let (code, said) = refusal(&net.client, command.arg(copy).arg("status"))?;
    assert_eq!(code, 4, "{said}");
    agent.stop()
}

#[test]
fn hostile_clients_harm_nobody() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let directory = tempdir()?;
    let control = directory.path().join("control.sock");
    let mut args = weighted(&["p1=1", "p2=3"]);
    args.extend(["--control".to_owned(), control.display().to_string()]);
    let agent = Agent::start(&net.client, &binary, &args)?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_cap(&transfer)?;

    let connect = || UnixStream::connect(&control);
    let answer = |bytes: &[u8]| -> Result<String> {
        let mut stream = connect()?;
        stream.set_read_timeout(Some(SOON))?;
        // The agent may hang up before all is sent.
        let _ = stream.write_all(bytes);
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        Ok(line)
    };
    for (bytes, code) in [
        (b"status\n".to_vec(), "malformed"),
        (
            b"{\"version\":1,\"request\":\"reboot\"}\n".to_vec(),
            "malformed",
        ),
        (
            b"{\"version\":9,\"request\":\"status\"}\n".to_vec(),
            "version",
        ),
        (b"\x00\xff\xfe\n".to_vec(), "malformed"),
        (vec![b'['; 60_000], "malformed"),
        (vec![b'x'; 1 << 20], "too-long"),
    ] {
        let mut bytes = bytes;
        if bytes.len() == 60_000 {
            bytes.push(b'\n');
        }
        let line = answer(&bytes)?;
        assert!(line.contains(&format!("\"code\":\"{code}\"")), "{line}");
    }
    // Open more connections than the agent accepts, silent or with half a request.
    let mut silent = Vec::new();
    for number in 0..40 {
        let Ok(mut stream) = connect() else { break };
        if number % 2 == 0 {
            let _ = stream.write_all(b"{\"version\":1,");
        }
        silent.push(stream);
    }
    // Metrics and connections are not affected, and places become free again.
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    agent.scrape()?;
    let tell = || agent.tell(&["status", "--control", &control.display().to_string()]);
    wait::try_until("a place at the socket", SETTLE, || tell().map(drop))?;
    for mut stream in silent {
        stream.set_read_timeout(Some(SOON))?;
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            // If the agent closes with unread data, the kernel sends a reset.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            ended => drop(ended?),
        }
    }
    transfer.stop()?;
    agent.stop()?;
    assert!(!control.exists());
    Ok(())
}

#[test]
fn the_control_path_may_be_taken_or_left_by_a_dead_agent() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let (first, second) = (lab.host("first")?, lab.host("second")?);
    let directory = tempdir()?;
    let control: PathBuf = directory.path().join("control.sock");
    let args = ["--control".to_owned(), control.display().to_string()];
    let agent = Agent::start(&first, &binary, &args)?;
    let mut command = second.command(&binary);
    let said = failure_of(
        &second,
        command
            .arg("run")
            .args(&args)
            .args(["--listen", "127.0.0.1:0"]),
    )?;
    assert!(said.contains("--control"), "{said}");
    agent.tell(&["status", "--control", &args[1]])?;
    agent.stop_with(nix::sys::signal::Signal::SIGKILL)?;
    assert!(control.exists());
    let agent = Agent::start(&second, &binary, &args)?;
    agent.tell(&["status", "--control", &args[1]])?;
    agent.stop()?;
    assert!(!control.exists());
    mptcp_lab::agent::tell(&first, &binary, &["cleanup"])?;
    Ok(())
}
