//! Checks one rule, and encodes it for the programs.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use mptcp_api::rule::{self as api, Number};
use mptcp_api::schema::Side;
use mptcp_common::abi::rule::{MAX_ELEMENTS, Prefix, Range, criterion};
use mptcp_common::abi::{self, side};
use mptcp_common::address;
use mptcp_common::rule::name;

use super::dscp;
use crate::policy::selector::Selector;

/// The longest name of a congestion control, bytes (`TCP_CA_NAME_MAX`, with a
/// zero at the end).
const LONGEST_CONGESTION: usize = 15;

/// A rule whose values are checked. Of an empty list, and of `None`, nothing is
/// asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The rule as it was written.
    pub given: api::Rule,
    /// Its place, the first one being 1.
    pub number: usize,
    /// Index in map `POLICIES`.
    pub policy: u32,
    pub(super) dst: Vec<IpNet>,
    pub(super) src: Vec<IpNet>,
    pub(super) dport: Vec<RangeInclusive<u32>>,
    pub(super) lport: Vec<RangeInclusive<u32>>,
    pub(super) uid: Vec<RangeInclusive<u32>>,
    /// Value and mask.
    pub(super) mark: Option<(u32, u32)>,
    pub(super) dscp: Option<u32>,
    pub(super) side: Option<Side>,
}

/// A key, and what is wrong with its value.
type Wrong = (&'static str, String);

impl Rule {
    /// Checks what someone has written. The policy's index is looked up already.
    ///
    /// # Errors
    /// A value makes no sense.
    pub(super) fn check(given: &api::Rule, number: usize, policy: u32) -> Result<Self, Wrong> {
        let rule = Self {
            given: given.clone(),
            number,
            policy,
            dst: list("dst", &given.dst, |text| network(text))?,
            src: list("src", &given.src, |text| network(text))?,
            dport: list("dport", &given.dport, |port| range(port, 1, 65_535))?,
            lport: list("lport", &given.lport, |port| range(port, 1, 65_535))?,
            uid: list("uid", &given.uid, |uid| range(uid, 0, u32::MAX - 1))?,
            mark: one("fwmark", given.fwmark.as_ref(), mark)?,
            dscp: one("dscp", given.dscp.as_ref(), code_point)?,
            side: one("side", given.side.as_ref(), |text| side_named(text))?,
        };
        one("cgroup", given.cgroup.as_ref(), |text| check_cgroup(text))?;
        one("congestion", given.congestion.as_ref(), |text| {
            check_congestion(text)
        })?;
        Ok(rule)
    }

    /// Returns what the rule is called where it is shown.
    pub fn name(&self) -> String {
        let name = self.given.name.clone();
        name.unwrap_or_else(|| self.number.to_string())
    }

    /// Returns the cgroup that it asks about.
    pub fn cgroup(&self) -> Option<&str> {
        self.given.cgroup.as_deref()
    }

    /// Returns the congestion control that it asks about.
    pub(super) fn congestion(&self) -> Option<&str> {
        self.given.congestion.as_deref()
    }

    /// Returns what the programs are told. `cgroups` are the ids of those that
    /// exist.
    pub(super) fn to_kernel(&self, cgroups: &BTreeMap<String, u64>) -> abi::rule::Rule {
        let cgroup = self.cgroup().and_then(|path| cgroups.get(path));
        let (mark, mark_mask) = self.mark.unwrap_or_default();
        let asked = [
            (criterion::DST, !self.dst.is_empty()),
            (criterion::SRC, !self.src.is_empty()),
            (criterion::DPORT, !self.dport.is_empty()),
            (criterion::LPORT, !self.lport.is_empty()),
            (criterion::CGROUP, self.cgroup().is_some()),
            (criterion::UID, !self.uid.is_empty()),
            (criterion::FWMARK, self.mark.is_some()),
            (criterion::DSCP, self.dscp.is_some()),
            (criterion::SIDE, self.side.is_some()),
            (criterion::CONGESTION, self.congestion().is_some()),
        ];
        let asked = asked.into_iter().filter(|(_, asked)| *asked);
        abi::rule::Rule {
            asked: asked.map(|(bit, _)| bit).sum(),
            policy: self.policy,
            mark,
            mark_mask,
            dscp: self.dscp.unwrap_or_default(),
            side: match self.side {
                Some(Side::Server) => side::SERVER.into(),
                Some(Side::Client) | None => side::CLIENT.into(),
            },
            cgroup: cgroup.copied().unwrap_or(abi::rule::Rule::NO_CGROUP),
            congestion: name(self.congestion().unwrap_or_default().as_bytes()),
            dst: elements(&self.dst, prefix),
            src: elements(&self.src, prefix),
            dport: elements(&self.dport, to_range),
            lport: elements(&self.lport, to_range),
            uid: elements(&self.uid, to_range),
        }
    }
}

fn elements<A, B: Copy + Default>(list: &[A], to: impl Fn(&A) -> B) -> [B; MAX_ELEMENTS] {
    let mut all = [B::default(); MAX_ELEMENTS];
    for (place, element) in all.iter_mut().zip(list) {
        *place = to(element);
    }
    all
}

fn prefix(net: &IpNet) -> Prefix {
    let address = address::octets(net.network());
    Prefix::new(address, net.network().is_ipv4(), net.prefix_len())
}

fn to_range(range: &RangeInclusive<u32>) -> Range {
    Range::new(*range.start(), *range.end())
}

/// Checks each element of a list.
fn list<A: Display, B>(
    key: &'static str,
    given: &[A],
    check: impl Fn(&A) -> Result<B, String>,
) -> Result<Vec<B>, Wrong> {
    if given.len() > MAX_ELEMENTS {
        let count = given.len();
        return Err((
            key,
            format!(
                "{count} elements are too many: {MAX_ELEMENTS} fit; another rule can have more"
            ),
        ));
    }
    let checked: Result<Vec<B>, String> = given.iter().map(check).collect();
    checked.map_err(|why| (key, why))
}

/// Checks a value, if there is one.
fn one<A, B>(
    key: &'static str,
    given: Option<&A>,
    check: impl Fn(&A) -> Result<B, String>,
) -> Result<Option<B>, Wrong> {
    let checked = given.map(check).transpose();
    checked.map_err(|why| (key, why))
}

fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    // Only a selector that has a slash can be meant as a prefix.
    match text.contains('/').then(|| text.parse()) {
        Some(Ok(Selector::Prefix(net))) => Ok(net),
        Some(Err(why)) => Err(why),
        _ => Err(format!(
            "`{}` is neither an address nor a prefix: write it as 192.0.2.1, 10.0.0.0/8 or \
             2001:db8::/32",
            text.escape_debug()
        )),
    }
}

/// Reads `8000`, or `8000-8099`.
fn range(given: &Number, least: u32, largest: u32) -> Result<RangeInclusive<u32>, String> {
    let wrong = || {
        format!(
            "`{}` is neither a number from {least} to {largest} nor a range such as 8000-8099",
            given.to_string().escape_debug()
        )
    };
    let (first, last) = match given {
        Number::Of(number) => (*number, *number),
        Number::Text(text) => {
            let (first, last) = text.split_once('-').ok_or_else(wrong)?;
            (
                decimal(first.trim()).ok_or_else(wrong)?,
                decimal(last.trim()).ok_or_else(wrong)?,
            )
        }
    };
    if first > last {
        return Err(format!("`{given}` ends before it begins"));
    }
    if first < least || last > largest {
        return Err(wrong());
    }
    Ok(first..=last)
}

/// Reads digits only: `u32::from_str` would also take `+2`.
fn decimal(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn decimal_or_hex(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).ok()
        }
        Some(_) => None,
        None => decimal(text),
    }
}

/// Reads `16`, `0x10`, or `0x10/0xff`.
pub(super) fn mark(given: &Number) -> Result<(u32, u32), String> {
    let text = given.to_string();
    let wrong = || {
        format!(
            "`{}` is no mark: write it as 16, 0x10, or with a mask as 0x10/0xff",
            text.escape_debug()
        )
    };
    let (value, mask) = match text.split_once('/') {
        Some((value, mask)) => (value, decimal_or_hex(mask).ok_or_else(wrong)?),
        None => (text.as_str(), u32::MAX),
    };
    let value = decimal_or_hex(value).ok_or_else(wrong)?;
    if value & !mask != 0 {
        return Err(format!(
            "`{text}` matches nothing: the value has bits that its mask does not have"
        ));
    }
    Ok((value, mask))
}

pub(super) fn code_point(given: &Number) -> Result<u32, String> {
    let code = match given {
        Number::Of(number) => Some(*number).filter(|number| *number < 64),
        Number::Text(text) => dscp::named(text),
    };
    code.ok_or_else(|| {
        format!(
            "`{}` is no code point: expected 0 to 63, or a name such as ef, cs1, af41",
            given.to_string().escape_debug()
        )
    })
}

fn side_named(text: &str) -> Result<Side, String> {
    let found = [Side::Client, Side::Server]
        .into_iter()
        .find(|side| side.name() == text);
    found.ok_or_else(|| {
        format!(
            "`{}` is no side: expected client or server",
            text.escape_debug()
        )
    })
}

/// Checks a cgroup's path. Whether there is such a cgroup is another matter: it
/// may come later.
fn check_cgroup(text: &str) -> Result<(), String> {
    let shown = || text.chars().take(64).collect::<String>();
    let parts = || text.split('/');
    if !text.starts_with('/') {
        return Err(format!(
            "`{}` is no path of a cgroup: it begins with / at the root of cgroup2, as in \
             /system.slice/backup.service",
            shown().escape_debug()
        ));
    }
    let climbs = parts().any(|part| part == "." || part == "..");
    if climbs || text.len() > 4095 || text.contains(char::is_control) {
        return Err(format!(
            "`{}` cannot be the path of a cgroup",
            shown().escape_debug()
        ));
    }
    Ok(())
}

fn check_congestion(text: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_graphic();
    if text.is_empty() || text.len() > LONGEST_CONGESTION || !text.bytes().all(fits) {
        let shown: String = text.chars().take(64).collect();
        return Err(format!(
            "`{}` is no congestion control: expected a name such as bbr or cubic, \
             {LONGEST_CONGESTION} bytes at most",
            shown.escape_debug()
        ));
    }
    Ok(())
}
