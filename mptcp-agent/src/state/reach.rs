//! Finds the paths that are known not to reach anybody.
//!
//! ```text
//!   absent        its device does not exist, or no device has an address of its prefix
//!   no-carrier    the device is down or has no carrier
//!   unanswered    two retransmission timers have run out since anything came back
//!   peer-silent   an agent at the other end no longer answers by this device,
//!                 and still does by another (redundant policy only)
//! ```
//!
//! A path that nothing is sent over is taken to be up as long as its device is:
//! neither TCP nor Multipath TCP sends anything on an idle subflow.
//!
//! Pure.

use std::collections::BTreeSet;

use mptcp_common::abi::PathStats;

use crate::net::devices::{Device, Present};
use crate::policy::selector::Selector;

/// The number of retransmission timeouts without an answer that make a path
/// unanswered. The first may be a loss.
const TIMEOUTS: u64 = 2;

/// Why a path is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Down {
    /// It has no device.
    Absent,
    /// Its device has no carrier.
    NoCarrier,
    /// Nothing that is sent over it is answered.
    Unanswered,
    /// The agents at the other ends do not answer over it.
    PeerSilent,
}

impl Down {
    /// Returns the name that the JSON has.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::NoCarrier => "no-carrier",
            Self::Unanswered => "unanswered",
            Self::PeerSilent => "peer-silent",
        }
    }
}

/// The signs of life from each path.
#[derive(Debug, Default)]
pub struct Reach {
    paths: Vec<Heard>,
    /// The ifindex of each device that no agent at the other ends answers by,
    /// though it answers by another.
    pub silent: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    last: PathStats,
    /// Retransmission timeouts since something came back.
    timeouts: u64,
}

impl Reach {
    /// Takes the totals of all paths, by index.
    pub fn push(&mut self, stats: &[PathStats]) {
        self.paths.resize(stats.len(), Heard::default());
        for (heard, stats) in self.paths.iter_mut().zip(stats) {
            heard.push(stats);
        }
    }

    /// Forgets what was heard of a path, because its index went to another.
    pub fn forget(&mut self, path: u32) {
        if let Some(heard) = self.paths.get_mut(path as usize) {
            *heard = Heard::default();
        }
    }

    /// Returns why the path with this index and label is down, if it is.
    /// `device` is its device, if it is named by one.
    pub fn down(
        &self,
        index: u32,
        label: &str,
        device: Option<&str>,
        present: &Present,
    ) -> Option<Down> {
        let prefix = match label.parse() {
            Ok(Selector::Prefix(net)) => Some(net),
            _ => None,
        };
        let is_own = |one: &Device| match (device, prefix) {
            (Some(name), _) => one.name == name,
            (None, Some(net)) => one.addresses.iter().any(|address| net.contains(address)),
            (None, None) => false,
        };
        let own: Vec<(&u32, &Device)> = present.iter().filter(|(_, one)| is_own(one)).collect();
        let has_device = device.is_some() || prefix.is_some();
        if has_device && own.is_empty() {
            return Some(Down::Absent);
        }
        if has_device && !own.iter().any(|(_, one)| one.carrier) {
            return Some(Down::NoCarrier);
        }
        let heard = self.paths.get(index as usize);
        if heard.is_some_and(|heard| heard.timeouts >= TIMEOUTS) {
            return Some(Down::Unanswered);
        }
        let silent = !own.is_empty() && own.iter().all(|(index, _)| self.silent.contains(index));
        silent.then_some(Down::PeerSilent)
    }
}

impl Heard {
    fn push(&mut self, now: &PathStats) {
        let samples = |stats: &PathStats| stats.rtt.iter().sum::<u64>();
        let answered = now.acked_bytes != self.last.acked_bytes
            || now.received_bytes != self.last.received_bytes
            || samples(now) != samples(&self.last);
        let timeouts = now.timeouts.saturating_sub(self.last.timeouts);
        self.timeouts = match answered || now.live == 0 {
            true => 0,
            false => self.timeouts.saturating_add(timeouts),
        };
        self.last = *now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present() -> Present {
        let device = |name: &str, last: u8, carrier| Device {
            name: name.to_owned(),
            carrier,
            addresses: vec![[10, 0, last, 1].into()],
            ..Device::default()
        };
        Present::from([(1, device("eth0", 1, true)), (2, device("wwan0", 2, false))])
    }

    fn down(reach: &Reach, label: &str, device: Option<&str>) -> Option<Down> {
        reach.down(0, label, device, &present())
    }

    #[test]
    fn a_path_is_as_there_as_its_device() {
        let reach = Reach::default();
        for (label, device, expected) in [
            ("eth0", Some("eth0"), None),
            ("wwan0", Some("wwan0"), Some(Down::NoCarrier)),
            ("usb0", Some("usb0"), Some(Down::Absent)),
            ("10.0.1.0/24", None, None),
            ("10.0.2.0/24", None, Some(Down::NoCarrier)),
            ("10.0.0.0/16", None, None),
            ("10.9.0.0/16", None, Some(Down::Absent)),
            // Nothing is known of these before something is sent.
            ("id:1", None, None),
            ("remote:10.9.0.0/16", None, None),
            ("unknown", None, None),
        ] {
            assert_eq!(down(&reach, label, device), expected, "{label}");
        }
    }

    #[test]
    fn timeouts_without_an_answer_make_a_path_unanswered() {
        let mut reach = Reach::default();
        let mut stats = PathStats {
            live: 1,
            acked_bytes: 100,
            timeouts: 7,
            ..PathStats::default()
        };
        let mut push = |change: fn(&mut PathStats)| {
            change(&mut stats);
            reach.push(&[stats]);
            down(&reach, "id:1", None)
        };
        assert_eq!(push(|_| {}), None);
        assert_eq!(push(|now| now.timeouts += 1), None);
        assert_eq!(push(|now| now.timeouts += 1), Some(Down::Unanswered));
        assert_eq!(push(|_| {}), Some(Down::Unanswered));
        assert_eq!(push(|now| now.received_bytes += 1), None);
        // Some subflows time out while others get through.
        let busy = |now: &mut PathStats| (now.timeouts, now.acked_bytes) = (99, 200);
        assert_eq!(push(busy), None);
        assert_eq!(push(|now| now.timeouts += 5), Some(Down::Unanswered));
        assert_eq!(push(|now| now.live = 0), None);
        assert_eq!(
            push(|now| (now.live, now.timeouts) = (1, 200)),
            Some(Down::Unanswered)
        );
        reach.forget(0);
        assert_eq!(down(&reach, "id:1", None), None);
    }

    #[test]
    fn silent_peers_are_the_last_sign() {
        let mut reach = Reach {
            silent: BTreeSet::from([1, 2]),
            ..Reach::default()
        };
        assert_eq!(down(&reach, "eth0", Some("eth0")), Some(Down::PeerSilent));
        assert_eq!(down(&reach, "wwan0", Some("wwan0")), Some(Down::NoCarrier));
        assert_eq!(down(&reach, "id:1", None), None);
        reach.silent.clear();
        assert_eq!(down(&reach, "eth0", Some("eth0")), None);
    }
}
