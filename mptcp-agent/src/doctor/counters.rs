//! Checks whether the kernel's counters of trouble rise: two readings, a second
//! apart.

use super::finding::{Finding, ok, problem, unknown, warning};
use super::sight::{Counters, Sight, Twice};
use crate::host::sysctl;

const BLACKHOLE_TIMEOUT: &str = "net/mptcp/blackhole_timeout";

/// Connections that went on as plain TCP.
const FALLBACKS: [&str; 12] = [
    "capable_fallback_ack",
    "capable_fallback_synack",
    "capable_data_fallback",
    "capable_syn_tx_drop",
    "token_fallback",
    "md5sig_fallback",
    "dss_fallback",
    "dss_corruption_fallback",
    "simultaneous_connect_fallback",
    "fallback_failed",
    "infinite_map_tx",
    "infinite_map_rx",
];

/// SYNs that something on the way drops because of MP_CAPABLE.
const BLACKHOLES: [&str; 2] = ["blackhole", "capable_syn_tx_disabled"];

/// Subflows that were refused, or did not get on their way.
const JOINS: [&str; 7] = [
    "join_no_token_found",
    "join_synack_hmac_failure",
    "join_ack_hmac_failure",
    "join_rejected",
    "join_syn_tx_socket_error",
    "join_syn_tx_bind_error",
    "join_syn_tx_connect_error",
];

/// Runs the checks.
pub fn checks(sight: &Sight) -> Vec<Finding> {
    const NAMES: [&str; 3] = ["fallbacks", "blackholes", "joins"];
    let counters = match &sight.counters {
        Ok(counters) if counters.after.is_empty() => {
            let why = "this kernel does not count MPTCP's events";
            return NAMES.map(|name| unknown(name, why)).to_vec();
        }
        Ok(counters) => counters,
        Err(why) => return NAMES.map(|name| unknown(name, why)).to_vec(),
    };
    let timeout = sysctl::read(BLACKHOLE_TIMEOUT).ok();
    vec![
        fallbacks(counters),
        blackholes(counters, timeout.as_deref()),
        joins(counters),
    ]
}

/// Returns what has risen and by how much, and the totals.
fn risen(counters: &Twice<Counters>, of: &[&str]) -> (Vec<String>, u64) {
    let value = |counters: &Counters, name: &str| counters.get(name).copied().unwrap_or(0);
    let mut risen = Vec::new();
    for name in of {
        let more = value(&counters.after, name).saturating_sub(value(&counters.before, name));
        if more > 0 {
            risen.push(format!("{name} by {more}"));
        }
    }
    let total = of.iter().map(|name| value(&counters.after, name));
    (risen, total.fold(0, u64::saturating_add))
}

fn fallbacks(counters: &Twice<Counters>) -> Finding {
    const NAME: &str = "fallbacks";
    let (risen, total) = risen(counters, &FALLBACKS);
    if risen.is_empty() {
        return ok(NAME, format!("none within a second ({total} in total)"));
    }
    warning(
        NAME,
        format!(
            "connections fall back to plain TCP; within a second rose {}",
            risen.join(", ")
        ),
        "# switch MPTCP on at the other end (sysctl -w net.mptcp.enabled=1, and its application), \
         or find the firewall or proxy that strips TCP option 30: mptcp-agent events",
    )
}

/// `timeout` is `net.mptcp.blackhole_timeout`, if the kernel has it. Writing it
/// makes the kernel forget that it has met a blackhole.
fn blackholes(counters: &Twice<Counters>, timeout: Option<&str>) -> Finding {
    const NAME: &str = "blackholes";
    let (risen, total) = risen(counters, &BLACKHOLES);
    if risen.is_empty() {
        return ok(NAME, format!("none within a second ({total} in total)"));
    }
    let mut mend = "# let SYNs with TCP option 30 through on the way, then:".to_owned();
    if let Some(timeout) = timeout {
        mend += "\n";
        mend += &sysctl::command(BLACKHOLE_TIMEOUT, timeout);
    }
    problem(
        NAME,
        format!(
            "something on the way drops SYNs that ask for MPTCP, so the kernel does without; within \
             a second rose {}",
            risen.join(", ")
        ),
        mend,
    )
}

fn joins(counters: &Twice<Counters>) -> Finding {
    const NAME: &str = "joins";
    let (risen, total) = risen(counters, &JOINS);
    if risen.is_empty() {
        return ok(
            NAME,
            format!("none failed within a second ({total} in total)"),
        );
    }
    let rejected = risen.iter().any(|name| name.starts_with("join_rejected"));
    let mend = match rejected {
        true => "ip mptcp limits set subflows 8",
        false => "# see source-routes, and docs/troubleshooting.md: a second subflow never joins",
    };
    warning(
        NAME,
        format!(
            "subflows fail to join; within a second rose {}",
            risen.join(", ")
        ),
        mend,
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn counted(name: &'static str, before: u64, after: u64) -> Twice<Counters> {
        Twice {
            before: Counters::from([(name, before), ("prio_tx", 1)]),
            after: Counters::from([(name, after), ("prio_tx", 9)]),
        }
    }

    #[test]
    fn only_what_rises_counts() {
        let still = counted("capable_fallback_ack", 7, 7);
        assert_eq!(fallbacks(&still).result, Verdict::Ok);
        assert!(fallbacks(&still).seen.contains("7 in total"));
        let finding = fallbacks(&counted("capable_fallback_ack", 7, 9));
        assert_eq!(finding.result, Verdict::Warning);
        assert!(finding.seen.contains("capable_fallback_ack by 2"));
        assert_eq!(joins(&still).result, Verdict::Ok);
        // A namespace that was made in between.
        assert_eq!(
            fallbacks(&counted("dss_fallback", 7, 0)).result,
            Verdict::Ok
        );
    }

    #[test]
    fn a_blackhole_is_forgotten_once_its_timeout_is_written() {
        let rising = counted("capable_syn_tx_disabled", 0, 3);
        let finding = blackholes(&rising, Some("3600"));
        assert_eq!(finding.result, Verdict::Problem);
        let mend = finding.mend.unwrap_or_default();
        assert!(
            mend.ends_with("\nsysctl -w net.mptcp.blackhole_timeout=3600"),
            "{mend}"
        );
        let mend = blackholes(&rising, None).mend.unwrap_or_default();
        assert!(mend.starts_with('#') && !mend.contains('\n'), "{mend}");
    }

    #[test]
    fn joins_that_the_limits_refuse() {
        let mend = |name| joins(&counted(name, 1, 2)).mend.unwrap_or_default();
        assert_eq!(mend("join_rejected"), "ip mptcp limits set subflows 8");
        assert!(mend("join_syn_tx_connect_error").contains("source-routes"));
    }
}
