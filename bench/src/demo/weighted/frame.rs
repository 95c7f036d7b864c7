//! The frame that is shown each second, as text.
//!
//! ```text
//!                 mptcp-agent                      default scheduler
//!  path   asked   share  ┃ asked        Mbit/s     share  ┃ asked        Mbit/s
//!  p1      80 %   ████████████▊┃    80.0 %  37.6   ██████████▋  ┃    66.7 %  37.7
//! ```

use mptcp_lab::share::Window;

use crate::demo::screen::{self, Paint};

/// The number of cells of a bar.
const BAR: usize = 16;
/// The number of columns of one side.
const SIDE: usize = 33;
/// Shares this close to their target are painted green.
const CLOSE: f64 = 0.02;

/// A second of the demo.
pub struct Frame<'a> {
    /// The load's title.
    pub load: &'a str,
    /// The number of this second, from 1.
    pub second: u32,
    /// The length of the demo.
    pub seconds: u32,
    /// The paths' names.
    pub paths: [&'a str; 2],
    /// The shares asked for.
    pub targets: &'a [f64],
    /// The last second under the agent.
    pub agent: &'a Window,
    /// The last second under the default scheduler.
    pub default: &'a Window,
    /// The agent's metrics beside the kernel's counters.
    pub acked: &'a Acked,
}

/// Acknowledged bytes of each path under the agent.
pub struct Acked {
    /// According to the agent's metrics.
    pub metrics: Vec<u64>,
    /// According to the kernel.
    pub kernel: Vec<u64>,
}

impl screen::Frame for Frame<'_> {
    const HEIGHT: usize = 9;

    fn title(&self) -> &str {
        self.load
    }

    fn line(&self) -> Option<String> {
        let side = |window: &Window| {
            let shares = percent(&window.shares(), 1);
            format!("{shares:>12} {:5.1} Mbit/s", window.goodput_mbit())
        };
        Some(format!(
            "{:4} s  agent {}   default {}",
            self.second,
            side(self.agent),
            side(self.default)
        ))
    }

    fn lines(&self, paint: Paint) -> Vec<String> {
        let clock = format!("{} of {} s", self.second, self.seconds);
        let load = paint.with(Paint::BOLD, &format!("{:64}", self.load));
        let names = format!("{:16}{:SIDE$}default scheduler", "", "mptcp-agent");
        let units = format!("{:BAR$}{:>14}", "share  ┃ asked", "Mbit/s");
        let units = format!(" {:5} {:>6}   {units}   {units}", "path", "asked");
        let mut lines = vec![
            format!(" {load}{clock:>15}"),
            String::new(),
            paint.with(Paint::BOLD, &names),
            paint.with(Paint::DIM, &units),
        ];
        for (index, name) in self.paths.iter().enumerate() {
            lines.push(format!(
                " {name:5} {:4.0} %   {}   {}",
                self.targets[index] * 100.0,
                self.carried(self.agent, index, paint),
                self.carried(self.default, index, paint)
            ));
        }
        let total = |window: &Window| format!("{:>BAR$}{:14.1}", "", window.goodput_mbit());
        lines.push(format!(
            " total          {}   {}",
            total(self.agent),
            total(self.default)
        ));
        lines.push(String::new());
        lines.push(paint.with(Paint::DIM, &self.agreement()));
        lines
    }
}

impl Frame<'_> {
    /// Returns a path's bar, share and rate, in 30 columns.
    fn carried(&self, window: &Window, index: usize, paint: Paint) -> String {
        let (share, target) = (window.shares()[index], self.targets[index]);
        let close = (share - target).abs() <= CLOSE;
        let color = if close { Paint::GREEN } else { Paint::YELLOW };
        let (left, right) = bar(share, target);
        format!(
            "{}{}{}{:6.1} %{:6.1}",
            paint.with(color, &left),
            paint.with(Paint::BOLD, "┃"),
            paint.with(color, &right),
            share * 100.0,
            window.rates_mbit()[index],
        )
    }

    fn agreement(&self) -> String {
        let all = |bytes: &[u64]| {
            let each = self.paths.iter().zip(bytes);
            let each = each.map(|(name, &bytes)| format!("{name} {:.1}", bytes as f64 / 1e6));
            each.collect::<Vec<_>>().join(" ")
        };
        format!(
            " MB acknowledged: metrics {}, kernel {}",
            all(&self.acked.metrics),
            all(&self.acked.kernel)
        )
    }
}

/// Formats shares like `80.0/20.0 %`.
pub fn percent(shares: &[f64], digits: usize) -> String {
    let each = shares
        .iter()
        .map(|share| format!("{:.digits$}", share * 100.0));
    format!("{} %", each.collect::<Vec<_>>().join("/"))
}

/// Returns the bar before and after the mark of the target. Together with the
/// mark it has [`BAR`] cells.
fn bar(share: f64, target: f64) -> (String, String) {
    const EIGHTHS: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
    let filled = (share * (8 * BAR) as f64).round() as usize;
    let cell = |index: usize| EIGHTHS[filled.saturating_sub(8 * index).min(8)];
    let mark = ((target * BAR as f64).round() as usize).min(BAR - 1);
    let cells = |range: std::ops::Range<usize>| range.map(cell).collect();
    (cells(0..mark), cells(mark + 1..BAR))
}

#[cfg(test)]
mod tests {
    use mptcp_lab::share;

    use super::*;
    use crate::demo::screen::{Frame as _, WIDTH};

    fn with_frame<T>(agent: [u64; 2], default: [u64; 2], test: impl FnOnce(&Frame) -> T) -> T {
        let window = |acked: [u64; 2]| Window {
            seconds: 1.0,
            delivered: acked.iter().sum(),
            acked: acked.to_vec(),
        };
        test(&Frame {
            load: "Load 2 of 2: an application that sends 19 Mbit/s",
            second: 3600,
            seconds: 3600,
            paths: ["p1", "p2"],
            targets: &share::targets(&[4, 1]),
            agent: &window(agent),
            default: &window(default),
            acked: &Acked {
                metrics: agent.map(|bytes| bytes * 1000).to_vec(),
                kernel: agent.map(|bytes| bytes * 1000).to_vec(),
            },
        })
    }

    #[test]
    fn frames_fit() {
        with_frame([5_000_000, 5_000_000], [0, 0], |frame| {
            let lines = frame.lines(Paint(false));
            assert_eq!(lines.len(), Frame::HEIGHT);
            for line in lines {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
            let line = frame.line().expect("a line");
            assert!(line.chars().count() <= WIDTH, "{line}");
        });
    }

    #[test]
    fn a_path_shows_its_bar_share_and_rate() {
        with_frame([4_000_000, 1_000_000], [5_000_000, 0], |frame| {
            let lines = frame.lines(Paint(false));
            assert_eq!(
                lines[4],
                " p1      80 %   ████████████▊┃    80.0 %  32.0   █████████████┃██ 100.0 %  40.0"
            );
            assert!(frame.lines(Paint(true))[4].contains("\x1b[32m"));
        });
    }

    #[test]
    fn bars_are_as_long_as_the_share() {
        assert_eq!(bar(0.0, 0.5), (" ".repeat(8), " ".repeat(7)));
        assert_eq!(bar(1.0, 1.0), ("█".repeat(15), String::new()));
        assert_eq!(bar(0.25, 0.5).0, "████    ");
        assert_eq!(bar(4.5 / 16.0, 0.5).0, "████▌   ");
    }
}
