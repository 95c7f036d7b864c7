//! The lab cleans up after itself.

use std::io::{BufRead, BufReader};
use std::path::Path as FilePath;
use std::process::Stdio;

use anyhow::{Context, Result};
use mptcp_lab::traffic::{ANY, Behaviour, RequestResponse, Server};
use mptcp_lab::{Cgroup, Container, Lab, Over, Path, require_lab, wait};
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
    assert!(
        host.netns_path().exists(),
        "another lab removed a namespace of ours"
    );
    Ok(())
}

/// Waits for a signal from the test above, which starts this one as a helper.
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

#[test]
fn a_container_has_namespaces_of_its_own() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let host = lab.host("host")?;
    let namespaces = ["net", "mnt", "pid", "cgroup"];
    let of = |host: &mptcp_lab::Host| -> Result<Vec<String>> {
        let read = |kind| host.run(&format!("readlink /proc/self/ns/{kind}"));
        namespaces.iter().map(read).collect()
    };
    let outside = of(&host)?;
    let cgroup = Cgroup::create()?;
    let temporary = tempfile::tempdir()?;
    std::fs::write(temporary.path().join("mark"), "")?;
    for (container, expected) in [
        (Container::default(), [true, true, true, true]),
        (Container::default().mounts(), [true, false, true, true]),
        (Container::default().pids(), [true, false, false, true]),
        (
            Container::default().cgroup(&cgroup)?,
            [true, false, true, false],
        ),
    ] {
        let what = format!("{container:?}");
        let inside = of(&host.container(container))?;
        let same = [0, 1, 2, 3].map(|at| inside[at] == outside[at]);
        assert_eq!(same, expected, "{what}: {outside:?}, {inside:?}");
    }

    let inside = host.container(
        Container::default()
            .pids()
            .bind(temporary.path(), "/mnt".as_ref())?,
    );
    let mut command = inside.command("sh");
    command.args(["-c", "echo $$; ls /mnt; ! grep nsfs /proc/self/mountinfo"]);
    assert_eq!(inside.output(&mut command)?, "1\nmark\n");
    assert!(host.netns_path().exists(), "outside nothing has changed");

    let inside = host.container(Container::default().cgroup(&cgroup)?);
    assert_eq!(inside.run("grep ^0:: /proc/self/cgroup")?, "0::/\n");

    // Signals reach a process in the container.
    let inside = host.container(Container::default().pids());
    let mut command = inside.command("sh");
    let process = inside.spawn(command.args(["-c", "trap 'exit 7' TERM; sleep 60 & wait"]))?;
    wait::try_until("the shell to start a child", SOON, || {
        let children = format!("/proc/{0}/task/{0}/children", process.pid());
        match std::fs::read_to_string(children) {
            Ok(children) if !children.is_empty() => Ok(()),
            other => Err(other),
        }
    })?;
    assert_eq!(process.stop()?.code(), Some(7));
    Ok(())
}

#[test]
fn a_path_over_another_carries_a_subflow() -> Result<()> {
    require_lab!();
    let lab = Lab::new()?;
    let net = lab.two_hosts([Path::new("p1"), Path::new("p2")])?;
    let over = lab.path_over(&net.links[1], Over::Macvlan, Path::new("over"))?;
    net.client
        .endpoint(over.client_addr, &over.name, "subflow")?;
    let echo = Server::spawn(&net.server, ANY, Behaviour::Echo)?;
    let load = RequestResponse::new(200, std::time::Duration::from_millis(5), 50);
    let exchange = load.start(&net.client, echo.at(net.server_addr()))?;
    let subflows = exchange.wait_for_subflows(3, SOON)?;
    let local = subflows.iter().map(|subflow| subflow.local.ip());
    assert!(local.into_iter().any(|ip| ip == over.client_addr));
    exchange.stop().map(drop)
}
