//! The page of one connection.

use std::collections::BTreeSet;

use ratatui::layout::Rect;

use super::super::super::table::Cell;
use super::super::super::terminal::Style;
use super::super::super::{connections, format};
use super::super::model::Model;
use super::{Canvas, below, events, grid, paths};

const KEYS: &str = "Esc back  Tab paths, events  p policy  ? help  q quit";

/// Draws the page of the connection with this key, and returns the keys that can
/// be pressed.
pub fn draw(canvas: &mut Canvas<'_, '_>, area: Rect, model: &Model, key: &str) -> &'static str {
    let at = canvas.write(area, 0, 0, Style::Bold, &format!("CONNECTION {key}"));
    let Some(connection) = model.connection(key) else {
        canvas.write(area, 0, at, Style::Bad, "  has closed");
        let (area, events_of) = (below(area, 2), of(model, key));
        events(canvas, area, events_of.into_iter(), 0);
        return KEYS;
    };
    let unknown = || "-".to_owned();
    let mut facts = format!(
        "  {}  policy {}  rule {}  rate {}",
        connection.side.name(),
        connection.policy.clone().unwrap_or_else(unknown),
        connection.rule.clone().unwrap_or_else(unknown),
        model.speeds.of(key).map_or_else(unknown, format::rate),
    );
    for (is, text) in [
        (connection.steered, "  steered"),
        (connection.fallback, "  plain TCP"),
        (connection.peer_proven == Some(true), "  peer proven"),
    ] {
        if is {
            facts += text;
        }
    }
    canvas.write(area, 0, at, Style::Plain, &facts);
    let mut rest = below(area, 1);
    if connection.short {
        let allowed = connection.subflows_allowed.unwrap_or_default();
        let text = format!("It has fewer subflows than this host's endpoints allow: {allowed}");
        canvas.write(rest, 0, 0, Style::Bad, &text);
        rest = below(rest, 1);
    }

    let rows: Vec<Vec<Cell>> = connection
        .subflows
        .iter()
        .map(|subflow| connections::cells(connection, subflow).into())
        .collect();
    let columns = connections::subflow_columns();
    let lines = (rows.len() as u16 + 1).min(rest.height.div_ceil(2));
    let top = Rect {
        height: lines,
        ..rest
    };
    grid::draw(canvas, top, columns, &rows, None);

    let rest = below(rest, lines + 1);
    let used: BTreeSet<&str> = connection
        .subflows
        .iter()
        .map(|one| one.path.as_str())
        .collect();
    let all = model.paths().iter();
    let used: Vec<_> = all
        .filter(|path| used.contains(path.path.as_str()))
        .collect();
    paths::scheduler(canvas, rest, model, &used);

    let bottom = below(rest, used.len() as u16 + 3);
    canvas.write(bottom, 0, 0, Style::Bold, "ITS EVENTS (UTC)");
    events(canvas, below(bottom, 1), of(model, key).into_iter(), 0);
    KEYS
}

fn of<'a>(model: &'a Model, key: &str) -> Vec<&'a super::EventLine> {
    let of_it = |line: &&super::EventLine| line.token.as_deref() == Some(key);
    model.events.iter().filter(of_it).collect()
}
