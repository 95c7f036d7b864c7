//! `top`: a live view on a terminal.
//!
//! ```text
//!   source (asks the agent), tty (keys)  ->  messages  ->  model  ->  draw
//!                  ^                                        |
//!                  +----------- a change of policy ---------+
//! ```
//!
//! The model and what it makes of keys are pure, and so is drawing, which fills
//! a buffer. Only `source` and `tty` do IO, each on threads of its own; this file
//! passes their messages on.

mod draw;
mod history;
mod keys;
mod menu;
mod model;
mod source;
mod tty;

use std::io::{IsTerminal as _, stdin, stdout};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::terminal::Terminal;
use super::{Failure, Fault};
use keys::Action;
use model::Model;
use source::Message;
use tty::Tty;

/// The least time between two drawings, except after a key.
const FRAME: Duration = Duration::from_millis(50);

/// Shows the agent until the user or a signal ends it.
pub fn run(agent: Connection, control: Option<&Path>, terminal: Terminal) -> Result<(), Failure> {
    for (name, is_terminal) in [
        ("stdout", stdout().is_terminal()),
        ("stdin", stdin().is_terminal()),
    ] {
        if !is_terminal {
            let why = format!(
                "{name} is no terminal, which top needs: for scripts there are status, \
                 connections and events, each with --json"
            );
            return Err(Failure::new(Fault::Usage, why));
        }
    }
    if std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        let why = "TERM names no terminal whose cursor can be moved, which top needs: set TERM, \
                   or use status, connections and events";
        return Err(Failure::new(Fault::Usage, why));
    }
    let failed = |error: std::io::Error| {
        Failure::new(Fault::Failed, format!("cannot use the terminal: {error}"))
    };
    let mut screen = Tty::open().map_err(failed)?;
    let (sender, messages) = source::channel();
    tty::read_keys(sender.clone());
    source::start(agent, control, &sender);
    let change = |request| source::change(request, control, &sender);
    let outcome = show(&messages, &mut screen, terminal.colours, change);
    drop(screen);
    outcome.map_err(failed)
}

/// Passes messages to the model and draws it, until the user ends the view.
fn show(
    messages: &Receiver<Message>,
    screen: &mut Tty,
    colours: bool,
    change: impl Fn(mptcp_api::schema::Request),
) -> std::io::Result<()> {
    let mut model = Model::default();
    let mut drawn = Instant::now();
    screen.draw(|frame| draw::draw(frame, &model, colours))?;
    loop {
        let Ok(mut message) = messages.recv() else {
            return Ok(());
        };
        // Draw at once after a key. Messages that come in quick succession are
        // drawn together.
        loop {
            let urgent = matches!(message, Message::Key(_) | Message::Resized);
            match message {
                Message::Key(key) => match model.press(key) {
                    Action::Nothing => {}
                    Action::End => return Ok(()),
                    Action::Ask(request) => change(*request),
                },
                Message::Resized => {}
                Message::TerminalFailed(error) => return Err(error),
                Message::Looked(look) => model.look(*look),
                Message::Silent => model.silent = true,
                Message::Gone(why) => model.gone(why),
                Message::Event(event) => model.event(&event),
                Message::Lost(lost) => model.lost(lost),
                Message::Answered(answer) => model.answered(answer),
            }
            let left = FRAME.saturating_sub(drawn.elapsed());
            if urgent || left.is_zero() {
                break;
            }
            message = match messages.recv_timeout(left) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
        }
        screen.draw(|frame| draw::draw(frame, &model, colours))?;
        drawn = Instant::now();
    }
}

#[cfg(test)]
mod tests;
