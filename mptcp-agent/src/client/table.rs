//! Prints tables that fit the terminal.
//!
//! If a table is too wide, columns are left out, the least important one first,
//! and a note below the table names them. If the essential columns alone are
//! too wide, the lines are cut.

use mptcp_api::schema::one_line;

use super::terminal::{Style, Terminal};

/// The space between columns.
pub const GAP: &str = "  ";

/// A column. One whose `expendable` is 0 is never left out.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// The heading.
    pub title: &'static str,
    /// Whether it is aligned to the right.
    pub right: bool,
    expendable: u8,
}

/// Makes a column of words. Columns with a greater `expendable` are left out
/// earlier.
pub const fn left(title: &'static str, expendable: u8) -> Column {
    Column {
        title,
        right: false,
        expendable,
    }
}

/// Makes a column of numbers, which are aligned to the right.
pub const fn right(title: &'static str, expendable: u8) -> Column {
    Column {
        title,
        right: true,
        expendable,
    }
}

/// The content of one column in one row.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    /// Its style.
    pub style: Style,
}

impl Cell {
    /// Makes a cell with a style.
    pub fn styled(style: Style, text: impl AsRef<str>) -> Self {
        // Names of devices may contain anything, even escape sequences.
        let text = one_line(text.as_ref());
        Self { text, style }
    }

    /// Returns the text, which has no control characters.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(Style::Plain, text)
    }
}

/// Shows a value if it is known, else a dash.
pub fn known<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> Cell {
    value.map_or_else(|| Cell::from("-"), |value| Cell::from(show(value)))
}

/// The columns of a table that fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Indices and widths of the columns that are shown.
    pub shown: Vec<(usize, usize)>,
    /// Indices of those for which there is no room.
    hidden: Vec<usize>,
}

/// Chooses the columns that fit into `room`. Each row has a cell for each column.
/// A column with nothing but dashes is neither shown nor hidden, unless it is
/// essential.
pub fn fit(columns: &[Column], rows: &[Vec<Cell>], room: usize) -> Fit {
    let width = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.get(index));
        let widest = cells.map(|cell| cell.text.chars().count()).max();
        widest.unwrap_or(0).max(columns[index].title.len())
    };
    let says = |index: &usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(*index));
        columns[*index].expendable == 0 || cells.any(|cell| cell.text != "-")
    };
    let shown = (0..columns.len()).filter(says);
    let mut shown: Vec<_> = shown.map(|index| (index, width(index))).collect();
    let mut hidden = Vec::new();
    let total = |shown: &[(usize, usize)]| -> usize {
        let widths: usize = shown.iter().map(|(_, width)| width).sum();
        widths + GAP.len() * shown.len().saturating_sub(1)
    };
    while total(&shown) > room {
        let indices = shown.iter().map(|(index, _)| *index);
        let worst = indices.max_by_key(|index| columns[*index].expendable);
        match worst.filter(|index| columns[*index].expendable > 0) {
            Some(worst) => {
                shown.retain(|(index, _)| *index != worst);
                hidden.push(worst);
            }
            None => break,
        }
    }
    hidden.sort_unstable();
    Fit { shown, hidden }
}

/// Lays out the rows, each of which has a cell for each column.
pub fn render(terminal: Terminal, columns: &[Column], rows: &[Vec<Cell>]) -> String {
    let room = terminal.width.unwrap_or(usize::MAX);
    let Fit { shown, hidden } = fit(columns, rows, room);

    let titles: Vec<Cell> = columns
        .iter()
        .map(|column| Cell::styled(Style::Bold, column.title))
        .collect();
    let mut text = String::new();
    for row in std::iter::once(&titles).chain(rows) {
        let cells = shown.iter().filter_map(|(index, width)| {
            let cell = row.get(*index)?;
            Some((cell, *width, columns[*index].right))
        });
        text += &line(terminal, room, cells);
    }
    if !hidden.is_empty() {
        let names: Vec<_> = hidden.iter().map(|index| columns[*index].title).collect();
        let note = |what: &str| format!("(no room for {what}: see --json)");
        let named = note(&names.join(", "));
        text += &match named.len() <= room {
            true => named,
            false => note(&format!("{} more columns", names.len())),
        };
        text.push('\n');
    }
    text
}

fn line<'a>(
    terminal: Terminal,
    room: usize,
    cells: impl Iterator<Item = (&'a Cell, usize, bool)>,
) -> String {
    let mut text = String::new();
    let (mut used, mut pending) = (0, 0);
    for (index, (cell, width, right)) in cells.enumerate() {
        let gap = if index == 0 { 0 } else { GAP.len() };
        let padding = width.saturating_sub(cell.text.chars().count());
        let before = pending + gap + if right { padding } else { 0 };
        let left = room.saturating_sub(used + before);
        if left == 0 {
            break;
        }
        let shown = cut(&cell.text, left);
        used += before + shown.chars().count();
        text.extend(std::iter::repeat_n(' ', before));
        text += &terminal.paint(cell.style, &shown);
        // Padding is written only if another cell follows.
        pending = if right { 0 } else { padding };
    }
    text.push('\n');
    text
}

/// Returns as much of the text as fits.
pub fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(room.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        left("PATH", 0),
        right("WEIGHT", 1),
        left("ADDRESSES", 2),
        right("COPIES", 3),
    ];

    fn rows() -> Vec<Vec<Cell>> {
        let row = |texts: [&str; 4]| texts.into_iter().map(Cell::from).collect();
        vec![
            row(["eth0", "4", "10.0.0.1, fd00::1", "-"]),
            row(["a-long-name", "65535", "10.0.0.2", "-"]),
        ]
    }

    fn at(width: Option<usize>) -> String {
        let terminal = Terminal {
            width,
            colours: false,
        };
        render(terminal, &COLUMNS, &rows())
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_said() {
        let whole = "PATH         WEIGHT  ADDRESSES\n\
                     eth0              4  10.0.0.1, fd00::1\n\
                     a-long-name   65535  10.0.0.2\n";
        assert_eq!(at(None), whole);
        assert_eq!(at(Some(38)), whole);
        assert_eq!(
            at(Some(37)),
            "PATH         WEIGHT\n\
             eth0              4\n\
             a-long-name   65535\n\
             (no room for ADDRESSES: see --json)\n"
        );
        assert_eq!(
            at(Some(7)),
            "PATH\n\
             eth0\n\
             a-long…\n\
             (no room for 2 more columns: see --json)\n"
        );
        assert!(at(Some(0)).contains("(no room for"));
    }

    #[test]
    fn colours_take_no_room_and_nothing_reaches_the_terminal() {
        let terminal = Terminal {
            width: Some(20),
            colours: true,
        };
        let rows = [vec![Cell::styled(Style::Bad, "\x1b[2Jx"), "y".into()]];
        assert_eq!(
            render(terminal, &[left("A", 0), left("B", 0)], &rows),
            "\x1b[1mA\x1b[0m      \x1b[1mB\x1b[0m\n\
             \x1b[31m\u{fffd}[2Jx\x1b[0m  y\n"
        );
    }
}
