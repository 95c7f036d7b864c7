//! Checks sysctls of the network namespace.

use std::io::{self, ErrorKind};

use super::finding::{Finding, ok, problem, unknown, warning};
use super::sight::Sight;
use crate::host::sysctl;

const IPV6: &str = "net/ipv6/conf/all/disable_ipv6";
const TIMESTAMPS: &str = "net/ipv4/tcp_timestamps";
const SCHEDULER: &str = "net/mptcp/scheduler";
const LIBERAL: &str = "net/netfilter/nf_conntrack_tcp_be_liberal";
const TRACKED: &str = "net/netfilter/nf_conntrack_count";

/// Runs the checks.
pub fn checks(sight: &Sight) -> Vec<Finding> {
    let v6_endpoint = sight.endpoints().any(|one| one.address.is_ipv6());
    let redundant = sight.is_redundant();
    let tracked = sysctl::read(TRACKED)
        .ok()
        .and_then(|text| text.parse().ok());
    vec![
        ipv6(sysctl::read(IPV6), v6_endpoint),
        timestamps(sysctl::read(TIMESTAMPS), redundant == Some(true)),
        scheduler(sysctl::read(SCHEDULER)),
        conntrack(sysctl::read(LIBERAL), tracked.unwrap_or(0), redundant),
    ]
}

fn ipv6(disabled: io::Result<String>, endpoint: bool) -> Finding {
    const NAME: &str = "ipv6";
    let mend = sysctl::command(IPV6, "0");
    match disabled.as_deref() {
        Ok("0") => ok(NAME, "IPv6 is there"),
        Ok(_) if endpoint => problem(
            NAME,
            "net.ipv6.conf.all.disable_ipv6 is 1, and an endpoint has an IPv6 address",
            mend,
        ),
        Ok(_) => warning(
            NAME,
            "net.ipv6.conf.all.disable_ipv6 is 1: no subflow uses an IPv6 path",
            mend,
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => warning(
            NAME,
            "the kernel has no IPv6: no subflow uses an IPv6 path",
            "# boot without ipv6.disable=1, with a kernel that is built with CONFIG_IPV6",
        ),
        Err(error) => unknown(NAME, format!("cannot read net.ipv6: {error}")),
    }
}

fn timestamps(value: io::Result<String>, redundant: bool) -> Finding {
    const NAME: &str = "timestamps";
    match value.as_deref() {
        Ok("0") => {
            let seen = "net.ipv4.tcp_timestamps is 0: round trips are measured worse, and the \
                        redundant policy copies nothing";
            let mend = sysctl::command(TIMESTAMPS, "1");
            match redundant {
                true => problem(NAME, seen, mend),
                false => warning(NAME, seen, mend),
            }
        }
        Ok(value) => ok(NAME, format!("net.ipv4.tcp_timestamps is {value}")),
        Err(error) => unknown(
            NAME,
            format!("cannot read net.ipv4.tcp_timestamps: {error}"),
        ),
    }
}

fn scheduler(value: io::Result<String>) -> Finding {
    const NAME: &str = "mptcp-scheduler";
    match value.as_deref() {
        Ok("default") => ok(NAME, "net.mptcp.scheduler is `default`"),
        Ok(other) => problem(
            NAME,
            format!(
                "net.mptcp.scheduler is `{other}`: caps steer the kernel's default scheduler only"
            ),
            sysctl::command(SCHEDULER, "default"),
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            ok(NAME, "the kernel has its default scheduler only")
        }
        Err(error) => unknown(NAME, format!("cannot read net.mptcp.scheduler: {error}")),
    }
}

/// `tracked` is how many connections are tracked in this namespace; `redundant`
/// whether the agent that runs has that policy.
fn conntrack(liberal: io::Result<String>, tracked: u64, redundant: Option<bool>) -> Finding {
    const NAME: &str = "conntrack-liberal";
    match liberal.as_deref() {
        Ok("0") if tracked == 0 => ok(NAME, "nothing is tracked in this network namespace"),
        Ok("0") if redundant == Some(false) => ok(
            NAME,
            "nf_conntrack_tcp_be_liberal is 0, which concerns the redundant policy only",
        ),
        Ok("0") => warning(
            NAME,
            format!(
                "{tracked} connections are tracked and nf_conntrack_tcp_be_liberal is 0: under the \
                 redundant policy, a subflow that is back after an outage counts as invalid"
            ),
            sysctl::command(LIBERAL, "1"),
        ),
        Ok(value) => ok(NAME, format!("nf_conntrack_tcp_be_liberal is {value}")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            ok(NAME, "no connection tracking is loaded")
        }
        Err(error) => unknown(
            NAME,
            format!("cannot read nf_conntrack_tcp_be_liberal: {error}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn is(value: &str) -> io::Result<String> {
        Ok(value.to_owned())
    }

    fn missing() -> io::Result<String> {
        Err(ErrorKind::NotFound.into())
    }

    #[test]
    fn ipv6_that_an_endpoint_needs_is_a_problem() {
        assert_eq!(ipv6(is("0"), true).result, Verdict::Ok);
        assert_eq!(ipv6(is("1"), false).result, Verdict::Warning);
        assert_eq!(ipv6(is("1"), true).result, Verdict::Problem);
        assert_eq!(ipv6(missing(), false).result, Verdict::Warning);
    }

    #[test]
    fn timestamps_matter_more_to_copies() {
        assert_eq!(timestamps(is("1"), true).result, Verdict::Ok);
        assert_eq!(timestamps(is("2"), true).result, Verdict::Ok);
        assert_eq!(timestamps(is("0"), false).result, Verdict::Warning);
        assert_eq!(timestamps(is("0"), true).result, Verdict::Problem);
        assert_eq!(timestamps(missing(), true).result, Verdict::Unknown);
    }

    #[test]
    fn another_scheduler_is_not_steered() {
        assert_eq!(scheduler(is("default")).result, Verdict::Ok);
        assert_eq!(scheduler(missing()).result, Verdict::Ok);
        let finding = scheduler(is("bpf_red"));
        let mend = finding.mend.unwrap_or_default();
        assert_eq!(finding.result, Verdict::Problem);
        assert_eq!(mend, "sysctl -w net.mptcp.scheduler=default");
    }

    #[test]
    fn strict_tracking_matters_where_something_is_tracked() {
        for (value, tracked, redundant, expected) in [
            (is("0"), 0, Some(true), Verdict::Ok),
            (is("0"), 3, Some(false), Verdict::Ok),
            (is("0"), 3, Some(true), Verdict::Warning),
            (is("0"), 3, None, Verdict::Warning),
            (is("1"), 3, Some(true), Verdict::Ok),
            (missing(), 0, None, Verdict::Ok),
        ] {
            assert_eq!(conntrack(value, tracked, redundant).result, expected);
        }
    }
}
