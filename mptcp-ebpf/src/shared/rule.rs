//! Rules: which policy a connection has.
//!
//! The facts that rules can ask are read from the socket of the first subflow when it
//! is established, and kept in the connection's entry. So a connection is matched
//! again, after rules have changed, whoever calls next and whether or not that
//! subflow is still there. The comparison itself is in `mptcp_common::rule`.
//!
//! All members are loaded through typed pointers, which sockops and `iter/tcp`
//! both have on every kernel since Linux 6.1. (The helpers that tell a socket's
//! cgroup may not be called in sockops.) A member that this kernel lacks reads
//! as zero.

use mptcp_common::{
    abi::{
        Connection, DEFAULT_POLICY, MAX_POLICIES, Tuple, capability,
        rule::{Facts, MAX_RULES},
        side, subflow_flag,
    },
    word::Word,
};

use crate::shared::global::any;
use crate::shared::maps::{
    CARRIERS, LESS_ONE, RULE_STATS, RULES, add, config, policy_capabilities,
};
use crate::shared::member::{has, load, offset};
use crate::shared::socket::Socket;

/// Notes what rules can ask about a connection: what its first subflow's socket
/// tells now.
#[inline(always)]
pub fn note(socket: Socket, connection: &Connection, tuple: &Tuple) {
    let facts = &connection.facts;
    address(&facts.remote, &tuple.remote);
    address(&facts.local, &tuple.local);
    facts.remote_port.set(u64::from(tuple.remote_port));
    facts.local_port.set(u64::from(tuple.local_port));
    // `SERVER` is a bit, so a quotient does without a branch.
    const _: () = assert!(side::SERVER == 1 && side::CLIENT == 0);
    let accepted = (tuple.flags & subflow_flag::SERVER) / subflow_flag::SERVER;
    facts.side.set(u64::from(accepted));
    if has(&offset::SK_UID) {
        facts.uid.set(u64::from(socket.tcp::<u32>(&offset::SK_UID)));
    }
    if has(&offset::SK_MARK) {
        let mark: u32 = socket.tcp(&offset::SK_MARK);
        facts.mark.set(u64::from(mark));
    }
    note_dscp(socket, facts);
    note_congestion(socket, facts);
    note_cgroups(socket, facts);
}

#[inline(always)]
fn address(words: &[Word; 2], octets: &[u8; 16]) {
    let [a, b, c, d, e, f, g, h, low @ ..] = *octets;
    words[0].set(u64::from_be_bytes([a, b, c, d, e, f, g, h]));
    words[1].set(u64::from_be_bytes(low));
}

/// An IPv6 socket has a traffic class of its own, beside the type of service
/// that it sends to IPv4 addresses. Which one counts is left to the comparison:
/// here each branch would be followed through all the code that comes after.
#[inline(always)]
fn note_dscp(socket: Socket, facts: &Facts) {
    if has(&offset::INET_TOS) {
        let class: u8 = socket.tcp(&offset::INET_TOS);
        facts.dscp[0].set(u64::from(class >> 2));
    }
    if has(&offset::INET_PINET6) && has(&offset::PINET6_TCLASS) {
        let v6: *const u8 = socket.tcp(&offset::INET_PINET6);
        // SAFETY: typed by the member that it comes from; null, in an IPv4
        // socket, reads as zero.
        let class: u8 = unsafe { load(v6, &offset::PINET6_TCLASS) };
        facts.dscp[1].set(u64::from(class >> 2));
    }
}

#[inline(always)]
fn note_congestion(socket: Socket, facts: &Facts) {
    if !has(&offset::ICSK_CA_OPS) || !has(&offset::CA_NAME) {
        return;
    }
    let operations: *const u8 = socket.tcp(&offset::ICSK_CA_OPS);
    for (half, word) in facts.congestion.iter().enumerate() {
        let mut number = 0_u64;
        for at in 0..8 {
            // SAFETY: typed by the member that it comes from. The name has
            // sixteen elements, each of which takes a load of its own.
            let byte: u8 = unsafe { load(operations.add(8 * half + at), &offset::CA_NAME) };
            number |= u64::from(byte) << (8 * at);
        }
        word.set(number);
    }
}

#[inline(always)]
fn note_cgroups(socket: Socket, facts: &Facts) {
    if !has(&offset::SK_CGROUP)
        || !has(&offset::CGROUP_KN)
        || !has(&offset::KN_ID)
        || !has(&offset::CGROUP_SELF_PARENT)
        || !has(&offset::CSS_CGROUP)
    {
        return;
    }
    let mut cgroup: *const u8 = socket.tcp(&offset::SK_CGROUP);
    for word in &facts.cgroups {
        // SAFETY: each is typed by the member that it comes from; null, above
        // the root, reads as zero.
        unsafe {
            let node: *const u8 = load(cgroup, &offset::CGROUP_KN);
            word.set(load(node, &offset::KN_ID));
            let parent: *const u8 = load(cgroup, &offset::CGROUP_SELF_PARENT);
            cgroup = load(parent, &offset::CSS_CGROUP);
        }
    }
}

/// A key for [`choose`] while a subflow opens. (The connection's real one is a
/// typed pointer then, which no global function can take.)
pub const OPENING: u64 = 0;

/// Gives a connection, at `key` in `CONNECTIONS`, the policy of the first rule
/// that matches it. If it is `counted` already (1, else 0), counts it as that
/// rule's from now on. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn choose(
    connection: *const Connection,
    key: u64,
    now_ns: u64,
    counted: u32,
) -> u32 {
    // SAFETY: null, or a map value, of which only atomic fields are used here.
    let Some(connection) = (unsafe { connection.as_ref() }) else {
        return 0;
    };
    let config = config();
    connection.chosen.set(u64::from(config.generation));
    let number = any(find_rule(connection));
    let rule = RULES.get(number.wrapping_sub(1));
    let policy = rule.map_or(DEFAULT_POLICY, |rule| rule.policy) & (MAX_POLICIES as u32 - 1);
    // Another CPU may choose at the same time; each moves what it has replaced.
    let before = connection.rule.get();
    if before != u64::from(number)
        && connection.rule.replace(before, u64::from(number))
        && counted != 0
    {
        live(before as u32, LESS_ONE);
        live(number, 1);
    }
    let before = connection.policy.get();
    if before != u64::from(policy) && connection.policy.replace(before, u64::from(policy)) {
        let copied = policy_capabilities(before as u32, now_ns) & capability::COPIES != 0;
        if copied && policy_capabilities(policy, now_ns) & capability::COPIES == 0 {
            // No copy is made from now on. The agent forgets the peer later.
            let _ = CARRIERS.remove(key);
        }
    }
    number
}

/// Returns the index of the first rule that a connection matches, plus one; 0 if
/// there is none. A global function, so that the verifier does not follow each
/// result through what comes after.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_rule(connection: *const Connection) -> u32 {
    // Compared with nothing that the verifier does not know: Linux 6.1 would not
    // see that the loop ends.
    for index in 0..MAX_RULES as u32 {
        let verdict = any(rule_matches(connection, index));
        if verdict != 0 {
            return (index + 1) * (verdict & MATCHES);
        }
    }
    0
}

/// [`rule_matches`]: the connection matches.
const MATCHES: u32 = 1;

/// [`rule_matches`]: there are no more rules.
const END: u32 = 2;

/// Returns [`MATCHES`] if a connection matches the rule at `index`, [`END`] if
/// there is none at that index or later, else 0. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rule_matches(connection: *const Connection, index: u32) -> u32 {
    // SAFETY: as in `choose`.
    let Some(connection) = (unsafe { connection.as_ref() }) else {
        return 0;
    };
    if index >= config().rules {
        return END;
    }
    let Some(rule) = RULES.get(index) else {
        return END;
    };
    if rule.matches(&connection.facts) {
        MATCHES
    } else {
        0
    }
}

/// Changes the number of open connections of the rule of this number by `by`,
/// modulo 2^64.
#[inline(always)]
pub fn live(number: u32, by: u64) {
    if let Some(stats) = RULE_STATS.get(number) {
        add(&stats.live, by);
    }
}

/// Counts a connection that has opened, and what it carries, as its rule's. A
/// global function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_opened(number: u32) -> u32 {
    if let Some(stats) = RULE_STATS.get(number) {
        add(&stats.live, 1);
        add(&stats.opened, 1);
    }
    0
}

/// Counts what a connection has carried since the last look as its rule's. A
/// global function.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count_rule(number: u32, sent: u64, acked: u64, received: u64) -> u32 {
    if config().rules != 0
        && let Some(stats) = RULE_STATS.get(number)
    {
        add(&stats.sent_bytes, sent);
        add(&stats.acked_bytes, acked);
        add(&stats.received_bytes, received);
    }
    0
}
