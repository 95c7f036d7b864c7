//! Reports events in the log, and to the clients that want them.
//!
//! Events that an operator acts on (a path that is down, a subflow that was
//! lost, a priority that changed) are logged at info, routine events at debug.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mptcp_api::schema::{Event, Reply, Side};
use mptcp_common::abi;
use tracing::{Level, enabled, field};

use super::Agent;
use crate::api::control::view;
use crate::kernel::monotonic_ns;
use crate::state::events::Change;

impl Agent {
    /// Reports an event in the log, and to the clients that want events.
    pub(super) fn tell(&self, event: &abi::Event, change: Change) {
        let heard = self.told.receiver_count() > 0;
        // There may be thousands of these a second, and most often nobody
        // listens.
        if !heard && change.is_routine() && !enabled!(Level::DEBUG) {
            return;
        }
        let path = self.table.label(event.path);
        let age = Duration::from_nanos(monotonic_ns().saturating_sub(event.time_ns));
        let told = view::event(event, path, SystemTime::now(), age);
        log(change, &told);
        if heard {
            // The last client may just have left; ignore the send error.
            let _ = self.told.send(Arc::new(Reply::Event(told)));
        }
    }
}

fn log(change: Change, told: &Event) {
    macro_rules! write_at {
        ($level:ident) => {
            tracing::$level!(
                event = told.event,
                token = told.token,
                path = told.path,
                local = told.local.as_ref().map(field::display),
                remote = told.remote.as_ref().map(field::display),
                local_id = told.local_id,
                remote_id = told.remote_id,
                side = told.side.map(Side::name),
                reason = told.reason,
                backup = told.backup,
                stale = told.stale,
                sent_bytes = told.sent_bytes,
                acked_bytes = told.acked_bytes,
                received_bytes = told.received_bytes,
                cookie = told.cookie,
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
