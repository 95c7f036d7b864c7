//! Counters of the programs' own runs.

/// Counters of the programs that one agent has loaded, on one CPU, in per-CPU
/// array `RUNS`.
///
/// The programs count their runs themselves, because the kernel would count and
/// time them only together with every other program of the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes))]
pub struct Runs<T = u64> {
    /// Runs, by [`program`].
    pub count: [T; program::COUNT],
    /// Sockets whose callbacks somebody else's program had switched off, and
    /// which a sweep switched on again.
    pub rearmed: T,
    /// Subflows whose socket disappeared without a callback, and which a sweep
    /// removed.
    pub reclaimed: T,
}

impl Runs {
    /// Returns the sum, modulo 2^64.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            count: core::array::from_fn(|program| {
                self.count[program].wrapping_add(other.count[program])
            }),
            rearmed: self.rearmed.wrapping_add(other.rearmed),
            reclaimed: self.reclaimed.wrapping_add(other.reclaimed),
        }
    }
}

/// Indices of [`Runs::count`].
pub mod program {
    /// The sockops program.
    pub const SOCKOPS: usize = 0;
    /// The scheduler's tracepoint.
    pub const GET_SEND: usize = 1;
    /// The iterator, which runs once for each socket that it visits.
    pub const ITER: usize = 2;
    /// tc egress, under the redundant policy.
    pub const REDUNDANT_EGRESS: usize = 3;
    /// tc ingress, under the redundant policy.
    pub const REDUNDANT_INGRESS: usize = 4;
    /// How many there are.
    pub const COUNT: usize = 5;
}

crate::layout::layout! {
    Runs { count, rearmed, reclaimed }
}

const _: () = assert!(size_of::<Runs>() == 56);
