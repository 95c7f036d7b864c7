//! Child processes: short ones whose output the caller needs, and long ones
//! that end with their guard.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cleanup::Cleanup;
use crate::wait;

/// How long a process may take to end after SIGTERM before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// Returns a command for `program`. If that is not on PATH, it is looked for in
/// /usr/sbin and /sbin, because a shell that `su` started may lack those.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let program = program.as_ref();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).any(|dir| dir.join(program).exists());
    let elsewhere = ["/usr/sbin", "/sbin"].map(|dir| Path::new(dir).join(program));
    let elsewhere = elsewhere.into_iter().find(|file| !on_path && file.exists());
    elsewhere.map_or_else(|| Command::new(program), Command::new)
}

/// Runs `command` to its end and returns its standard output. The error
/// message of a failure contains the command line and standard error.
pub(crate) fn output_of(command: &mut Command) -> Result<String> {
    output_with_input(command, "")
}

/// Like [`output_of`], with `input` on standard input.
pub(crate) fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Ignore errors: a program that does not read may have closed its end,
        // and the exit status tells whether it failed.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A child process. It is ended (SIGTERM, after 5 s SIGKILL) when its guard is
/// dropped, and on Ctrl-C.
#[derive(Debug)]
pub struct Process {
    child: Arc<Mutex<Child>>,
    end: Option<Cleanup>,
}

impl Process {
    /// Starts `command`, whose streams are as the caller set them.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let child = Arc::new(Mutex::new(child));
        let end = Cleanup::new({
            let child = Arc::clone(&child);
            move || terminate(&mut child.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(Self {
            child,
            end: Some(end),
        })
    }

    /// Calls `with` on the child, for its pid and its pipes.
    pub fn with_child<T>(&self, with: impl FnOnce(&mut Child) -> T) -> T {
        with(&mut self.child.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.with_child(|child| child.id())
    }

    /// Sends `signal`, unless the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.with_child(|child| {
            if child.try_wait()?.is_none() {
                kill(pid_of(child), signal)?;
            }
            Ok(())
        })
    }

    /// Ends the process with SIGKILL, unless it has ended.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Returns whether the process still runs.
    pub fn is_running(&self) -> bool {
        self.with_child(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Waits at most `within` for the process to end.
    pub fn wait(&self, within: Duration) -> Result<ExitStatus> {
        wait::try_until("a process to end", within, || {
            self.with_child(|child| match child.try_wait() {
                Ok(Some(status)) => Ok(status),
                other => Err(other),
            })
        })
    }

    /// Ends the process (SIGTERM, after 5 s SIGKILL) and returns its status.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.end.take();
        self.with_child(|child| child.wait())
            .context("wait for a child")
    }
}

fn terminate(child: &mut Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    let _ = kill(pid_of(child), Signal::SIGTERM);
    let ended = wait::try_until("a process to end", GRACE, || match child.try_wait() {
        Ok(None) => Err(()),
        _ => Ok(()),
    });
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}
