//! Mistakes in a configuration file, with their places.

use std::fmt;

use crate::schema::one_line;

/// A place in a text; line and column count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Place {
    /// Returns the place of the byte `start` of `text`.
    pub fn of(text: &str, start: usize) -> Self {
        let before = &text[..text.floor_char_boundary(start)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A mistake in a file. Written as `LINE:COLUMN: MESSAGE`, in one short line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where it is.
    pub place: Place,
    /// The mistake, in one line.
    pub message: String,
}

impl Mistake {
    /// Approximate limit for a message, bytes, since it may quote the file.
    const LONGEST: usize = 300;

    /// Reports what is wrong at the byte `start` of `text`. Makes one short line
    /// of `message`, whatever it quotes.
    pub fn new(text: &str, start: usize, message: &str) -> Self {
        let mut message = one_line(&message.trim_end().replace('\n', ", "));
        if message.len() > Self::LONGEST {
            message.truncate(message.floor_char_boundary(Self::LONGEST));
            message.push('…');
        }
        Self {
            place: Place::of(text, start),
            message,
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for Mistake {}
