//! Segment sizes: a device that carries no copies does not count, and a listening
//! socket gets back exactly the size that it had.

use std::net::SocketAddr;

use anyhow::Result;
use mptcp_lab::agent::tell;
use mptcp_lab::{Agent, Host, Lab, Path, wait};
use socket2::{Domain, Protocol, Socket, Type};

use crate::redundant_support::{Stage, wait_for_proven};
use crate::support::require_agent;
use crate::{SETTLE, SOON};

/// The segment size that fits into 1500 bytes after wrapping over IPv4.
const WRAPPED: u32 = 1500 - 28 - 20 - 20;
/// The size that a listening MPTCP socket shows if nobody has set one.
const NONE: u32 = 536;

/// Returns a listening MPTCP socket on which this size was set; 0: none.
fn listener(host: &Host, size: u32) -> Result<Socket> {
    host.in_ns(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP))?;
        if size != 0 {
            socket.set_tcp_mss(size)?;
        }
        socket.bind(&SocketAddr::from(([0, 0, 0, 0], 0)).into())?;
        socket.listen(8)?;
        Ok(socket)
    })
}

fn sizes(sockets: &[Socket]) -> Result<Vec<u32>> {
    let sizes = sockets.iter().map(|socket| Ok(socket.tcp_mss()?));
    sizes.collect()
}

fn wait_for_sizes(sockets: &[Socket], what: &str, expected: &[u32]) -> Result<()> {
    wait::try_until(what, SETTLE, || match sizes(sockets) {
        Ok(sizes) if sizes == expected => Ok(()),
        other => Err(other),
    })
}

/// Adds a veth pair with both ends on this host.
fn add_device(host: &Host, mtu: u32) -> Result<()> {
    for line in [
        "ip link add odd type veth peer name even".to_owned(),
        // Use no IPv6, which a small MTU would disable later anyway.
        "ip link set odd addrgenmode none".to_owned(),
        "ip link set even addrgenmode none".to_owned(),
        format!("ip link set odd mtu {mtu}"),
        "ip addr add 10.99.0.1/24 dev odd".to_owned(),
        "ip link set odd up".to_owned(),
        "ip link set even up".to_owned(),
    ] {
        host.run(&line)?;
    }
    Ok(())
}

/// The ways in which the policy can end.
#[derive(Clone, Copy, Debug)]
enum End {
    AnotherPolicy,
    Signal,
    TakeOver,
    KillAndCleanup,
}

#[test]
fn listeners_get_back_what_they_had() -> Result<()> {
    const OWN: [u32; 7] = [NONE, 1200, 1450, NONE, 1440, 1200, 1000];
    let binary = require_agent!();
    for end in [
        End::AnotherPolicy,
        End::Signal,
        End::TakeOver,
        End::KillAndCleanup,
    ] {
        let lab = Lab::new()?;
        let host = lab.two_hosts([Path::new("p1")])?.server;
        let mut sockets = vec![
            listener(&host, 0)?,
            listener(&host, 1200)?,
            listener(&host, 1450)?,
        ];
        assert_eq!(sizes(&sockets)?, [NONE, 1200, 1450]);
        let agent = Agent::redundant(&host, &binary, &[])?;
        wait_for_sizes(&sockets, "lower sizes", &[WRAPPED, 1200, WRAPPED])?;
        for size in [0, 1440, 1200, 0] {
            sockets.push(listener(&host, size)?);
        }
        // The application of the last socket sets a size only now.
        sockets[6].set_tcp_mss(1000)?;
        let under = [WRAPPED, 1200, WRAPPED, WRAPPED, WRAPPED, 1200, 1000];
        assert_eq!(sizes(&sockets)?, under);
        // The agent must forget a socket that is closed.
        drop(listener(&host, 0)?);
        match end {
            End::AnotherPolicy => drop(agent.tell(&["policy", "set", "default"])?),
            End::Signal => agent.stop()?,
            End::TakeOver => {
                let next = agent.take_over(&["--policy", "default"])?;
                wait_for_sizes(&sockets, "their own sizes under the next agent", &OWN)?;
                next.stop()?;
            }
            End::KillAndCleanup => {
                agent.kill()?;
                tell(&host, &binary, &["cleanup"])?;
            }
        }
        wait_for_sizes(&sockets, &format!("their own sizes after {end:?}"), &OWN)?;
    }
    Ok(())
}

#[test]
fn a_device_without_copies_does_not_count() -> Result<()> {
    let binary = require_agent!();
    let stage = Stage::new(["p1", "p2"].map(Path::new))?;
    let server = stage.hosts[1].clone();
    // This MTU is too small for an uplink.
    add_device(&server, 576)?;
    let scene = stage.play(&binary, &[])?;
    let sockets = [listener(&server, 0)?];
    assert_eq!(
        sizes(&sockets)?,
        [WRAPPED],
        "beside a device with 576 bytes"
    );

    // This could be an uplink, so it counts until it has had its chance.
    server.run("ip link del odd")?;
    add_device(&server, 1300)?;
    wait_for_sizes(&sockets, "the size of a device on trial", &[1232])?;
    wait_for_sizes(&sockets, "the size without it", &[WRAPPED])?;
    wait_for_proven(&scene.server, 2)?;

    // A device that does carry copies counts.
    server.run("ip link set p2 mtu 1400")?;
    wait_for_sizes(&sockets, "the size of a smaller path", &[1332])?;
    server.run("ip link set p2 mtu 1500")?;
    wait_for_sizes(&sockets, "the size of paths as before", &[WRAPPED])?;
    wait::until_true("copies", SOON, || scene.wait_for_copies().is_ok());
    scene.end()
}
