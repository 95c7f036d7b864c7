//! Draws a table: the one of the other commands, on a part of the screen.

use ratatui::layout::Rect;

use super::super::super::table::{Cell, Column, GAP, fit};
use super::super::super::terminal::Style;
use super::Canvas;

/// Draws titles and as many rows as fit, the marked one among them.
pub fn draw(
    canvas: &mut Canvas<'_, '_>,
    area: Rect,
    columns: &[Column],
    rows: &[Vec<Cell>],
    marked: Option<usize>,
) {
    let shown = fit(columns, rows, usize::from(area.width)).shown;
    let room = usize::from(area.height.saturating_sub(1));
    // The marked row is in the middle, if there are enough on both sides.
    let first = marked.unwrap_or(0).saturating_sub(room / 2);
    let first = first.min(rows.len().saturating_sub(room));
    let titles: Vec<Cell> = columns
        .iter()
        .map(|column| Cell::styled(Style::Bold, column.title))
        .collect();
    let visible = rows.iter().skip(first).take(room);
    for (line, row) in (0..).zip(std::iter::once(&titles).chain(visible)) {
        let mut at = 0;
        for (index, width) in &shown {
            let (Some(cell), Some(column)) = (row.get(*index), columns.get(*index)) else {
                continue;
            };
            let empty = width.saturating_sub(cell.text().chars().count());
            let before = if column.right { empty } else { 0 };
            canvas.write(area, line, at + before, cell.style, cell.text());
            at += width + GAP.len();
        }
    }
    if let Some(marked) = marked.and_then(|marked| marked.checked_sub(first))
        && marked < room
        && !rows.is_empty()
    {
        canvas.mark(area, marked as u16 + 1);
    }
}
