//! The agent manages endpoints and routes beside its policy.

mod endpoints;
mod lasting;
mod reach;
mod reopen;
mod routes;
mod standby;

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use mptcp_lab::{Agent, Host, TwoHosts, wait};

use crate::SOON;

/// An endpoint as `ip mptcp endpoint` shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Endpoint {
    address: IpAddr,
    id: u8,
    device: String,
    /// Its flags, in the order of `ip`.
    flags: String,
}

/// Returns the endpoints of a host, in the order of their addresses.
fn endpoints(host: &Host) -> Result<Vec<Endpoint>> {
    let text = host.run("ip mptcp endpoint")?;
    let mut found: Vec<Endpoint> = text.lines().map(endpoint).collect::<Result<_>>()?;
    found.sort();
    Ok(found)
}

fn endpoint(line: &str) -> Result<Endpoint> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).copied()
    };
    let is_flag = |word: &&&str| ["subflow", "signal", "backup", "fullmesh"].contains(*word);
    let flags: Vec<&str> = words.iter().filter(is_flag).copied().collect();
    Ok(Endpoint {
        address: words.first().context("an empty line")?.parse()?,
        id: after("id").context("no id")?.parse()?,
        device: after("dev").unwrap_or_default().to_owned(),
        flags: flags.join(" "),
    })
}

/// Waits until a host has exactly these endpoints: address, device and flags.
fn wait_for_endpoints(host: &Host, expected: &[(IpAddr, &str, &str)]) -> Result<Vec<Endpoint>> {
    let mut expected: Vec<(IpAddr, String, String)> = expected
        .iter()
        .map(|(address, device, flags)| (*address, (*device).to_owned(), (*flags).to_owned()))
        .collect();
    expected.sort();
    wait::try_until(&format!("endpoints {expected:?}"), SOON, || {
        let found = endpoints(host).map_err(|error| error.to_string())?;
        let seen: Vec<_> = found
            .iter()
            .map(|one| (one.address, one.device.clone(), one.flags.clone()))
            .collect();
        match seen == expected {
            true => Ok(found),
            false => Err(format!("{found:?}")),
        }
    })
}

/// Returns the number of subflows beside the first that a connection may have.
fn limit(host: &Host) -> Result<u32> {
    let text = host.run("ip mptcp limits")?;
    let mut words = text.split_whitespace();
    words.find(|word| *word == "subflows");
    Ok(words.next().context("no limit")?.parse()?)
}

/// Takes away what the lab has given the client, so that the agent does it.
fn bare(net: &TwoHosts) -> Result<()> {
    net.client.run("ip mptcp endpoint flush")?;
    net.client.limits(2, 0)
}

/// Starts an agent on the client that manages endpoints, and has `more` arguments.
fn manage(net: &TwoHosts, binary: &Path, more: &[&str]) -> Result<Agent> {
    let mut args = vec!["--manage-endpoints".to_owned()];
    args.extend(more.iter().map(|&word| word.to_owned()));
    Agent::start(&net.client, binary, &args)
}

/// Gives the client's device of a path another address, and the route that packets
/// from it take. Returns the address.
fn new_address(net: &TwoHosts, path: usize, last: u8) -> Result<IpAddr> {
    let link = &net.links[path];
    let IpAddr::V4(old) = link.client_addr else {
        anyhow::bail!("{} is not of IPv4", link.client_addr)
    };
    let [a, b, c, _] = old.octets();
    let address: IpAddr = [a, b, c, last].into();
    let (name, table) = (&link.name, link.table());
    net.client
        .run(&format!("ip addr add {address}/24 dev {name}"))?;
    net.client.run(&format!(
        "ip rule add from {address} lookup {table} priority {table}"
    ))?;
    net.client.run(&format!(
        "ip route replace default via {} dev {name} table {table}",
        link.server_addr
    ))?;
    Ok(address)
}
