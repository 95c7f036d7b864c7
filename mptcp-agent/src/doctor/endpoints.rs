//! Checks the kernel's path manager: who manages paths, its limits, and its
//! endpoints.

use std::io::{self, ErrorKind};
use std::net::IpAddr;

use super::finding::{Faults, Finding, Verdict, ok, problem, unknown, warning};
use super::sight::{Counters, Sight, with_address};
use crate::host::processes::{self, Process};
use crate::host::sysctl::{self, quoted};
use crate::net::devices::Present;
use crate::net::endpoints::{Endpoint, Manager};

const TYPE: &str = "net/mptcp/pm_type";

/// The most subflows beside the first that the kernel allows (`MPTCP_PM_ADDR_MAX`).
const MOST: u32 = 8;

/// Daemons that add and remove endpoints.
const MANAGERS: [&str; 2] = ["mptcpd", "NetworkManager"];

/// Runs the checks.
pub fn checks(sight: &Sight) -> Vec<Finding> {
    let managers = processes::named(&MANAGERS);
    let mut findings = vec![
        path_manager(sysctl::read(TYPE), sight.endpoints().count(), &managers),
        two_managers(&managers),
    ];
    let names = [
        "subflow-limit",
        "announced-addresses",
        "endpoints",
        "endpoint-device",
        "endpoint-address",
        "endpoint-carrier",
    ];
    let manager = match &sight.manager {
        Ok(Some(manager)) => manager,
        Ok(None) => {
            let why = "this kernel has no path manager for MPTCP";
            findings.extend(names.map(|name| unknown(name, why)));
            return findings;
        }
        Err(why) => {
            findings.extend(names.map(|name| unknown(name, why)));
            return findings;
        }
    };
    let devices = match &sight.devices {
        Ok(devices) => devices,
        Err(why) => {
            findings.extend(names.map(|name| unknown(name, why)));
            return findings;
        }
    };
    findings.push(limit(manager));
    let counters = sight.counters.as_ref().map(|counters| &counters.after);
    findings.push(match counters {
        Ok(counters) => announced(manager, counters),
        Err(why) => unknown("announced-addresses", why),
    });
    findings.push(match (sight.uplinks(), &sight.tcp) {
        (Ok(uplinks), Ok(_)) => {
            let uplinks: Vec<(String, Vec<IpAddr>)> = uplinks
                .values()
                .map(|device| (device.name.clone(), device.routed().copied().collect()))
                .collect();
            there_are(manager, &uplinks, sight.serves())
        }
        (Err(why), _) => unknown("endpoints", why),
        (_, Err(why)) => unknown("endpoints", why),
    });
    let endpoints: Vec<&Endpoint> = sight.endpoints().collect();
    findings.push(device(&endpoints, devices));
    findings.push(address(&endpoints, devices));
    findings.push(carrier(&endpoints, devices));
    findings
}

fn path_manager(kind: io::Result<String>, endpoints: usize, managers: &[Process]) -> Finding {
    const NAME: &str = "path-manager";
    let daemon = managers.iter().any(|process| process.name == MANAGERS[0]);
    match kind.as_deref() {
        Ok("0") => ok(NAME, "the kernel manages paths"),
        Ok(_) if daemon && endpoints == 0 => ok(NAME, "mptcpd manages paths"),
        Ok(kind) => problem(
            NAME,
            format!(
                "net.mptcp.pm_type is {kind}: paths are left to a daemon{}, and the kernel ignores \
                 its endpoints ({endpoints})",
                if daemon {
                    ""
                } else {
                    ", but mptcpd does not run here"
                }
            ),
            sysctl::command(TYPE, "0"),
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            ok(NAME, "the kernel has one path manager")
        }
        Err(error) => unknown(NAME, format!("cannot read net.mptcp.pm_type: {error}")),
    }
}

fn two_managers(managers: &[Process]) -> Finding {
    const NAME: &str = "two-path-managers";
    let mut names: Vec<&str> = managers.iter().map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    match names[..] {
        [] => ok(
            NAME,
            "no daemon that manages paths runs in this network namespace",
        ),
        [one] => ok(NAME, format!("{one} alone may manage paths")),
        _ => {
            let shown: Vec<String> = managers
                .iter()
                .map(|one| format!("{} (process {})", one.name, one.id))
                .collect();
            let first = managers.iter().find(|one| one.name == MANAGERS[0]);
            let mend = first.or(managers.first()).map(Process::stop);
            warning(
                NAME,
                format!("{} may undo what the other sets", shown.join(" and ")),
                mend.unwrap_or_default(),
            )
        }
    }
}

fn limit(manager: &Manager) -> Finding {
    const NAME: &str = "subflow-limit";
    let opening = manager.endpoints.iter().filter(|one| one.opens_subflows());
    // One of the endpoints may have the address of the first subflow.
    let wanted = u32::try_from(opening.count()).unwrap_or(MOST);
    let set = |limit: u32| format!("ip mptcp limits set subflows {}", limit.clamp(2, MOST));
    match manager.subflows {
        0 => problem(
            NAME,
            "a connection may have no subflow beside its first (ip mptcp limits)",
            set(wanted),
        ),
        limit if limit < wanted.saturating_sub(1).min(MOST) => warning(
            NAME,
            format!(
                "a connection may have {limit} subflows beside its first; {wanted} endpoints open some"
            ),
            set(wanted),
        ),
        limit => ok(
            NAME,
            format!("a connection may have {limit} subflows beside its first"),
        ),
    }
}

fn announced(manager: &Manager, counters: &Counters) -> Finding {
    const NAME: &str = "announced-addresses";
    let heard = counters.get("add_addr_rx").copied().unwrap_or(0);
    match (manager.accepted, heard) {
        (0, 0) => ok(
            NAME,
            "no other end has announced an address, and none is accepted",
        ),
        (0, heard) => warning(
            NAME,
            format!(
                "other ends have announced {heard} addresses, and none is used: add_addr_accepted is 0"
            ),
            "ip mptcp limits set add_addr_accepted 2",
        ),
        (accepted, _) => ok(
            NAME,
            format!("a connection uses {accepted} announced addresses"),
        ),
    }
}

/// `uplinks` are devices and their addresses; `serves` says whether somebody
/// listens on an MPTCP socket.
fn there_are(manager: &Manager, uplinks: &[(String, Vec<IpAddr>)], serves: bool) -> Finding {
    const NAME: &str = "endpoints";
    let count = manager.endpoints.len();
    if count > 0 {
        return ok(NAME, format!("there are {count} endpoints"));
    }
    if uplinks.len() < 2 {
        return ok(NAME, "there are none; this host has one uplink");
    }
    if serves {
        return ok(NAME, "there are none; clients open subflows to this server");
    }
    let mut faults = Faults::default();
    for (device, addresses) in &uplinks[1..] {
        for address in addresses {
            faults.add(
                Verdict::Warning,
                format!("{address} of {device} is no endpoint, so no subflow is opened from it"),
                format!(
                    "ip mptcp endpoint add {address} dev {} subflow",
                    quoted(device)
                ),
            );
        }
    }
    faults.finish(NAME, "there are none; the other uplinks have no address")
}

/// Returns the command that makes an endpoint anew, on a device.
fn again(endpoint: &Endpoint, device: &str) -> String {
    let Endpoint { id, address, .. } = endpoint;
    let port = endpoint
        .port
        .map_or_else(String::new, |port| format!(" port {port}"));
    let (device, flags) = (quoted(device), endpoint.flags());
    format!(
        "ip mptcp endpoint delete id {id} && ip mptcp endpoint add {address}{port} id {id} dev \
         {device} {flags}"
    )
}

fn device(endpoints: &[&Endpoint], devices: &Present) -> Finding {
    let mut faults = Faults::default();
    for endpoint in endpoints.iter().filter(|one| one.opens_subflows()) {
        // An address that is gone is another check's finding.
        if endpoint.device.is_none()
            && let Some((_, device)) = with_address(devices, endpoint.address)
        {
            let Endpoint { id, address, .. } = endpoint;
            faults.add(
                Verdict::Warning,
                format!("endpoint {id} ({address}) has no device: its subflows leave by whatever the routes say"),
                again(endpoint, &device.name),
            );
        }
    }
    faults.finish(
        "endpoint-device",
        "each endpoint that opens subflows has its device",
    )
}

fn address(endpoints: &[&Endpoint], devices: &Present) -> Finding {
    let mut faults = Faults::default();
    // An address that is only announced may be that of a NAT.
    for endpoint in endpoints.iter().filter(|one| one.opens_subflows()) {
        let Endpoint { id, address, .. } = endpoint;
        match with_address(devices, *address) {
            None => faults.add(
                Verdict::Problem,
                format!("endpoint {id} is {address}, which no device has"),
                format!("ip mptcp endpoint delete id {id}"),
            ),
            Some((index, device)) if endpoint.device.is_some_and(|named| named != index) => {
                faults.add(
                    Verdict::Problem,
                    format!("endpoint {id} ({address}) names another device than {}, which has the address", device.name),
                    again(endpoint, &device.name),
                );
            }
            Some(_) => {}
        }
    }
    faults.finish(
        "endpoint-address",
        "each endpoint that opens subflows has its address",
    )
}

fn carrier(endpoints: &[&Endpoint], devices: &Present) -> Finding {
    let mut faults = Faults::default();
    for endpoint in endpoints {
        if let Some((_, device)) = with_address(devices, endpoint.address)
            && !device.carrier
        {
            faults.add(
                Verdict::Warning,
                format!(
                    "{} of endpoint {} is down or has no carrier",
                    device.name, endpoint.id
                ),
                format!("ip link set dev {} up", quoted(&device.name)),
            );
        }
    }
    faults.finish(
        "endpoint-carrier",
        "the devices of all endpoints have a carrier",
    )
}

#[cfg(test)]
mod tests;
