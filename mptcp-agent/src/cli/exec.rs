//! Arguments of `exec`.

use std::ffi::OsString;
use std::io::Write as _;

use clap::{Args, ValueEnum};

/// The exit code if `exec` itself fails, as `env` has it. The program's own codes
/// are its own.
pub const FAILED: u8 = 125;

const EXIT_STATUS: &str = "\
Exit status:
  125  exec refuses, or its arguments are wrong
  126  CMD was found, but cannot be run
  127  CMD was not found
  any other is that of CMD, which takes the place of this process";

/// Arguments of `exec`.
#[derive(Args, Debug)]
#[command(after_long_help = EXIT_STATUS)]
pub struct ExecArgs {
    /// The way to make TCP sockets MPTCP sockets
    #[arg(long, value_enum, default_value = "auto")]
    pub way: WayArg,

    /// Do not say on stderr which way was taken
    #[arg(short, long)]
    pub quiet: bool,

    /// The program to run, and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub command: Vec<OsString>,
}

/// `--way`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WayArg {
    /// The first of the others that works here for this program
    Auto,
    /// A BPF program on sockets of a cgroup of its own: reaches every program, but
    /// needs Linux 6.6 or later, CAP_BPF, CAP_PERFMON and a cgroup to write to
    Bpf,
    /// The agent's own library in LD_PRELOAD: needs no rights, works for
    /// dynamically linked programs
    Preload,
    /// The installed mptcpize, which does the same with a library of its own
    Mptcpize,
}

/// Prints a usage error in one line, and exits with [`FAILED`]: the usual 2 may
/// be a code of the program.
pub(super) fn exit(error: &clap::Error) -> ! {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let what = first.strip_prefix("error: ").unwrap_or(first);
    let what: Vec<&str> = what.split_whitespace().collect();
    let _ = writeln!(
        std::io::stderr(),
        "mptcp-agent: error: {} (see mptcp-agent exec --help)",
        what.join(" ")
    );
    std::process::exit(FAILED.into())
}
