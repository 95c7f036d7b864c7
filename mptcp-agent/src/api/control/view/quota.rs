//! Converts data plans.

use std::time::SystemTime;

use jiff::Timestamp;
use mptcp_api::schema::{Event, NamedQuota, PathQuota, Quotas};

use crate::policy::Choice as _;
use crate::state::accounts::{Change, Standing, Turn};
use crate::state::snapshot;

/// Converts all quotas.
pub fn quotas(quotas: &snapshot::Quotas) -> Quotas {
    let saving = &quotas.saving;
    let standings = quotas.standings.iter();
    Quotas {
        quotas: standings
            .map(|standing| NamedQuota {
                path: standing.quota.selector.to_string(),
                quota: path_quota(standing),
            })
            .collect(),
        file: saving.file.display().to_string(),
        saved: saving.saved,
        not_saved_because: saving.failure.clone(),
    }
}

/// Converts the quota of a path.
pub fn path_quota(standing: &Standing) -> PathQuota {
    let Standing { quota, used, span } = standing;
    PathQuota {
        used_bytes: *used,
        quota_bytes: quota.amount.bytes(),
        spent: standing.is_spent(),
        period: quota.every.to_string(),
        since: time(span.start),
        until: time(span.end),
        count: quota.count.name().to_owned(),
        direction: quota.direction.name().to_owned(),
        action: quota.action.name().to_owned(),
    }
}

/// Converts what has become of a quota.
pub fn quota_event(change: &Change, now: SystemTime) -> Event {
    let (event, reason) = match change.to {
        Turn::Spent => ("path_quota_spent", None),
        Turn::Renewed(cause) => ("path_quota_renewed", Some(cause.name().to_owned())),
    };
    Event {
        time: humantime::format_rfc3339_micros(now).to_string(),
        event: event.to_owned(),
        path: change.path.clone(),
        reason,
        used_bytes: Some(change.standing.used),
        quota_bytes: Some(change.standing.quota.amount.bytes()),
        until: Some(time(change.standing.span.end)),
        ..Event::default()
    }
}

/// Returns a time in seconds since 1970 as RFC 3339. The last one is in the year
/// 9999, where the calendar ends.
fn time(second: i64) -> String {
    let last = Timestamp::MAX.as_second();
    let time = Timestamp::from_second(second.min(last));
    time.unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::policy::Span;
    use crate::state::accounts::Cause;

    #[test]
    fn an_event_says_how_much_of_what_and_until_when() {
        let standing = Standing {
            quota: "wwan0=50GB/month,reset:15,direction:rx".parse().unwrap(),
            used: 50_000_000_001,
            span: Span {
                start: 1_794_700_800,
                end: 1_797_292_800,
            },
        };
        let shown = path_quota(&standing);
        assert!(shown.spent);
        assert_eq!(shown.since, "2026-11-15T00:00:00Z");
        assert_eq!(shown.until, "2026-12-15T00:00:00Z");
        assert_eq!(shown.period, "month,reset:15");
        assert_eq!(shown.count, "device");
        let event = |to| {
            let change = Change {
                path: "wwan0".to_owned(),
                to,
                standing: standing.clone(),
            };
            quota_event(&change, SystemTime::UNIX_EPOCH)
        };
        let spent = event(Turn::Spent);
        assert_eq!(spent.event, "path_quota_spent");
        assert_eq!(spent.reason, None);
        assert_eq!(spent.used_bytes, Some(50_000_000_001));
        assert_eq!(spent.quota_bytes, Some(50_000_000_000));
        assert_eq!(spent.until.as_deref(), Some("2026-12-15T00:00:00Z"));
        for (cause, reason) in [
            (Cause::Period, "period"),
            (Cause::Reset, "reset"),
            (Cause::Policy, "policy"),
        ] {
            let renewed = event(Turn::Renewed(cause));
            assert_eq!(renewed.event, "path_quota_renewed");
            assert_eq!(renewed.reason.as_deref(), Some(reason));
        }
        assert!(time(i64::MAX).starts_with("9999-12-30T"));
    }
}
