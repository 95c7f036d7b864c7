//! `run --manage-endpoints`: endpoints follow the addresses of named paths.

use std::time::{Duration, Instant};

use anyhow::Result;
use mptcp_lab::traffic::{ANY, Behaviour, Bulk, Server};
use mptcp_lab::{Agent, Family, Lab, Path, wait};

use super::{bare, endpoints, limit, manage, new_address, wait_for_endpoints};
use crate::support::{failure_of, require_agent, settle, two_paths, weighted};
use crate::{SOON, VERY_LONG};

/// How long a modem that reconnects may take to get its subflow.
const RECONNECT: Duration = Duration::from_secs(2);

#[test]
fn a_modem_that_reconnects_gets_its_subflow_and_its_weight() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    bare(&net)?;
    let (p1, p2) = (net.links[0].client_addr, net.links[1].client_addr);
    let agent = manage(&net, &binary, &as_words(&weighted(&["p1=1", "p2=1"])))?;
    let before = wait_for_endpoints(&net.client, &[(p1, "p1", "subflow"), (p2, "p2", "subflow")])?;

    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let transfer = Bulk::upload_for(VERY_LONG).start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_subflows(2, SOON)?;
    // The modem loses its lease, and gets another address.
    net.links[1].remove_client_addr()?;
    wait_for_endpoints(&net.client, &[(p1, "p1", "subflow")])?;
    wait::until("the subflow to close", SOON, || match transfer.subflows() {
        Ok(subflows) if subflows.len() == 1 => Ok(()),
        other => Err(other),
    });
    let since = Instant::now();
    let new = new_address(&net, 1, 7)?;
    let subflows = transfer.wait_for_subflows(2, SOON)?;
    let took = since.elapsed();
    eprintln!("the subflow was there after {took:?}");
    assert!(took < RECONNECT, "{took:?}");
    assert_eq!(subflows[1].local.ip(), new);
    let after = endpoints(&net.client)?;
    assert!(before.iter().all(|one| one.id != after[1].id), "{after:?}");

    // The first path alone has room for twice the second's share.
    settle(&[1, 1], || {
        let subflows = transfer.subflows()?;
        let of = |local| {
            let own = subflows.iter().filter(|one| one.local.ip() == local);
            own.map(|one| one.bytes_acked).sum()
        };
        Ok(vec![of(p1), of(new)])
    })?;
    transfer.stop()?;
    agent.stop()?;
    mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"]).map(drop)
}

/// While the kernel looks whether another host has an IPv6 address, no subflow can
/// start from it, and an endpoint would be tried in vain.
#[test]
fn an_ipv6_address_is_used_once_it_is_no_longer_tentative() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let path = |name| Path::new(name).rate_mbit(20.0).family(Family::V6);
    let net = lab.two_hosts([path("p1"), path("p2")])?;
    bare(&net)?;
    let agent = manage(&net, &binary, &as_words(&weighted(&["p1=1", "p2=1"])))?;
    let link = &net.links[1];
    let p1 = net.links[0].client_addr;
    wait_for_endpoints(
        &net.client,
        &[(p1, "p1", "subflow"), (link.client_addr, "p2", "subflow")],
    )?;
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let transfer = Bulk::upload_for(VERY_LONG).start(&net.client, sink.at(net.server_addr()))?;
    transfer.wait_for_subflows(2, SOON)?;
    link.remove_client_addr()?;
    wait_for_endpoints(&net.client, &[(p1, "p1", "subflow")])?;

    // The server asks for its new neighbour from its link-local address.
    net.server.run("ip addr add fe80::1/64 dev p2 nodad")?;
    let address = "fd77:0:0:2::7";
    net.client
        .run(&format!("ip addr add {address}/64 dev p2"))?;
    let table = link.table();
    net.client.run(&format!(
        "ip -6 rule add from {address} lookup {table} priority {table}"
    ))?;
    net.client.run(&format!(
        "ip -6 route replace default via {} dev p2 table {table}",
        link.server_addr
    ))?;
    let shown = net.client.run("ip -6 addr show dev p2")?;
    assert!(shown.contains("tentative"), "{shown}");
    let subflows = transfer.wait_for_subflows(2, SOON)?;
    let local = subflows.iter().map(|one| one.local.ip().to_string());
    assert!(local.into_iter().any(|one| one == address), "{subflows:?}");
    transfer.stop()?;
    agent.stop()?;
    mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"]).map(drop)
}

/// Returns the words of a list of arguments.
fn as_words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn a_limit_that_is_too_low_is_raised_and_given_back() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lab.two_hosts(["p1", "p2", "p3", "p4"].map(Path::new))?;
    bare(&net)?;
    let names = ["p1=1", "p2=1", "p3=1", "p4=1"];
    let agent = manage(&net, &binary, &as_words(&weighted(&names)))?;
    let all: Vec<_> = net
        .links
        .iter()
        .map(|link| (link.client_addr, link.name.as_str(), "subflow"))
        .collect();
    wait_for_endpoints(&net.client, &all)?;
    assert_eq!(limit(&net.client)?, 4);
    agent.stop()?;
    // Subflows stay, and so do the endpoints, until somebody says otherwise.
    assert_eq!(endpoints(&net.client)?.len(), 4);
    let said = mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"])?;
    assert!(said.contains("removed 4 endpoints"), "{said}");
    assert!(said.contains("subflows back to 2"), "{said}");
    assert_eq!(endpoints(&net.client)?, []);
    assert_eq!(limit(&net.client)?, 2);
    let said = mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"])?;
    assert!(!said.contains("endpoint"), "{said}");
    Ok(())
}

#[test]
fn a_limit_that_somebody_else_has_set_since_stays() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lab.two_hosts(["p1", "p2", "p3"].map(Path::new))?;
    bare(&net)?;
    let agent = manage(
        &net,
        &binary,
        &as_words(&weighted(&["p1=1", "p2=1", "p3=1"])),
    )?;
    wait::until("the limit", SOON, || match limit(&net.client) {
        Ok(3) => Ok(()),
        other => Err(other),
    });
    net.client.limits(6, 0)?;
    agent.stop()?;
    mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"])?;
    assert_eq!(limit(&net.client)?, 6);
    Ok(())
}

#[test]
fn standby_is_a_backup_and_what_others_made_stays() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lab.two_hosts(["p1", "p2", "p3"].map(Path::new))?;
    bare(&net)?;
    let [p1, p2, p3] = [0, 1, 2].map(|index: usize| net.links[index].client_addr);
    net.client.endpoint(p3, "p3", "signal id 77")?;
    let agent = manage(
        &net,
        &binary,
        &as_words(&weighted(&["p1=1", "p2=0", "p3=1"])),
    )?;
    let foreign = (p3, "p3", "signal");
    let first = (p1, "p1", "subflow");
    wait_for_endpoints(&net.client, &[first, (p2, "p2", "subflow backup"), foreign])?;
    let log = agent.stderr();
    assert!(log.contains(&format!("{p3} has an endpoint")), "{log}");

    agent.tell(&as_words(
        &[
            &["policy".to_owned(), "set".to_owned(), "weighted".to_owned()],
            &weighted(&["p1=1", "p2=4"])[2..],
        ]
        .concat(),
    ))?;
    let second = (p2, "p2", "subflow");
    wait_for_endpoints(&net.client, &[first, second, foreign])?;
    // The agent makes anew what others take away, and leaves what others made.
    let id = |address| -> Result<u8> {
        let mut all = endpoints(&net.client)?.into_iter();
        Ok(all
            .find(|one| one.address == address)
            .map_or(0, |one| one.id))
    };
    assert_eq!(id(p3)?, 77);
    let before = id(p2)?;
    net.client.delete_endpoint(before)?;
    wait_for_endpoints(&net.client, &[first, second, foreign])?;
    assert_ne!(id(p2)?, before);
    agent.stop()?;
    mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"])?;
    wait_for_endpoints(&net.client, &[foreign]).map(drop)
}

#[test]
fn a_server_announces_and_both_families_are_managed() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = lab.two_hosts([Path::new("four"), Path::new("six").family(Family::V6)])?;
    net.server.limits(2, 0)?;
    let weights = as_words_of(&["four=1", "six=1"]);
    let mut args = vec!["--manage-endpoints=signal".to_owned()];
    args.extend(weights);
    let agent = Agent::start(&net.server, &binary, &args)?;
    let of = |index: usize| {
        (
            net.links[index].server_addr,
            net.links[index].name.as_str(),
            "signal",
        )
    };
    wait_for_endpoints(&net.server, &[of(0), of(1)])?;
    // The client hears of the server's IPv6 address, and joins it.
    let sink = Server::spawn(&net.server, ANY, Behaviour::Sink)?;
    let bulk = Bulk::upload_for(VERY_LONG).dual_stack();
    let transfer = bulk.start(&net.client, sink.at(net.server_addr()))?;
    let subflows = transfer.wait_for_subflows(2, SOON)?;
    assert_eq!(subflows[1].remote.ip(), net.links[1].server_addr);
    transfer.stop()?;
    agent.stop()?;
    mptcp_lab::agent::tell(&net.server, &binary, &["cleanup"]).map(drop)
}

fn as_words_of(weights: &[&str]) -> Vec<String> {
    weighted(weights)
}

#[test]
fn without_named_paths_nothing_is_managed_and_that_is_said() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    bare(&net)?;
    let agent = manage(&net, &binary, &[])?;
    let log = agent.stderr();
    assert!(log.contains("no endpoint and no route is managed"), "{log}");
    // A policy that names paths later makes the difference.
    agent.tell(&["policy", "set", "weighted", "--weight", "p2=2"])?;
    let p2 = net.links[1].client_addr;
    wait_for_endpoints(&net.client, &[(p2, "p2", "subflow")])?;
    agent.stop()?;
    mptcp_lab::agent::tell(&net.client, &binary, &["cleanup"]).map(drop)
}

#[test]
fn wrong_roles_are_usage_errors() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let mut command = host.command(&binary);
    command.args(["run", "--manage-endpoints=mesh"]);
    let line = failure_of(&host, &mut command)?;
    assert!(line.contains("mesh"), "{line}");
    Ok(())
}
