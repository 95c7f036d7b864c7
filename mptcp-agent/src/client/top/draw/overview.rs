//! The page of paths, connections and the last events.

use mptcp_api::schema::{Connection, Path, Subflow};
use ratatui::layout::Rect;

use super::super::super::table::{Cell, Column, cut, known, left, right};
use super::super::super::terminal::Style;
use super::super::super::{connections, format, status};
use super::super::history::{self, bars, key};
use super::super::model::Model;
use super::{Canvas, below, events, grid};

/// Width of the bars of a course, in characters.
const BARS: usize = 8;

/// The longest state of a path that is shown in full.
const STATE: usize = 16;

const PATHS: [Column; 12] = [
    left("PATH", 0),
    left("STATE", 0),
    right("SHARE", 0),
    right("TARGET", 1),
    right("RANK", 2),
    right("RATE", 0),
    left("", 2),
    right("RTT", 1),
    left("", 3),
    right("SENT", 5),
    right("RECEIVED", 5),
    right("SUBFLOWS", 4),
];

const CONNECTIONS: [Column; 11] = [
    left("TOKEN", 0),
    left("SIDE", 4),
    left("POLICY", 4),
    right("SUBS", 3),
    right("RATE", 0),
    right("ACKED", 1),
    right("RECV", 2),
    right("RTT", 1),
    right("RETRANS", 5),
    left("STATE", 1),
    left("REMOTE", 2),
];

/// Draws the page, and returns its keys.
pub fn draw(canvas: &mut Canvas<'_, '_>, area: Rect, model: &Model) -> &'static str {
    let paths = model.paths();
    let height = area.height;
    let lines = (paths.len() as u16).clamp(1, (height / 3).max(1));
    let top = Rect {
        height: lines + 1,
        ..area
    };
    let rows: Vec<_> = paths.iter().map(|one| path(one, model)).collect();
    grid::draw(canvas, top, &PATHS, &rows, None);
    if paths.len() > usize::from(lines) {
        let hidden = paths.len() - usize::from(lines) + 1;
        let text = format!("{hidden} more: Tab");
        // The blanks cover the row that is there.
        let text = format!("{text:width$}", width = usize::from(area.width));
        canvas.write(top, lines, 0, Style::Notable, &text);
    }

    let log = if height >= 14 { (height / 4).min(8) } else { 0 };
    let rest = below(area, lines + 1);
    let middle = Rect {
        height: rest.height - log,
        ..rest
    };
    list(canvas, middle, model);
    if log > 0 {
        let bottom = below(rest, middle.height);
        canvas.write(bottom, 0, 0, Style::Bold, "EVENTS (UTC)");
        events(canvas, below(bottom, 1), model.events.iter(), 0);
    }
    match model.typing {
        true => "type words  Enter keep the filter  Esc remove it",
        false => "Enter open  s/S sort  / filter  Tab paths, events  p policy  ? help  q quit",
    }
}

/// Draws the connections that the filter lets through.
fn list(canvas: &mut Canvas<'_, '_>, area: Rect, model: &Model) {
    let listed = model.listed();
    let mut title = format!("CONNECTIONS {}", listed.len());
    if listed.len() != model.connections.len() {
        title += &format!(" of {}", model.connections.len());
    }
    title += &format!("  by {}", model.order.name());
    if model.typing || !model.filter.is_empty() {
        title += &format!("  filter: {}", model.filter);
    }
    let at = canvas.write(area, 0, 0, Style::Bold, &title);
    if model.typing {
        canvas.write(area, 0, at, Style::Bold, "_");
    }
    let area = below(area, 1);
    if listed.is_empty() {
        let text = match (&model.status, model.connections.is_empty()) {
            (None, _) => "waiting for the agent",
            (_, true) => "no connections",
            (_, false) => "none has all words of the filter",
        };
        canvas.write(area, 0, 0, Style::Plain, text);
        return;
    }
    let rows: Vec<_> = listed.iter().map(|one| row(one, model)).collect();
    let marked = model.marked_at(&listed);
    grid::draw(canvas, area, &CONNECTIONS, &rows, Some(marked));
}

fn path(path: &Path, model: &Model) -> Vec<Cell> {
    let (style, state) = status::state(path);
    let course = model.courses.of(&path.path);
    vec![
        Cell::from(cut(&path.path, STATE)),
        Cell::styled(style, cut(&state, STATE)),
        known(path.share, format::percent),
        known(path.target_share, format::percent),
        known(path.rank, |rank| rank.to_string()),
        Cell::from(format::rate(history::rate(path))),
        known(course, |course| bars(&course.rate, BARS)),
        known(path.rtt_seconds, format::milliseconds),
        known(course, |course| bars(&course.rtt, BARS)),
        Cell::from(format::rate(path.acked_bytes_per_second)),
        Cell::from(format::rate(path.received_bytes_per_second)),
        Cell::from(format!("{}/{}", path.alive, path.subflows)),
    ]
}

fn row(connection: &Connection, model: &Model) -> Vec<Cell> {
    let subflows = &connection.subflows;
    let sum = |value: fn(&Subflow) -> u64| {
        let all = subflows.iter().map(value);
        format::bytes(all.fold(0, u64::saturating_add))
    };
    let rtts = subflows.iter().filter_map(|subflow| subflow.srtt_seconds);
    let retransmitted = subflows
        .iter()
        .map(|one| u64::from(one.retransmitted_segments));
    let (style, state) = worst(connection);
    vec![
        known(connection.token.as_ref(), String::clone),
        Cell::from(connection.side.name()),
        known(connection.policy.as_ref(), String::clone),
        match (connection.short, connection.subflows_allowed) {
            (true, Some(allowed)) => {
                Cell::styled(Style::Bad, format!("{} of {allowed}", subflows.len()))
            }
            _ => Cell::from(subflows.len().to_string()),
        },
        known(model.speeds.of(&key(connection)), format::rate),
        Cell::from(sum(|subflow| subflow.acked_bytes)),
        Cell::from(sum(|subflow| subflow.received_bytes)),
        known(rtts.max_by(f64::total_cmp), format::milliseconds),
        Cell::from(retransmitted.sum::<u64>().to_string()),
        Cell::styled(style, state),
        known(subflows.first(), |subflow| subflow.remote.clone()),
    ]
}

/// Returns the state of the subflow that is worst off.
fn worst(connection: &Connection) -> (Style, &'static str) {
    let rank = |style: Style| match style {
        Style::Bad => 3,
        Style::Notable => 2,
        Style::Good => 1,
        Style::Plain | Style::Bold => 0,
    };
    let states = connection
        .subflows
        .iter()
        .map(|subflow| connections::state(connection, subflow));
    states
        .max_by_key(|(style, _)| rank(*style))
        .unwrap_or((Style::Notable, "no subflow"))
}
