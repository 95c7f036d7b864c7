//! Draws the model. Nothing here panics in a terminal of any size: what does not
//! fit is cut, and a terminal that is too small gets one line.

mod connection;
mod dialog;
mod grid;
mod overview;
mod paths;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style as Look};

use super::super::format;
use super::super::policy;
use super::super::table::cut;
use super::super::terminal::Style;
use super::model::{EventLine, Model, Page};
use mptcp_api::schema::one_line;

/// The smallest terminal that shows a page, in characters.
const SMALLEST: (u16, u16) = (40, 10);

/// Draws lines of text onto a frame.
struct Canvas<'a, 'b> {
    frame: &'a mut Frame<'b>,
    colours: bool,
}

impl Canvas<'_, '_> {
    /// Returns how a style looks. Without colours, what is wrong is bold.
    fn style(&self, style: Style) -> Look {
        let plain = Look::new();
        match (style, self.colours) {
            (Style::Plain, _) => plain,
            (Style::Bold, _) | (Style::Bad, false) => plain.add_modifier(Modifier::BOLD),
            (Style::Good | Style::Notable, false) => plain,
            (Style::Good, true) => plain.fg(Color::Green),
            (Style::Notable, true) => plain.fg(Color::Yellow),
            (Style::Bad, true) => plain.fg(Color::Red),
        }
    }

    /// Writes a text, cut to the width of `area`, in its line `line`. Returns
    /// where it ends, as an offset.
    fn write(&mut self, area: Rect, line: u16, at: usize, style: Style, text: &str) -> usize {
        let look = self.style(style);
        self.write_as(area, line, at, look, text)
    }

    fn write_as(&mut self, area: Rect, line: u16, at: usize, look: Look, text: &str) -> usize {
        let room = usize::from(area.width).saturating_sub(at);
        if line >= area.height || room == 0 {
            return at;
        }
        let text = cut(&one_line(text), room);
        let (x, y) = (area.x + at as u16, area.y + line);
        let buffer = self.frame.buffer_mut();
        let (end, _) = buffer.set_stringn(x, y, &text, room, look);
        usize::from(end - area.x)
    }

    /// Inverts a line, to mark it.
    fn mark(&mut self, area: Rect, line: u16) {
        if line < area.height {
            let line = Rect::new(area.x, area.y + line, area.width, 1);
            let look = Look::new().add_modifier(Modifier::REVERSED);
            self.frame.buffer_mut().set_style(line, look);
        }
    }
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &Model, colours: bool) {
    let area = frame.area();
    let mut canvas = Canvas { frame, colours };
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        too_small(&mut canvas, area);
        return;
    }
    head(&mut canvas, area, model);
    let body = below(area, 2);
    let body = Rect {
        height: body.height.saturating_sub(1),
        ..body
    };
    let keys = match &model.page {
        Page::Overview => overview::draw(&mut canvas, body, model),
        Page::Paths => paths::draw(&mut canvas, body, model),
        Page::Events => events_page(&mut canvas, body, model),
        Page::Connection(key) => connection::draw(&mut canvas, body, model, key),
    };
    canvas.write(area, area.height - 1, 0, Style::Bold, keys);
    if let Some(open) = &model.dialog {
        dialog::draw(&mut canvas, area, model, open);
    }
}

/// Says that the terminal is too small, in the longest words that fit.
fn too_small(canvas: &mut Canvas<'_, '_>, area: Rect) {
    let (width, height) = SMALLEST;
    let long = format!("The terminal is too small: at least {width}x{height} (q quits)");
    let short = format!("too small: needs {width}x{height}");
    let texts = [long.as_str(), short.as_str(), "too small", "small"];
    let fits = |text: &&&str| text.len() <= usize::from(area.width);
    if let Some(text) = texts.iter().find(fits) {
        canvas.write(area, 0, 0, Style::Plain, text);
    }
}

/// Draws the first two lines: the agent, and its policy or that it is gone.
fn head(canvas: &mut Canvas<'_, '_>, area: Rect, model: &Model) {
    let Some(status) = &model.status else {
        canvas.write(area, 0, 0, Style::Bold, "mptcp-agent");
        gone(canvas, area, model);
        return;
    };
    let text = format!(
        "mptcp-agent {}  pid {}  up {}  connections {}  subflows {}",
        status.agent.version,
        status.agent.pid,
        format::duration(status.agent.uptime_seconds),
        status.connections,
        status.subflows
    );
    let at = canvas.write(area, 0, 0, Style::Bold, &text);
    if status.events_lost + status.map_full > 0 {
        let text = format!("  lost {}", status.events_lost + status.map_full);
        canvas.write(area, 0, at, Style::Bad, &text);
    }
    if !gone(canvas, area, model) {
        let at = canvas.write(area, 1, 0, Style::Bold, "policy ");
        let text = policy::describe(&status.policy);
        canvas.write(area, 1, at, Style::Plain, &text);
    }
}

/// Says that the agent is gone or does not answer. Returns whether one is so.
fn gone(canvas: &mut Canvas<'_, '_>, area: Rect, model: &Model) -> bool {
    let text = if model.silent {
        "The agent does not answer, waiting: it may hang".to_owned()
    } else if let Some(why) = &model.gone {
        format!("The agent is gone, trying again: {why}")
    } else {
        return false;
    };
    canvas.write(area, 1, 0, Style::Bad, &text);
    true
}

/// Returns what is left of an area below its first `lines` lines.
fn below(area: Rect, lines: u16) -> Rect {
    let lines = lines.min(area.height);
    Rect {
        y: area.y + lines,
        height: area.height - lines,
        ..area
    }
}

/// Draws the newest of `lines` that fit, but for the last `back` of them.
fn events<'a>(
    canvas: &mut Canvas<'_, '_>,
    area: Rect,
    lines: impl DoubleEndedIterator<Item = &'a EventLine>,
    back: usize,
) {
    let newest = lines.rev().skip(back).take(usize::from(area.height));
    let shown: Vec<_> = newest.collect();
    for (number, line) in (0..).zip(shown.into_iter().rev()) {
        let time = match line.time.is_empty() {
            true => String::new(),
            false => format!("{}  ", line.time),
        };
        let at = canvas.write(area, number, 0, Style::Plain, &time);
        let name = format!("{:15} ", line.name);
        let at = canvas.write(area, number, at, line.style, &name);
        canvas.write(area, number, at, Style::Plain, &line.details);
    }
}

fn events_page(canvas: &mut Canvas<'_, '_>, area: Rect, model: &Model) -> &'static str {
    let title = match model.back {
        0 => "EVENTS, the newest below (UTC)".to_owned(),
        back => format!("EVENTS (UTC), {back} newer ones below"),
    };
    canvas.write(area, 0, 0, Style::Bold, &title);
    let area = below(area, 1);
    if model.events.is_empty() {
        canvas.write(area, 0, 0, Style::Plain, "none since this view was opened");
    }
    events(canvas, area, model.events.iter(), model.back);
    "Up/Down scroll  End newest  Tab next  Esc back  p policy  ? help  q quit"
}
