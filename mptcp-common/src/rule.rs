//! Compares a rule with what is known of a connection. Runs in the kernel when
//! a connection opens and, unchanged, in the unit tests.
//!
//! ```text
//!   a connection matches a rule  <=>  for each criterion that the rule asks about:
//!     dst, src, dport, lport, uid     one element of the list holds the value
//!     cgroup                          it is that of the socket, or above it
//!     fwmark                          mark & mask is equal
//!     dscp, side, congestion          equal
//! ```

use crate::abi::rule::{Facts, Prefix, Range, Rule, criterion};
use crate::word::Word;

/// The number of a family, as in [`Prefix::family`].
const IPV4: u64 = 4;
const IPV6: u64 = 6;

impl Prefix {
    /// Returns the prefix of `bits` bits, of 32 for IPv4 or of 128 for IPv6, at
    /// `address`, which is in the form of [`crate::address::octets`].
    #[must_use]
    pub fn new(address: [u8; 16], is_ipv4: bool, bits: u8) -> Self {
        let (family, before) = if is_ipv4 { (IPV4, 96) } else { (IPV6, 0) };
        let bits = (u32::from(bits) + before).min(128);
        let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        let address = u128::from_be_bytes(address) & mask;
        Self {
            address: halves(address),
            mask: halves(mask),
            family,
        }
    }

    /// Returns whether the address of this family is among those of the prefix.
    #[inline(always)]
    #[must_use]
    fn holds(&self, address: [u64; 2], family: u64) -> bool {
        let high = (address[0] ^ self.address[0]) & self.mask[0];
        let low = (address[1] ^ self.address[1]) & self.mask[1];
        high | low | (family ^ self.family) == 0
    }
}

impl Range {
    /// Returns the numbers from `first` to `last`, of which there is one at
    /// least.
    #[must_use]
    pub fn new(first: u32, last: u32) -> Self {
        let (first, last) = (u64::from(first), u64::from(last));
        Self {
            first,
            count: (last + 1).saturating_sub(first),
        }
    }

    #[inline(always)]
    #[must_use]
    fn holds(&self, number: u64) -> bool {
        number.wrapping_sub(self.first) < self.count
    }
}

fn halves(number: u128) -> [u64; 2] {
    [(number >> 64) as u64, number as u64]
}

/// Returns a name of up to sixteen bytes as two numbers.
#[must_use]
pub fn name(text: &[u8]) -> [u64; 2] {
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().zip(text) {
        *place = *byte;
    }
    let number = u128::from_le_bytes(bytes);
    [number as u64, (number >> 64) as u64]
}

#[inline(always)]
fn address(words: &[Word; 2]) -> [u64; 2] {
    [words[0].get(), words[1].get()]
}

/// Returns 4 for `::ffff:a.b.c.d`, else 6.
#[inline(always)]
fn family(address: [u64; 2]) -> u64 {
    if address[0] == 0 && address[1] >> 32 == 0xffff {
        IPV4
    } else {
        IPV6
    }
}

#[inline(always)]
fn any_prefix(list: &[Prefix], address: [u64; 2]) -> bool {
    let family = family(address);
    for prefix in list {
        if prefix.holds(address, family) {
            return true;
        }
    }
    false
}

#[inline(always)]
fn any_range(list: &[Range], number: u64) -> bool {
    for range in list {
        if range.holds(number) {
            return true;
        }
    }
    false
}

#[inline(always)]
fn any_cgroup(facts: &Facts, id: u64) -> bool {
    for cgroup in &facts.cgroups {
        if cgroup.get() == id {
            return true;
        }
    }
    false
}

impl Rule {
    /// Returns whether a connection of which `facts` are known matches.
    #[inline(always)]
    #[must_use]
    pub fn matches(&self, facts: &Facts) -> bool {
        self.matches_addresses(facts) && self.matches_numbers(facts)
    }

    /// The part of [`Rule::matches`] about addresses.
    #[inline(always)]
    #[must_use]
    pub fn matches_addresses(&self, facts: &Facts) -> bool {
        let asked = self.asked;
        if asked & criterion::DST != 0 && !any_prefix(&self.dst, address(&facts.remote)) {
            return false;
        }
        asked & criterion::SRC == 0 || any_prefix(&self.src, address(&facts.local))
    }

    /// The part of [`Rule::matches`] about everything else.
    #[inline(always)]
    #[must_use]
    pub fn matches_numbers(&self, facts: &Facts) -> bool {
        let asked = self.asked;
        if asked & criterion::DPORT != 0 && !any_range(&self.dport, facts.remote_port.get()) {
            return false;
        }
        if asked & criterion::LPORT != 0 && !any_range(&self.lport, facts.local_port.get()) {
            return false;
        }
        if asked & criterion::UID != 0 && !any_range(&self.uid, facts.uid.get()) {
            return false;
        }
        if asked & criterion::CGROUP != 0 && !any_cgroup(facts, self.cgroup) {
            return false;
        }
        let mark = facts.mark.get() & u64::from(self.mark_mask);
        if asked & criterion::FWMARK != 0 && mark != u64::from(self.mark) {
            return false;
        }
        let [to_v4, to_v6] = &facts.dscp;
        let sent = match family(address(&facts.remote)) {
            IPV4 => to_v4,
            _ => to_v6,
        };
        if asked & criterion::DSCP != 0 && sent.get() != u64::from(self.dscp) {
            return false;
        }
        if asked & criterion::SIDE != 0 && facts.side.get() != u64::from(self.side) {
            return false;
        }
        let [low, high] = self.congestion;
        asked & criterion::CONGESTION == 0
            || facts.congestion[0].get() == low && facts.congestion[1].get() == high
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::mapped_v4;

    fn at(remote: [u8; 16]) -> Facts {
        let facts = Facts::default();
        let [high, low] = halves(u128::from_be_bytes(remote));
        facts.remote[0].set(high);
        facts.remote[1].set(low);
        facts
    }

    fn to(prefix: Prefix) -> Rule {
        let mut rule = Rule {
            asked: criterion::DST,
            ..Rule::default()
        };
        rule.dst[3] = prefix;
        rule
    }

    #[test]
    fn a_rule_that_asks_nothing_matches_everything() {
        assert!(Rule::default().matches(&Facts::default()));
    }

    #[test]
    fn a_prefix_holds_addresses_of_its_family_only() {
        let v4 = mapped_v4([192, 0, 2, 77]);
        let net = |bits| to(Prefix::new(mapped_v4([192, 0, 2, 1]), true, bits));
        assert!(net(24).matches(&at(v4)));
        assert!(!net(32).matches(&at(v4)));
        assert!(net(0).matches(&at(v4)));
        let all_v6 = to(Prefix::new([0; 16], false, 0));
        assert!(!all_v6.matches(&at(v4)));
        assert!(all_v6.matches(&at([0x20; 16])));
        assert!(!net(0).matches(&at([0x20; 16])));
        assert!(to(Prefix::new([0x20; 16], false, 65)).matches(&at([0x20; 16])));
        // A list without elements, which the agent never asks about.
        let mut none = to(Prefix::default());
        none.dst = [Prefix::default(); 8];
        assert!(!none.matches(&at(v4)));
    }

    #[test]
    fn a_range_holds_both_its_ends() {
        let range = Range::new(8000, 8099);
        assert!(range.holds(8000) && range.holds(8099));
        assert!(!range.holds(7999) && !range.holds(8100));
        assert!(Range::new(0, u32::MAX).holds(u64::from(u32::MAX)));
        assert!(!Range::default().holds(0));
    }

    #[test]
    fn a_cgroup_holds_what_is_below_it() {
        let facts = Facts::default();
        for (word, id) in facts.cgroups.iter().zip([30, 20, 1]) {
            word.set(id);
        }
        let below = |cgroup| Rule {
            asked: criterion::CGROUP,
            cgroup,
            ..Rule::default()
        };
        assert!(below(20).matches(&facts) && below(30).matches(&facts));
        assert!(!below(21).matches(&facts));
        assert!(!below(Rule::NO_CGROUP).matches(&facts));
    }

    #[test]
    fn every_criterion_counts() {
        let facts = Facts::default();
        facts.mark.set(0x1f);
        facts.dscp[1].set(46);
        facts.side.set(1);
        facts.uid.set(1000);
        let congestion = name(b"bbr");
        facts.congestion[0].set(congestion[0]);
        let mut good = Rule {
            asked: !(criterion::DST | criterion::SRC | criterion::CGROUP),
            mark: 0x10,
            mark_mask: 0xf0,
            dscp: 46,
            side: 1,
            congestion,
            ..Rule::default()
        };
        good.dport[0] = Range::new(0, 0);
        good.lport[7] = Range::new(0, 0);
        good.uid[1] = Range::new(1000, 1000);
        assert!(good.matches(&facts));
        let spoil: [fn(&mut Rule); 7] = [
            |rule| rule.mark = 0x20,
            |rule| rule.dscp = 0,
            |rule| rule.side = 0,
            |rule| rule.congestion = name(b"bbr2"),
            |rule| rule.dport[0] = Range::new(1, 2),
            |rule| rule.lport[7] = Range::default(),
            |rule| rule.uid[1] = Range::new(0, 999),
        ];
        for spoil in spoil {
            let mut rule = good;
            spoil(&mut rule);
            assert!(!rule.matches(&facts), "{rule:?}");
        }
    }
}
