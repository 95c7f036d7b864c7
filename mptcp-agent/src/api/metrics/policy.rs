//! The weight or the rank of each path, its limit, and the share of the traffic
//! that it got.

use super::Families;
use crate::state::fitness::{Reason, Standing};
use crate::state::snapshot::Snapshot;

pub(super) fn describe(snapshot: &Snapshot, families: &mut Families) {
    let policy = &snapshot.policy.policy;
    families
        .gauge(
            "mptcp_policy_info",
            "The policy in force and what it acts with.",
        )
        .add(
            &[("policy", policy.name()), ("backend", policy.backend())],
            1.0,
        );
    if policy.caps() {
        weights(snapshot, families);
    }
    if policy.overflows() {
        ranks(snapshot, families);
    }
    if policy.judges() {
        families
            .gauge(
                "mptcp_policy_unmatched_selectors",
                "Ids and prefixes that the policy names and no subflow has, while subflows that \
                 joined have none that it names.",
            )
            .add_count(&[], snapshot.unmatched_selectors as u64);
    }
    left_out(snapshot, families);
    limits(snapshot, families);
    let mut share = families.gauge(
        "mptcp_path_share_ratio",
        "Part of all acknowledged bytes of the last 10 s that the path carried.",
    );
    for row in snapshot.traffic() {
        if let Some(ratio) = row.share {
            share.add(&[("path", &row.label)], ratio);
        }
    }
}

/// Describes the paths that have bounds.
fn left_out(snapshot: &Snapshot, families: &mut Families) {
    let rows = || {
        let rows = snapshot.traffic();
        rows.filter_map(|row| Some((row.label.as_str(), row.fitness?)))
    };
    let mut now = families.gauge(
        "mptcp_path_left_out",
        "1 if the path is left out, because it passed a bound, or tried again, else 0.",
    );
    for (path, fitness) in rows() {
        let out = fitness.standing != Standing::Used;
        now.add(&[("path", path)], f64::from(u8::from(out)));
    }
    let mut times = families.counter(
        "mptcp_path_left_out_total",
        "Times that the path was left out, and the bound that it passed.",
    );
    for (path, fitness) in rows() {
        for (reason, &count) in Reason::NAMES.iter().zip(&fitness.count) {
            times.add_count(&[("path", path), ("reason", reason)], count);
        }
    }
}

/// Describes the ranks of the paths that the user named or that are in use.
fn ranks(snapshot: &Snapshot, families: &mut Families) {
    let policy = &snapshot.policy.policy;
    let mut ranks = families.gauge(
        "mptcp_path_rank",
        "Place of the path in the order of preference: 1 is the preferred one.",
    );
    for row in snapshot.traffic().filter(|path| path.is_listed_or_used()) {
        if let Some(rank) = policy.rank(row.weight) {
            ranks.add_count(&[("path", &row.label)], rank.into());
        }
    }
}

/// Describes the limits of the paths that the user named or that are in use.
fn limits(snapshot: &Snapshot, families: &mut Families) {
    let mut limits = families.gauge(
        "mptcp_path_limit_bytes_per_second",
        "The most that this host may send over the path, in acknowledged bytes.",
    );
    for row in snapshot.traffic().filter(|path| path.is_listed_or_used()) {
        if let Some(limit) = row.limit {
            limits.add_count(&[("path", &row.label)], limit);
        }
    }
}

/// Describes the weight ratios.
fn weights(snapshot: &Snapshot, families: &mut Families) {
    let mut ratio = families.gauge(
        "mptcp_path_weight_ratio",
        "Part of the traffic that is asked of the path: its weight over the sum of weights.",
    );
    for (path, asked) in snapshot.targets() {
        ratio.add(&[("path", &path.label)], asked);
    }
}
