//! A token bucket, which limits copies by `--redundant-budget` or by what a
//! channel has to spare.

use crate::word::Word;

/// The bucket holds what the rate brings within this time.
const BURST_NS: u64 = 50_000_000;

/// It holds no less than this: one segment of the largest size (GSO).
const LEAST_BYTES: u64 = 70_000;

/// A longer pause counts as this long, which keeps the product within 64 bits.
const LONGEST_NS: u64 = 1_000_000_000;

/// The largest rate, bytes per second: its product with [`LONGEST_NS`] fits 64
/// bits.
pub const LARGEST_RATE: u64 = 1 << 32;

const _: () = assert!(LARGEST_RATE.checked_mul(LONGEST_NS).is_some());

/// A budget for copies: of a path in array `BUDGETS`, or of a channel in array
/// `CHANNEL_BUDGETS`.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Bucket {
    /// Bytes that it holds.
    tokens: Word,
    /// When it was last filled (`bpf_ktime_get_ns`).
    filled_ns: Word,
}

crate::layout::layout! {
    Bucket { tokens, filled_ns }
}

impl Bucket {
    /// Takes `bytes` and returns `true`, if the bucket holds them. The rate is
    /// in bytes per second, at most [`LARGEST_RATE`].
    #[inline(always)]
    pub fn take(&self, bytes: u64, rate: u64, now_ns: u64) -> bool {
        let filled_ns = self.filled_ns.get();
        // Another CPU's clock may be ahead.
        if now_ns > filled_ns && self.filled_ns.replace(filled_ns, now_ns) {
            let elapsed_ns = now_ns - filled_ns;
            let elapsed_ns = if elapsed_ns > LONGEST_NS {
                LONGEST_NS
            } else {
                elapsed_ns
            };
            let most = rate / (1_000_000_000 / BURST_NS);
            let most = if most < LEAST_BYTES {
                LEAST_BYTES
            } else {
                most
            };
            let held = self.tokens.get() + rate * elapsed_ns / 1_000_000_000;
            self.tokens.set(if held > most { most } else { held });
        }
        let held = self.tokens.get();
        held >= bytes && self.tokens.replace(held, held - bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::{Bucket, LARGEST_RATE};

    #[test]
    fn the_rate_is_what_comes_through() {
        let bucket = Bucket::default();
        let rate = 5_000_000;
        let mut taken = 0;
        for ms in 1_000..3_000_u64 {
            while bucket.take(1_500, rate, ms * 1_000_000) {
                taken += 1_500;
            }
        }
        let allowed = 2 * rate + 250_000;
        assert!((allowed - 10_000..=allowed).contains(&taken), "{taken}");
    }

    #[test]
    fn the_largest_rate_does_not_wrap() {
        let bucket = Bucket::default();
        let most = LARGEST_RATE / 20;
        assert!(bucket.take(most, LARGEST_RATE, u64::MAX / 2));
        assert!(!bucket.take(1, LARGEST_RATE, u64::MAX / 2));
        assert!(bucket.take(most, LARGEST_RATE, u64::MAX));
    }

    #[test]
    fn a_pause_fills_it_but_not_without_bound() {
        let bucket = Bucket::default();
        let rate = 1_000_000;
        assert!(bucket.take(70_000, rate, u64::MAX / 2));
        assert!(!bucket.take(1, rate, u64::MAX / 2));
        assert!(!bucket.take(70_001, rate, u64::MAX - 1));
    }
}
