//! Observes and steers Multipath TCP on a stock Linux kernel. `main` only calls
//! [`run`].
//!
//! ```text
//!   cli -> policy; host (checks) -> kernel (load, attach) -> agent (the loop)
//!   kernel events, maps          -> events, metrics       -> log, http, control
//!   policy, links                -> paths                 -> kernel
//!   redundant (peers, copies)   <-> agent, its UDP port   -> kernel
//!   cli -> client                <-> control, of the agent that runs (mptcp-api)
//! ```

mod agent;
mod cleanup;
mod cli;
mod client;
mod clock;
mod control;
mod devices;
mod events;
mod host;
mod http;
mod kernel;
mod links;
mod logging;
mod metrics;
mod mib;
mod pace;
mod paths;
mod policy;
mod recent;
mod redundant;
mod report;
mod selector;
mod signals;
#[cfg(test)]
mod skip;
mod version;

use std::process::ExitCode;

use cli::{Job, LogFormat};

/// Does what the command line asks for.
pub fn run() -> ExitCode {
    match cli::parse() {
        Job::Run(args, policy) => logged(args.log_format, || agent::run(&args, &policy)),
        Job::Cleanup(args) => logged(args.log_format, || cleanup::run(args.cgroup.as_deref())),
        Job::Client(job) => client::run(&job),
    }
}

fn logged(format: LogFormat, job: impl FnOnce() -> anyhow::Result<()>) -> ExitCode {
    logging::init(format);
    match job() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failure(format, &error);
            ExitCode::FAILURE
        }
    }
}
