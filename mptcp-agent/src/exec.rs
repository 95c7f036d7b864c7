//! `mptcp-agent exec`: runs a program with its TCP sockets turned into MPTCP
//! sockets. The program takes the place of this process, so that its exit code,
//! its signals and its streams are its own.
//!
//! | file | what it does |
//! |---|---|
//! | `program` | finds the program, as the shell would |
//! | `target` | looks which ELF file will run, and how it is linked |
//! | `way` | chooses the way, or says why none works |
//! | `bpf` | loads and attaches a BPF program that changes sockets of a cgroup |
//! | `group` | makes that cgroup, and keeps the program attached while it is in use |
//! | `library` | finds the preload library, or writes it to a private directory |
//! | `environment` | adds to `LD_PRELOAD` and `GODEBUG` |

mod bpf;
mod environment;
mod group;
mod library;
mod program;
mod target;
mod way;

use std::cell::Cell;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::execvpe;

use crate::cli::{EXEC_FAILED, ExecArgs};
use crate::host;
use group::Group;
use program::NotRun;
use target::Target;
use way::{Choice, Means, Way};

/// The preload library, built by `build.rs`; empty if it could not be built.
pub const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libmptcp-preload.so"));

/// The file name of the library, where it is installed.
pub const LIBRARY_NAME: &str = "libmptcp-preload.so";

/// Runs the program. Returns only if that fails, with the exit code that `env`
/// would have: [`EXEC_FAILED`], 126 or 127. One line on stderr says why.
pub fn run(args: &ExecArgs) -> ExitCode {
    let NotRun { code, why } = match prepare(args) {
        Ok(start) => start.exec(),
        Err(failure) => failure,
    };
    say(format_args!("error: {why}"));
    ExitCode::from(code)
}

/// A program that is ready to run.
struct Start {
    file: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    /// The cgroup to run in.
    group: Option<Group>,
}

fn prepare(args: &ExecArgs) -> Result<Start, NotRun> {
    let path = env::var_os("PATH");
    let name = args.command.first().map_or(OsStr::new(""), |name| name);
    let file = program::find(name, path.as_deref())?;
    let target = Target::of(&file, path.as_deref());
    let mptcp = host::check_mptcp();
    let group = Cell::new(None);
    let means = Means {
        bpf: &|| {
            // The library asks for TCP where MPTCP is refused. BPF cannot.
            if let Err(why) = &mptcp {
                return Err(why.to_string());
            }
            let made = Group::make().map_err(|why| format!("{why:#}"))?;
            group.set(Some(made));
            Ok(())
        },
        may_load_programs: host::may_load_programs(),
        library: &library::place,
        mptcpize: &|| program::find(OsStr::new("mptcpize"), path.as_deref()).ok(),
    };
    let refused = |why| NotRun {
        code: EXEC_FAILED,
        why,
    };
    let Choice { way, not_bpf } = way::choose(args.way, &target, &means).map_err(refused)?;
    if !args.quiet {
        if let Some(why) = not_bpf {
            say(format_args!("exec: not by bpf: {why}"));
        }
        say(format_args!("exec: {}", way.describe()));
    }
    if let Err(why) = mptcp {
        say(format_args!(
            "exec: warning: {why}; until then, sockets are plain TCP"
        ));
    }
    let mut start = start(&way, file, &args.command);
    start.group = group.take();
    Ok(start)
}

/// Works out what is to run, and with which environment.
fn start(way: &Way, file: PathBuf, command: &[OsString]) -> Start {
    let mut start = Start {
        file,
        arguments: command.to_vec(),
        environment: env::vars_os().collect(),
        group: None,
    };
    if *way == Way::Bpf {
        return start;
    }
    environment::set(&mut start.environment, "GODEBUG", environment::godebug);
    match way {
        Way::Preload(library) => environment::set(&mut start.environment, "LD_PRELOAD", |old| {
            environment::preload(old, library)
        }),
        Way::Mptcpize(mptcpize) => {
            // mptcpize looks for the program on PATH, and passes its arguments on.
            let words = [OsString::from("mptcpize"), OsString::from("run")];
            start.arguments.splice(..0, words);
            start.file.clone_from(mptcpize);
        }
        Way::Go | Way::Bpf => {}
    }
    start
}

impl Start {
    /// Puts the program in the place of this process. Returns only if that fails.
    fn exec(self) -> NotRun {
        if let Some(group) = self.group
            && let Err(why) = group.enter()
        {
            return NotRun {
                code: EXEC_FAILED,
                why: format!("{why:#}"),
            };
        }
        // Rust's runtime ignores SIGPIPE, and the program would inherit that.
        // SAFETY: this installs no handler, and no other thread is running.
        let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
        let shown = self.file.display().to_string();
        let variables = self.environment.into_iter().map(|(name, value)| {
            let mut variable = name.into_vec();
            variable.push(b'=');
            variable.extend(value.into_vec());
            variable
        });
        let variables: Vec<_> = variables.filter_map(|one| CString::new(one).ok()).collect();
        let words = self.arguments.into_iter().map(OsString::into_vec);
        let words: Vec<_> = words.filter_map(|one| CString::new(one).ok()).collect();
        let Ok(file) = CString::new(self.file.as_os_str().as_bytes()) else {
            return NotRun::not_runnable(format!("{shown}: a path with a zero byte"));
        };
        match execvpe(&file, &words, &variables) {
            Err(Errno::ENOENT) if Path::new(&shown).exists() => NotRun::not_runnable(format!(
                "cannot run {shown}: its interpreter is not there (the dynamic loader, or what \
                 its first line names)"
            )),
            Err(error) => {
                NotRun::not_runnable(format!("cannot run {shown}: {}", io::Error::from(error)))
            }
        }
    }
}

/// Prints one line to stderr. Nobody may be there to read it.
fn say(what: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "mptcp-agent: {what}");
}
