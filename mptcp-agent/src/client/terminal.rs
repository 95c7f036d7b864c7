//! Properties of stdout: its width, and whether it shows colours.

use std::io::IsTerminal as _;

use terminal_size::{Width, terminal_size_of};

/// The properties of stdout.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminal {
    /// Width in columns. `None` if stdout is no terminal; then no column is
    /// left out.
    pub width: Option<usize>,
    /// Whether it shows colours.
    pub colours: bool,
}

/// The style of a text, on a terminal with colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Ordinary text.
    #[default]
    Plain,
    /// A heading.
    Bold,
    /// A good state.
    Good,
    /// An unusual state.
    Notable,
    /// A state that is wrong.
    Bad,
}

impl Terminal {
    /// Returns the properties of stdout. Respects `NO_COLOR`, see no-color.org.
    pub fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = stdout.is_terminal();
        let size = terminal.then(|| terminal_size_of(&stdout)).flatten();
        Self {
            // A width of 0 means that it is not known.
            width: size
                .map(|(Width(width), _)| usize::from(width))
                .filter(|width| *width > 0),
            colours: terminal && !no_color && !dumb,
        }
    }

    /// Returns the text with the escape sequences of its style.
    pub fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            _ if !self.colours || text.trim().is_empty() => return text.to_owned(),
            Style::Plain => return text.to_owned(),
            Style::Bold => 1,
            Style::Good => 32,
            Style::Notable => 33,
            Style::Bad => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
