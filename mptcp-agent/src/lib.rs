//! Observes and steers Multipath TCP on a stock Linux kernel. `main` only calls
//! [`run`].
//!
//! ```text
//!   cli -> config (its file)      -> policy; config check, show, example
//!   cli -> policy; host (checks) -> kernel (load, attach) -> agent (the loop)
//!   kernel (events, maps)        -> state                 -> api, log
//!   policy, net (devices)        -> state (paths)         -> kernel
//!   rules (which policy)         -> policy               -> kernel
//!   policy, net (devices)        -> manage (endpoints)     -> net
//!   redundancy (peers, copies)  <-> agent, its UDP port   -> kernel
//!   web (TLS, passwords)        -> api (HTTP)
//!   agent                        -> systemd (is ready, alive, ends)
//!   cli -> client                <-> api (control), of the agent that runs (mptcp-api)
//!   cli -> doctor (checks)        -> host, net, kernel, client: looks, and changes nothing
//!   cli -> exec                   -> host: becomes another program
//! ```

mod agent;
mod api;
mod cli;
mod client;
mod config;
mod doctor;
mod exec;
mod host;
mod kernel;
mod logging;
mod manage;
mod net;
mod peering;
mod policy;
mod redundancy;
mod rules;
mod state;
mod systemd;
mod web;

use std::process::ExitCode;

use cli::{Job, LogFormat};
use config::Reloader;

/// The version of this agent.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that this was built from, or `unknown`.
pub const COMMIT: &str = match option_env!("MPTCP_AGENT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// A configuration file with every key and comments, as `config example` prints it.
pub const CONFIG_EXAMPLE: &str = config::EXAMPLE;

/// The preload library of `exec`, and the name of its file, for packages. It is
/// empty if it could not be built.
pub const PRELOAD_LIBRARY: (&str, &[u8]) = (exec::LIBRARY_NAME, exec::LIBRARY);

/// Describes the command line, for man pages and completions.
pub fn command_line() -> clap::Command {
    cli::command()
}

/// Does what the command line asks for.
pub fn run() -> ExitCode {
    match cli::parse() {
        Job::Run(flags) => match config::load(&flags) {
            Ok(loaded) => logged(loaded.args.log_format, || {
                let reloader = Reloader::new(*flags, loaded.args.clone());
                agent::run(&loaded, reloader)
            }),
            Err(wrong) => {
                logging::init(flags.args.log_format);
                logging::report::failure(flags.args.log_format, &anyhow::anyhow!("{wrong}"));
                wrong.exit_code()
            }
        },
        Job::Config(job) => config::run(&job),
        Job::Cleanup(args) => logged(args.log_format, || {
            agent::cleanup::run(args.cgroup.as_deref(), args.btf.as_deref())
                .map(|()| ExitCode::SUCCESS)
        }),
        Job::Client(job) => client::run(&job),
        Job::Endpoints(args) => client::run_endpoints(&args),
        Job::Doctor(args) => doctor::run(&args),
        Job::Exec(args) => exec::run(&args),
    }
}

fn logged(format: LogFormat, job: impl FnOnce() -> anyhow::Result<ExitCode>) -> ExitCode {
    logging::init(format);
    match job() {
        Ok(code) => code,
        Err(error) => {
            logging::report::failure(format, &error);
            ExitCode::FAILURE
        }
    }
}
