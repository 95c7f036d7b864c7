//! The terminal: frames that are redrawn in place, or a line each second
//! where that cannot be.

use std::env;
use std::io::{IsTerminal as _, Write as _, stdout};

use mptcp_lab::cleanup::Cleanup;
use rustix::termios::tcgetwinsize;

use super::frame::{Frame, HEIGHT, Paint, WIDTH};

/// Where frames go.
pub struct Screen {
    live: bool,
    paint: Paint,
    /// The load of the last frame.
    load: String,
    _cursor: Option<Cleanup>,
}

impl Screen {
    /// As standard output and the environment allow.
    pub fn new() -> Self {
        let terminal = stdout().is_terminal();
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = terminal && !dumb && has_room();
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
            load: String::new(),
            _cursor: cursor,
        }
    }

    /// Shows a frame in place of the last one.
    pub fn show(&mut self, frame: &Frame) {
        let last_load = std::mem::replace(&mut self.load, frame.load.to_owned());
        if !self.live {
            if last_load != frame.load {
                println!("{}", frame.load);
            }
            println!("{}", frame.line());
            return;
        }
        let mut text = String::new();
        if !last_load.is_empty() {
            text += &format!("\x1b[{HEIGHT}A");
        }
        for line in frame.lines(self.paint) {
            text += &format!("{line}\x1b[K\n");
        }
        print!("{text}");
        // A terminal that is gone ends us by a signal.
        let _ = stdout().flush();
    }
}

fn has_room() -> bool {
    // A terminal that does not know its size says 0.
    let fits = |has: u16, needs: usize| has == 0 || usize::from(has) >= needs;
    tcgetwinsize(stdout())
        .is_ok_and(|size| fits(size.ws_col, WIDTH) && fits(size.ws_row, HEIGHT + 1))
}
