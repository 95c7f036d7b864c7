//! The terminal: its modes are as they were after any end that the process can
//! notice, be it a panic, a signal or a hang-up.

use std::io::{self, Stdout, stdin, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, channel};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, raise};
use ratatui::backend::{Backend as _, CrosstermBackend};
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::execute;
use ratatui::crossterm::style::ResetColor;
use ratatui::crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::{Rect, Size};
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};
use rustix::event::{PollFd, PollFlags, poll};

use super::source::Message;

/// The signals that end the view.
const ENDS: [Signal; 6] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// How long the end waits for a drawing, and for a terminal that takes nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// The part of the terminal that is drawn on, from its upper left corner. A terminal
/// may claim to have 65535x65535 characters, whose buffers no memory holds.
const LARGEST: Size = Size::new(500, 250);

/// The exit code of a program of Rust that panics.
const PANICKED: i32 = 101;

/// Whether the terminal is in the modes of the view.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The lock that is held while something is drawn.
static DRAWING: Mutex<()> = Mutex::new(());

/// The terminal in the modes of the view. Dropping it restores the modes.
pub struct Tty {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    /// The size of the terminal when it was last drawn on.
    size: Size,
}

impl Tty {
    /// Takes the terminal, and sees to it that every end restores it. Call this
    /// before the process has other threads, because they inherit the mask of
    /// signals.
    ///
    /// # Errors
    /// The terminal does not take the modes.
    pub fn open() -> io::Result<Self> {
        let ends: SigSet = ENDS.into_iter().collect();
        ends.thread_block()?;
        spawn(move || {
            if let Ok(signal) = ends.wait() {
                end_by(signal);
            }
        });
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            earlier(info);
            // A panic of any thread would leave a view that shows nothing new.
            std::process::exit(PANICKED);
        }));
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        spawn(end_by_hangup);
        // The terminal is not asked where its cursor is, as `Terminal::clear` does:
        // some do not answer.
        let taken = execute!(stdout(), EnterAlternateScreen, Clear(ClearType::All));
        taken.and_then(|()| Self::new()).inspect_err(|_| restore())
    }

    fn new() -> io::Result<Self> {
        let backend = CrosstermBackend::new(stdout());
        let size = backend.size()?;
        let viewport = Viewport::Fixed(drawn_on(size));
        let terminal = Terminal::with_options(backend, TerminalOptions { viewport })?;
        Ok(Self { terminal, size })
    }

    /// Draws, unless the terminal is restored already.
    ///
    /// # Errors
    /// The terminal takes no output.
    pub fn draw(&mut self, with: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        let _drawing = DRAWING.lock();
        if TAKEN.load(Ordering::SeqCst) {
            let size = self.terminal.size()?;
            if size != self.size {
                self.terminal.resize(drawn_on(size))?;
                self.size = size;
            }
            self.terminal.draw(with)?;
        }
        Ok(())
    }
}

/// Returns the part of a terminal of this size that is drawn on.
fn drawn_on(size: Size) -> Rect {
    let (width, height) = (
        size.width.min(LARGEST.width),
        size.height.min(LARGEST.height),
    );
    Rect::new(0, 0, width, height)
}

impl Drop for Tty {
    fn drop(&mut self) {
        restore();
    }
}

/// Sends the keys, and says that the size has changed.
pub fn read_keys(to: SyncSender<Message>) {
    spawn(move || {
        loop {
            let message = match event::read() {
                Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => Message::Key(key),
                Ok(Event::Resize(..)) => Message::Resized,
                Ok(_) => continue,
                Err(error) => Message::TerminalFailed(error),
            };
            let failed = matches!(message, Message::TerminalFailed(_));
            if to.send(message).is_err() || failed {
                return;
            }
        }
    });
}

/// Restores the modes, if they are not restored yet. Waits for a drawing to be
/// complete, but not for ever: it may be this thread's own, which panics.
fn restore() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let _drawing = wait_for_drawing();
    // This waits for nothing, while a terminal may take no output.
    let _ = disable_raw_mode();
    let _ = execute!(stdout(), ResetColor, LeaveAlternateScreen, Show);
}

fn wait_for_drawing() -> Option<MutexGuard<'static, ()>> {
    let begin = Instant::now();
    loop {
        match DRAWING.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if begin.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(5));
            }
            Err(TryLockError::WouldBlock) => return None,
        }
    }
}

/// Restores the terminal and dies of the signal, as who sent it expects.
fn end_by(signal: Signal) {
    let (done, restored) = channel();
    // Output may be stopped (Ctrl-S), and then writing never returns.
    spawn(move || {
        restore();
        let _ = done.send(());
    });
    let _ = restored.recv_timeout(PATIENCE * 2);
    let _ = SigSet::from(signal).thread_unblock();
    let _ = raise(signal);
    // Whoever started this process ignores the signal.
    std::process::exit(128 + signal as i32);
}

/// Ends the view when the terminal is gone, even if no signal says so, as when
/// the terminal is not the controlling one.
fn end_by_hangup() {
    let input = stdin();
    loop {
        let mut watched = [PollFd::new(&input, PollFlags::empty())];
        match poll(&mut watched, None) {
            Ok(_) if !watched[0].revents().is_empty() => return end_by(Signal::SIGHUP),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::AsFd as _;
    use std::process::Command;

    use nix::pty::openpty;
    use nix::sys::termios::tcgetattr;

    use super::*;

    /// Takes the terminal and panics. The test below runs this on a terminal.
    #[test]
    #[ignore = "panics on purpose, and takes the terminal"]
    fn panics_while_it_draws() {
        let mut tty = Tty::open().unwrap();
        tty.draw(|_| panic!("for the test")).unwrap();
    }

    #[test]
    fn a_panic_leaves_the_terminal_as_it_was() {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(pty.slave.as_fd()).unwrap();
        let slave = File::from(pty.slave);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["client::top::tty::tests::panics_while_it_draws", "--exact"])
            .args(["--ignored", "--nocapture"])
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut master = File::from(pty.master);
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        let text = loop {
            let count = master.read(&mut buffer).unwrap();
            said.extend_from_slice(&buffer[..count]);
            let text = String::from_utf8_lossy(&said).into_owned();
            if text.contains("for the test") {
                break text;
            }
        };
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(PANICKED), "{text:?}");
        assert_eq!(tcgetattr(slave.as_fd()).unwrap(), before);
        let left = text.find("\x1b[?1049l").unwrap();
        assert!(text.contains("\x1b[?1049h") && text.contains("\x1b[?25h"));
        assert!(left < text.find("for the test").unwrap(), "{text:?}");
    }
}
