//! The kernel's own counters of Multipath TCP: a selection from line `MPTcpExt`
//! of /proc/net/netstat (net/mptcp/mib.c).
//!
//! The selection shows what went wrong, and what to compare that with. A
//! counter that the running kernel lacks is left out, and never reported as 0.

use anyhow::{Context as _, Result};

/// Holds the counters of the network namespace of the thread that reads it.
const NETSTAT: &str = "/proc/thread-self/net/netstat";

/// The kernel's name and our name of each counter. Ours are part of the agent's
/// interface: they stay, whatever a kernel calls the counter.
const CHOSEN: [(&str, &str); 56] = [
    // Handshakes requested, counted at either end.
    ("MPCapableSYNTX", "capable_syn_tx"),
    ("MPCapableSYNRX", "capable_syn_rx"),
    // The server: the third ACK came without MP_CAPABLE.
    ("MPCapableFallbackACK", "capable_fallback_ack"),
    // The client: the peer answered without MP_CAPABLE.
    ("MPCapableFallbackSYNACK", "capable_fallback_synack"),
    // The first data came without the MPTCP option that it needs.
    ("MPCapableDataFallback", "capable_data_fallback"),
    // SYNs with MP_CAPABLE got lost until one without was tried.
    ("MPCapableSYNTXDrop", "capable_syn_tx_drop"),
    // MP_CAPABLE was left out, because this destination is taken for a
    // blackhole.
    ("MPCapableSYNTXDisabled", "capable_syn_tx_disabled"),
    // A connection came in on an endpoint that takes joins only.
    ("MPCapableEndpAttempt", "capable_endpoint_attempt"),
    // No token could be made.
    ("MPFallbackTokenInit", "token_fallback"),
    // TCP MD5 leaves no room for MPTCP.
    ("MD5SigFallback", "md5sig_fallback"),
    // Data came on the only subflow without a mapping, or with a bad one.
    ("DssFallback", "dss_fallback"),
    // Both ends connected to each other.
    ("SimultConnectFallback", "simultaneous_connect_fallback"),
    // It was too late to fall back, so the subflow was reset.
    ("FallbackFailed", "fallback_failed"),
    // SYNs with MP_CAPABLE go unanswered: a middlebox eats them.
    ("Blackhole", "blackhole"),
    // Data was sent again on another subflow.
    ("MPTCPRetrans", "retransmission"),
    // Joins requested and completed, then the reasons why others failed.
    ("MPJoinSynTx", "join_syn_tx"),
    ("MPJoinSynRx", "join_syn_rx"),
    ("MPJoinSynAckRx", "join_synack_rx"),
    ("MPJoinAckRx", "join_ack_rx"),
    // The token named no connection.
    ("MPJoinNoTokenFound", "join_no_token_found"),
    // The other end did not prove that it knows the keys.
    ("MPJoinSynAckHMacFailure", "join_synack_hmac_failure"),
    ("MPJoinAckHMacFailure", "join_ack_hmac_failure"),
    // The path manager (limits) did not want it.
    ("MPJoinRejected", "join_rejected"),
    // This host could not even send the SYN.
    ("MPJoinSynTxCreatSkErr", "join_syn_tx_socket_error"),
    ("MPJoinSynTxBindErr", "join_syn_tx_bind_error"),
    ("MPJoinSynTxConnectErr", "join_syn_tx_connect_error"),
    // Joins to a port other than the connection's, and to one that was not
    // announced.
    ("MPJoinPortSynRx", "join_port_syn_rx"),
    ("MismatchPortSynRx", "join_port_mismatch_syn_rx"),
    ("MismatchPortAckRx", "join_port_mismatch_ack_rx"),
    // A mapping contradicts an earlier one, or is corrupt.
    ("DSSNotMatching", "dss_not_matching"),
    ("DSSNoMatchTCP", "dss_no_match_tcp"),
    ("DSSCorruptionFallback", "dss_corruption_fallback"),
    ("DSSCorruptionReset", "dss_corruption_reset"),
    ("DataCsumErr", "data_checksum_error"),
    // The last signals before plain TCP (RFC 8684, 3.7).
    ("InfiniteMapTx", "infinite_map_tx"),
    ("InfiniteMapRx", "infinite_map_rx"),
    ("MPFailTx", "fail_tx"),
    ("MPFailRx", "fail_rx"),
    // Addresses announced, withdrawn, and lost on the way.
    ("AddAddr", "add_addr_rx"),
    ("AddAddrTx", "add_addr_tx"),
    ("AddAddrDrop", "add_addr_rx_drop"),
    ("AddAddrTxDrop", "add_addr_tx_drop"),
    ("RmAddr", "rm_addr_rx"),
    ("RmAddrTx", "rm_addr_tx"),
    ("RmAddrDrop", "rm_addr_rx_drop"),
    ("RmAddrTxDrop", "rm_addr_tx_drop"),
    ("RmSubflow", "rm_subflow"),
    // Changes between backup and not backup.
    ("MPPrioTx", "prio_tx"),
    ("MPPrioRx", "prio_rx"),
    // The whole connection, or a subflow, was cut off.
    ("MPFastcloseTx", "fastclose_tx"),
    ("MPFastcloseRx", "fastclose_rx"),
    ("MPRstTx", "rst_tx"),
    ("MPRstRx", "rst_rx"),
    // A subflow carries nothing while another does; it carries data again.
    ("SubflowStale", "subflow_stale"),
    ("SubflowRecover", "subflow_recover"),
    // Received data was thrown away for want of memory.
    ("RcvPruned", "receive_pruned"),
];

/// Returns what the kernel has counted, by our names, since the namespace
/// exists.
///
/// # Errors
/// The file cannot be read.
pub fn read() -> Result<Vec<(&'static str, u64)>> {
    let text =
        std::fs::read_to_string(NETSTAT).with_context(|| format!("cannot read {NETSTAT}"))?;
    Ok(parse(&text))
}

/// Reads the table, which is two lines: the names, then the values. The crate
/// procfs does not know this file.
fn parse(netstat: &str) -> Vec<(&'static str, u64)> {
    let mut lines = netstat
        .lines()
        .filter_map(|line| line.strip_prefix("MPTcpExt:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return Vec::new();
    };
    let known: Vec<(&str, u64)> = names
        .split_ascii_whitespace()
        .zip(values.split_ascii_whitespace())
        .filter_map(|(name, value)| Some((name, value.parse().ok()?)))
        .collect();
    CHOSEN
        .iter()
        .filter_map(|&(kernel, ours)| {
            known
                .iter()
                .find(|(name, _)| *name == kernel)
                .map(|&(_, value)| (ours, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_lists_each_counter() {
        let documented: Vec<_> = include_str!("../../../docs/metrics.md")
            .lines()
            .filter_map(|line| {
                // A row of the table: | `ours` | `the kernel's` | ...
                let (ours, rest) = line.strip_prefix("| `")?.split_once("` | `")?;
                let (kernels, _) = rest.split_once('`')?;
                kernels
                    .starts_with(char::is_uppercase)
                    .then_some((kernels, ours))
            })
            .collect();
        assert_eq!(documented, CHOSEN);
    }

    #[test]
    fn chosen_counters_by_name_whatever_their_order() {
        let text = "TcpExt: SyncookiesSent Blackhole\nTcpExt: 1 2\n\
                    MPTcpExt: MPJoinRejected Unheard MPCurrEstab Blackhole\nMPTcpExt: 3 4 5 6\n\
                    MPTcpExt: Blackhole\n";
        assert_eq!(parse(text), [("blackhole", 6), ("join_rejected", 3)]);
    }

    #[test]
    fn odd_input_gives_what_can_be_read() {
        for text in [
            "",
            "MPTcpExt:",
            "MPTcpExt: Blackhole\n",
            "MPTcpExt: Blackhole\nMPTcpExt: x\n",
        ] {
            assert_eq!(parse(text), [], "{text:?}");
        }
        let short = "MPTcpExt: Blackhole MPRstTx\nMPTcpExt: 7\n";
        assert_eq!(parse(short), [("blackhole", 7)]);
    }

    #[test]
    fn names_are_unique_and_fit_a_label() {
        let ours: BTreeSet<&str> = CHOSEN.iter().map(|(_, ours)| *ours).collect();
        let theirs: BTreeSet<&str> = CHOSEN.iter().map(|(theirs, _)| *theirs).collect();
        assert_eq!((ours.len(), theirs.len()), (CHOSEN.len(), CHOSEN.len()));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(ours.iter().all(|name| name.chars().all(plain)));
    }

    #[test]
    fn this_kernel_is_understood() {
        let text = std::fs::read_to_string(NETSTAT).unwrap();
        if text.contains("MPTcpExt:") {
            assert!(read().unwrap().len() > 30, "{text}");
        }
    }
}
