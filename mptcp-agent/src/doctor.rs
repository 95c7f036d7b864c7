//! `mptcp-agent doctor`: looks for what keeps MPTCP or the agent from working,
//! and says how to mend it. It changes nothing.
//!
//! Each check is a pure function from what was seen to a finding. What the checks
//! of several subjects need is looked at once ([`sight`]); what one of them needs
//! is read beside it.
//!
//! | file | what it checks |
//! |---|---|
//! | `kernel` | what the kernel offers: MPTCP, its types, BBR, cgroups, pins |
//! | `settings` | sysctls |
//! | `endpoints` | the kernel's path manager |
//! | `paths` | routes and devices |
//! | `programs` | BPF programs of others |
//! | `counters` | what the kernel counts, and whether it rises |
//! | `connections` | the sockets that are open |
//! | `agent` | the agent that runs |

mod agent;
mod connections;
mod counters;
mod endpoints;
mod finding;
mod kernel;
mod paths;
mod programs;
mod report;
mod settings;
mod sight;

use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{DOCTOR_USAGE, DoctorArgs};
use crate::client::terminal::Terminal;
use finding::Finding;
use report::Report;
use sight::Sight;

/// Runs every check and prints the findings. The exit code is 0, 1 if there are
/// warnings, 2 if there are problems, and [`DOCTOR_USAGE`] if the arguments are
/// wrong; then one line on stderr says why.
pub fn run(args: &DoctorArgs) -> ExitCode {
    let findings = match examine(args) {
        Ok(findings) => findings,
        Err(error) => {
            let _ = writeln!(io::stderr(), "mptcp-agent: error: {error:#}");
            return ExitCode::from(DOCTOR_USAGE);
        }
    };
    let report = Report::new(findings);
    let text = match args.json {
        true => report.json(),
        false => report.text(Terminal::of_stdout()),
    };
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    // The reader may need no more (`| head`); the exit code tells it the result.
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        let _ = writeln!(
            io::stderr(),
            "mptcp-agent: error: cannot write to stdout: {error}"
        );
    }
    ExitCode::from(report.exit_code())
}

/// Looks at the host and runs every check.
///
/// # Errors
/// An argument names what is not there.
fn examine(args: &DoctorArgs) -> Result<Vec<Finding>> {
    let sight = Sight::look(args)?;
    let subjects = [
        kernel::checks,
        settings::checks,
        endpoints::checks,
        paths::checks,
        programs::checks,
        counters::checks,
        connections::checks,
        agent::checks,
    ];
    Ok(subjects.iter().flat_map(|checks| checks(&sight)).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_documentation_lists_each_check() {
        let text = include_str!("../../docs/doctor.md");
        // Above are tables of other things.
        let (_, tables) = text.split_once("## The kernel").unwrap();
        let documented: Vec<&str> = tables
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
            .map(|(name, _)| name)
            .collect();
        let args = DoctorArgs {
            json: false,
            control: Some("/nonexistent/mptcp-agent.sock".into()),
            cgroup: None,
            btf: None,
        };
        let findings = examine(&args).unwrap();
        let names: Vec<&str> = findings.iter().map(|finding| finding.name).collect();
        assert_eq!(documented, names);
    }
}
