//! Arguments of `doctor`.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;

use crate::host::socket_path;

/// The exit code of wrong arguments. 2 says that there are problems.
pub const USAGE: u8 = 64;

const EXIT_STATUS: &str = "\
Exit status:
  0   all is well, as far as could be seen
  1   there are warnings
  2   there are problems
  64  the arguments are wrong";

/// Arguments of `doctor`.
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_STATUS)]
pub struct DoctorArgs {
    /// Print the checks as JSON
    #[arg(long)]
    pub json: bool,

    /// The agent's control socket [default: that of this network namespace's agent]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// The cgroup2 directory of the agent, if it is started with one
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,

    /// The file with the kernel's types, if the agent is started with one
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
}

impl DoctorArgs {
    /// Checks what can be checked without looking at the host.
    ///
    /// # Errors
    /// One line that says what is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        match &self.control {
            Some(path) if !socket_path::fits(path) => Err(format!(
                "--control {} is too long: a socket's path has at most {} bytes",
                path.display(),
                socket_path::LONGEST
            )),
            _ => Ok(()),
        }
    }
}

/// Prints a usage error in one line, and exits with [`USAGE`].
pub(super) fn exit(error: &clap::Error) -> ! {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let what = first.strip_prefix("error: ").unwrap_or(first);
    let _ = writeln!(
        std::io::stderr(),
        "mptcp-agent: error: {what} (see mptcp-agent doctor --help)"
    );
    std::process::exit(USAGE.into())
}
