//! `mptcp-agent`: observes and steers Multipath TCP on a stock Linux kernel.
//!
//! ```text
//!   cli -> policy; host (checks) -> kernel (load, attach) -> agent (the loop)
//!   kernel events, maps          -> events, metrics       -> log, http
//!   policy, links                -> paths                 -> kernel
//!   redundant (peers, copies)   <-> agent, its UDP port   -> kernel
//! ```

mod agent;
mod cleanup;
mod cli;
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
mod stop;

use std::process::ExitCode;

fn main() -> ExitCode {
    let (args, policy) = match cli::parse() {
        cli::Job::Run(args, policy) => (args, policy),
        cli::Job::Cleanup => {
            logging::init(cli::LogFormat::Text);
            return match cleanup::run(None) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    report::failure(cli::LogFormat::Text, &error);
                    ExitCode::FAILURE
                }
            };
        }
    };
    logging::init(args.log_format);
    match agent::run(&args, &policy) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::failure(args.log_format, &error);
            ExitCode::FAILURE
        }
    }
}
