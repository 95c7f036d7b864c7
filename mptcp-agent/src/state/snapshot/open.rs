//! The open connections and their subflows.
//!
//! A host may have hundreds of thousands of them. So [`Gather`] takes them one
//! by one, and the loop that reads them can send a heartbeat in between.
//! Nothing that is left to do at the end grows with their number.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mptcp_common::abi::{self, ConnectionImage, MAX_PATHS, UNKNOWN_PATH, subflow_flag};
use mptcp_common::controller::{MAX_SLOTS, NO_CAP};

use super::Names;
use crate::net::devices::Present;
use crate::net::endpoints::Endpoints;
use crate::state::events::endpoints;
use crate::state::paths::PathTable;

/// How long a connection may take to open its subflows before it lacks any. A
/// lost SYN is sent again after a second.
const OPENING: Duration = Duration::from_secs(3);

/// Every open connection.
#[derive(Debug, Default)]
pub struct Open {
    /// The connections, in no particular order.
    pub connections: Vec<Connection>,
    /// The addresses from which the kernel may open subflows; `None` if that is not known.
    pub endpoints: Option<Endpoints>,
    /// The label of each path, and what its subflows have in common, by index.
    paths: Vec<(Arc<str>, OnPath)>,
}

/// A connection.
#[derive(Debug, Default)]
pub struct Connection {
    /// Its token; 0 while it is not known.
    pub token: u32,
    /// The name of its policy, as rules call it.
    pub policy: Option<Arc<str>>,
    /// The name or number of the rule that has chosen the policy; `None` if no
    /// rule matches.
    pub rule: Option<Arc<str>>,
    /// Whether its peer is proven, under the redundant policy only.
    pub proven: Option<bool>,
    /// Its open subflows, by cookie.
    pub subflows: Vec<Subflow>,
}

/// A subflow.
#[derive(Debug)]
pub struct Subflow {
    /// Its socket's cookie.
    pub cookie: u64,
    /// The programs' entry for it.
    pub known: abi::Subflow,
    /// The label of its path.
    pub path: Arc<str>,
    /// The name of the device that carries it; `None` if that is not known.
    pub device: Option<Arc<str>>,
    /// Whether it can carry data, as far as is known: it is not stale, its
    /// device has a carrier, and the weighted policy (if it is in force) sees
    /// its path make progress.
    pub alive: bool,
    /// Time since a round trip was last measured on it; `None` if none was.
    pub heard: Option<Duration>,
    /// Time since it was established; `None` if it is older than the agent.
    pub age: Option<Duration>,
}

/// The subflows of one path, summed up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnPath {
    /// Number of those that are alive.
    pub alive: u64,
    /// Time since a round trip was last measured on one of them.
    pub heard: Option<Duration>,
    /// Their local addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl Open {
    /// Returns what the subflows of the paths with this label have in common.
    pub fn on_path(&self, label: &str) -> OnPath {
        let mut all = OnPath::default();
        for (_, one) in self.paths.iter().filter(|(known, _)| &**known == label) {
            all.alive += one.alive;
            all.heard = sooner(all.heard, one.heard);
            all.addresses.extend(&one.addresses);
        }
        all
    }
}

impl Connection {
    /// Returns whether this host accepted it.
    pub fn is_server(&self) -> bool {
        self.any(subflow_flag::SERVER)
    }

    /// Returns whether it fell back to plain TCP.
    pub fn is_fallback(&self) -> bool {
        self.any(subflow_flag::FALLBACK)
    }

    /// Returns whether the weighted policy limits it now.
    pub fn is_steered(&self) -> bool {
        self.subflows.iter().any(|one| one.known.cap != NO_CAP)
    }

    /// Returns the acked bytes of its open subflows.
    pub fn acked_bytes(&self) -> u64 {
        self.subflows.iter().map(|one| one.known.acked_bytes).sum()
    }

    /// Returns how many subflows this host's endpoints allow the connection, its
    /// first included; `None` if that is not known. The first is the one that the
    /// application opened. The kernel may open one from each endpoint of the
    /// peer's address family, except that of the first, up to its limit.
    ///
    /// It is not known at the server's end, where the kernel leaves it to the
    /// client to open subflows.
    pub fn allowed(&self, endpoints: &Endpoints) -> Option<u64> {
        let peer = endpoints_of(self.subflows.first()?).1;
        if self.is_server() || self.is_fallback() {
            return None;
        }
        let locals: BTreeSet<IpAddr> = endpoints
            .addresses
            .iter()
            .copied()
            .filter(|local| local.is_ipv4() == peer.is_ipv4())
            .collect();
        let first = self
            .subflows
            .iter()
            .find(|one| !one.has(subflow_flag::JOIN));
        let of_first = match first {
            Some(first) => locals.contains(&endpoints_of(first).0),
            // The first one is gone. It may have left from an endpoint that no
            // other subflow has.
            None => {
                let joined: BTreeSet<IpAddr> = self
                    .subflows
                    .iter()
                    .map(|one| endpoints_of(one).0)
                    .collect();
                !locals.is_subset(&joined)
            }
        };
        let others = locals.len() as u64 - u64::from(of_first);
        Some(1 + others.min(endpoints.subflows.into()))
    }

    /// Returns whether the connection has had the time to open its subflows.
    pub fn is_settled(&self) -> bool {
        let oldest = self.subflows.iter().map(|one| one.age);
        // Without an age it is older than the agent.
        oldest
            .into_iter()
            .any(|age| age.is_none_or(|age| age > OPENING))
    }

    fn any(&self, flag: u8) -> bool {
        self.subflows.iter().any(|one| one.has(flag))
    }
}

impl Subflow {
    /// Returns whether a bit of [`subflow_flag`] is set.
    pub fn has(&self, flag: u8) -> bool {
        self.known.tuple.flags & flag != 0
    }
}

/// Puts together what the two maps hold: first the connections, then the
/// subflows.
pub struct Gather {
    names: Names,
    /// When the maps are read (`bpf_ktime_get_ns`).
    now_ns: u64,
    /// The connections whose peer is proven, under the redundant policy.
    proven: Option<HashSet<u64>>,
    /// By ifindex: the name, and whether there is a carrier.
    devices: BTreeMap<u32, (Arc<str>, bool)>,
    known: HashMap<u64, Known>,
    /// Where in `open.connections` each connection is, by key.
    places: HashMap<u64, usize>,
    open: Open,
}

/// The part of the programs' entry for a connection that is needed here.
#[derive(Clone, Default)]
struct Known {
    token: u32,
    policy: Option<Arc<str>>,
    rule: Option<Arc<str>>,
    /// Whether the path of each slot makes no progress.
    dead: [bool; MAX_SLOTS],
}

impl Gather {
    /// Starts at `now_ns`. `proven` holds the connections whose peer is proven,
    /// under the redundant policy.
    pub fn new(
        table: &PathTable,
        present: &Present,
        names: Names,
        proven: Option<HashSet<u64>>,
        now_ns: u64,
    ) -> Self {
        let label = |index| (table.label(index).into(), OnPath::default());
        let devices = present.iter().map(|(&ifindex, device)| {
            let name: Arc<str> = device.name.as_str().into();
            (ifindex, (name, device.carrier))
        });
        Self {
            names,
            now_ns,
            proven,
            devices: devices.collect(),
            known: HashMap::new(),
            places: HashMap::new(),
            open: Open {
                connections: Vec::new(),
                endpoints: None,
                paths: (0..MAX_PATHS as u32).map(label).collect(),
            },
        }
    }

    /// Takes an entry of map `CONNECTIONS`.
    pub fn connection(&mut self, key: u64, image: &ConnectionImage) {
        let (policy, judged) = self.names.policy(image.policy());
        let dead = |slot| judged && image.is_dead(slot);
        let known = Known {
            token: image.token(),
            policy: Some(policy),
            rule: self.names.rule(image.rule()),
            dead: std::array::from_fn(dead),
        };
        self.known.insert(key, known);
    }

    /// Takes an entry of map `SUBFLOWS`. One that is taken twice counts once.
    pub fn subflow(&mut self, cookie: u64, subflow: abi::Subflow) {
        let key = subflow.connection;
        let known = self.known.get(&key).cloned().unwrap_or_default();
        let place = *self.places.entry(key).or_insert_with(|| {
            self.open.connections.push(Connection {
                token: known.token,
                policy: known.policy.clone(),
                rule: known.rule.clone(),
                proven: self.proven.as_ref().map(|proven| proven.contains(&key)),
                subflows: Vec::new(),
            });
            self.open.connections.len() - 1
        });
        let subflows = &mut self.open.connections[place].subflows;
        let at = subflows.partition_point(|one| one.cookie < cookie);
        if subflows.get(at).is_some_and(|one| one.cookie == cookie) {
            return;
        }
        let device = self.devices.get(&subflow.ifindex);
        let connected = device.is_none_or(|(_, carrier)| *carrier);
        let slot = usize::from(subflow.slot).checked_sub(1);
        let dead = slot.is_some_and(|slot| known.dead[slot.min(MAX_SLOTS - 1)]);
        let stale = subflow.tuple.flags & subflow_flag::STALE != 0;
        let alive = connected && !dead && !stale;
        let since = |ns: u64| {
            let ago = Duration::from_nanos(self.now_ns.saturating_sub(ns));
            (ns != 0).then_some(ago)
        };
        let (heard, age) = (since(subflow.heard_ns), since(subflow.opened_ns));

        let index = Some(subflow.path as usize).filter(|&index| index < MAX_PATHS);
        let (path, on_path) = &mut self.open.paths[index.unwrap_or(UNKNOWN_PATH as usize)];
        on_path.alive += u64::from(alive);
        on_path.heard = sooner(on_path.heard, heard);
        on_path.addresses.insert(endpoints(&subflow.tuple).0.ip());
        let subflow = Subflow {
            cookie,
            known: subflow,
            path: Arc::clone(path),
            device: device.map(|(name, _)| Arc::clone(name)),
            alive,
            heard,
            age,
        };
        subflows.insert(at, subflow);
    }

    /// Returns the connections that have an open subflow. `endpoints` is what the
    /// kernel may open subflows from, if that is known.
    pub fn finish(mut self, endpoints: Option<Endpoints>) -> Open {
        self.open.endpoints = endpoints;
        self.open
    }
}

/// Returns the local and the remote address of a subflow.
fn endpoints_of(subflow: &Subflow) -> (IpAddr, IpAddr) {
    let (local, remote) = endpoints(&subflow.known.tuple);
    (local.ip().to_canonical(), remote.ip().to_canonical())
}

fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use mptcp_common::abi::Tuple;

    use super::*;
    use crate::net::devices::Device;
    use crate::policy::Weights;
    use crate::rules::Rules;

    const SECOND: u64 = 1_000_000_000;

    fn table() -> PathTable {
        let mut table = PathTable::new(&Weights::EQUAL);
        table.set_devices([(1, "eth0".to_owned()), (2, "eth1".to_owned())].into());
        table
    }

    fn present() -> Present {
        let device = |name: &str, carrier| Device {
            name: name.to_owned(),
            carrier,
            ..Device::default()
        };
        Present::from([(1, device("eth0", true)), (2, device("eth1", false))])
    }

    fn subflow(connection: u64, path: u32, flags: u8) -> abi::Subflow {
        let mut tuple = Tuple {
            flags,
            ..Tuple::default()
        };
        tuple.local = abi::mapped_v4([10, 0, 0, path as u8]);
        abi::Subflow {
            connection,
            path,
            ifindex: path,
            heard_ns: 7 * SECOND,
            acked_bytes: 5,
            cap: NO_CAP,
            tuple,
            ..abi::Subflow::default()
        }
    }

    fn gather(proven: Option<HashSet<u64>>) -> Gather {
        let names = Names::new(false, &Rules::default());
        Gather::new(&table(), &present(), names, proven, 9 * SECOND)
    }

    #[test]
    fn subflows_are_grouped_by_connection_and_none_counts_twice() {
        let mut gather = gather(Some(HashSet::from([8])));
        gather.subflow(4, subflow(7, 1, 0));
        gather.subflow(6, subflow(8, 1, subflow_flag::SERVER));
        gather.subflow(3, subflow(7, 2, subflow_flag::JOIN));
        gather.subflow(4, subflow(7, 1, 0));
        let open = gather.finish(None);
        let cookies = |place: usize| -> Vec<u64> {
            let subflows = open.connections[place].subflows.iter();
            subflows.map(|one| one.cookie).collect()
        };
        assert_eq!(open.connections.len(), 2);
        assert_eq!((cookies(0), cookies(1)), (vec![3, 4], vec![6]));
        let [first, second] = [&open.connections[0], &open.connections[1]];
        assert_eq!((first.is_server(), second.is_server()), (false, true));
        assert_eq!((first.proven, second.proven), (Some(false), Some(true)));
        assert_eq!((first.acked_bytes(), first.is_steered()), (10, false));
    }

    #[test]
    fn a_path_is_as_alive_as_its_subflows() {
        let mut gather = gather(None);
        gather.subflow(1, subflow(7, 1, 0));
        gather.subflow(2, subflow(8, 1, subflow_flag::STALE));
        // Its device has no carrier.
        gather.subflow(3, subflow(8, 2, 0));
        let open = gather.finish(None);
        let (eth0, eth1) = (open.on_path("eth0"), open.on_path("eth1"));
        assert_eq!((eth0.alive, eth1.alive), (1, 0));
        assert_eq!(eth0.heard, Some(Duration::from_secs(2)));
        assert_eq!(eth0.addresses, BTreeSet::from([[10, 0, 0, 1].into()]));
        assert_eq!(open.on_path("eth9"), OnPath::default());
        let devices = open.connections[1].subflows.iter();
        let devices: Vec<_> = devices.map(|one| one.device.as_deref()).collect();
        assert_eq!(devices, [Some("eth0"), Some("eth1")]);
    }

    /// Returns a connection with subflows from these addresses; `true` says that
    /// one joined.
    fn connection(subflows: &[([u8; 4], bool)], flags: u8) -> Connection {
        let mut gather = gather(None);
        for (cookie, &(local, joined)) in (1..).zip(subflows) {
            let join = if joined { subflow_flag::JOIN } else { 0 };
            let mut one = subflow(7, 1, flags | join);
            one.tuple.local = abi::mapped_v4(local);
            one.tuple.remote = abi::mapped_v4([192, 0, 2, 1]);
            gather.subflow(cookie, one);
        }
        gather.finish(None).connections.remove(0)
    }

    #[test]
    fn endpoints_and_their_limit_allow_subflows() {
        const FIRST: ([u8; 4], bool) = ([10, 0, 0, 1], false);
        const SECOND: ([u8; 4], bool) = ([10, 0, 0, 2], true);
        let endpoints = |hosts: &[u8], subflows| Endpoints {
            addresses: hosts
                .iter()
                .map(|&host| [10, 0, 0, host].into())
                .chain(["fd00::1".parse().expect("an address")])
                .collect(),
            subflows,
        };
        for (subflows, hosts, limit, allowed) in [
            // The first subflow leaves from an address without an endpoint.
            (&[FIRST][..], &[2][..], 2, 2),
            // From one with an endpoint.
            (&[FIRST], &[1, 2], 2, 2),
            (&[FIRST], &[1, 2, 3, 4], 2, 3),
            (&[FIRST], &[2], 0, 1),
            (&[FIRST], &[], 2, 1),
            (&[FIRST, SECOND], &[1, 2], 2, 2),
            // The first is gone, which may have left from 1.
            (&[SECOND], &[1, 2], 2, 2),
            (&[SECOND], &[2], 2, 2),
            (&[SECOND], &[1, 2, 3], 8, 3),
        ] {
            let connection = connection(subflows, 0);
            let got = connection.allowed(&endpoints(hosts, limit));
            assert_eq!(got, Some(allowed), "{subflows:?} {hosts:?} {limit}");
        }
        for flag in [subflow_flag::SERVER, subflow_flag::FALLBACK] {
            let connection = connection(&[FIRST], flag);
            assert_eq!(connection.allowed(&endpoints(&[2], 2)), None);
        }
    }

    #[test]
    fn a_connection_is_settled_once_it_had_the_time_to_be() {
        let settled = |opened_ns: &[u64]| {
            let mut gather = gather(None);
            for (cookie, &opened_ns) in (1..).zip(opened_ns) {
                let known = abi::Subflow {
                    opened_ns,
                    ..subflow(7, 1, 0)
                };
                gather.subflow(cookie, known);
            }
            gather.finish(None).connections[0].is_settled()
        };
        // It is nine seconds past.
        assert!(!settled(&[8 * SECOND]));
        assert!(settled(&[5 * SECOND]));
        assert!(settled(&[8 * SECOND, 5 * SECOND]));
        assert!(settled(&[0]), "it is older than the agent");
    }
}
