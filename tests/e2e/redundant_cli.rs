//! The agent reports wrong arguments of the policy in one line.

use std::net::UdpSocket;

use anyhow::Result;
use mptcp_lab::{Host, Lab};

use crate::redundant_key::KeyFile;
use crate::redundant_support::PORT;
use crate::support::{failure_of, require_agent};

/// Checks that the agent's `run` with these arguments fails with a message that
/// contains all of `expected`.
fn refuses(host: &Host, arguments: &str, expected: &[&str]) -> Result<()> {
    let binary = mptcp_lab::agent::binary().unwrap_or_default();
    let mut command = host.command(binary);
    command
        .args(["run", "--listen", "127.0.0.1:0"])
        .args(arguments.split_whitespace());
    let line = failure_of(host, &mut command)?;
    for part in expected {
        assert!(line.contains(part), "{arguments}: no {part:?} in {line}");
    }
    Ok(())
}

#[test]
fn arguments_that_make_no_sense() -> Result<()> {
    let _ = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    for (arguments, expected) in [
        (
            "--redundant-copies 3",
            &["--redundant-copies", "choose policy redundant"][..],
        ),
        (
            "--policy weighted --weight p1=1 --redundant-port 9",
            &["--redundant-port", "choose policy redundant"],
        ),
        (
            "--policy default --redundant-budget 1mbit",
            &["--redundant-budget", "choose policy redundant"],
        ),
        (
            "--redundant-key /etc/hostname",
            &["--redundant-key", "choose policy redundant"],
        ),
        (
            "--policy redundant --weight p1=1",
            &["--weight", "choose policy weighted"],
        ),
        (
            "--policy redundant --redundant-copies 1",
            &["1", "--redundant-copies"],
        ),
        (
            "--policy redundant --redundant-copies 5",
            &["5", "--redundant-copies"],
        ),
        (
            "--policy redundant --redundant-copies two",
            &["two", "--redundant-copies"],
        ),
        (
            "--policy redundant --redundant-port 0",
            &["0", "--redundant-port"],
        ),
        (
            "--policy redundant --redundant-port 65536",
            &["65536", "--redundant-port"],
        ),
        (
            "--policy redundant --redundant-budget 0",
            &["0", "--redundant-budget"],
        ),
        (
            "--policy redundant --redundant-budget fast",
            &["fast", "--redundant-budget"],
        ),
        ("--policy redundant --redundant-budget -1mbit", &["-1"]),
        (
            "--policy redundant --redundant-budget 1mbyte",
            &["1mbyte", "--redundant-budget"],
        ),
        (
            "--policy redundant --redundant-key /nonexistent/key",
            &["/nonexistent/key", "No such file"],
        ),
        ("--policy redundant --redundant-key /tmp", &["/tmp"]),
    ] {
        refuses(&host, arguments, expected)?;
    }
    Ok(())
}

#[test]
fn keys_that_are_refused() -> Result<()> {
    let _ = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let good = b"sixteen bytes and more\n";
    for (name, content, mode, expected) in [
        ("short", &b"fifteen bytes..\n"[..], 0o600, &["16"][..]),
        ("empty", b"", 0o600, &["16"]),
        ("long", &[b'x'; 1025], 0o600, &["1024"]),
        ("open", good, 0o604, &["every user"]),
        ("writable", good, 0o602, &["every user"]),
    ] {
        let key = KeyFile::new(name, content, mode)?;
        let arguments = format!("--policy redundant --redundant-key {}", key.path());
        refuses(&host, &arguments, &[&key.path(), expected[0]])?;
    }
    Ok(())
}

#[test]
fn a_port_that_is_taken() -> Result<()> {
    let _ = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let taken = host.in_ns(|| Ok(UdpSocket::bind(("0.0.0.0", PORT))?))?;
    let port = PORT.to_string();
    refuses(&host, "--policy redundant", &[&port, "in use"])?;
    drop(taken);
    let taken = host.in_ns(|| Ok(UdpSocket::bind("[::]:9999")?))?;
    let arguments = "--policy redundant --redundant-port 9999";
    refuses(&host, arguments, &["9999", "in use"])?;
    drop(taken);
    Ok(())
}
