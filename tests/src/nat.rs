//! A path with network address translation ahead of the client.
//!
//! ```text
//!   client -- inside --> NAT (a host that forwards) -- outside --> server
//!            10.77.a.0/24                             10.77.b.0/24
//! ```
//!
//! What the client sends arrives with the NAT's address on `outside` and with
//! another source port, TCP and UDP alike. Nothing gets in that was not asked
//! for: the client has no address that the server could reach.

use anyhow::{Context, Result};

use crate::host::Host;
use crate::lab::Lab;
use crate::link::{Link, Path, ip_of};

/// What [`Lab::nat_path`] made.
#[derive(Debug)]
pub struct NatPath {
    /// The host between.
    pub nat: Host,
    /// From the client to the NAT: no limits, the path's name.
    pub inside: Link,
    /// From the NAT to the server, as asked for; devices are called
    /// `<name>-wan`.
    pub outside: Link,
}

impl Lab {
    /// A new path from `client` to `server` with a NAT between them. What the
    /// client sends from `inside.client_addr` leaves through it; so does what
    /// goes to `outside.server_addr` from a socket that is not bound.
    ///
    /// # Errors
    /// The name has more than 11 bytes, or the kernel lacks nftables' NAT.
    pub fn nat_path(&self, client: &Host, server: &Host, path: Path) -> Result<NatPath> {
        let nat = self.host("nat")?;
        nat.sysctl("net.ipv4.conf.all.forwarding", "1")?;
        nat.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        let wan = format!("{}-wan", path.name());
        let lan = Path {
            rate_mbit: None,
            delay: std::time::Duration::ZERO,
            ..path.clone()
        };
        let inside = self.path(client, &nat, lan)?;
        let outside = Path {
            name: wan.clone(),
            ..path
        };
        let outside = self.path(&nat, server, outside)?;

        let (ip, far) = (ip_of(outside.server_addr), outside.server_addr);
        nat.run(&format!("{ip} route add default via {far} dev {wan}"))?;
        let near = inside.server_addr;
        client.run(&format!(
            "{ip} route add {far} via {near} dev {}",
            inside.name
        ))?;
        // Ports of its own choice, so that no peer sees the client's.
        nat.nft(&format!(
            "table inet lab-nat {{ chain leaving {{ type nat hook postrouting priority 100;\n\
             oifname \"{wan}\" meta l4proto {{ tcp, udp }} masquerade to :20000-29999 random\n}}\n}}\n"
        ))
        .context("make a NAT")?;
        Ok(NatPath {
            nat,
            inside,
            outside,
        })
    }
}
