//! The terminal: frames that are redrawn in place, or a line each second
//! where that cannot be.

use std::env;
use std::io::{IsTerminal as _, Write as _, stdout};

use mptcp_lab::cleanup::Cleanup;
use rustix::termios::tcgetwinsize;

/// Columns that a frame may have.
pub const WIDTH: usize = 80;

/// What is shown, again and again.
pub trait Frame {
    /// Lines that it has.
    const HEIGHT: usize;

    /// What is shown now; said once where frames are lines.
    fn title(&self) -> &str;

    /// For a pipe; `None`: nothing worth a line.
    fn line(&self) -> Option<String>;

    /// For a terminal: [`Frame::HEIGHT`] lines of at most [`WIDTH`] columns.
    fn lines(&self, paint: Paint) -> Vec<String>;
}

/// Whether to use colours.
#[derive(Clone, Copy)]
pub struct Paint(pub bool);

impl Paint {
    pub const BOLD: &str = "1";
    pub const DIM: &str = "2";
    pub const RED: &str = "31";
    pub const GREEN: &str = "32";
    pub const YELLOW: &str = "33";

    /// The text in a colour.
    pub fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Where frames go.
pub struct Screen {
    live: bool,
    paint: Paint,
    /// The title of the last frame.
    title: String,
    _cursor: Option<Cleanup>,
}

impl Screen {
    /// As standard output and the environment allow, for frames of a height.
    pub fn new(height: usize) -> Self {
        let terminal = stdout().is_terminal();
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = terminal && !dumb && has_room(height);
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let cursor = live.then(|| {
            print!("\x1b[?25l");
            // Also on Ctrl-C.
            Cleanup::new(|| {
                print!("\x1b[?25h");
                let _ = stdout().flush();
            })
        });
        Self {
            live,
            paint: Paint(live && !no_color),
            title: String::new(),
            _cursor: cursor,
        }
    }

    /// Shows a frame in place of the last one.
    pub fn show<F: Frame>(&mut self, frame: &F) {
        let last = std::mem::replace(&mut self.title, frame.title().to_owned());
        if !self.live {
            if last != frame.title() {
                println!("{}", frame.title());
            }
            if let Some(line) = frame.line() {
                println!("{line}");
            }
            return;
        }
        let mut text = String::new();
        if !last.is_empty() {
            text += &format!("\x1b[{}A", F::HEIGHT);
        }
        for line in frame.lines(self.paint) {
            text += &format!("{line}\x1b[K\n");
        }
        print!("{text}");
        // A terminal that is gone ends us by a signal.
        let _ = stdout().flush();
    }
}

fn has_room(height: usize) -> bool {
    // A terminal that does not know its size says 0.
    let fits = |has: u16, needs: usize| has == 0 || usize::from(has) >= needs;
    tcgetwinsize(stdout())
        .is_ok_and(|size| fits(size.ws_col, WIDTH) && fits(size.ws_row, height + 1))
}
