//! The dialogs over a page: the help, and the menu that changes the policy.
//!
//! ```text
//!   Choose  ->  Edit  ->  Confirm  ->  Wait  ->  Said
//!     a policy    its       y            the       its answer, in full
//!                settings               agent
//! ```

use mptcp_api::policy::{Given, Overflow, Weighted};
use mptcp_api::schema::{Path, Request, Status};

use super::super::policy::settings;
use crate::cli::{self, Verb};
use crate::policy::Policy;

/// A line that is being typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// The text.
    pub text: String,
    /// Where the next character goes, in characters.
    pub at: usize,
}

impl Typed {
    /// Makes a line with the cursor at its end.
    pub fn new(text: String) -> Self {
        let at = text.chars().count();
        Self { text, at }
    }

    fn byte(&self, at: usize) -> usize {
        let mut places = self.text.char_indices().map(|(place, _)| place);
        places.nth(at).unwrap_or(self.text.len())
    }

    /// Inserts a character, unless it is a control character.
    pub fn insert(&mut self, character: char) {
        const LONGEST: usize = 4000;
        if !character.is_control() && self.text.len() < LONGEST {
            let place = self.byte(self.at);
            self.text.insert(place, character);
            self.at += 1;
        }
    }

    /// Removes the character at `at`, if there is one.
    pub fn remove(&mut self, at: usize) {
        let place = self.byte(at);
        if place < self.text.len() {
            self.text.remove(place);
        }
    }

    /// Removes the character before the cursor.
    pub fn back(&mut self) {
        if self.at > 0 {
            self.at -= 1;
            self.remove(self.at);
        }
    }

    /// Moves the cursor.
    pub fn go(&mut self, step: isize) {
        let length = self.text.chars().count();
        self.at = self.at.saturating_add_signed(step).min(length);
    }
}

/// A dialog over a page.
#[derive(Clone, Debug, PartialEq)]
pub enum Dialog {
    /// The keys.
    Help,
    /// The list of policies, and which one is marked.
    Choose(usize),
    /// The settings of a policy, as they follow `policy set`; and what is wrong
    /// with them.
    Edit(Typed, Option<String>),
    /// The request, and its settings as they were typed.
    Confirm(Box<Request>, Typed),
    /// The agent has not answered yet. The settings are those that it was sent.
    Wait(Typed),
    /// The agent's answer: the policy in force, or why it refuses these settings.
    Said(Result<String, String>, Typed),
}

impl Dialog {
    /// Takes in the agent's answer.
    pub fn answered(&mut self, answer: Result<String, String>) {
        if let Self::Wait(typed) = self {
            *self = Self::Said(answer, typed.clone());
        }
    }
}

/// Returns the policies that can be chosen, with what they do.
pub fn choices() -> Vec<(&'static str, &'static str)> {
    Policy::names()
}

/// Returns the place in [`choices`] of the policy in force.
pub fn in_force(status: Option<&Status>) -> usize {
    let name = status.map(|status| status.policy.policy.name.as_str());
    let mut names = choices().into_iter();
    names
        .position(|(choice, _)| Some(choice) == name)
        .unwrap_or(0)
}

/// Suggests settings for a policy: those in force, if it is that one; else a
/// value for each path. Limits and quotas stay, as do bounds where the policy has
/// such.
pub fn suggest(name: &str, status: Option<&Status>) -> String {
    let Some(status) = status else {
        return name.to_owned();
    };
    let now = &status.policy.policy;
    if now.name == name {
        return settings(now);
    }
    let mut given = Given::named(name);
    let labels = || {
        let named = |path: &&Path| path.present && !path.path.contains(char::is_whitespace);
        status.paths.iter().filter(named).map(|path| &path.path)
    };
    if given.takes(Weighted::WEIGHTS) {
        given.weighted.weights = labels().map(|label| format!("{label}=1")).collect();
    }
    if given.takes(Overflow::PREFER) {
        given.overflow.prefer = labels().cloned().collect();
    }
    if given.takes(mptcp_api::policy::LeaveOut::BOUNDS) {
        given.leave_out = now.leave_out.clone();
    }
    given.shared = now.shared.clone();
    settings(&given)
}

/// Makes the request of the settings, as `policy set` does.
///
/// # Errors
/// Returns what is wrong with them.
pub fn request(typed: &Typed) -> Result<Box<Request>, String> {
    match cli::policy_set(&typed.text)? {
        Verb::PolicySet {
            policy,
            for_seconds,
            save,
        } => Ok(Box::new(Request::PolicySet {
            policy,
            for_seconds,
            save,
        })),
        _ => Err("only a policy and its settings go here".to_owned()),
    }
}
