//! `mptcp-agent`. Everything is in the library, where tests and other crates reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    mptcp_agent::run()
}
