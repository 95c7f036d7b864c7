//! Draws the dialogs: boxes that cover part of a page.

use mptcp_api::schema::one_line;
use ratatui::layout::Rect;
use ratatui::text::Text;
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::super::super::policy;
use super::super::keys::HELP;
use super::super::menu::{Dialog, Typed, choices};
use super::super::model::Model;
use super::Canvas;

/// The greatest width of a dialog, in characters.
const WIDEST: u16 = 100;

/// Draws a dialog in the middle of `area`.
pub fn draw(canvas: &mut Canvas<'_, '_>, area: Rect, model: &Model, dialog: &Dialog) {
    let now = match &model.status {
        Some(status) => policy::describe(&status.policy),
        None => "unknown".to_owned(),
    };
    let (title, text) = match dialog {
        Dialog::Help => ("Help: any key closes it", help()),
        Dialog::Choose(at) => ("Change the policy", list(*at)),
        Dialog::Edit(typed, wrong) => (
            "Settings, as after `policy set`",
            edit(typed, wrong.as_deref()),
        ),
        Dialog::Confirm(_, typed) => (
            "Change the policy?",
            format!(
                "now: {now}\n\nnew: {}\n\nIt counts at once, on open connections too.\n\n\
                 y change it   Esc back",
                typed.text
            ),
        ),
        Dialog::Wait(typed) => (
            "Changing the policy",
            format!("{}\n\nwaiting for the agent", typed.text),
        ),
        Dialog::Said(Ok(view), _) => (
            "The policy is changed",
            format!("{view}\n\nany key closes this"),
        ),
        Dialog::Said(Err(why), _) => (
            "The policy is not changed",
            format!("{why}\n\nany key goes back to the settings"),
        ),
    };
    let text: Vec<String> = text.lines().map(one_line).collect();
    let text = text.join("\n");
    let width = area.width.saturating_sub(4).min(WIDEST);
    let paragraph = Paragraph::new(Text::raw(text)).wrap(Wrap { trim: false });
    // Wrapped lines can only be counted by wrapping them.
    let lines = wrapped(&paragraph, width.saturating_sub(2));
    let height = lines.saturating_add(2).min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    canvas.frame.render_widget(Clear, place);
    let block = Block::bordered().title(title);
    canvas.frame.render_widget(paragraph.block(block), place);
}

/// Returns how many lines a text needs at this width.
fn wrapped(paragraph: &Paragraph<'_>, width: u16) -> u16 {
    use ratatui::buffer::Buffer;
    use ratatui::widgets::Widget as _;

    const MOST: u16 = 100;
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, MOST));
    paragraph.render(buffer.area, &mut buffer);
    let is_empty = |line: &u16| (0..width).all(|at| buffer[(at, *line)].symbol() == " ");
    (0..MOST)
        .rev()
        .find(|line| !is_empty(line))
        .map_or(1, |last| last + 1)
}

fn help() -> String {
    let lines = HELP.map(|(keys, what)| format!("{keys:18}  {what}"));
    lines.join("\n")
}

fn list(at: usize) -> String {
    let mut text = String::new();
    for (number, (name, summary)) in choices().into_iter().enumerate() {
        let mark = if number == at { '>' } else { ' ' };
        text += &format!("{mark} {name:10}  {summary}\n");
    }
    text + "\nUp/Down choose   Enter its settings   Esc back"
}

fn edit(typed: &Typed, wrong: Option<&str>) -> String {
    let place = typed.text.char_indices().nth(typed.at);
    let (before, after) = typed
        .text
        .split_at(place.map_or(typed.text.len(), |(at, _)| at));
    let mut text = format!("{before}▏{after}\n\n");
    if let Some(wrong) = wrong {
        text += &format!("{wrong}\n\n");
    }
    text + "Enter go on   Esc back   also --for 10m, --save"
}
