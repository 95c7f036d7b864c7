//! The clock that the eBPF programs read.

use std::sync::LazyLock;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds by which this process sees CLOCK_MONOTONIC ahead of the
/// programs. It is not 0 in a time namespace of its own (`unshare --time`,
/// time_namespaces(7)).
static AHEAD_NS: LazyLock<i128> = LazyLock::new(|| {
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets");
    ahead_ns(&offsets.unwrap_or_default())
});

/// Returns CLOCK_MONOTONIC in nanoseconds, as `bpf_ktime_get_ns` does. It does
/// not jump when the host's time is set.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    let own = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    u64::try_from(own - *AHEAD_NS).unwrap_or(0)
}

/// Returns the offset of CLOCK_MONOTONIC in /proc/self/timens_offsets, in
/// nanoseconds. The crate procfs does not know this file.
fn ahead_ns(offsets: &str) -> i128 {
    let line = offsets
        .lines()
        .find_map(|line| line.strip_prefix("monotonic"));
    let mut numbers = line.unwrap_or_default().split_ascii_whitespace();
    let mut next = || {
        numbers
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0_i128)
    };
    next() * 1_000_000_000 + next()
}

#[cfg(test)]
mod tests {
    use super::ahead_ns;

    #[test]
    fn the_offset_of_a_time_namespace() {
        assert_eq!(
            ahead_ns("monotonic  86400 5\nboottime  7 0\n"),
            86_400_000_000_005
        );
        assert_eq!(ahead_ns("monotonic  -2 0\n"), -2_000_000_000);
        assert_eq!(ahead_ns(""), 0);
    }
}
