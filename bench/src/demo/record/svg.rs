//! Draws a recording as an animated SVG. The background is opaque, so it can be
//! read on light and on dark pages. Whoever prefers no motion sees the last frame.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU16;

use vt100::{Cell, Color, Parser, Screen};

use super::super::screen::WIDTH;

/// The size of a character in pixels, and the space around all of them.
const CHARACTER: (f64, f64) = (8.0, 17.0);
const MARGIN: f64 = 12.0;
/// A screen that stays for less than this many seconds is not shown.
const FLEETING: f64 = 0.15;
/// For how many seconds the last frame stays before all begins again.
const LAST: f64 = 5.0;

/// The screen of the terminal from some moment on: the text of each line that has one.
struct Frame {
    seconds: f64,
    /// The number of each line on the screen, and its content as SVG.
    lines: Vec<(u16, String)>,
}

/// Returns the animation of what was printed in a terminal with so many lines.
pub fn draw(events: &[(f64, String)], height: u16, title: &str) -> String {
    let frames = frames(events, height);
    let length = frames.last().map_or(0.0, |frame| frame.seconds) + LAST;
    let (width, lines) = (WIDTH as f64 * CHARACTER.0, f64::from(height) * CHARACTER.1);
    let (width, lines) = (width + 2.0 * MARGIN, lines + 2.0 * MARGIN);
    let mut style = String::new();
    let mut body = String::new();
    // Frames have most of their lines in common, so each line is there once.
    let mut known: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lines_once = String::new();
    for (number, frame) in frames.iter().enumerate() {
        let part = |seconds: f64| seconds / length * 100.0;
        let start = part(frame.seconds);
        let shown = match frames.get(number + 1) {
            Some(next) => format!(
                "{start:.2}%{{visibility:visible}}{:.2}%{{visibility:hidden}}",
                part(next.seconds)
            ),
            None => format!("{start:.2}%,100%{{visibility:visible}}"),
        };
        let _ = writeln!(
            style,
            "@keyframes f{number}{{0%{{visibility:hidden}}{shown}}}"
        );
        let last = if number + 1 == frames.len() {
            " last"
        } else {
            ""
        };
        let _ = write!(
            body,
            "<g class=\"f{last}\" style=\"animation-name:f{number}\">"
        );
        for (row, line) in &frame.lines {
            let next = known.len();
            let id = *known.entry(line).or_insert_with(|| {
                let _ = writeln!(lines_once, "<g id=\"l{next}\">{line}</g>");
                next
            });
            let y = f64::from(*row) * CHARACTER.1;
            let _ = write!(body, "<use href=\"#l{id}\" y=\"{y}\"/>");
        }
        body += "</g>\n";
    }
    let title = escaped(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {lines}\" width=\"{width}\" \
         height=\"{lines}\" role=\"img\">\n<title>{title}</title>\n<style>\n\
         text{{font:13px ui-monospace,Menlo,Consolas,\"DejaVu Sans Mono\",monospace;fill:#c9d1d9;\
         white-space:pre}}\n\
         .b{{font-weight:bold}}.d{{fill-opacity:.6}}.c1{{fill:#ff7b72}}.c2{{fill:#3fb950}}\
         .c3{{fill:#d29922}}.c4{{fill:#58a6ff}}.c5{{fill:#bc8cff}}.c6{{fill:#39c5cf}}\n\
         .f{{visibility:hidden;animation:{length:.2}s step-end infinite}}\n\
         @media(prefers-reduced-motion:reduce){{.f{{animation:none}}.last{{visibility:visible}}}}\n\
         {style}</style>\n<defs>\n{lines_once}</defs>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#0d1117\"/>\n{body}</svg>\n"
    )
}

/// Returns the screens that stay for a while, each that differs from the one before.
fn frames(events: &[(f64, String)], height: u16) -> Vec<Frame> {
    let size = |value: u16| NonZeroU16::new(value).unwrap_or(NonZeroU16::MIN);
    let mut parser = Parser::new(size(height), size(WIDTH as u16), 0);
    let mut frames: Vec<Frame> = Vec::new();
    for (index, (seconds, printed)) in events.iter().enumerate() {
        parser.process(printed.as_bytes());
        let stays = events
            .get(index + 1)
            .is_none_or(|(next, _)| next - seconds >= FLEETING);
        let lines = lines(parser.screen(), height);
        let differs = frames.last().is_none_or(|frame| frame.lines != lines);
        if stays && differs && !lines.is_empty() {
            frames.push(Frame {
                seconds: *seconds,
                lines,
            });
        }
    }
    frames
}

/// Returns the lines of a screen that have any text.
fn lines(screen: &Screen, height: u16) -> Vec<(u16, String)> {
    let line = |row| (row, line(screen, row));
    let lines = (0..height).map(line);
    lines.filter(|(_, text)| !text.is_empty()).collect()
}

/// Returns a line as SVG: a text for each part of one style.
fn line(screen: &Screen, row: u16) -> String {
    let mut parts: Vec<(u16, String, String)> = Vec::new();
    for column in 0..WIDTH as u16 {
        let Some(cell) = screen.cell(row, column) else {
            break;
        };
        let text = if cell.has_contents() {
            cell.contents()
        } else {
            " "
        };
        let class = class(cell);
        match parts.last_mut() {
            Some((_, same, all)) if *same == class => all.push_str(text),
            _ => parts.push((column, class, text.to_owned())),
        }
    }
    let mut svg = String::new();
    let y = MARGIN + CHARACTER.1 * 0.8;
    for (column, class, text) in parts {
        let shown = text.trim_start();
        let skipped = text.chars().count() - shown.chars().count();
        if shown.is_empty() {
            continue;
        }
        let x = MARGIN + (f64::from(column) + skipped as f64) * CHARACTER.0;
        let class = match class.as_str() {
            "" => String::new(),
            class => format!(" class=\"{class}\""),
        };
        let shown = shown.trim_end();
        let length = shown.chars().count() as f64 * CHARACTER.0;
        let _ = write!(
            svg,
            "<text x=\"{x}\" y=\"{y:.1}\" textLength=\"{length}\"{class}>{}</text>",
            escaped(shown)
        );
    }
    svg
}

fn class(cell: &Cell) -> String {
    let mut classes = Vec::new();
    if cell.bold() {
        classes.push("b".to_owned());
    }
    if cell.dim() {
        classes.push("d".to_owned());
    }
    if let Color::Idx(colour @ 1..=6) = cell.fgcolor() {
        classes.push(format!("c{colour}"));
    }
    classes.join(" ")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seconds: f64, text: &str) -> (f64, String) {
        (seconds, text.to_owned())
    }

    #[test]
    fn screens_that_stay_are_frames() {
        let events = [
            event(0.0, "one\r\n"),
            event(1.0, "\x1b[A\x1b[32mtw"),
            event(1.01, "o & <3\x1b[0m\x1b[K\r\n"),
            event(2.0, ""),
        ];
        let svg = draw(&events, 5, "x");
        assert!(svg.contains(">one</text>"));
        assert!(svg.contains("class=\"c2\">two &amp; &lt;3</text>"), "{svg}");
        // A screen that stays for a moment only is no frame, nor is one without a change.
        assert_eq!(svg.matches("<g class=").count(), 2);
        assert_eq!(svg.matches("<g class=\"f last\"").count(), 1);
        assert!(svg.contains("fill=\"#0d1117\""));
    }

    #[test]
    fn lines_that_stay_are_there_once() {
        let events = [event(0.0, "same\r\n1"), event(1.0, "\r2")];
        let svg = draw(&events, 5, "x");
        assert_eq!(svg.matches(">same</text>").count(), 1);
        assert_eq!(svg.matches("<use").count(), 4);
    }

    #[test]
    fn nothing_makes_an_empty_terminal() {
        let svg = draw(&[], 5, "a < b");
        assert!(svg.contains("<title>a &lt; b</title>"));
    }
}
