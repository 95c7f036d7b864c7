//! The commands that talk to a running agent. Each one sends a request, prints
//! the answer, and ends with an exit code.
//!
//! There is a file for each verb. No command waits for ever if the agent hangs,
//! or if something else has its socket; but `events` waits for the next event.
//! Text from the socket is printed without control characters.

mod connection;
mod connections;
mod endpoints;
mod events;
mod format;
mod policy;
mod quota;
mod reload;
mod rules;
mod status;
mod table;
pub mod terminal;
mod top;

use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use mptcp_api::line;
use mptcp_api::schema::{ErrorCode, Refusal, Reply, Request, Status, one_line};

use crate::cli::{ClientJob, EndpointsArgs, Verb};
use connection::Connection;
use terminal::Terminal;

/// The exit code of a failed command. Clap uses 2 for wrong arguments, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The agent refused the request or failed, or does not answer.
    Failed = 1,
    /// The arguments do not make a valid request.
    Usage = 2,
    /// No agent is running.
    NoAgent = 3,
    /// The user has no permission.
    Denied = 4,
    /// The other end speaks another protocol, or another version of it.
    Foreign = 5,
}

/// Why a command failed.
#[derive(Debug)]
struct Failure {
    fault: Fault,
    message: String,
    /// Whether to print no error: stdout was closed because its reader needs no
    /// more.
    quiet: bool,
}

impl Failure {
    fn new(fault: Fault, message: impl AsRef<str>) -> Self {
        Self {
            fault,
            message: one_line(message.as_ref()),
            quiet: false,
        }
    }

    /// Makes a failure of the agent's refusal.
    fn refused(refusal: &Refusal) -> Self {
        let fault = match refusal.code {
            ErrorCode::Forbidden => Fault::Denied,
            // The agent and this client are of different versions.
            ErrorCode::Malformed | ErrorCode::Version => Fault::Foreign,
            ErrorCode::TooLong | ErrorCode::Busy | ErrorCode::Refused | ErrorCode::Failed => {
                Fault::Failed
            }
        };
        Self::new(fault, format!("the agent refuses: {}", refusal.message))
    }

    /// The reply does not answer the request.
    fn unexpected() -> Self {
        let why = "the agent answers something else than was asked";
        Self::new(Fault::Foreign, why)
    }

    /// Writing to stdout failed.
    fn output(error: &io::Error) -> Self {
        Self {
            quiet: error.kind() == ErrorKind::BrokenPipe,
            ..Self::new(Fault::Failed, format!("cannot write to stdout: {error}"))
        }
    }
}

/// Runs a command. If it fails, prints one line on stderr that says why.
pub fn run(job: &ClientJob) -> ExitCode {
    exit(perform(job))
}

/// Runs `endpoints`, which needs no agent, and says why if it fails.
pub fn run_endpoints(args: &EndpointsArgs) -> ExitCode {
    exit(endpoints::run(args))
}

fn exit(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.quiet => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "mptcp-agent: error: {}", failure.message);
            ExitCode::from(failure.fault as u8)
        }
    }
}

fn perform(job: &ClientJob) -> Result<(), Failure> {
    let mut agent = Connection::open(job.control.as_deref())?;
    let output = Output {
        terminal: Terminal::of_stdout(),
        json: job.json,
    };
    match &job.verb {
        Verb::PolicyShow => policy::show(&mut agent, output),
        Verb::PolicySet {
            policy,
            for_seconds,
            save,
        } => policy::set(&mut agent, output, policy, *for_seconds, *save),
        Verb::RulesShow => rules::show(&mut agent, output),
        Verb::RulesSet(set) => rules::set(&mut agent, output, set),
        Verb::RulesTest(candidate) => rules::test(&mut agent, output, candidate),
        Verb::Reload => reload::run(&mut agent, output),
        Verb::Status => status::run(&mut agent, output),
        Verb::Connections { sort } => connections::run(&mut agent, output, *sort),
        Verb::QuotaShow => quota::show(&mut agent, output),
        Verb::QuotaReset { path } => quota::reset(&mut agent, output, path),
        Verb::Events => events::run(agent, output),
        Verb::Top => top::run(agent, job.control.as_deref(), output.terminal),
    }
}

/// Asks the agent of this namespace, if there is one, to end and to leave
/// everything in place. Returns whether there was one.
///
/// # Errors
/// There is an agent, but it did not do so.
pub fn hand_over(control: Option<&Path>) -> anyhow::Result<bool> {
    let exchange = || {
        let mut agent = Connection::open(control)?;
        agent.ask(&Request::HandOver)?;
        agent.answer_or_end()
    };
    match exchange() {
        // The agent may have ended before its answer was sent.
        Ok(Some(Reply::HandedOver) | None) => Ok(true),
        Ok(Some(_)) => Err(anyhow::anyhow!(Failure::unexpected().message)),
        Err(failure) if failure.fault == Fault::NoAgent => Ok(false),
        Err(failure) => Err(anyhow::anyhow!(failure.message)),
    }
}

/// Why an agent that is there did not tell its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// Whether this user may not ask it.
    pub denied: bool,
    /// The reason, in one line.
    pub message: String,
}

/// Asks the agent at `control`, or else that of this namespace, for its state.
/// Returns `None` if there is no agent.
///
/// # Errors
/// There is one, but it did not answer.
pub fn ask_status(control: Option<&Path>) -> Result<Option<Status>, NoAnswer> {
    let exchange = || match Connection::open(control)?.exchange(&Request::Status)? {
        Reply::Status(status) => Ok(*status),
        _ => Err(Failure::unexpected()),
    };
    match exchange() {
        Ok(status) => Ok(Some(status)),
        Err(failure) if failure.fault == Fault::NoAgent => Ok(None),
        Err(failure) => Err(NoAnswer {
            denied: failure.fault == Fault::Denied,
            message: failure.message,
        }),
    }
}

/// How results are written to stdout.
#[derive(Clone, Copy, Debug)]
struct Output {
    terminal: Terminal,
    json: bool,
}

impl Output {
    /// Writes the reply as JSON, or as the text that `text` makes of it.
    fn write(self, reply: &Reply, text: impl FnOnce(Terminal) -> String) -> Result<(), Failure> {
        if self.json {
            let line = line::reply(reply).map_err(|error| Failure::output(&error.into()))?;
            return print(&line);
        }
        print(text(self.terminal).as_bytes())
    }
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::output(&error))
}

#[cfg(test)]
mod tests;
