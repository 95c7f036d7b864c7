//! The lab: owns its hosts and links, numbers the links, and takes both down.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::host::Host;
use crate::link::{DelayLink, Link, Over, Path, ip_of};
use crate::{namespace, require};

/// How many subflows a connection may have in addition to its first one.
const SUBFLOWS_MAX: u8 = 8;

/// Hosts and the paths between them. Dropping a lab removes the names of its
/// namespaces and stops its delay links.
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// use mptcp_lab::{Lab, Path};
/// let lab = Lab::new()?;
/// let (client, server) = (lab.host("client")?, lab.host("server")?);
/// let wired = lab.path(&client, &server, Path::new("wired").rate_mbit(100.0))?;
/// let lte = lab.path(&client, &server, Path::new("lte").rate_mbit(20.0).delay_ms(30.0))?;
/// client.limits(2, 2)?;
/// server.limits(2, 2)?;
/// client.endpoint(lte.client_addr, &lte.name, "subflow")?;
/// # drop(wired);
/// // The same, in short:
/// let paths = [Path::new("wired").rate_mbit(100.0), Path::new("lte").rate_mbit(20.0)];
/// let net = lab.two_hosts(paths)?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Lab {
    hosts: Mutex<Vec<Host>>,
    delay_links: Mutex<Vec<Arc<DelayLink>>>,
    next_path: AtomicU8,
}

/// The two hosts and the links that [`Lab::two_hosts`] made.
#[derive(Debug)]
pub struct TwoHosts {
    /// The host that connects, with an endpoint on each path but the first.
    pub client: Host,
    /// The host that listens.
    pub server: Host,
    /// The links, in the order in which their paths were given.
    pub links: Vec<Link>,
}

impl TwoHosts {
    /// Returns the server's address on the first path, to which clients connect.
    pub fn server_addr(&self) -> IpAddr {
        self.links[0].server_addr
    }

    /// Makes the server announce its addresses of the family that connections do
    /// not start with, so that clients with IPv6 sockets join them too.
    ///
    /// # Errors
    /// An endpoint cannot be added.
    pub fn signal_other_family(&self) -> Result<()> {
        let first = self.server_addr();
        for link in &self.links {
            if link.server_addr.is_ipv6() != first.is_ipv6() {
                self.server
                    .endpoint(link.server_addr, &link.name, "signal")?;
            }
        }
        Ok(())
    }
}

/// The network that [`Lab::routed`] made: the server has one address and is
/// behind a router, to which the client has several uplinks.
#[derive(Debug)]
pub struct Routed {
    /// The host with the uplinks.
    pub client: Host,
    /// The host in the middle, which forwards packets.
    pub router: Host,
    /// The host with one address.
    pub server: Host,
    /// The links from client to router, in the order in which they were given.
    /// Packets from a `client_addr` leave through its uplink, and the answers to
    /// them come back through it.
    pub uplinks: Vec<Link>,
    /// The link from router to server.
    pub downlink: Link,
}

impl Routed {
    /// Returns the server's only address.
    pub fn server_addr(&self) -> IpAddr {
        self.downlink.server_addr
    }
}

impl Lab {
    /// Makes an empty lab. It also removes the namespaces of lab processes that
    /// were killed, which it recognises by the process id in their names.
    pub fn new() -> Result<Self> {
        require::hosts().map_err(anyhow::Error::msg)?;
        namespace::sweep();
        Ok(Self {
            hosts: Mutex::default(),
            delay_links: Mutex::default(),
            next_path: AtomicU8::new(1),
        })
    }

    /// Makes a host, whose namespace is called `mptcp-<pid>-<n>-<label>`.
    pub fn host(&self, label: &str) -> Result<Host> {
        let host = Host::create(label).with_context(|| format!("make the host {label}"))?;
        lock(&self.hosts).push(host.clone());
        Ok(host)
    }

    /// Makes a path: one link with its own subnet and one address on each end.
    /// All that the client sends from its address on this path leaves through this
    /// path, whatever the destination. So the client's address alone determines
    /// the path of a subflow, in both directions.
    pub fn path(&self, client: &Host, server: &Host, path: Path) -> Result<Link> {
        let number = self.next_path.fetch_add(1, Ordering::Relaxed);
        let name = path.name.clone();
        let link = Link::create(client, server, path, number)
            .with_context(|| format!("make the path {name}"))?;
        lock(&self.delay_links).extend(link.delay_link());
        Ok(link)
    }

    /// Makes a path over the devices of `parent`, which keeps its addresses. The
    /// new path has its own subnet, and the name, family and MTU of `path`. The
    /// client joins from it only once the caller has made it an endpoint.
    ///
    /// # Errors
    /// `parent` has a delay (so its devices are not Ethernet devices), `path` asks
    /// for a rate or a delay, or the kernel lacks this kind of device.
    pub fn path_over(&self, parent: &Link, over: Over, path: Path) -> Result<Link> {
        let number = self.next_path.fetch_add(1, Ordering::Relaxed);
        let name = path.name.clone();
        Link::create_over(parent, over, path, number)
            .with_context(|| format!("make the path {name} over {}", parent.name))
    }

    /// Makes a client and a server with these paths (at least one). The client
    /// joins from every path of the first path's address family. To get subflows
    /// of the other family, add endpoints with the flag `signal` for the server's
    /// addresses of that family, and use an AF_INET6 socket on the client.
    pub fn two_hosts(&self, paths: impl IntoIterator<Item = Path>) -> Result<TwoHosts> {
        let (client, server) = (self.host("client")?, self.host("server")?);
        let links: Vec<Link> = paths
            .into_iter()
            .map(|path| self.path(&client, &server, path))
            .collect::<Result<_>>()?;
        ensure!(!links.is_empty(), "two hosts without a path");
        join_from_all(&client, &server, &links)?;
        Ok(TwoHosts {
            client,
            server,
            links,
        })
    }

    /// Makes a client, a router and a server, with `uplinks` from client to router
    /// and `downlink` from router to server, all of one address family. The client
    /// joins from every uplink.
    pub fn routed(
        &self,
        uplinks: impl IntoIterator<Item = Path>,
        downlink: Path,
    ) -> Result<Routed> {
        let (client, router) = (self.host("client")?, self.host("router")?);
        let server = self.host("server")?;
        router.sysctl("net.ipv4.conf.all.forwarding", "1")?;
        router.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        let uplinks = uplinks
            .into_iter()
            .map(|path| self.path(&client, &router, path))
            .collect::<Result<Vec<_>>>()?;
        let downlink = self.path(&router, &server, downlink)?;
        // A socket without a bound address connects through the first uplink.
        if let Some(first) = uplinks.first() {
            let gateway = first.server_addr;
            let ip = ip_of(gateway);
            client.run(&format!(
                "{ip} route add default via {gateway} dev {}",
                first.name
            ))?;
        }
        let gateway = downlink.client_addr;
        let ip = ip_of(gateway);
        server.run(&format!(
            "{ip} route add default via {gateway} dev {}",
            downlink.name
        ))?;
        join_from_all(&client, &server, &uplinks)?;
        Ok(Routed {
            client,
            router,
            server,
            uplinks,
            downlink,
        })
    }
}

/// Allows as many subflows as the kernel can have, and adds an endpoint for
/// each link except the first.
fn join_from_all(client: &Host, server: &Host, links: &[Link]) -> Result<()> {
    for host in [client, server] {
        host.limits(SUBFLOWS_MAX, SUBFLOWS_MAX)?;
    }
    for link in links.iter().skip(1) {
        client.endpoint(link.client_addr, &link.name, "subflow")?;
    }
    Ok(())
}

impl Drop for Lab {
    fn drop(&mut self) {
        for link in lock(&self.delay_links).drain(..) {
            link.stop();
        }
        for host in lock(&self.hosts).drain(..) {
            host.remove();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
