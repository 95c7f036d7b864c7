//! The lab cleans up after itself.

use std::io::{BufRead, BufReader};
use std::path::Path as FilePath;
use std::process::Stdio;

use anyhow::{Context, Result};
use mptcp_lab::{Lab, require_lab, wait};
use nix::sys::signal::Signal;

use crate::{LONG, SOON};

#[test]
fn namespaces_come_and_go_with_the_lab() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let host = lab.host("lonely")?;
    let path = host.netns_path();
    assert!(path.exists());
    let ours = std::fs::read_link("/proc/thread-self/ns/net")?;
    let inside = host.in_ns(|| Ok(std::fs::read_link("/proc/thread-self/ns/net")?))?;
    assert_ne!(ours, inside);
    let of_child = host.run("readlink /proc/self/ns/net")?;
    assert_eq!(FilePath::new(of_child.trim()), inside);
    drop(lab);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn namespaces_go_on_a_panic() -> Result<()> {
    require_lab!();
    let (send, receive) = std::sync::mpsc::channel();
    let panicked = std::thread::spawn(move || {
        let lab = Lab::new().expect("a lab");
        let host = lab.host("doomed").expect("a host");
        send.send(host.netns_path()).expect("a receiver");
        assert!(
            !host.netns_path().exists(),
            "this panic belongs to the test"
        );
    })
    .join();
    assert!(panicked.is_err());
    assert!(!receive.recv()?.exists());
    Ok(())
}

#[test]
fn namespaces_go_on_a_signal_and_are_swept_after_a_kill() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let host = lab.host("parent")?;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let mut command = host.command(std::env::current_exe()?);
        command.args([
            "--exact",
            "lab::helper_holds_a_lab",
            "--ignored",
            "--nocapture",
        ]);
        let child = host.spawn(command.stdout(Stdio::piped()))?;
        let output = child
            .with_child(|child| child.stdout.take())
            .context("no pipe")?;
        let path = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("holding ").map(|(_, path)| path.to_owned()))
            .context("the helper did not start")?;
        assert!(FilePath::new(&path).exists());
        child.signal(signal)?;
        child.wait(SOON)?;
        if signal == Signal::SIGKILL {
            assert!(FilePath::new(&path).exists(), "nobody could remove {path}");
            drop(Lab::new()?);
        }
        assert!(!FilePath::new(&path).exists(), "{path} outlived {signal}");
    }
    assert!(host.netns_path().exists(), "ours is not theirs to sweep");
    Ok(())
}

/// Waits for a signal from the test above, which is what runs it.
#[test]
#[ignore = "a helper of another test"]
fn helper_holds_a_lab() -> Result<()> {
    let lab = Lab::new()?;
    let host = lab.host("held")?;
    println!("holding {}", host.netns_path().display());
    wait::try_until("a signal", LONG, || Err::<(), _>(()))
}

#[test]
fn a_process_ends_with_its_guard() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let host = lab.host("shell")?;
    let process = host.spawn(host.command("sleep").arg("60"))?;
    assert!(process.is_running());
    let entry = format!("/proc/{}", process.pid());
    assert!(FilePath::new(&entry).exists());
    drop(process);
    assert!(!FilePath::new(&entry).exists());
    Ok(())
}
