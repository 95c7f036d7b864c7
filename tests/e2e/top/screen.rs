//! A terminal that a test reads: a pseudo-terminal, and what a terminal makes of
//! what a program writes to it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use mptcp_lab::Process;
use mptcp_lab::{Host, wait};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{Termios, tcgetattr};

use crate::SOON;

/// A program on a terminal of its own.
pub(super) struct Screen {
    process: Process,
    master: File,
    /// Keeps the terminal there after the program's end, and tells its modes.
    slave: File,
    modes: Termios,
    seen: Arc<Mutex<Seen>>,
}

/// The bytes that were sent to the terminal.
struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

fn winsize(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Returns the size that is kept of a screen, which may claim more than memory holds.
fn size(of: u16) -> NonZeroU16 {
    NonZeroU16::new(of.min(1000)).unwrap_or(NonZeroU16::MIN)
}

impl Screen {
    /// Starts a command on a terminal of this size, which is its controlling one.
    pub(super) fn start(
        host: &Host,
        command: &mut Command,
        columns: u16,
        rows: u16,
    ) -> Result<Self> {
        let OpenptyResult { master, slave } = openpty(&winsize(columns, rows), None)?;
        let (master, slave) = (File::from(master), File::from(slave));
        let modes = tcgetattr(slave.as_fd())?;
        command
            .env("TERM", "xterm-256color")
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave.try_clone()?);
        // SAFETY: the closure makes two system calls, which is allowed after a
        // fork.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                // SAFETY: stdin is the terminal; the request takes no pointer.
                match libc::ioctl(0, libc::TIOCSCTTY, 0) {
                    -1 => Err(std::io::Error::last_os_error()),
                    _ => Ok(()),
                }
            });
        }
        let process = host.spawn(command)?;
        let seen = Arc::new(Mutex::new(Seen {
            parser: vt100::Parser::new(size(rows), size(columns), 0),
            bytes: Vec::new(),
        }));
        let (mut reader, into) = (master.try_clone()?, Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = reader.read(&mut buffer) {
                if count == 0 {
                    return;
                }
                let mut seen = into.lock().unwrap_or_else(PoisonError::into_inner);
                seen.parser.process(&buffer[..count]);
                seen.bytes.extend_from_slice(&buffer[..count]);
            }
        });
        Ok(Self {
            process,
            master,
            slave,
            modes,
            seen,
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the lines of the screen.
    pub(super) fn text(&self) -> String {
        self.seen().parser.screen().contents()
    }

    /// Returns all that was sent to the terminal.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.seen().bytes.clone()
    }

    /// Types.
    pub(super) fn keys(&self, keys: &str) -> Result<()> {
        (&self.master).write_all(keys.as_bytes()).context("type")
    }

    /// Gives the terminal another size.
    pub(super) fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        self.seen()
            .parser
            .screen_mut()
            .set_size(size(rows), size(columns));
        let size = winsize(columns, rows);
        // SAFETY: the request reads a `winsize`, which outlives the call.
        let done =
            unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        nix::errno::Errno::result(done).context("resize").map(drop)
    }

    /// Waits until the screen's text fits, and returns it.
    pub(super) fn until(&self, what: &str, fits: impl Fn(&str) -> bool) -> Result<String> {
        self.until_within(what, SOON * 2, fits)
    }

    /// Waits until the screen's text fits, for at most `within`, and returns it.
    pub(super) fn until_within(
        &self,
        what: &str,
        within: Duration,
        fits: impl Fn(&str) -> bool,
    ) -> Result<String> {
        wait::try_until(what, within, || {
            let text = self.text();
            if fits(&text) {
                return Ok(text);
            }
            // One line a line, so that a failure can be read.
            Err(text.lines().map(str::to_owned).collect::<Vec<_>>())
        })
    }

    /// Waits until the screen has all these texts, which may be wrapped in a box,
    /// and returns its text.
    pub(super) fn shows(&self, texts: &[&str]) -> Result<String> {
        self.until(&format!("{texts:?}"), |screen| {
            let words = screen.split(|one: char| one == '│' || one.is_whitespace());
            let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
            let unwrapped = words.join(" ");
            let mut texts = texts.iter();
            texts.all(|text| screen.contains(text) || unwrapped.contains(text))
        })
    }

    /// Sends a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Waits for the program's end.
    pub(super) fn ended(&self) -> Result<ExitStatus> {
        self.process.wait(SOON)
    }

    /// Waits until the terminal is as it was before the program started.
    pub(super) fn is_restored(&self) -> Result<()> {
        assert_eq!(tcgetattr(self.slave.as_fd())?, self.modes);
        wait::try_until("the ordinary screen", SOON, || {
            let seen = self.seen();
            let screen = seen.parser.screen();
            match (screen.alternate_screen(), screen.hide_cursor()) {
                (false, false) => Ok(()),
                state => Err(state),
            }
        })
    }
}
