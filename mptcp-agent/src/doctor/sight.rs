//! Takes the looks that the checks of several subjects need, each of them once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use mptcp_api::schema::Status;

use super::finding::Look;
use crate::cli::DoctorArgs;
use crate::client::{self, NoAnswer};
use crate::host::Cgroup;
use crate::net::devices::{Device, Present};
use crate::net::endpoints::{self, Manager};
use crate::net::routes::{self, Route};
use crate::net::sockets::{self, Mptcp, Tcp};
use crate::net::{snmp, watch};

/// How long lies between two looks at what may change.
const BETWEEN: Duration = Duration::from_secs(1);

/// The kernel's counters by our names.
pub type Counters = BTreeMap<&'static str, u64>;

/// Two looks at the same thing, a second apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Twice<T> {
    /// The first look.
    pub before: T,
    /// The second look.
    pub after: T,
}

/// The state of the host, as it was seen.
#[derive(Debug)]
pub struct Sight {
    /// The devices and their addresses.
    pub devices: Look<Present>,
    /// The kernel's path manager; `None` if it has none.
    pub manager: Look<Option<Manager>>,
    /// The routes of all tables.
    pub routes: Look<Vec<Route>>,
    /// The TCP sockets.
    pub tcp: Look<Twice<Vec<Tcp>>>,
    /// The MPTCP connections.
    pub mptcp: Look<Vec<Mptcp>>,
    /// The kernel's counters of MPTCP.
    pub counters: Look<Twice<Counters>>,
    /// The agent that runs; `None` if there is none.
    pub agent: Result<Option<Status>, NoAnswer>,
    /// The control socket that the user named.
    pub control: Option<PathBuf>,
    /// The cgroup that the agent's program attaches to, or would.
    pub cgroup: Look<Cgroup>,
    /// The file with the kernel's types that the user named.
    pub btf: Option<PathBuf>,
}

impl Sight {
    /// Looks at everything, which takes a second.
    ///
    /// # Errors
    /// An argument names what is not there.
    pub fn look(args: &DoctorArgs) -> Result<Self> {
        let cgroup = match &args.cgroup {
            Some(path) => Ok(Cgroup::open(Some(path))?),
            None => Cgroup::open(None).map_err(|error| format!("{error:#}")),
        };
        let tcp_before = told(sockets::tcp());
        let counters_before = counters();
        let since = std::time::Instant::now();
        let devices = told(watch::now());
        let manager = told(endpoints::read_all());
        let routes = told(routes::all());
        let mptcp = told(sockets::mptcp());
        let agent = client::ask_status(args.control.as_deref());
        thread::sleep(BETWEEN.saturating_sub(since.elapsed()));
        let twice = |before: Look<_>, after: Look<_>| {
            let (before, after) = (before?, after?);
            Ok(Twice { before, after })
        };
        let tcp_after = told(sockets::tcp());
        Ok(Self {
            devices,
            manager,
            routes,
            tcp: tcp_before.and_then(|before| {
                let after = tcp_after?;
                Ok(Twice { before, after })
            }),
            mptcp,
            counters: twice(counters_before, counters()),
            agent,
            control: args.control.clone(),
            cgroup,
            btf: args.btf.clone(),
        })
    }

    /// Returns the agent that runs and has answered.
    pub fn status(&self) -> Option<&Status> {
        self.agent.as_ref().ok()?.as_ref()
    }

    /// Returns whether the agent that runs has the redundant policy; `None` if
    /// none runs.
    pub fn is_redundant(&self) -> Option<bool> {
        Some(self.status()?.policy.backend == "copies")
    }

    /// Returns the devices that lead out of this host's networks (a default route
    /// in any table), or that an endpoint is on, by ifindex.
    pub fn uplinks(&self) -> Look<BTreeMap<u32, &Device>> {
        let (devices, routes) = (self.devices.as_ref(), self.routes.as_ref());
        let devices = devices.map_err(String::clone)?;
        let routes = routes.map_err(String::clone)?;
        let mut found: BTreeSet<u32> = routes
            .iter()
            .filter(|route| route.default)
            .map(|route| route.device)
            .collect();
        for endpoint in self.endpoints() {
            found.extend(endpoint.device);
            found.extend(with_address(devices, endpoint.address).map(|(index, _)| index));
        }
        let used = devices
            .iter()
            .filter(|(index, device)| found.contains(index) && device.is_path());
        Ok(used.map(|(&index, device)| (index, device)).collect())
    }

    /// Returns whether somebody listens on an MPTCP socket.
    pub fn serves(&self) -> bool {
        let sockets = self.tcp.iter().flat_map(|tcp| &tcp.after);
        sockets.into_iter().any(|one| one.listens && one.is_subflow)
    }

    /// Returns the endpoints that the user made.
    pub fn endpoints(&self) -> impl Iterator<Item = &endpoints::Endpoint> {
        let manager = self.manager.as_ref().ok().and_then(Option::as_ref);
        let all = manager.into_iter().flat_map(|manager| &manager.endpoints);
        all.filter(|endpoint| !endpoint.is_implicit())
    }
}

/// Returns the device that has an address.
pub fn with_address(devices: &Present, address: IpAddr) -> Option<(u32, &Device)> {
    let mut devices = devices.iter();
    let found = devices.find(|(_, device)| device.addresses.contains(&address));
    found.map(|(&index, device)| (index, device))
}

/// Makes one line of an error.
fn told<T>(result: Result<T>) -> Look<T> {
    result.map_err(|error| format!("{error:#}"))
}

fn counters() -> Look<Counters> {
    told(snmp::read().map(|read| read.into_iter().collect()))
}
