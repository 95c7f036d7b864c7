//! A path with network address translation between client and server.
//!
//! ```text
//!   client -- inside --> NAT (a host that forwards) -- outside --> server
//!            10.77.a.0/24                             10.77.b.0/24
//! ```
//!
//! Packets of the client arrive with the NAT's address on `outside` and with
//! another source port, for both TCP and UDP. The server cannot open
//! connections to the client, because it cannot reach any address of the client.

use anyhow::{Context, Result};

use crate::host::Host;
use crate::lab::Lab;
use crate::link::{Link, Path, ip_of};

/// The NAT and the links that [`Lab::nat_path`] made.
#[derive(Debug)]
pub struct NatPath {
    /// The host that translates.
    pub nat: Host,
    /// The link from client to NAT, with the path's name and no limits.
    pub inside: Link,
    /// The link from NAT to server, as the path describes; its devices are called
    /// `<name>-wan`.
    pub outside: Link,
}

impl Lab {
    /// Makes a path from `client` to `server` with a NAT in between. Packets from
    /// `inside.client_addr` leave through it, and so do packets that a socket
    /// without a bound address sends to `outside.server_addr`.
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
        // The NAT chooses its own ports, so the server never sees the client's.
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
