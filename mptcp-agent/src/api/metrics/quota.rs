//! The data plans of paths, and whether what was used is kept.

use super::Families;
use crate::state::snapshot::Snapshot;

pub(super) fn describe(snapshot: &Snapshot, families: &mut Families) {
    let quotas = &snapshot.quotas.standings;
    if quotas.is_empty() {
        return;
    }
    let labels: Vec<String> = quotas
        .iter()
        .map(|one| one.quota.selector.to_string())
        .collect();
    let rows = || labels.iter().map(String::as_str).zip(quotas);
    let mut quota = families.gauge(
        "mptcp_path_quota_bytes",
        "What the path may carry in a period.",
    );
    for (path, row) in rows() {
        quota.add_count(&[("path", path)], row.quota.amount.bytes());
    }
    let mut used = families.gauge(
        "mptcp_path_quota_used_bytes",
        "What the path has carried in this period, as its quota counts it.",
    );
    for (path, row) in rows() {
        used.add_count(&[("path", path)], row.used);
    }
    let mut spent = families.gauge(
        "mptcp_path_quota_spent",
        "1 if the quota of the path is spent, else 0.",
    );
    for (path, row) in rows() {
        spent.add(&[("path", path)], f64::from(u8::from(row.is_spent())));
    }
    let saving = &snapshot.quotas.saving;
    families
        .gauge(
            "mptcp_agent_quota_saved",
            "1 if what paths have used of their quotas was saved, 0 if the last save failed.",
        )
        .add(&[], f64::from(u8::from(saving.saved)));
    families
        .gauge(
            "mptcp_agent_quota_files_set_aside",
            "Files of quotas that the agent could not read at its start, and has set aside.",
        )
        .add_count(&[], saving.set_aside.into());
}
