//! Checks the connections that are open: those that do without MPTCP, subflows
//! that are stuck, send buffers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::finding::{Faults, Finding, Look, Verdict, ok, unknown, warning};
use super::sight::{Sight, Twice};
use crate::host::processes;
use crate::host::sysctl;
use crate::net::devices::Present;
use crate::net::endpoints::Endpoint;
use crate::net::sockets::{Mptcp, Tcp};

const SEND_BUFFERS: &str = "net/ipv4/tcp_wmem";
const STALE_AFTER: &str = "net/mptcp/stale_loss_cnt";

/// After so many timeouts in a row the kernel takes a subflow for stale, unless
/// it says otherwise.
const DEFAULT_STALE_AFTER: u8 = 4;

/// The least that `tcp_wmem` should allow, bytes: 20 Mbit/s over 100 ms.
const LEAST_BUFFER: u64 = 256 << 10;
/// The limit of `tcp_wmem` on hosts with enough memory, bytes.
const USUAL_BUFFER: u64 = 4 << 20;

/// How many things of a kind are named.
const NAMED: usize = 5;

/// Runs the checks.
pub fn checks(sight: &Sight) -> Vec<Finding> {
    let endpoints: Vec<&Endpoint> = sight.endpoints().collect();
    let stale_after = sysctl::read(STALE_AFTER).ok();
    let stale_after = stale_after.and_then(|text| text.parse().ok());
    let own = sight.devices.as_ref().map(own_addresses);
    let tcp = sight.tcp.as_ref().map(|tcp| &tcp.after);
    let plain = match (tcp, own) {
        (Ok(tcp), Ok(own)) => Ok(plain(tcp, &own)),
        (Err(why), _) | (_, Err(why)) => Err(why.clone()),
    };
    vec![
        plain_tcp(
            &plain,
            sight.mptcp.as_deref().map_or(0, <[_]>::len),
            |inodes| processes::holders(inodes).into_values().collect(),
        ),
        peers(&plain, &sight.mptcp),
        stale(
            &sight.tcp,
            stale_after.unwrap_or(DEFAULT_STALE_AFTER),
            &endpoints,
        ),
        send_buffers(&sysctl::read(SEND_BUFFERS), tcp.map_or(&[], Vec::as_slice)),
    ]
}

fn own_addresses(devices: &Present) -> BTreeSet<IpAddr> {
    let devices = devices.values();
    devices
        .flat_map(|device| device.addresses.iter().copied())
        .collect()
}

/// The plain TCP connections to other hosts.
#[derive(Debug, Default)]
struct Plain<'a> {
    /// Those whose socket this host made without MPTCP.
    opened: Vec<&'a Tcp>,
    /// Those that came without MPTCP to a listener that has it.
    came: Vec<&'a Tcp>,
}

fn plain<'a>(tcp: &'a [Tcp], own: &BTreeSet<IpAddr>) -> Plain<'a> {
    let listening: BTreeSet<u16> = tcp
        .iter()
        .filter(|one| one.listens && one.is_subflow)
        .map(|one| one.local.port())
        .collect();
    let is_elsewhere = |remote: SocketAddr| {
        let address = remote.ip();
        !address.is_loopback() && !own.contains(&address)
    };
    let mut plain = Plain::default();
    for socket in tcp {
        if socket.listens || socket.is_subflow || !is_elsewhere(socket.remote) {
            continue;
        }
        match listening.contains(&socket.local.port()) {
            true => plain.came.push(socket),
            false => plain.opened.push(socket),
        }
    }
    plain
}

/// `holders` names the processes that hold sockets.
fn plain_tcp(
    plain: &Look<Plain<'_>>,
    mptcp: usize,
    holders: impl FnOnce(&[u32]) -> BTreeSet<String>,
) -> Finding {
    const NAME: &str = "plain-tcp";
    let opened = match plain {
        Ok(plain) => &plain.opened,
        Err(why) => return unknown(NAME, why),
    };
    let count = opened.len();
    let seen = format!("{count} plain TCP connections beside {mptcp} of MPTCP");
    if count <= mptcp {
        return ok(NAME, seen);
    }
    let inodes: Vec<u32> = opened.iter().map(|one| one.inode).collect();
    let names = holders(&inodes);
    let named: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    let of = match named.is_empty() {
        true => String::new(),
        false => format!(", those of {}", named.join(", ")),
    };
    let who = named.first().copied().unwrap_or("COMMAND");
    warning(
        NAME,
        seen + &of,
        format!(
            "# start the application with MPTCP sockets: mptcp-agent exec -- {who} \
             (docs/applications.md has the drop-in for a service)"
        ),
    )
}

fn peers(plain: &Look<Plain<'_>>, mptcp: &Look<Vec<Mptcp>>) -> Finding {
    const NAME: &str = "peers";
    let mut without: BTreeMap<IpAddr, usize> = BTreeMap::new();
    let (plain, mptcp) = match (plain, mptcp) {
        (Ok(plain), Ok(mptcp)) => (plain, mptcp),
        (Err(why), _) | (_, Err(why)) => return unknown(NAME, why),
    };
    let fallen = mptcp.iter().filter(|one| one.fallback);
    let came = plain.came.iter().map(|one| one.remote.ip());
    for peer in fallen.map(|one| one.remote.ip()).chain(came) {
        *without.entry(peer).or_default() += 1;
    }
    let mut faults = Faults::default();
    for (peer, count) in without.iter().take(NAMED) {
        faults.add(
            Verdict::Warning,
            format!("{count} connections with {peer} go without MPTCP"),
            format!(
                "# on {peer}: sysctl -w net.mptcp.enabled=1, and an application that opens MPTCP \
                 sockets"
            ),
        );
    }
    faults.finish(
        NAME,
        format!("all {} MPTCP connections have it at both ends", mptcp.len()),
    )
}

/// `stale_after` is after how many timeouts in a row the kernel takes a subflow
/// for stale.
fn stale(tcp: &Look<Twice<Vec<Tcp>>>, stale_after: u8, endpoints: &[&Endpoint]) -> Finding {
    const NAME: &str = "stale-subflows";
    let tcp = match tcp {
        Ok(tcp) => tcp,
        Err(why) => return unknown(NAME, why),
    };
    let stuck = |sockets: &[Tcp]| -> BTreeSet<(SocketAddr, SocketAddr)> {
        let stuck = sockets
            .iter()
            .filter(|one| one.is_subflow && !one.listens && one.backoff >= stale_after);
        stuck.map(|one| (one.local, one.remote)).collect()
    };
    let (before, after) = (stuck(&tcp.before), stuck(&tcp.after));
    let mut faults = Faults::default();
    for (local, remote) in before.intersection(&after) {
        let endpoint = endpoints.iter().find(|one| one.address == local.ip());
        let mend = match endpoint {
            // This closes its subflows, and opens new ones.
            Some(endpoint) if endpoint.opens_subflows() => {
                let Endpoint { id, address, .. } = endpoint;
                let device = endpoint.device.and_then(device_name);
                let device = device.map_or_else(String::new, |name| {
                    format!(" dev {}", sysctl::quoted(&name))
                });
                let flags = endpoint.flags();
                format!(
                    "ip mptcp endpoint delete id {id} && ip mptcp endpoint add {address} id \
                     {id}{device} {flags}"
                )
            }
            _ => format!(
                "ss -K src {} sport = :{} dst {} dport = :{}",
                local.ip(),
                local.port(),
                remote.ip(),
                remote.port()
            ),
        };
        faults.add(
            Verdict::Warning,
            format!("the subflow from {local} to {remote} gets nothing through"),
            mend,
        );
    }
    faults.finish(NAME, "no subflow is stuck")
}

fn device_name(index: u32) -> Option<String> {
    let name = nix::net::if_::if_indextoname(index).ok()?;
    name.into_string().ok()
}

fn send_buffers(limits: &io::Result<String>, tcp: &[Tcp]) -> Finding {
    const NAME: &str = "send-buffers";
    let limits = match limits {
        Ok(limits) => limits,
        Err(error) => return unknown(NAME, format!("cannot read net.ipv4.tcp_wmem: {error}")),
    };
    let values: Vec<u64> = limits
        .split_ascii_whitespace()
        .filter_map(|value| value.parse().ok())
        .collect();
    let [least, first, most] = values[..] else {
        return unknown(NAME, format!("net.ipv4.tcp_wmem is `{limits}`"));
    };
    let mend = |most: u64| {
        let most = most.next_power_of_two().max(USUAL_BUFFER);
        sysctl::command(SEND_BUFFERS, &format!("{least} {first} {most}"))
    };
    // A buffer holds what is in flight and what waits to be sent, so the kernel
    // wants more than twice the window. It cannot have that if the buffer is as
    // large as it may be.
    let widest = tcp
        .iter()
        .filter(|one| u64::from(one.send_buffer_bytes) >= most && one.is_subflow)
        .filter(|one| one.window_bytes * 2 > u64::from(one.send_buffer_bytes))
        .max_by_key(|one| one.window_bytes);
    if let Some(socket) = widest {
        let window = socket.window_bytes;
        return warning(
            NAME,
            format!(
                "the subflow from {} to {} could have {window} bytes in flight ({} ms), and its \
                 send buffer is full grown with {} bytes",
                socket.local,
                socket.remote,
                socket.rtt_us / 1000,
                socket.send_buffer_bytes
            ),
            mend(window.saturating_mul(4)),
        );
    }
    if most < LEAST_BUFFER {
        let seen = format!(
            "a send buffer has at most {most} bytes (net.ipv4.tcp_wmem): on a path of 100 ms, that \
             is no more than {} kbit/s",
            most * 8 / 100
        );
        return warning(NAME, seen, mend(0));
    }
    ok(
        NAME,
        format!("a send buffer may have {most} bytes, and none is too small"),
    )
}

#[cfg(test)]
mod tests;
