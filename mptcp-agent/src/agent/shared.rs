//! Lets requests in quick succession share one answer.
//!
//! Pure: the time is an argument.

use std::time::{Duration, Instant};

/// How long an answer is good for others who ask.
const SHARED: Duration = Duration::from_millis(250);

/// The last answer, while it may be shared.
#[derive(Debug)]
pub(super) struct Shared<T>(Option<(Instant, T)>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Shared<T> {
    /// Returns the answer that was put here less than [`SHARED`] ago.
    pub(super) fn get(&self, now: Instant) -> Option<&T> {
        let (at, answer) = self.0.as_ref()?;
        (now.saturating_duration_since(*at) < SHARED).then_some(answer)
    }

    /// Takes an answer that was complete at `now`.
    pub(super) fn put(&mut self, answer: T, now: Instant) {
        self.0 = Some((now, answer));
    }

    /// Forgets the answer, because something has changed that must be seen at
    /// once.
    pub(super) fn forget(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_answer_is_shared_for_a_quarter_of_a_second() {
        let start = Instant::now();
        let mut shared = Shared::default();
        assert_eq!(shared.get(start), None);
        shared.put("one", start);
        assert_eq!(shared.get(start), Some(&"one"));
        assert_eq!(shared.get(start + 249 * MS), Some(&"one"));
        assert_eq!(shared.get(start + 250 * MS), None);
        // Those who share an answer do not make it last longer.
        shared.put("two", start + 300 * MS);
        assert_eq!(shared.get(start + 500 * MS), Some(&"two"));
        assert_eq!(shared.get(start + 560 * MS), None);
    }

    #[test]
    fn a_change_is_seen_at_once() {
        let start = Instant::now();
        let mut shared = Shared::default();
        shared.put("old", start);
        shared.forget();
        assert_eq!(shared.get(start), None);
    }
}
