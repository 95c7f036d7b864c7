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

use crate::net::devices::Present;
use crate::state::events::endpoints;
use crate::state::paths::PathTable;

/// Every open connection.
#[derive(Debug, Default)]
pub struct Open {
    /// The connections, in no particular order.
    pub connections: Vec<Connection>,
    /// The label of each path, and what its subflows have in common, by index.
    paths: Vec<(Arc<str>, OnPath)>,
}

/// A connection.
#[derive(Debug, Default)]
pub struct Connection {
    /// Its token; 0 while it is not known.
    pub token: u32,
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
    /// Whether the controller judges which paths make progress.
    judged: bool,
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
#[derive(Clone, Copy, Default)]
struct Known {
    token: u32,
    /// Whether the path of each slot makes no progress.
    dead: [bool; MAX_SLOTS],
}

impl Gather {
    /// Starts at `now_ns`. `judged` says whether the policy is one under which
    /// the controller judges which paths make progress; `proven` holds the
    /// connections whose peer is proven, under the redundant policy.
    pub fn new(
        table: &PathTable,
        present: &Present,
        judged: bool,
        proven: Option<HashSet<u64>>,
        now_ns: u64,
    ) -> Self {
        let label = |index| (table.label(index).into(), OnPath::default());
        let devices = present.iter().map(|(&ifindex, device)| {
            let name: Arc<str> = device.name.as_str().into();
            (ifindex, (name, device.carrier))
        });
        Self {
            judged,
            now_ns,
            proven,
            devices: devices.collect(),
            known: HashMap::new(),
            places: HashMap::new(),
            open: Open {
                connections: Vec::new(),
                paths: (0..MAX_PATHS as u32).map(label).collect(),
            },
        }
    }

    /// Takes an entry of map `CONNECTIONS`.
    pub fn connection(&mut self, key: u64, image: &ConnectionImage) {
        let dead = |slot| self.judged && image.is_dead(slot);
        let known = Known {
            token: image.token(),
            dead: std::array::from_fn(dead),
        };
        self.known.insert(key, known);
    }

    /// Takes an entry of map `SUBFLOWS`. One that is taken twice counts once.
    pub fn subflow(&mut self, cookie: u64, subflow: abi::Subflow) {
        let key = subflow.connection;
        let known = self.known.get(&key).copied().unwrap_or_default();
        let place = *self.places.entry(key).or_insert_with(|| {
            self.open.connections.push(Connection {
                token: known.token,
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
        let ago = || Duration::from_nanos(self.now_ns.saturating_sub(subflow.heard_ns));
        let heard = (subflow.heard_ns != 0).then(ago);

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
        };
        subflows.insert(at, subflow);
    }

    /// Returns the connections that have an open subflow.
    pub fn finish(self) -> Open {
        self.open
    }
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
        Gather::new(&table(), &present(), false, proven, 9 * SECOND)
    }

    #[test]
    fn subflows_are_grouped_by_connection_and_none_counts_twice() {
        let mut gather = gather(Some(HashSet::from([8])));
        gather.subflow(4, subflow(7, 1, 0));
        gather.subflow(6, subflow(8, 1, subflow_flag::SERVER));
        gather.subflow(3, subflow(7, 2, subflow_flag::JOIN));
        gather.subflow(4, subflow(7, 1, 0));
        let open = gather.finish();
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
        let open = gather.finish();
        let (eth0, eth1) = (open.on_path("eth0"), open.on_path("eth1"));
        assert_eq!((eth0.alive, eth1.alive), (1, 0));
        assert_eq!(eth0.heard, Some(Duration::from_secs(2)));
        assert_eq!(eth0.addresses, BTreeSet::from([[10, 0, 0, 1].into()]));
        assert_eq!(open.on_path("eth9"), OnPath::default());
        let devices = open.connections[1].subflows.iter();
        let devices: Vec<_> = devices.map(|one| one.device.as_deref()).collect();
        assert_eq!(devices, [Some("eth0"), Some("eth1")]);
    }
}
