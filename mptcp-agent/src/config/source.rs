//! Where settings come from, and what is wrong with them.

use std::fmt;
use std::process::ExitCode;

use mptcp_api::config::{Mistake, Place};

/// Why there are no settings; one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    message: String,
    unreadable: bool,
}

impl Wrong {
    /// Reports settings that cannot be.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            unreadable: false,
        }
    }

    /// Reports a file that cannot be read.
    pub fn unreadable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            unreadable: true,
        }
    }

    /// Returns 1 if the file cannot be read, 2 if it or the flags are wrong.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.unreadable { 1 } else { 2 })
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrong {}

/// The text of a file, and what the user calls it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The file's path, as it was given.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

impl Source<'_> {
    /// Reports what is wrong at the byte `start` of the text.
    pub fn wrong(&self, start: usize, message: &str) -> Wrong {
        self.mistake(&Mistake::new(self.text, start, message))
    }

    /// Reports a mistake in the text.
    pub fn mistake(&self, mistake: &Mistake) -> Wrong {
        Wrong::new(format!("{}:{mistake}", self.name))
    }

    /// Returns the origin of a value at the byte `start` of the text.
    pub fn origin(&self, start: usize) -> Origin {
        let Place { line, .. } = Place::of(self.text, start);
        Origin::File(format!("{}:{line}", self.name))
    }
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has said anything.
    Default,
    /// The file, `FILE:LINE`.
    File(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) | Self::Flag(place) => f.write_str(place),
        }
    }
}
