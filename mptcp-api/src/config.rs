//! The configuration file: its keys, and the place of each value in the text.
//!
//! ```text
//!   text  ->  parse  ->  File      keys and kinds of values are right; each
//!                                  value knows its place (At)
//!                        Mistake   the first thing that is wrong, with line and
//!                                  column
//! ```
//!
//! The agent makes settings of the [`File`], and checks the values. Every key is
//! described in docs/configuration.md, and docs/config.schema.json is made of
//! these types.

mod at;
mod file;
mod mistake;
mod suggest;

pub use at::{At, Texts};
pub use file::{File, Path, Policy};
pub use mistake::{Mistake, Place};
pub use suggest::nearest;

/// The largest size of a file, bytes.
pub const LONGEST: usize = 1024 * 1024;

/// The largest number of rules in a file.
pub const MOST_RULES: usize = 64;

/// Reads the text of a configuration file.
///
/// # Errors
/// The text is too long or no TOML, a key is unknown or given twice, or a value
/// is of the wrong kind.
pub fn parse(text: &str) -> Result<File, Mistake> {
    if text.len() > LONGEST {
        let why = format!(
            "the file has {} bytes: expected at most {LONGEST}",
            text.len()
        );
        return Err(Mistake::new(text, LONGEST, &why));
    }
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        Mistake::new(text, at, &suggest::improve(error.message()))
    })?;
    if let Some(rule) = file.rule.get(MOST_RULES) {
        let why = format!(
            "there are {} rules: expected at most {MOST_RULES}",
            file.rule.len()
        );
        return Err(Mistake::new(text, rule.start(), &why));
    }
    Ok(file)
}

#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;
