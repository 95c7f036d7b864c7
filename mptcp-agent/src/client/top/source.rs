//! The threads that ask the agent, and the messages that they and the terminal send
//! to the view.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use mptcp_api::schema::{Event, Lost, PolicyView, Reply, Request};
use ratatui::crossterm::event::KeyEvent;

use super::super::connection::Connection;
use super::super::{Failure, connections};
use super::model::Look;

/// The least time between two looks at the agent, and between two attempts to
/// reach it.
const STEP: Duration = Duration::from_secs(1);

/// After each look, the view waits for at least this many times as long as the look
/// took, so that an agent with very many connections is asked less often.
const RESPITE: u32 = 4;

/// A look that takes this long is reported as an agent that does not answer.
const SILENT: Duration = Duration::from_secs(5);

/// How many messages wait for the view. If more come, the agent counts the
/// events that this client is too slow for.
const QUEUE: usize = 1024;

/// A message to the view.
#[derive(Debug)]
pub enum Message {
    /// A key was pressed.
    Key(KeyEvent),
    /// The terminal has another size.
    Resized,
    /// The terminal cannot be read.
    TerminalFailed(std::io::Error),
    /// The agent's answers.
    Looked(Box<Look>),
    /// The agent has not answered for [`SILENT`].
    Silent,
    /// The agent cannot be reached, and why.
    Gone(String),
    /// An event.
    Event(Box<Event>),
    /// Events were lost.
    Lost(Lost),
    /// The agent's answer to a change of policy, or why it was not made.
    Answered(Result<Box<PolicyView>, String>),
}

/// Makes the queue of messages.
pub fn channel() -> (SyncSender<Message>, Receiver<Message>) {
    sync_channel(QUEUE)
}

/// Starts to ask the agent for its state and for events. Both go on with the next
/// agent when this one ends.
pub fn start(agent: Connection, control: Option<&Path>, sender: &SyncSender<Message>) {
    let asked = Asked::default();
    let (path, to, since) = (control.map(Path::to_owned), sender.clone(), asked.clone());
    spawn(move || look(Some(agent), path, &to, &since));
    let to = sender.clone();
    spawn(move || watch(&asked, &to));
    let (path, to) = (control.map(Path::to_owned), sender.clone());
    spawn(move || {
        loop {
            // The other thread says why the agent cannot be reached.
            let _ = listen(path.as_deref(), &to);
            sleep(STEP);
        }
    });
}

/// Asks the agent to change its policy, beside the other threads.
pub fn change(request: Request, control: Option<&Path>, sender: &SyncSender<Message>) {
    let (path, to) = (control.map(Path::to_owned), sender.clone());
    spawn(move || {
        let answer = Connection::open(path.as_deref())
            .and_then(|mut agent| match agent.exchange(&request)? {
                Reply::Policy(view) => Ok(Box::new(view)),
                _ => Err(Failure::unexpected()),
            })
            .map_err(|failure| failure.message);
        let _ = to.send(Message::Answered(answer));
    });
}

/// When the look that goes on began; none while none does.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Option<Instant>>>);

impl Asked {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn since(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that the agent does not answer, for as long as that is so.
fn watch(asked: &Asked, to: &SyncSender<Message>) {
    loop {
        sleep(STEP);
        let late = asked.since().is_some_and(|since| since.elapsed() >= SILENT);
        if late && to.send(Message::Silent).is_err() {
            return;
        }
    }
}

fn look(
    mut agent: Option<Connection>,
    path: Option<PathBuf>,
    to: &SyncSender<Message>,
    since: &Asked,
) {
    let begin = Instant::now();
    loop {
        let asked = Instant::now();
        since.set(Some(asked));
        let kept = agent.is_some();
        let mut found = ask(&mut agent, path.as_deref(), begin);
        if kept && found.is_err() {
            // The agent may have a successor, which listens already.
            agent = None;
            found = ask(&mut agent, path.as_deref(), begin);
        }
        since.set(None);
        let message = match found {
            Ok(look) => Message::Looked(Box::new(look)),
            Err(failure) => {
                agent = None;
                Message::Gone(failure.message)
            }
        };
        if to.send(message).is_err() {
            return;
        }
        sleep(STEP.max(asked.elapsed() * RESPITE));
    }
}

fn ask(
    agent: &mut Option<Connection>,
    path: Option<&Path>,
    begin: Instant,
) -> Result<Look, Failure> {
    let agent = match agent {
        Some(agent) => agent,
        None => agent.insert(Connection::open(path)?),
    };
    let Reply::Status(status) = agent.exchange(&Request::Status)? else {
        return Err(Failure::unexpected());
    };
    Ok(Look {
        at: begin.elapsed(),
        status: *status,
        connections: connections::all(agent)?,
    })
}

/// Passes events on until the agent ends.
fn listen(path: Option<&Path>, to: &SyncSender<Message>) -> Result<(), Failure> {
    let mut agent = Connection::open(path)?;
    agent.ask(&Request::Events)?;
    while let Some(reply) = agent.next()? {
        let message = match reply {
            Reply::Event(event) => Message::Event(Box::new(event)),
            Reply::Lost(lost) => Message::Lost(lost),
            _ => return Err(Failure::unexpected()),
        };
        if to.send(message).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
