//! The terminal: redraws frames in place, or prints lines if the output cannot
//! do that.

use std::env;
use std::io::{IsTerminal as _, Write as _, stdout};

use mptcp_lab::cleanup::Cleanup;
use rustix::termios::tcgetwinsize;

/// How many columns a frame may have.
pub const WIDTH: usize = 80;

/// Something that is shown repeatedly.
pub trait Frame {
    /// The number of its lines.
    const HEIGHT: usize;

    /// Returns the title. Without a terminal it is printed only when it changes.
    fn title(&self) -> &str;

    /// Returns the line for a pipe; `None` if there is nothing worth a line.
    fn line(&self) -> Option<String>;

    /// Returns [`Frame::HEIGHT`] lines of at most [`WIDTH`] columns for a terminal.
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

    /// Returns the text in a colour.
    pub fn with(self, code: &str, text: &str) -> String {
        if self.0 {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The output on which frames are shown.
pub struct Screen {
    live: bool,
    paint: Paint,
    /// The title of the last frame.
    title: String,
    _cursor: Option<Cleanup>,
}

impl Screen {
    /// Makes a screen for frames of `height` lines, as standard output and the
    /// environment allow.
    pub fn new(height: usize) -> Self {
        let terminal = stdout().is_terminal();
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = terminal && !dumb && has_room(height);
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let cursor = live.then(|| {
            print!("\x1b[?25l");
            // A clean-up shows the cursor again on Ctrl-C too.
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
        // Ignore errors: if the terminal goes, a signal ends this process.
        let _ = stdout().flush();
    }
}

fn has_room(height: usize) -> bool {
    // A terminal that does not know its size reports 0.
    let fits = |has: u16, needs: usize| has == 0 || usize::from(has) >= needs;
    tcgetwinsize(stdout())
        .is_ok_and(|size| fits(size.ws_col, WIDTH) && fits(size.ws_row, height + 1))
}
