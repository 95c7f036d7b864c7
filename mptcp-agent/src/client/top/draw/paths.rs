//! The page of paths: all that is known of them, and what the kernel's scheduler
//! does with them.

use mptcp_api::schema::{Choices, Path};
use mptcp_common::abi::candidate;
use ratatui::layout::Rect;

use super::super::super::table::{Cell, Column, left, right};
use super::super::super::terminal::Style;
use super::super::super::{format, status};
use super::super::model::Model;
use super::{Canvas, below, grid};

const SCHEDULER: [Column; 8] = [
    left("PATH", 0),
    right("CHOSEN", 0),
    right("OF ALL", 1),
    right("NOT CHOSEN", 0),
    right("QUEUE FULL", 2),
    right("HELD OUT", 2),
    right("BACKUP", 3),
    right("STALE/INACTIVE", 4),
];

/// Draws the page, and returns its keys.
pub fn draw(canvas: &mut Canvas<'_, '_>, area: Rect, model: &Model) -> &'static str {
    let paths = model.paths();
    let rows: Vec<_> = paths.iter().map(status::path).collect();
    let half = area.height.div_ceil(2);
    let lines = (rows.len() as u16).saturating_add(1).min(half);
    let top = Rect {
        height: lines,
        ..area
    };
    grid::draw(canvas, top, &status::PATH_COLUMNS, &rows, None);
    let shown: Vec<_> = paths.iter().collect();
    scheduler(canvas, below(area, lines + 1), model, &shown);
    "Tab events  Esc back  p policy  ? help  q quit"
}

/// Draws what the scheduler does with these paths.
pub fn scheduler(canvas: &mut Canvas<'_, '_>, area: Rect, model: &Model, paths: &[&Path]) {
    let title = "SCHEDULER, since the agent counts, of all connections together";
    canvas.write(area, 0, 0, Style::Bold, title);
    let area = below(area, 1);
    let all = model
        .paths()
        .iter()
        .filter_map(|path| path.scheduler.as_ref());
    let total: u64 = all.map(|one| one.decisions).sum();
    let row = |path: &&Path| Some(row(path, path.scheduler.as_ref()?, total));
    let rows: Vec<_> = paths.iter().filter_map(row).collect();
    if rows.is_empty() {
        canvas.write(area, 0, 0, Style::Plain, "nothing is known");
        return;
    }
    grid::draw(canvas, area, &SCHEDULER, &rows, None);
}

fn row(path: &Path, one: &Choices, total: u64) -> Vec<Cell> {
    let seen = |state: u8| {
        let name = candidate::NAMES[usize::from(state)];
        one.candidates.get(name).copied().unwrap_or_default()
    };
    // A candidate that could have been chosen, but another one was better.
    let beaten = seen(candidate::ELIGIBLE).saturating_sub(one.decisions);
    let part = match total {
        0 => "-".to_owned(),
        total => format::percent(one.decisions as f64 / total as f64),
    };
    vec![
        Cell::from(&path.path),
        Cell::from(format::bytes(one.decisions)),
        Cell::from(part),
        Cell::from(format::bytes(beaten)),
        Cell::from(format::bytes(one.blocked)),
        Cell::from(format::bytes(seen(candidate::STANDBY))),
        Cell::from(format::bytes(seen(candidate::BACKUP))),
        Cell::from(format::bytes(
            seen(candidate::STALE) + seen(candidate::INACTIVE),
        )),
    ]
}
