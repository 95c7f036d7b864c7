//! Translates keys into changes of the model and requests to the agent.

use mptcp_api::schema::Request;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::menu::{self, Dialog, Typed};
use super::model::{Model, Page};

/// The work that a key leaves to do, beside changing the model.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// End the view.
    End,
    /// Ask the agent.
    Ask(Box<Request>),
}

/// How many lines a page up or down moves.
const PAGE: isize = 10;

/// The keys and what they do, for the help.
pub const HELP: [(&str, &str); 12] = [
    ("Up Down j k", "mark another connection; scroll events"),
    ("PgUp PgDn Home End", "the same, further"),
    ("Enter", "the page of the marked connection"),
    ("Esc", "back; on the overview: remove the filter"),
    ("Tab", "overview, paths and scheduler, events"),
    ("s S", "sort by the next key, by the one before"),
    ("/", "filter: words of a token, path, address, rule, state"),
    ("p", "change the policy"),
    ("?", "this help"),
    ("q Ctrl-C", "quit; what the agent does goes on"),
    (
        "SHARE TARGET",
        "part of the bytes of 10 s; what the weights ask for",
    ),
    (
        "RATE RTT",
        "both ways together; the newest look is at the right",
    ),
];

impl Model {
    /// Does what a key asks for.
    pub fn press(&mut self, key: KeyEvent) -> Action {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c')) {
            return Action::End;
        }
        if control {
            return Action::Nothing;
        }
        if let Some(dialog) = self.dialog.take() {
            return self.press_in(dialog, key.code);
        }
        if self.typing {
            self.type_filter(key.code);
            return Action::Nothing;
        }
        match key.code {
            KeyCode::Char('q') => return Action::End,
            KeyCode::Char('?') => self.dialog = Some(Dialog::Help),
            KeyCode::Char('p') => {
                self.dialog = Some(Dialog::Choose(menu::in_force(self.status.as_ref())));
            }
            KeyCode::Tab => {
                self.page = match self.page {
                    Page::Overview | Page::Connection(_) => Page::Paths,
                    Page::Paths => Page::Events,
                    Page::Events => Page::Overview,
                };
            }
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::PageUp => self.go(-PAGE),
            KeyCode::PageDown => self.go(PAGE),
            KeyCode::Home => self.go(isize::MIN / 2),
            KeyCode::End => self.go(isize::MAX / 2),
            code => self.press_on_page(code),
        }
        Action::Nothing
    }

    fn press_on_page(&mut self, code: KeyCode) {
        match (&self.page, code) {
            (Page::Overview, KeyCode::Esc) => self.filter.clear(),
            (_, KeyCode::Esc | KeyCode::Backspace) => {
                self.page = Page::Overview;
                self.back = 0;
            }
            (Page::Overview, KeyCode::Enter) => {
                // Without a step, this marks the first one if none is marked.
                self.mark(0);
                if let Some(marked) = self.marked.clone() {
                    self.page = Page::Connection(marked);
                }
            }
            (Page::Overview, KeyCode::Char('/')) => self.typing = true,
            (Page::Overview, KeyCode::Char(step @ ('s' | 'S'))) => {
                self.order = self.order.step(if step == 's' { 1 } else { -1 });
                self.sort();
            }
            _ => {}
        }
    }

    /// Moves the mark on the overview, or the list of events.
    fn go(&mut self, step: isize) {
        match self.page {
            Page::Overview => self.mark(step),
            Page::Events => {
                let most = self.events.len().saturating_sub(1);
                self.back = self.back.saturating_add_signed(-step).min(most);
            }
            Page::Paths | Page::Connection(_) => {}
        }
    }

    fn type_filter(&mut self, code: KeyCode) {
        const LONGEST: usize = 200;
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(character) if !character.is_control() && self.filter.len() < LONGEST => {
                self.filter.push(character);
            }
            _ => {}
        }
    }

    /// Does what a key asks for in a dialog, which is closed unless it is put
    /// back.
    fn press_in(&mut self, dialog: Dialog, code: KeyCode) -> Action {
        self.dialog = match dialog {
            Dialog::Help => None,
            Dialog::Choose(at) => self.choose(at, code),
            Dialog::Edit(typed, wrong) => self.edit(typed, wrong, code),
            Dialog::Confirm(request, typed) => match code {
                KeyCode::Char('y' | 'Y') => {
                    self.dialog = Some(Dialog::Wait(typed));
                    return Action::Ask(request);
                }
                KeyCode::Esc | KeyCode::Char('n' | 'N' | 'q') => Some(Dialog::Edit(typed, None)),
                _ => Some(Dialog::Confirm(request, typed)),
            },
            // The answer comes in any case, within the client's own time limit.
            Dialog::Wait(typed) => Some(Dialog::Wait(typed)),
            Dialog::Said(Err(_), typed) => Some(Dialog::Edit(typed, None)),
            Dialog::Said(Ok(_), _) => None,
        };
        Action::Nothing
    }

    fn choose(&self, at: usize, code: KeyCode) -> Option<Dialog> {
        let choices = menu::choices();
        let last = choices.len() - 1;
        Some(match code {
            KeyCode::Esc | KeyCode::Char('q') => return None,
            KeyCode::Up | KeyCode::Char('k') => Dialog::Choose(at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => Dialog::Choose((at + 1).min(last)),
            KeyCode::Enter => {
                let text = menu::suggest(choices[at.min(last)].0, self.status.as_ref());
                Dialog::Edit(Typed::new(text), None)
            }
            _ => Dialog::Choose(at),
        })
    }

    fn edit(&self, mut typed: Typed, wrong: Option<String>, code: KeyCode) -> Option<Dialog> {
        match code {
            KeyCode::Esc => return Some(Dialog::Choose(menu::in_force(self.status.as_ref()))),
            KeyCode::Enter => {
                return Some(match menu::request(&typed) {
                    Ok(request) => Dialog::Confirm(request, typed),
                    Err(wrong) => Dialog::Edit(typed, Some(wrong)),
                });
            }
            KeyCode::Char(character) => typed.insert(character),
            KeyCode::Backspace => typed.back(),
            KeyCode::Delete => typed.remove(typed.at),
            KeyCode::Left => typed.go(-1),
            KeyCode::Right => typed.go(1),
            KeyCode::Home => typed.go(isize::MIN),
            KeyCode::End => typed.go(isize::MAX),
            _ => {}
        }
        Some(Dialog::Edit(typed, wrong))
    }
}
