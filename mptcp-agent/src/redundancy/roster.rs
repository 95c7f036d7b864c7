//! The open subflows, and the connections whose keys are not known yet.
//!
//! The protocol (`peers`) learns of a subflow once its connection's keys are
//! known. The programs may report a subflow a little before they know the keys.
//! Events may be lost, so the service compares the roster with the kernel's
//! maps from time to time.
//!
//! Pure: time is an argument, in nanoseconds of `CLOCK_MONOTONIC`.

use std::collections::{BTreeSet, HashMap};

use mptcp_common::abi::{self, Event, Tuple, subflow_flag};

/// First wait until the keys are looked for again; it doubles each time.
const FIRST_WAIT_NS: u64 = 2_000_000;

/// Number of waits (four seconds in all). After the last one, the next
/// comparison with the maps starts anew.
const WAITS: u32 = 11;

/// One subflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subflow {
    /// Key in map `CONNECTIONS`.
    pub connection: u64,
    /// Addresses, ports, address ids and flags.
    pub tuple: Tuple,
    /// Index of its device; 0 if it is not known.
    pub ifindex: u32,
    /// Index of its path.
    pub path: u32,
}

impl From<&Event> for Subflow {
    fn from(event: &Event) -> Self {
        Self {
            connection: event.connection,
            tuple: event.tuple,
            ifindex: event.ifindex,
            path: event.path,
        }
    }
}

impl From<&abi::Subflow> for Subflow {
    fn from(subflow: &abi::Subflow) -> Self {
        Self {
            connection: subflow.connection,
            tuple: subflow.tuple,
            ifindex: subflow.ifindex,
            path: subflow.path,
        }
    }
}

#[derive(Debug)]
struct Entry {
    subflow: Subflow,
    /// Whether the protocol knows the subflow in its current state.
    reported: bool,
}

#[derive(Debug, Default)]
struct Connection {
    cookies: BTreeSet<u64>,
    /// Whether this host accepted the connection: as its first subflow says,
    /// or, while that is not known, one that joined.
    server: bool,
    first_seen: bool,
    /// When to look for its keys next; `None`: not until a subflow changes.
    due_ns: Option<u64>,
    waits: u32,
}

/// The subflows that are open.
#[derive(Debug, Default)]
pub struct Roster {
    subflows: HashMap<u64, Entry>,
    connections: HashMap<u64, Connection>,
    /// The `due_ns` of each connection that has one, with its key, in order.
    ordered: BTreeSet<(u64, u64)>,
}

impl Roster {
    /// Enters a subflow that is open, or updates it.
    pub fn see(&mut self, cookie: u64, subflow: Subflow, now_ns: u64) {
        if let Some(entry) = self.subflows.get(&cookie)
            && entry.subflow == subflow
            && entry.reported
        {
            return;
        }
        let reported = false;
        self.subflows.insert(cookie, Entry { subflow, reported });
        let connection = self.connections.entry(subflow.connection).or_default();
        connection.cookies.insert(cookie);
        let flags = subflow.tuple.flags;
        let first = flags & subflow_flag::JOIN == 0;
        if first || !connection.first_seen {
            let server = flags & subflow_flag::SERVER != 0;
            connection.first_seen |= first;
            if std::mem::replace(&mut connection.server, server) != server {
                // For the protocol this is a different connection, so report
                // all of its subflows again.
                for known in &connection.cookies {
                    if let Some(entry) = self.subflows.get_mut(known) {
                        entry.reported = false;
                    }
                }
            }
        }
        if connection.due_ns.is_none() {
            connection.waits = 0;
            self.set_due(subflow.connection, Some(now_ns));
        }
    }

    /// Removes a subflow that is gone. Returns whether it was known.
    pub fn close(&mut self, cookie: u64) -> bool {
        let Some(entry) = self.subflows.remove(&cookie) else {
            return false;
        };
        let key = entry.subflow.connection;
        if let Some(connection) = self.connections.get_mut(&key) {
            connection.cookies.remove(&cookie);
            if connection.cookies.is_empty() {
                self.set_due(key, None);
                self.connections.remove(&key);
            }
        }
        true
    }

    /// Returns the cookies of a connection's subflows.
    pub fn cookies(&self, connection: u64) -> Vec<u64> {
        let known = self.connections.get(&connection);
        known.map_or_else(Vec::new, |known| known.cookies.iter().copied().collect())
    }

    /// Returns the cookies of all subflows.
    pub fn all(&self) -> Vec<u64> {
        self.subflows.keys().copied().collect()
    }

    /// Returns the connections whose keys must be looked for now, each with
    /// whether this host accepted it.
    pub fn due(&self, now_ns: u64) -> Vec<(u64, bool)> {
        let due = self.ordered.range(..=(now_ns, u64::MAX));
        due.filter_map(|(_, key)| Some((*key, self.connections.get(key)?.server)))
            .collect()
    }

    /// Returns the time at which [`Roster::due`] has something to return.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.ordered.first().map(|(due_ns, _)| *due_ns)
    }

    /// Sets when to look for the keys of a known connection. Costs log n.
    fn set_due(&mut self, connection: u64, due_ns: Option<u64>) {
        let Some(known) = self.connections.get_mut(&connection) else {
            return;
        };
        if let Some(before_ns) = std::mem::replace(&mut known.due_ns, due_ns) {
            self.ordered.remove(&(before_ns, connection));
        }
        if let Some(due_ns) = due_ns {
            self.ordered.insert((due_ns, connection));
        }
    }

    /// Notes that a connection's keys are known now. Returns its subflows that
    /// the protocol does not know in their current state.
    pub fn tell(&mut self, connection: u64) -> Vec<(u64, Subflow)> {
        self.set_due(connection, None);
        let Some(known) = self.connections.get(&connection) else {
            return Vec::new();
        };
        let mut news = Vec::new();
        for &cookie in &known.cookies {
            if let Some(entry) = self.subflows.get_mut(&cookie)
                && !entry.reported
            {
                entry.reported = true;
                news.push((cookie, entry.subflow));
            }
        }
        news
    }

    /// Makes every connection be looked up, and reported, anew.
    pub fn again(&mut self, now_ns: u64) {
        for entry in self.subflows.values_mut() {
            entry.reported = false;
        }
        let keys: Vec<u64> = self.connections.keys().copied().collect();
        for key in keys {
            if let Some(connection) = self.connections.get_mut(&key) {
                connection.waits = 0;
            }
            self.set_due(key, Some(now_ns));
        }
    }

    /// Notes that the keys are not known yet, and sets the next attempt.
    pub fn wait(&mut self, connection: u64, now_ns: u64) {
        if let Some(known) = self.connections.get_mut(&connection) {
            let delay = FIRST_WAIT_NS << known.waits.min(WAITS);
            let due_ns = (known.waits < WAITS).then_some(now_ns + delay);
            known.waits += 1;
            self.set_due(connection, due_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn subflow(connection: u64, flags: u8) -> Subflow {
        Subflow {
            connection,
            tuple: Tuple {
                flags,
                ..Tuple::default()
            },
            ifindex: 2,
            path: 0,
        }
    }

    #[test]
    fn a_subflow_is_told_once_and_again_when_it_changes() {
        let mut roster = Roster::default();
        roster.see(1, subflow(7, 0), 5);
        assert_eq!(roster.due(4), []);
        assert_eq!(roster.due(5), [(7, false)]);
        assert_eq!(roster.tell(7), [(1, subflow(7, 0))]);
        assert_eq!((roster.due(9), roster.next_due_ns()), (vec![], None));
        roster.see(1, subflow(7, 0), 10);
        assert_eq!(roster.next_due_ns(), None);
        let moved = Subflow {
            ifindex: 3,
            ..subflow(7, 0)
        };
        roster.see(1, moved, 11);
        roster.see(2, subflow(7, subflow_flag::JOIN), 11);
        assert_eq!(roster.tell(7).len(), 2);
    }

    #[test]
    fn keys_are_waited_for_longer_and_longer_then_no_more() {
        let mut roster = Roster::default();
        roster.see(1, subflow(7, 0), 0);
        roster.wait(7, 0);
        assert_eq!(roster.next_due_ns(), Some(2 * MS));
        roster.wait(7, 2 * MS);
        assert_eq!(roster.next_due_ns(), Some(6 * MS));
        let mut now = 6 * MS;
        while let Some(due) = roster.next_due_ns() {
            now = due;
            roster.wait(7, now);
        }
        assert!((4_000 * MS..5_000 * MS).contains(&now), "{now}");
        // The next comparison with the maps tries again.
        roster.see(1, subflow(7, 0), now);
        assert_eq!(roster.next_due_ns(), Some(now));
    }

    #[test]
    fn the_first_subflow_says_who_accepted_the_connection() {
        let mut roster = Roster::default();
        let join = subflow_flag::JOIN;
        roster.see(1, subflow(7, join | subflow_flag::SERVER), 0);
        assert_eq!(roster.due(0), [(7, true)]);
        assert_eq!(roster.tell(7).len(), 1);
        // A client may accept a join.
        roster.see(2, subflow(7, 0), 0);
        assert_eq!(roster.due(0), [(7, false)]);
        assert_eq!(roster.tell(7).len(), 2);
        roster.see(4, subflow(7, join), 0);
        roster.see(3, subflow(7, join | subflow_flag::SERVER), 0);
        assert_eq!(roster.due(0), [(7, false)]);
    }

    #[test]
    fn a_connection_goes_with_its_last_subflow() {
        let mut roster = Roster::default();
        roster.see(1, subflow(7, 0), 0);
        roster.see(2, subflow(7, subflow_flag::JOIN), 0);
        assert_eq!(roster.cookies(7), [1, 2]);
        assert!(roster.close(1) && !roster.close(1));
        assert_eq!(roster.all(), [2]);
        assert!(roster.close(2));
        assert_eq!((roster.cookies(7), roster.due(9)), (vec![], vec![]));
        assert_eq!(roster.tell(7), []);
        roster.wait(7, 0);
    }
}
