//! The model of the view: all that it knows and shows. Pure: the agent's answers and
//! the keys change it, and drawing only reads it.

use std::collections::VecDeque;
use std::time::Duration;

use clap::ValueEnum as _;
use mptcp_api::schema::{Connection, Event, Lost, Path, PolicyView, Status, one_line};

use super::super::{connections, events, policy, terminal::Style};
use super::history::{Courses, Speeds, key};
use super::menu::Dialog;
use crate::cli::SortKey;

/// How many events are kept.
const EVENTS: usize = 500;

/// A look at the agent.
#[derive(Clone, Debug)]
pub struct Look {
    /// The time since the view began.
    pub at: Duration,
    /// The state of the agent and its paths.
    pub status: Status,
    /// Its connections.
    pub connections: Vec<Connection>,
}

/// The page that is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Page {
    /// Paths, connections and the last events.
    #[default]
    Overview,
    /// All that is known of paths, and what the scheduler does with them.
    Paths,
    /// Events.
    Events,
    /// The connection of this key.
    Connection(String),
}

/// The order of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The fastest first.
    #[default]
    Rate,
    /// An order of `connections --sort`.
    By(SortKey),
}

impl Order {
    /// Returns the order that is `step` further in the list of all.
    pub fn step(self, step: isize) -> Self {
        let keys = SortKey::value_variants().iter().map(|key| Self::By(*key));
        let all: Vec<_> = std::iter::once(Self::Rate).chain(keys).collect();
        let at = all.iter().position(|one| *one == self).unwrap_or(0) as isize;
        all[(at + step).rem_euclid(all.len() as isize) as usize]
    }

    /// Returns its name, as it is shown.
    pub fn name(self) -> String {
        match self {
            Self::Rate => "rate".to_owned(),
            Self::By(key) => key
                .to_possible_value()
                .map_or_else(String::new, |value| value.get_name().to_owned()),
        }
    }
}

/// A line of the list of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLine {
    /// When it happened, `HH:MM:SS` of UTC; empty for what the view itself says.
    pub time: String,
    /// Its kind.
    pub name: String,
    /// The style of the kind.
    pub style: Style,
    /// The text behind the kind.
    pub details: String,
    /// The token of its connection.
    pub token: Option<String>,
}

/// The state of the view.
#[derive(Debug, Default)]
pub struct Model {
    /// The agent's last answer to `status`.
    pub status: Option<Status>,
    /// Why the agent cannot be reached.
    pub gone: Option<String>,
    /// Whether the agent leaves a question without an answer.
    pub silent: bool,
    /// All connections, sorted.
    pub connections: Vec<Connection>,
    /// The courses of the paths.
    pub courses: Courses,
    /// How fast the connections are.
    pub speeds: Speeds,
    /// The events, the newest last.
    pub events: VecDeque<EventLine>,
    /// The page that is shown.
    pub page: Page,
    /// The dialog that covers part of the page, if there is one.
    pub dialog: Option<Dialog>,
    /// The order of connections.
    pub order: Order,
    /// Words that a connection must have to be listed.
    pub filter: String,
    /// Whether the filter is being typed.
    pub typing: bool,
    /// The key of the connection that is marked.
    pub marked: Option<String>,
    /// How many of the newest events are below the lower edge of their page.
    pub back: usize,
}

impl Model {
    /// Takes in what the agent says.
    pub fn look(&mut self, look: Look) {
        self.silent = false;
        let pid = |status: &Status| status.agent.pid;
        if self.gone.take().is_some() {
            self.note(format!("the agent is back (pid {})", pid(&look.status)));
        }
        if (self.status.as_ref()).is_some_and(|status| pid(status) != pid(&look.status)) {
            self.speeds.forget();
        }
        self.courses.add(&look.status.paths);
        self.speeds.add(look.at, &look.connections);
        self.connections = look.connections;
        self.status = Some(look.status);
        self.sort();
    }

    /// Notes that the agent cannot be reached.
    pub fn gone(&mut self, why: String) {
        self.silent = false;
        if self.gone.replace(one_line(&why)).is_none() {
            self.note("the agent is gone".to_owned());
        }
    }

    /// Adds an event.
    pub fn event(&mut self, event: &Event) {
        let mut details = event.path.clone();
        for (name, value) in events::details(event) {
            details += &format!("  {name} {value}");
        }
        self.push(EventLine {
            time: one_line(&event.time).chars().skip(11).take(8).collect(),
            name: one_line(&event.event),
            style: events::style(event),
            details: one_line(&details),
            token: event.token.clone(),
        });
    }

    /// Notes that events were lost.
    pub fn lost(&mut self, lost: Lost) {
        for line in events::gaps(lost) {
            self.note(line);
        }
    }

    /// Takes in the answer to a change of policy.
    pub fn answered(&mut self, answer: Result<Box<PolicyView>, String>) {
        if let (Ok(view), Some(status)) = (&answer, &mut self.status) {
            // The menu and the header show it before the next look.
            status.policy = PolicyView::clone(view);
        }
        let Some(dialog) = &mut self.dialog else {
            return;
        };
        dialog.answered(answer.map(|view| policy::describe(&view)));
    }

    fn note(&mut self, text: String) {
        self.push(EventLine {
            time: String::new(),
            name: text,
            style: Style::Bad,
            details: String::new(),
            token: None,
        });
    }

    fn push(&mut self, line: EventLine) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(line);
        // A user who has scrolled back keeps the same events in sight.
        if self.back > 0 {
            self.back = (self.back + 1).min(self.events.len() - 1);
        }
    }

    /// Sorts the connections anew.
    pub fn sort(&mut self) {
        match self.order {
            Order::By(sort) => connections::by(sort, &mut self.connections),
            Order::Rate => {
                // Those that are equally fast keep the order of what they carried.
                connections::by(SortKey::Acked, &mut self.connections);
                let speeds = &self.speeds;
                let rate = |one: &Connection| speeds.of(&key(one)).unwrap_or(0.0);
                self.connections.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
            }
        }
    }

    /// Returns the connections that the filter lets through.
    pub fn listed(&self) -> Vec<&Connection> {
        let filter = self.filter.to_lowercase();
        let words: Vec<&str> = filter.split_whitespace().collect();
        let fits = |one: &&Connection| {
            words.is_empty() || {
                let text = searched(one);
                words.iter().all(|word| text.contains(word))
            }
        };
        self.connections.iter().filter(fits).collect()
    }

    /// Returns the place of the marked connection among those listed; the first
    /// one is marked if no other is.
    pub fn marked_at(&self, listed: &[&Connection]) -> usize {
        let is_marked = |one: &&Connection| Some(key(one)) == self.marked;
        listed.iter().position(is_marked).unwrap_or(0)
    }

    /// Marks the connection that is `step` further.
    pub fn mark(&mut self, step: isize) {
        let listed = self.listed();
        let at = self.marked_at(&listed) as isize;
        let last = listed.len().saturating_sub(1) as isize;
        let at = at.saturating_add(step).clamp(0, last) as usize;
        self.marked = listed.get(at).map(|one| key(one));
    }

    /// Returns the connection of a key.
    pub fn connection(&self, of: &str) -> Option<&Connection> {
        self.connections.iter().find(|one| key(one) == of)
    }

    /// Returns the paths.
    pub fn paths(&self) -> &[Path] {
        self.status.as_ref().map_or(&[], |status| &status.paths)
    }
}

/// Returns the text in which the filter looks for its words.
fn searched(connection: &Connection) -> String {
    let mut text = String::new();
    let mut add = |word: &str| {
        text += word;
        text.push(' ');
    };
    for word in [&connection.token, &connection.policy, &connection.rule] {
        add(word.as_deref().unwrap_or_default());
    }
    add(connection.side.name());
    for subflow in &connection.subflows {
        add(&subflow.path);
        add(subflow.device.as_deref().unwrap_or_default());
        add(&subflow.local);
        add(&subflow.remote);
        add(connections::state(connection, subflow).1);
    }
    text.to_lowercase()
}
