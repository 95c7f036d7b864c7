//! Judges what a path has to spare for copies (the redundant policy).
//!
//! Neither a subflow's round trips nor its retransmissions tell that. The
//! answer to an original may have come by the path of its copy. TCP then
//! records the other path's round trip, and keeps it for minutes. A subflow
//! that only carries copies is never sampled. And a path that loses packets is
//! the one that needs copies most.
//!
//! ```text
//!   bulk   the path's own subflow has more to send than the path takes: many
//!          bytes unsent, or some at each look for a while. The path then gets
//!          no copies
//!   thin   the original's subflow has hardly anything under way. Its segments
//!          are always copied, because so few copies cannot make a queue
//! ```
//!
//! Old looks count for nothing, because an idle subflow makes no callbacks in
//! which it could be seen idle.

/// Two looks that are farther apart do not belong to one queue.
const AGE_NS: u64 = 200_000_000;

/// A subflow is bulk if each look for this long has found something unsent. A
/// message that is larger than the congestion window leaves sooner.
const BULK_NS: u64 = 150_000_000;

/// A subflow with this many unsent bytes is bulk at once.
const BULK_BYTES: u32 = 48 * 1024;

/// A subflow that was bulk still counts as bulk for this long. The subflows of
/// a bulk transfer run dry now and then, while they wait for one another.
const HOLD_NS: u64 = 300_000_000;

/// A subflow with at most this many bytes under way or unsent is thin. It is
/// less than any initial congestion window.
const THIN_BYTES: u32 = 8 * 1024;

/// When a subflow was seen with unsent bytes: members of
/// [`Subflow`](crate::abi::Subflow).
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    /// Since when each look has found unsent bytes; 0: the last one found none.
    pub backlog_ns: u64,
    /// When the subflow was last bulk; 0: never.
    pub bulk_ns: u64,
}

impl Marks {
    /// Notes whether the subflow is bulk, judged by its unsent bytes now
    /// (`queued`). The last look was at `seen_ns`.
    ///
    /// Written without a branch, which the verifier would follow through all
    /// the code that comes after.
    #[inline(always)]
    #[must_use]
    pub fn look(self, queued: u32, seen_ns: u64, now_ns: u64) -> Self {
        let has_queue = u64::from(queued != 0);
        let lately = u64::from(now_ns.wrapping_sub(seen_ns) < AGE_NS);
        let goes_on = lately * u64::from(self.backlog_ns != 0);
        let backlog_ns = has_queue * (goes_on * self.backlog_ns + (1 - goes_on) * now_ns);
        let long = u64::from(now_ns.wrapping_sub(backlog_ns) >= BULK_NS);
        let is_bulk = (has_queue * long) | u64::from(queued >= BULK_BYTES);
        Self {
            backlog_ns,
            bulk_ns: is_bulk * now_ns + (1 - is_bulk) * self.bulk_ns,
        }
    }
}

/// Returns whether a subflow has, or had a moment ago, more to send than its
/// path takes. It was last bulk at `bulk_ns`; 0: never.
#[inline(always)]
#[must_use]
pub fn is_bulk(bulk_ns: u64, now_ns: u64) -> bool {
    bulk_ns != 0 && now_ns.saturating_sub(bulk_ns) < HOLD_NS
}

/// Returns whether a subflow is thin that has `outstanding` bytes unsent or not
/// yet acked.
#[inline(always)]
#[must_use]
pub fn is_thin(outstanding: u32) -> bool {
    outstanding <= THIN_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A subflow as the programs see it: its marks, and its last look.
    struct Seen {
        marks: Marks,
        seen_ns: u64,
    }

    impl Seen {
        fn is_bulk(&self, now_ns: u64) -> bool {
            is_bulk(self.marks.bulk_ns, now_ns)
        }
    }

    /// Returns a subflow after looks at these times (ms), with so many bytes
    /// unsent.
    fn seen(looks: &[(u64, u32)]) -> Seen {
        let mut seen = Seen {
            marks: Marks::default(),
            seen_ns: 0,
        };
        for &(at, queued) in looks {
            seen.marks = seen.marks.look(queued, seen.seen_ns, at * MS);
            seen.seen_ns = at * MS;
        }
        seen
    }

    #[test]
    fn many_unsent_bytes_are_bulk_at_once() {
        let subflow = seen(&[(1_000, BULK_BYTES), (1_010, 0)]);
        assert!(subflow.is_bulk(1_010 * MS));
        assert!(subflow.is_bulk(1_299 * MS));
        assert!(!subflow.is_bulk(1_300 * MS), "what was seen long ago");
    }

    #[test]
    fn few_unsent_bytes_are_bulk_if_they_stay() {
        let looks: Vec<_> = (100..=120).map(|step| (step * 10, 5_000)).collect();
        for (count, bulk) in [(5, false), (15, false), (16, true), (21, true)] {
            let subflow = seen(&looks[..count]);
            assert_eq!(subflow.is_bulk(subflow.seen_ns), bulk, "{count} looks");
        }
    }

    #[test]
    fn messages_that_leave_in_time_are_not_bulk() {
        let looks = (100..200).map(|step| (step * 10, if step % 5 == 0 { 0 } else { 9_000 }));
        let subflow = seen(&looks.collect::<Vec<_>>());
        assert!(!subflow.is_bulk(subflow.seen_ns));
    }

    #[test]
    fn a_queue_at_two_looks_far_apart_is_two_queues() {
        let subflow = seen(&[(1_000, 5_000), (2_000, 5_000)]);
        assert!(!subflow.is_bulk(2_000 * MS));
        assert!(!seen(&[]).is_bulk(2_000 * MS));
    }
}
