//! `run --manage-routes`: packets from each address of a named path leave by its
//! own device.

use std::net::IpAddr;

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};
use mptcp_lab::{Agent, Family, Host, Lab, Path, Routed, wait};

use crate::support::{require_agent, wait_for_log, weighted};
use crate::{SOON, VERY_LONG};

/// Makes two uplinks to a router, without the routes by source that the lab makes.
fn two_uplinks(lab: &Lab, family: Family) -> Result<Routed> {
    let path = |name| Path::new(name).rate_mbit(20.0).family(family);
    let net = lab.routed([path("up1"), path("up2")], path("down"))?;
    net.client.run("ip mptcp endpoint flush")?;
    if family == Family::V6 {
        // A router asks for its neighbours from its link-local address.
        for name in ["up1", "up2", "down"] {
            let add = format!("ip addr add fe80::1/64 dev {name} nodad");
            net.router.run(&add)?;
        }
    }
    for link in &net.uplinks {
        let (ip, from, table) = (ip_of(link.client_addr), link.client_addr, link.table());
        net.client
            .run(&format!("{ip} rule del from {from} lookup {table}"))?;
        net.client.run(&format!("{ip} route flush table {table}"))?;
    }
    Ok(net)
}

fn ip_of(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "ip -6" } else { "ip -4" }
}

/// Returns the rules of both families.
fn rules(host: &Host) -> Result<String> {
    Ok(host.run("ip -4 rule")? + &host.run("ip -6 rule")?)
}

/// Waits until packets from the client's address on an uplink leave by a router.
fn wait_for_way(net: &Routed, index: usize, gateway: IpAddr) -> Result<()> {
    let link = &net.uplinks[index];
    let (ip, to, from) = (ip_of(gateway), net.server_addr(), link.client_addr);
    let expected = format!("via {gateway} dev {}", link.name);
    let what = format!("packets from {from} to go {expected}");
    wait::try_until(&what, SOON, || {
        let way = net.client.run(&format!("{ip} route get {to} from {from}"));
        match way {
            Ok(way) if way.contains(&expected) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
}

#[test]
fn each_of_two_uplinks_has_its_own_way() -> Result<()> {
    let binary = require_agent!();
    for family in [Family::V4, Family::V6] {
        let lab = Lab::new()?;
        let net = two_uplinks(&lab, family)?;
        let second = &net.uplinks[1];
        let (ip, gateway) = (ip_of(second.server_addr), second.server_addr);
        // A DHCP client does the same.
        let default = |gateway: IpAddr| {
            net.client.run(&format!(
                "{ip} route replace default via {gateway} dev up2 metric 700"
            ))
        };
        default(gateway)?;
        // Another network of the client's, such as that of containers.
        net.client
            .run("ip link add inner type veth peer name inside")?;
        let (inner, near) = match family {
            Family::V4 => ("10.99.0.1/24", "10.99.0.9"),
            Family::V6 => ("fd99::1/64 nodad", "fd99::9"),
        };
        net.client.run(&format!("ip addr add {inner} dev inner"))?;
        net.client.run("ip link set inner up")?;
        net.client.run("ip link set inside up")?;
        let before = rules(&net.client)?;

        let mut args = weighted(&["up1=1", "up2=1"]);
        args.extend(["--manage-endpoints", "--manage-routes"].map(str::to_owned));
        let agent = Agent::start(&net.client, &binary, &args)?;
        wait_for_way(&net, 0, net.uplinks[0].server_addr)?;
        wait_for_way(&net, 1, gateway)?;
        let from = second.client_addr;
        let way = net
            .client
            .run(&format!("{ip} route get {near} from {from}"))?;
        assert!(way.contains("dev inner"), "{way}");

        let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
        let transfer =
            Bulk::upload_for(VERY_LONG).start(&net.client, sink.at(net.server_addr()))?;
        transfer.wait_for_subflows(2, SOON)?;
        wait::until("bytes on both uplinks", SOON, || {
            let sent: Vec<u64> = ["up1", "up2"]
                .iter()
                .map(|name| net.client.device(name).map_or(0, |device| device.tx_bytes))
                .collect();
            if sent.iter().all(|&bytes| bytes > 500_000) {
                Ok(())
            } else {
                Err(sent)
            }
        });

        // The router is replaced, and the device goes down and comes back.
        let other: IpAddr = match gateway {
            IpAddr::V4(_) => "10.77.2.9".parse()?,
            IpAddr::V6(_) => "fd77:0:0:2::9".parse()?,
        };
        let length = if gateway.is_ipv4() { 24 } else { 64 };
        let nodad = if gateway.is_ipv4() { "" } else { "nodad" };
        net.router
            .run(&format!("ip addr add {other}/{length} dev up2 {nodad}"))?;
        default(other)?;
        wait_for_way(&net, 1, other)?;
        net.client.run("ip link set up2 down")?;
        net.client.run("ip link set up2 up")?;
        default(other)?;
        wait_for_way(&net, 1, other)?;
        transfer.stop()?;

        // A crash leaves them, and the next agent does not make them twice.
        let with = rules(&net.client)?;
        agent.kill()?;
        let agent = Agent::start(&net.client, &binary, &args)?;
        wait_for_way(&net, 1, other)?;
        assert_eq!(rules(&net.client)?, with);
        agent.stop()?;
        assert_eq!(rules(&net.client)?, with);
        let said = mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"])?;
        assert!(said.contains("removed the routes of 2 addresses"), "{said}");
        assert_eq!(rules(&net.client)?, before);
        let left = net.client.run(&format!("{ip} route show table all"))?;
        assert!(!left.contains("table 527"), "{left}");
    }
    Ok(())
}

#[test]
fn rules_of_others_stay_and_an_unknown_router_is_told() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_uplinks(&lab, Family::V4)?;
    let [first, second] = [0, 1].map(|index: usize| net.uplinks[index].client_addr);
    net.client.run(&format!(
        "ip rule add from {first} lookup main priority 500"
    ))?;
    let before = rules(&net.client)?;
    let mut args = weighted(&["up1=1", "up2=1"]);
    args.push("--manage-routes".to_owned());
    let agent = Agent::start(&net.client, &binary, &args)?;
    for words in [
        format!("{first} has a rule that this agent has not made"),
        format!("{second} gets no routes: no default route by up2"),
    ] {
        wait_for_log(&agent, &words)?;
    }
    assert_eq!(rules(&net.client)?, before);
    agent.stop()
}

#[test]
fn without_managed_routes_missing_ones_are_told() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_uplinks(&lab, Family::V4)?;
    let before = rules(&net.client)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["up1=1", "up2=1"]))?;
    let second = net.uplinks[1].client_addr;
    wait_for_log(
        &agent,
        &format!("packets from {second} do not leave by up2"),
    )?;
    let first = net.uplinks[0].client_addr;
    let log = agent.stderr();
    assert!(!log.contains(&format!("packets from {first} ")), "{log}");
    assert_eq!(rules(&net.client)?, before);
    agent.stop()
}
