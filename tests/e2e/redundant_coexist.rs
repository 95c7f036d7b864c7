//! The agent leaves other uses of tc on a device alone, and they go on working.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::Result;
use mptcp_lab::{Host, Path};
use nix::sys::signal::Signal;

use crate::redundant_support::{Scene, Stage};
use crate::support::require_agent;

/// Makes two paths with a TBF, and a clsact qdisc with a filter each way on the
/// first.
fn stage() -> Result<Stage> {
    let stage = Stage::new(["p1", "p2"].map(|name| Path::new(name).rate_mbit(50.0)))?;
    for host in &stage.hosts {
        host.run("tc qdisc add dev p1 clsact")?;
        // The filters drop incoming UDP to port 7 and outgoing UDP to port 8.
        for (hook, port) in [("ingress", 7), ("egress", 8)] {
            let code =
                format!("6,48 0 0 23,21 0 3 17,40 0 0 36,21 0 1 {port},6 0 0 4,6 0 0 4294967295");
            let mut command = host.command("tc");
            command.args(["filter", "add", "dev", "p1", hook, "protocol", "ip"]);
            command.args(["bpf", "bytecode", &code, "direct-action"]);
            let status = command.status()?;
            anyhow::ensure!(status.success(), "tc filter: {status}");
        }
    }
    Ok(stage)
}

const DEVICES: [&str; 3] = ["p1", "p2", "lo"];

/// Returns all that tc shows of a host's devices.
fn shown(host: &Host) -> Result<Vec<String>> {
    let of_each = DEVICES.iter().map(|device| host.traffic_control(device));
    Ok(of_each.collect::<Result<Vec<_>>>()?.concat())
}

/// Counts the tcx programs on a host's devices; `None` before Linux 6.6, which
/// has only tc filters.
fn tcx(host: &Host) -> Result<Option<usize>> {
    let of_each = DEVICES.iter().map(|device| host.tcx_programs(device));
    of_each.sum()
}

/// Returns whether UDP gets from the server to a port of the client.
fn gets_in(hosts: &[Host; 2], to: std::net::IpAddr, port: u16) -> Result<bool> {
    let receiver = hosts[0].in_ns(|| Ok(UdpSocket::bind((to, port))?))?;
    receiver.set_read_timeout(Some(Duration::from_millis(300)))?;
    hosts[1].in_ns(|| {
        let sender = UdpSocket::bind("0.0.0.0:0")?;
        sender.send_to(b"x", (to, port))?;
        Ok(())
    })?;
    Ok(receiver.recv(&mut [0; 8]).is_ok())
}

/// Checks that the filters of [`stage`] still work.
fn filters_work(scene: &Scene) -> Result<()> {
    let to = scene.links[0].client_addr;
    for (port, arrives) in [(7, false), (8, false), (9, true)] {
        assert_eq!(gets_in(&scene.hosts, to, port)?, arrives, "port {port}");
    }
    Ok(())
}

fn come_and_go(signal: Signal) -> Result<()> {
    let binary = require_agent!();
    let stage = stage()?;
    let before = [shown(&stage.hosts[0])?, shown(&stage.hosts[1])?];
    let scene = stage.play(&binary, &[])?;
    filters_work(&scene)?;
    scene.more_responses(50)?;
    for (host, before) in scene.hosts.iter().zip(&before) {
        if let Some(programs) = tcx(host)? {
            assert_eq!(&shown(host)?, before);
            // Two programs on each of two devices, in and out.
            assert_eq!(programs, 4);
        }
    }
    let Scene {
        client,
        server,
        exchange,
        hosts,
        echo: _echo,
        links: _links,
        lab: _lab,
    } = scene;
    for agent in [client, server] {
        agent.stop_with(signal)?;
    }
    for (host, before) in hosts.iter().zip(&before) {
        mptcp_lab::wait::until("no program to be left", crate::SOON, || {
            let left = tcx(host);
            if matches!(left, Ok(None | Some(0))) {
                Ok(())
            } else {
                Err(left)
            }
        });
        // If a killed agent used filters instead of tcx, they stay until the
        // next agent removes them.
        if signal != Signal::SIGKILL || tcx(host)?.is_some() {
            assert_eq!(&shown(host)?, before);
        }
    }
    let goal = exchange.responses() + 50;
    exchange.wait_for_responses(goal, crate::SETTLE)?;
    exchange.stop()?;
    Ok(())
}

#[test]
fn filters_and_qdiscs_outlive_the_agent() -> Result<()> {
    come_and_go(Signal::SIGINT)
}

#[test]
fn nothing_is_left_of_a_killed_agent() -> Result<()> {
    come_and_go(Signal::SIGKILL)
}

#[test]
fn a_device_without_clsact_has_none_afterwards() -> Result<()> {
    let binary = require_agent!();
    let stage = Stage::new(["p1", "p2"].map(Path::new))?;
    let before = shown(&stage.hosts[0])?;
    let scene = stage.play(&binary, &[])?;
    let host = scene.hosts[0].clone();
    // The agent must also work while other filters come and go beside its own.
    scene.links[0].set_loss(mptcp_lab::Direction::Both, 1.0)?;
    scene.more_responses(50)?;
    for host in &scene.hosts {
        host.run("tc qdisc del dev p1 clsact")?;
    }
    scene.more_responses(50)?;
    let (_links, _lab) = {
        let Scene {
            client,
            server,
            exchange,
            links,
            lab,
            ..
        } = scene;
        exchange.stop()?;
        client.stop()?;
        server.stop()?;
        (links, lab)
    };
    assert_eq!(shown(&host)?, before);
    Ok(())
}

#[test]
fn strict_reverse_path_filters_let_copies_in() -> Result<()> {
    let binary = require_agent!();
    let stage = Stage::new(["p1", "p2"].map(Path::new))?;
    for host in &stage.hosts {
        for name in ["all", "default", "p1", "p2"] {
            host.sysctl(&format!("net.ipv4.conf.{name}.rp_filter"), "1")?;
        }
    }
    let dropped = |hosts: &[Host; 2]| -> Result<u64> {
        let of = |host: &Host| {
            Ok::<_, anyhow::Error>(host.netstat()?.get("TcpExt", "IPReversePathFilter"))
        };
        Ok(of(&hosts[0])? + of(&hosts[1])?)
    };
    let before_filter = dropped(&stage.hosts)?;
    let scene = stage.play(&binary, &[])?;
    let before = scene.recovery()?;
    for link in &scene.links {
        link.blackhole(mptcp_lab::Direction::Both, true)?;
        scene.more_responses(200)?;
        link.blackhole(mptcp_lab::Direction::Both, false)?;
        scene.wait_for_copies()?;
    }
    let recovery = scene.recovery()? - before;
    assert_eq!(recovery.timeouts, 0, "{recovery:?}");
    assert_eq!(dropped(&scene.hosts)?, before_filter);
    scene.end()
}
