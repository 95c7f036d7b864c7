//! Skips unit tests that this machine cannot run.

/// Says why a test is skipped.
///
/// # Panics
/// `MPTCP_REQUIRE_ALL=1` is set: then nothing may be skipped.
pub fn skip(why: &str) {
    let required = std::env::var_os("MPTCP_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!required, "MPTCP_REQUIRE_ALL is set, and {why}");
    eprintln!("SKIPPED: {why}");
}
