//! What a path has to spare for copies (the redundant policy).
//!
//! Neither a subflow's round trips nor its retransmissions tell. The answer to
//! an original may have come by the path of its copy, so that TCP records the
//! other path's round trip, and keeps it for minutes. A subflow that only
//! carries copies is never sampled. And a path that loses packets is the one
//! that needs copies most.
//!
//! ```text
//!   bulk   the path's own subflow has more to send than the path takes: many
//!          bytes unsent, or some at each look for a while. No copies then
//!   thin   the original's subflow has hardly anything under way. Copied
//!          always: its copies cannot make a queue
//! ```
//!
//! What was seen a while ago counts for nothing: a subflow that is idle makes
//! no callbacks in which it could be seen idle.

use crate::abi::Subflow;

/// A look at a subflow tells of its queue for so long.
const AGE_NS: u64 = 200_000_000;

/// A subflow is bulk if it has had something unsent at each look for so long.
/// A message that is larger than the congestion window leaves sooner.
const BULK_NS: u64 = 100_000_000;

/// A subflow with so many unsent bytes is bulk at once.
const BULK_BYTES: u32 = 48 * 1024;

/// A subflow with at most so many bytes under way or unsent is thin: less than
/// any initial congestion window.
const THIN_BYTES: u32 = 8 * 1024;

/// Since when a subflow has had something unsent at each look, if `queued` is
/// what it has now. `since_ns` is what this returned at the look before, at
/// `seen_ns`. 0: it has nothing unsent.
///
/// Without a branch, which the verifier would follow through all the rest.
#[inline(always)]
#[must_use]
pub fn backlog_since(since_ns: u64, seen_ns: u64, queued: u32, now_ns: u64) -> u64 {
    let has_queue = u64::from(queued != 0);
    let lately = u64::from(now_ns.wrapping_sub(seen_ns) < AGE_NS);
    let goes_on = lately * u64::from(since_ns != 0);
    has_queue * (goes_on * since_ns + (1 - goes_on) * now_ns)
}

/// Whether a subflow has more to send than its path takes.
#[inline(always)]
#[must_use]
pub fn is_bulk(subflow: &Subflow, now_ns: u64) -> bool {
    subflow.queued != 0
        && now_ns.saturating_sub(subflow.seen_ns) < AGE_NS
        && (subflow.queued >= BULK_BYTES || now_ns.saturating_sub(subflow.backlog_ns) >= BULK_NS)
}

/// Whether a subflow is thin that has so many bytes unsent or not yet acked.
#[inline(always)]
#[must_use]
pub fn is_thin(outstanding: u32) -> bool {
    outstanding <= THIN_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A subflow that was looked at at these times (ms), with so much unsent.
    fn seen(looks: &[(u64, u32)]) -> Subflow {
        let mut subflow = Subflow::default();
        for &(at, queued) in looks {
            let now_ns = at * MS;
            subflow.backlog_ns = backlog_since(subflow.backlog_ns, subflow.seen_ns, queued, now_ns);
            subflow.seen_ns = now_ns;
            subflow.queued = queued;
        }
        subflow
    }

    #[test]
    fn many_unsent_bytes_are_bulk_at_once() {
        let subflow = seen(&[(1_000, BULK_BYTES)]);
        assert!(is_bulk(&subflow, 1_000 * MS));
        assert!(is_bulk(&subflow, 1_199 * MS));
        assert!(!is_bulk(&subflow, 1_200 * MS), "what was seen long ago");
    }

    #[test]
    fn few_unsent_bytes_are_bulk_if_they_stay() {
        let looks: Vec<_> = (100..=120).map(|step| (step * 10, 5_000)).collect();
        for (count, bulk) in [(5, false), (10, false), (11, true), (21, true)] {
            let subflow = seen(&looks[..count]);
            assert_eq!(is_bulk(&subflow, subflow.seen_ns), bulk, "{count} looks");
        }
    }

    #[test]
    fn messages_that_leave_in_time_are_not_bulk() {
        let looks = (100..200).map(|step| (step * 10, if step % 5 == 0 { 0 } else { 9_000 }));
        let subflow = seen(&looks.collect::<Vec<_>>());
        assert!(!is_bulk(&subflow, subflow.seen_ns));
    }

    #[test]
    fn a_queue_at_two_looks_far_apart_is_two_queues() {
        let subflow = seen(&[(1_000, 5_000), (2_000, 5_000)]);
        assert!(!is_bulk(&subflow, 2_000 * MS));
        assert!(!is_bulk(&seen(&[]), 2_000 * MS));
    }
}
