//! Converts what the programs know to what the control socket shows.
//!
//! Pure: takes the contents of maps, returns the schema's types.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use mptcp_api::schema::{Connection, Event, Hook, Path, PathCopies, Peers, Side, Subflow};
use mptcp_common::abi::{self, ConnectionImage, PathStats, subflow_flag};
use mptcp_common::controller::NO_CAP;

use crate::api::metrics::{PathRow, RedundantRows};
use crate::kernel::Attachment;
use crate::net::devices::Present;
use crate::state::events::{Change, KINDS, endpoints, token};
use crate::state::paths::PathTable;
use crate::state::rates::Recent;

/// Every open connection and subflow.
#[derive(Debug)]
pub struct Open {
    connections: HashMap<u64, ConnectionImage>,
    /// Subflows with their cookies; those of one connection are adjacent.
    subflows: Vec<(u64, abi::Subflow)>,
    /// Whether the controller judges which paths make progress.
    weighted: bool,
    /// When the maps were read (`bpf_ktime_get_ns`).
    now_ns: u64,
}

impl Open {
    /// Takes the contents of the two maps, read at `now_ns`.
    pub fn new(
        connections: Vec<(u64, ConnectionImage)>,
        mut subflows: Vec<(u64, abi::Subflow)>,
        weighted: bool,
        now_ns: u64,
    ) -> Self {
        subflows.sort_unstable_by_key(|(cookie, subflow)| (subflow.connection, *cookie));
        Self {
            connections: connections.into_iter().collect(),
            subflows,
            weighted,
            now_ns,
        }
    }

    /// Returns one row for each connection. `proven` says whether a
    /// connection's peer is proven.
    pub fn connections(
        &self,
        table: &PathTable,
        present: &Present,
        proven: impl Fn(u64) -> Option<bool>,
    ) -> Vec<Connection> {
        let same = |(_, one): &(u64, abi::Subflow), (_, other): &(u64, abi::Subflow)| {
            one.connection == other.connection
        };
        let rows = self.subflows.chunk_by(same).map(|subflows| {
            let key = subflows[0].1.connection;
            let any = |flag| subflows.iter().any(|(_, one)| one.tuple.flags & flag != 0);
            let acked: u64 = subflows.iter().map(|(_, one)| one.acked_bytes).sum();
            let row = |(cookie, subflow): &(u64, abi::Subflow)| {
                self.subflow(*cookie, subflow, acked, table, present)
            };
            Connection {
                token: self
                    .connections
                    .get(&key)
                    .and_then(|known| token(known.token())),
                side: side(any(subflow_flag::SERVER)),
                fallback: any(subflow_flag::FALLBACK),
                steered: subflows.iter().any(|(_, one)| one.cap != NO_CAP),
                peer_proven: proven(key),
                subflows: subflows.iter().map(row).collect(),
            }
        });
        rows.collect()
    }

    fn subflow(
        &self,
        cookie: u64,
        subflow: &abi::Subflow,
        acked: u64,
        table: &PathTable,
        present: &Present,
    ) -> Subflow {
        let flag = |bit| subflow.tuple.flags & bit != 0;
        let (local, remote) = endpoints(&subflow.tuple);
        let ids = flag(subflow_flag::IDS);
        Subflow {
            cookie,
            path: table.label(subflow.path).to_owned(),
            device: present
                .get(&subflow.ifindex)
                .map(|device| device.name.clone()),
            local: local.to_string(),
            remote: remote.to_string(),
            local_id: ids.then_some(subflow.tuple.local_id),
            remote_id: ids.then_some(subflow.tuple.remote_id),
            joined: flag(subflow_flag::JOIN),
            backup: flag(subflow_flag::BACKUP),
            stale: flag(subflow_flag::STALE),
            congestion_locked: flag(subflow_flag::LOCKED),
            alive: self.is_alive(subflow, present),
            heard_seconds: self.heard_seconds(subflow),
            srtt_seconds: seconds(subflow.srtt_us),
            min_rtt_seconds: seconds(subflow.min_rtt_us),
            cwnd_segments: (subflow.cwnd != 0).then_some(subflow.cwnd),
            sent_bytes: subflow.sent_bytes,
            acked_bytes: subflow.acked_bytes,
            received_bytes: subflow.received_bytes,
            retransmitted_segments: subflow.retransmitted_segments,
            queued_bytes: subflow.queued,
            share: (acked != 0).then(|| subflow.acked_bytes as f64 / acked as f64),
            cap_bytes_per_second: (subflow.cap != NO_CAP).then_some(subflow.cap),
            queue_limit_bytes: (subflow.lowat != 0).then_some(subflow.lowat),
            copies_sent: subflow.copies,
        }
    }

    /// Returns the seconds since a round trip was last measured on a subflow.
    fn heard_seconds(&self, subflow: &abi::Subflow) -> Option<f64> {
        let ago = || Duration::from_nanos(self.now_ns.saturating_sub(subflow.heard_ns));
        (subflow.heard_ns != 0).then(|| ago().as_secs_f64())
    }

    /// Returns whether a subflow can carry data, as far as is known.
    fn is_alive(&self, subflow: &abi::Subflow, present: &Present) -> bool {
        let device = present.get(&subflow.ifindex);
        let connected = device.is_none_or(|device| device.carrier);
        let dead = usize::from(subflow.slot)
            .checked_sub(1)
            .is_some_and(|slot| {
                let known = self.connections.get(&subflow.connection);
                self.weighted && known.is_some_and(|known| known.is_dead(slot))
            });
        connected && !dead && subflow.tuple.flags & subflow_flag::STALE == 0
    }
}

/// The sources of the rows of paths.
pub struct Paths<'a> {
    /// Labels, weights, and the paths of devices.
    pub table: &'a PathTable,
    /// The devices that exist.
    pub present: &'a Present,
    /// Totals, by index of the path.
    pub stats: &'a [PathStats],
    /// Rates of the last ten seconds.
    pub recent: &'a Recent,
    /// Whether the policy is weighted, so that weights have a meaning.
    pub weighted: bool,
    /// Copies, under the redundant policy only.
    pub copies: Option<&'a RedundantRows>,
}

impl Paths<'_> {
    /// Returns one row for each path that has a series in the metrics.
    pub fn rows(&self, open: &Open) -> Vec<Path> {
        let shares = self.recent.shares();
        let rows = PathRow::collect(self.table, self.stats, shares.as_deref());
        rows.into_iter().map(|row| self.row(row, open)).collect()
    }

    fn row(&self, row: PathRow, open: &Open) -> Path {
        let on_path = || {
            let of_path = |subflow: &&abi::Subflow| self.table.label(subflow.path) == row.label;
            open.subflows.iter().map(|(_, one)| one).filter(of_path)
        };
        let rates = self.recent.rates(row.index);
        let device = self.table.device(row.index).map(str::to_owned);
        Path {
            addresses: self.addresses(device.as_deref(), on_path()),
            present: self.table.is_present(row.index),
            listed: row.listed,
            subflows: row.stats.live,
            alive: on_path()
                .filter(|one| open.is_alive(one, self.present))
                .count() as u64,
            carrier: self.carrier(device.as_deref()),
            heard_seconds: on_path()
                .filter_map(|one| open.heard_seconds(one))
                .min_by(f64::total_cmp),
            weight: self.weighted.then_some(row.weight),
            share: row.share,
            rtt_seconds: rates.rtt_seconds,
            sent_bytes_per_second: rates.sent,
            acked_bytes_per_second: rates.acked,
            received_bytes_per_second: rates.received,
            retransmitted_segments: row.stats.retransmitted_segments,
            copies: self.copies.and_then(|copies| copies_of(copies, &row.label)),
            device,
            path: row.label,
        }
    }

    fn carrier(&self, name: Option<&str>) -> Option<bool> {
        let device = self
            .present
            .values()
            .find(|one| Some(one.name.as_str()) == name);
        device.map(|device| device.carrier)
    }

    fn addresses<'a>(
        &self,
        device: Option<&str>,
        subflows: impl Iterator<Item = &'a abi::Subflow>,
    ) -> Vec<String> {
        let own = self
            .present
            .values()
            .find(|one| Some(one.name.as_str()) == device);
        match own {
            Some(device) => device.addresses.iter().map(ToString::to_string).collect(),
            None => {
                let used: BTreeSet<_> = subflows.map(|one| endpoints(&one.tuple).0.ip()).collect();
                used.iter().map(ToString::to_string).collect()
            }
        }
    }
}

fn copies_of(copies: &RedundantRows, label: &str) -> Option<PathCopies> {
    let row = copies.paths.iter().find(|row| row.label == label)?;
    let [received_first, received_duplicate, _] = row.stats.received;
    Some(PathCopies {
        sent: row.stats.sent,
        dropped: row.stats.not_sent.iter().sum(),
        received_first,
        received_duplicate,
    })
}

/// Returns the numbers of peers by state.
pub fn peers(rows: &RedundantRows) -> Peers {
    let count = |state| {
        let found = rows.peers.iter().find(|(name, _)| *name == state);
        found.map_or(0, |(_, count)| *count)
    };
    Peers {
        proven: count("proven"),
        silent: count("silent"),
        asking: count("asking"),
        refused: count("refused"),
    }
}

/// Converts a hook.
pub fn hook(row: &Attachment) -> Hook {
    Hook {
        program: row.program.to_owned(),
        purpose: row.purpose.to_owned(),
        attached: row.error.is_none(),
        reason: row.error.clone(),
    }
}

/// Converts an event. `path` is the label of its path, and `age` the time that
/// has passed since it happened.
pub fn event(event: &abi::Event, path: &str, time: SystemTime, age: Duration) -> Event {
    let change = Change::from(event);
    let mut told = Event {
        time: humantime::format_rfc3339_micros(time.checked_sub(age).unwrap_or(time)).to_string(),
        event: KINDS[change.kind()].to_owned(),
        path: path.to_owned(),
        token: token(event.token),
        ..Event::default()
    };
    // An event about a path as a whole names no subflow.
    if event.cookie != 0 {
        let (local, remote) = endpoints(&event.tuple);
        let ids = event.tuple.flags & subflow_flag::IDS != 0;
        told.local = Some(local.to_string());
        told.remote = Some(remote.to_string());
        told.local_id = ids.then_some(event.tuple.local_id);
        told.remote_id = ids.then_some(event.tuple.remote_id);
        told.side = Some(side(event.tuple.flags & subflow_flag::SERVER != 0));
        told.cookie = Some(event.cookie);
    }
    match change {
        Change::SubflowClosed { reason } => {
            told.reason = Some(reason.to_owned());
            told.sent_bytes = Some(event.sent_bytes);
            told.acked_bytes = Some(event.acked_bytes);
            told.received_bytes = Some(event.received_bytes);
        }
        Change::Priority { backup } => told.backup = Some(backup),
        Change::Stale { stale } => told.stale = Some(stale),
        _ => {}
    }
    told
}

fn side(server: bool) -> Side {
    if server { Side::Server } else { Side::Client }
}

fn seconds(us: u32) -> Option<f64> {
    (us != 0).then(|| f64::from(us) / 1e6)
}
