#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
mod fake;
mod requests;
