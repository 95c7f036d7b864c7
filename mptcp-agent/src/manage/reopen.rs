//! When to open the subflows of an endpoint anew.
//!
//! The kernel tries an endpoint once for each connection. What was tried in vain,
//! or has died since, it does not try again, unless the endpoint is removed and
//! added. But that closes the living subflows of the endpoint, those of other
//! connections among them. So it is done only for an endpoint whose address no
//! subflow has at all, while there are connections: 3 s after the last one has
//! gone, then after 6 s, and so on up to 5 minutes, until one is there again.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long a path has no subflow before its endpoint is made anew.
const FIRST: Duration = Duration::from_secs(3);

/// The longest time between two tries.
const LONGEST: Duration = Duration::from_secs(300);

/// The endpoints whose path has no subflow.
#[derive(Debug, Default)]
pub struct Reopening {
    waiting: BTreeMap<IpAddr, Wait>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    due: Instant,
    next: Duration,
}

impl Reopening {
    /// Takes note of the addresses whose path has no subflow, and returns those
    /// whose time has come.
    pub fn due(&mut self, unused: &BTreeSet<IpAddr>, now: Instant) -> BTreeSet<IpAddr> {
        self.waiting.retain(|address, _| unused.contains(address));
        for &address in unused {
            self.waiting.entry(address).or_insert(Wait {
                due: now + FIRST,
                next: FIRST * 2,
            });
        }
        let mut due = BTreeSet::new();
        for (address, wait) in &mut self.waiting {
            if wait.due <= now {
                wait.due = now + wait.next;
                wait.next = (wait.next * 2).min(LONGEST);
                due.insert(*address);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_become_rarer_until_a_subflow_is_there() {
        let address: IpAddr = [10, 0, 0, 1].into();
        let unused = BTreeSet::from([address]);
        let start = Instant::now();
        let mut reopening = Reopening::default();
        let mut tries = Vec::new();
        for second in 0..1000 {
            let now = start + Duration::from_secs(second);
            if !reopening.due(&unused, now).is_empty() {
                tries.push(second);
            }
        }
        assert_eq!(tries[..5], [3, 9, 21, 45, 93]);
        let gaps: Vec<u64> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|&gap| gap <= 300), "{gaps:?}");
        // A subflow was there for a moment.
        let now = start + Duration::from_secs(1000);
        assert!(reopening.due(&BTreeSet::new(), now).is_empty());
        assert!(reopening.due(&unused, now).is_empty());
        assert_eq!(reopening.due(&unused, now + FIRST), unused);
    }
}
