//! Reports events in the log, and to the clients that want them.
//!
//! Events that an operator acts on (a path that is down, a subflow that was
//! lost, a priority that changed) are logged at info, routine events at debug.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mptcp_api::schema::{Event, Reply, Sender, Side};
use mptcp_common::abi;
use tracing::{Level, enabled, field};

use super::Agent;
use crate::api::control::view;
use crate::kernel::monotonic_ns;
use crate::state::events::Change;

impl Agent {
    /// Reports an event in the log, and to the clients that want events.
    pub(super) fn report(&self, event: &abi::Event, change: Change) {
        let wanted = self.subscribers.receiver_count() > 0;
        // There may be thousands of these a second, and most often nobody
        // listens.
        if !wanted && change.is_routine() && !enabled!(Level::DEBUG) {
            return;
        }
        let path = self.table.label(event.path);
        let age = Duration::from_nanos(monotonic_ns().saturating_sub(event.time_ns));
        let report = view::event(event, path, SystemTime::now(), age);
        log(change, &report);
        if wanted {
            // The last client may just have left; ignore the send error.
            let _ = self.subscribers.send(Arc::new(Reply::Event(report)));
        }
    }
}

fn log(change: Change, report: &Event) {
    macro_rules! write_at {
        ($level:ident) => {
            tracing::$level!(
                event = report.event,
                token = report.token,
                path = report.path,
                local = report.local.as_ref().map(field::display),
                remote = report.remote.as_ref().map(field::display),
                local_id = report.local_id,
                remote_id = report.remote_id,
                side = report.side.map(Side::name),
                reason = report.reason,
                age_seconds = report.age_seconds,
                reset_by = report.reset_by.map(Sender::name),
                reset_reason = report.reset_reason,
                reset_transient = report.reset_transient,
                reset_early = report.reset_early,
                backup = report.backup,
                stale = report.stale,
                sent_bytes = report.sent_bytes,
                acked_bytes = report.acked_bytes,
                received_bytes = report.received_bytes,
                cookie = report.cookie,
                "{}",
                change.words()
            )
        };
    }
    if change.is_routine() {
        write_at!(debug)
    } else {
        write_at!(info)
    }
}
