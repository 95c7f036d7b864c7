//! Says which rule a connection would match, and why the others do not.

use std::fmt::Display;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use mptcp_api::schema::Side;

use super::{DEFAULT_NAME, Rule, Rules};

/// A connection that might open; `None` is not known, and matches no rule that
/// asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// The far end's address.
    pub dst: Option<IpAddr>,
    /// This host's address.
    pub src: Option<IpAddr>,
    /// The far end's port.
    pub dport: Option<u16>,
    /// This host's port.
    pub lport: Option<u16>,
    /// The path of the socket's cgroup.
    pub cgroup: Option<String>,
    /// The owner of the socket.
    pub uid: Option<u32>,
    /// The socket's mark.
    pub fwmark: Option<u32>,
    /// The code point, 0 to 63.
    pub dscp: Option<u32>,
    /// The end that this host is.
    pub side: Option<Side>,
    /// The congestion control.
    pub congestion: Option<String>,
}

/// The policy that a connection gets, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained<'a> {
    /// The rules before the one that matches, each with the reasons why it does
    /// not.
    pub passed: Vec<(&'a Rule, Vec<String>)>,
    /// The first rule that matches.
    pub rule: Option<&'a Rule>,
    /// The name of the policy that the connection gets.
    pub policy: &'a str,
}

/// Returns which rule `candidate` would match.
pub fn explain<'a>(rules: &'a Rules, candidate: &Candidate) -> Explained<'a> {
    let mut passed = Vec::new();
    for rule in rules.rules() {
        let reasons = reasons(rule, candidate);
        if reasons.is_empty() {
            return Explained {
                passed,
                rule: Some(rule),
                policy: rules.name(rule.policy),
            };
        }
        passed.push((rule, reasons));
    }
    Explained {
        passed,
        rule: None,
        policy: DEFAULT_NAME,
    }
}

/// Returns why a connection does not match a rule: one reason for each criterion
/// that it does not meet, and none if it matches.
fn reasons(rule: &Rule, candidate: &Candidate) -> Vec<String> {
    let mut reasons = Reasons(Vec::new());
    let given = &rule.given;
    let in_nets = |nets: &[IpNet], address: IpAddr| {
        let address = address.to_canonical();
        nets.iter().any(|net| net.contains(&address))
    };
    let in_ranges =
        |ranges: &[RangeInclusive<u32>], number| ranges.iter().any(|range| range.contains(&number));
    reasons.check("dst", &given.dst, candidate.dst, |it| {
        in_nets(&rule.dst, *it)
    });
    reasons.check("src", &given.src, candidate.src, |it| {
        in_nets(&rule.src, *it)
    });
    reasons.check("dport", &given.dport, candidate.dport, |it| {
        in_ranges(&rule.dport, u32::from(*it))
    });
    reasons.check("lport", &given.lport, candidate.lport, |it| {
        in_ranges(&rule.lport, u32::from(*it))
    });
    reasons.check(
        "cgroup",
        given.cgroup.as_slice(),
        candidate.cgroup.as_ref(),
        |it| given.cgroup.iter().any(|above| holds(above, it)),
    );
    reasons.check("uid", &given.uid, candidate.uid, |it| {
        in_ranges(&rule.uid, *it)
    });
    reasons.check("fwmark", given.fwmark.as_slice(), candidate.fwmark, |it| {
        rule.mark.is_some_and(|(mark, mask)| it & mask == mark)
    });
    reasons.check("dscp", given.dscp.as_slice(), candidate.dscp, |it| {
        rule.dscp == Some(*it)
    });
    let side = candidate.side.map(Side::name);
    reasons.check("side", given.side.as_slice(), side, |it| {
        rule.side.map(Side::name) == Some(*it)
    });
    let congestion = candidate.congestion.as_ref();
    reasons.check(
        "congestion",
        given.congestion.as_slice(),
        congestion,
        |it| given.congestion.as_ref() == Some(it),
    );
    reasons.0
}

/// Returns whether a cgroup is `above`, or below it.
fn holds(above: &str, cgroup: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    parts(cgroup).starts_with(&parts(above))
}

struct Reasons(Vec<String>);

impl Reasons {
    /// Adds a reason if the rule asks for something (`wanted`, as it was written)
    /// that `it` is not.
    fn check<W: Display, T: Display>(
        &mut self,
        key: &str,
        wanted: &[W],
        it: Option<T>,
        meets: impl Fn(&T) -> bool,
    ) {
        if wanted.is_empty() || it.as_ref().is_some_and(meets) {
            return;
        }
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let wanted = wanted.join(", ");
        self.0.push(match it {
            Some(it) => format!("{key} is {it}, not {wanted}"),
            None => format!("{key} is not known, and should be {wanted}"),
        });
    }
}
