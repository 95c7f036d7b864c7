//! Draws the results as SVG with an opaque background, so that the plots can be read on
//! light and on dark pages. The same results give the same bytes.

mod bars;
mod latency;
mod scrape;
mod share;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use plotters::chart::MeshStyle;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::results::{Group, Results, write_whole};

/// The directory of the plots, from that of the documentation.
const IMAGES: &str = "images";
/// The usual size of a plot, in pixels.
const SIZE: (u32, u32) = (760, 380);
/// The colours of the agent, of the default scheduler, and of what was asked for.
const AGENT: RGBColor = RGBColor(9, 105, 218);
const DEFAULT: RGBColor = RGBColor(207, 80, 20);
const TARGET: RGBColor = RGBColor(110, 119, 129);
/// The colours of the agent and the default scheduler in a plot's second row.
const AGENT_TOO: RGBColor = RGBColor(84, 174, 255);
const DEFAULT_TOO: RGBColor = RGBColor(245, 160, 90);
/// The lines behind the curves.
const GRID: RGBColor = RGBColor(225, 228, 232);
/// The font of a caption and of other text. Plotters writes it a fifth smaller.
const CAPTION: (&str, u32) = ("sans-serif", 20);
const TEXT: (&str, u32) = ("sans-serif", 16);

/// An area on which a plot is drawn.
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A chart on such an area.
type Chart<'a, X, Y> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>;

/// A plot of the documentation.
pub struct Plot {
    /// The name in the page's mark, and of the file.
    pub name: &'static str,
    /// The group that it shows.
    pub group: &'static str,
    /// A description for readers who cannot see the plot.
    pub about: &'static str,
    size: (u32, u32),
    /// Draws it. Returns false if the group has no such rows.
    draw: fn(&Group, &Area) -> Result<bool>,
}

/// All plots.
pub const ALL: &[Plot] = &[
    Plot {
        name: "live",
        group: "live",
        about: "The first path's share over time while the weights change, beside what the \
                weights ask for and the default scheduler's share",
        size: SIZE,
        draw: share::over_time,
    },
    Plot {
        name: "goodput",
        group: "weighted",
        about: "Goodput against the most that the ratio and the load allow, under the agent and \
                under the default scheduler, one point a row",
        size: (760, 420),
        draw: share::goodput,
    },
    Plot {
        name: "latency-loss",
        group: "redundant",
        about: "Latency of requests while the first path loses 20 % of its packets: redundant, \
                and the default scheduler",
        size: SIZE,
        draw: latency::loss,
    },
    Plot {
        name: "latency-blackout",
        group: "redundant",
        about: "Latency of requests while the first path is cut again and again: redundant, and \
                the default scheduler",
        size: SIZE,
        draw: latency::blackout,
    },
    Plot {
        name: "scrape",
        group: "scrape",
        about: "Time of a scrape, and the agent's resident memory, by the number of open subflows",
        size: (760, 320),
        draw: scrape::by_subflows,
    },
    Plot {
        name: "hooks",
        group: "hooks",
        about: "Nanoseconds that a run of each program takes, under each policy",
        size: (760, 640),
        draw: bars::hooks,
    },
];

impl Plot {
    /// Returns the plot of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|plot| plot.name == name)
    }

    /// Returns where the plot is, from the documentation's directory.
    pub fn link(&self) -> String {
        format!("{IMAGES}/bench-{}.svg", self.name)
    }

    /// Returns the plot as SVG; `None` if what it shows was not measured.
    ///
    /// # Errors
    /// The figures cannot be drawn.
    pub fn draw(&self, results: &Results) -> Result<Option<String>> {
        let Some(group) = results.groups.get(self.group) else {
            return Ok(None);
        };
        let mut svg = String::new();
        let drawn = {
            let area = SVGBackend::with_string(&mut svg, self.size).into_drawing_area();
            area.fill(&WHITE).map_err(failed)?;
            let drawn = (self.draw)(group, &area)
                .with_context(|| format!("cannot draw the plot {}", self.name))?;
            area.present().map_err(failed)?;
            drawn
        };
        Ok(drawn.then_some(svg))
    }
}

/// Draws all plots whose groups were measured, into files below `directory`.
/// Removes the files of the others.
///
/// # Errors
/// The figures cannot be drawn, or a file cannot be written.
pub fn draw_all(directory: &Path, results: &Results) -> Result<()> {
    fs::create_dir_all(directory.join(IMAGES))?;
    for plot in ALL {
        let file = directory.join(plot.link());
        match plot.draw(results)? {
            Some(svg) => write_whole(&file, &svg)?,
            None if file.exists() => fs::remove_file(&file)?,
            None => {}
        }
    }
    Ok(())
}

/// Makes a chart with a title. The text left of the vertical axis has `left` pixels.
///
/// # Errors
/// Plotters cannot draw the title.
fn chart<'a, X: AsRangedCoord, Y: AsRangedCoord>(
    area: &Area<'a>,
    title: &str,
    left: u32,
    x: X,
    y: Y,
) -> Result<Chart<'a, X::CoordDescType, Y::CoordDescType>> {
    ChartBuilder::on(area)
        .margin(12)
        .caption(title, CAPTION)
        .x_label_area_size(44)
        .y_label_area_size(left)
        .build_cartesian_2d(x, y)
        .map_err(failed)
}

/// Returns a chart's axes and grid in the style of all plots, for the caller to name
/// and to draw.
fn axes<'a, 'b, X, Y>(chart: &'b mut Chart<'a, X, Y>) -> MeshStyle<'a, 'b, X, Y, SVGBackend<'a>>
where
    X: Ranged + ValueFormatter<X::ValueType>,
    Y: Ranged + ValueFormatter<Y::ValueType>,
{
    let mut axes = chart.configure_mesh();
    axes.light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .label_style(TEXT)
        .axis_desc_style(TEXT);
    axes
}

/// Draws a line through `points`, and names it for the legend.
///
/// # Errors
/// Plotters cannot draw the line.
fn curve<X, Y>(
    chart: &mut Chart<'_, X, Y>,
    name: impl Into<String>,
    style: ShapeStyle,
    points: impl IntoIterator<Item = (X::ValueType, Y::ValueType)>,
) -> Result<()>
where
    X: Ranged<ValueType: Clone + 'static>,
    Y: Ranged<ValueType: Clone + 'static>,
{
    chart
        .draw_series(LineSeries::new(points, style))
        .map_err(failed)?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    Ok(())
}

/// Draws the legend of a chart whose series have names.
///
/// # Errors
/// Plotters cannot draw the legend.
fn legend<X: Ranged, Y: Ranged>(
    chart: &mut Chart<'_, X, Y>,
    position: SeriesLabelPosition,
) -> Result<()> {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE)
        .border_style(GRID)
        .label_font(TEXT)
        .draw()
        .map_err(failed)
}

/// Converts an error of plotters. It borrows from the drawing, so only its text is kept.
fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}

/// Returns the largest of some figures, and at least `least`.
fn largest(values: impl IntoIterator<Item = f64>, least: f64) -> f64 {
    values.into_iter().fold(least, f64::max)
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::{results, row};
    use super::*;

    fn check(plot: &str, results: &Results) -> Result<String> {
        let plot = Plot::named(plot).context("no such plot")?;
        let svg = plot.draw(results)?.context("nothing is drawn")?;
        assert!(svg.starts_with("<svg"));
        // The background is opaque.
        assert!(svg.contains("fill=\"#FFFFFF\""), "{svg}");
        assert!(svg.len() < 60_000, "{} bytes", svg.len());
        assert_eq!(plot.draw(results)?.as_ref(), Some(&svg));
        Ok(svg)
    }

    #[test]
    fn plots_are_small_and_always_the_same() -> Result<()> {
        let series = [
            ("seconds", "0.5 1 1.5"),
            ("share", "0.8 0.79 0.5"),
            ("target", "0.8 0.8 0.5"),
        ];
        let rows = vec![
            row("live series agent", &series),
            row("live series default", &series),
        ];
        assert!(check("live", &results("live", rows))?.contains("default scheduler"));

        let quantiles = (0..62).map(|n| (30 + n).to_string());
        let quantiles = quantiles.collect::<Vec<_>>().join(" ");
        let figures = [
            ("agent.quantiles_ms", quantiles.as_str()),
            ("agent.requests", "600"),
            ("default.quantiles_ms", quantiles.as_str()),
            ("default.requests", "600"),
        ];
        let rows = vec![
            row("loss 30ms p1 20 %", &figures),
            row("blackout 30ms p1 both", &figures),
        ];
        let redundant = results("redundant", rows);
        assert!(check("latency-loss", &redundant)?.contains("99.9 %"));
        assert!(check("latency-blackout", &redundant)?.contains("30ms"));

        let figures = [("median_seconds", "0.004"), ("resident_bytes", "17000000")];
        let rows = vec![row("subflows 10", &figures), row("subflows 1000", &figures)];
        check("scrape", &results("scrape", rows))?;

        let figures = [
            ("policy", "weighted"),
            ("program", "sockops"),
            ("ns_per_run", "412.3"),
        ];
        let rows = vec![row("hooks weighted sockops", &figures)];
        assert!(check("hooks", &results("hooks", rows))?.contains("412"));

        let figures = [
            ("best_mbit", "75"),
            ("goodput_ratio", "0.99"),
            ("default_goodput_ratio", "1.5"),
        ];
        let rows = vec![row("100+50 1:1 bulk cubic strict", &figures)];
        check("goodput", &results("weighted", rows))?;
        Ok(())
    }

    #[test]
    fn nothing_is_drawn_of_what_was_not_measured() -> Result<()> {
        for plot in ALL {
            assert_eq!(plot.draw(&Results::default())?, None);
            let other = results(plot.group, vec![row("other", &[("x", "1")])]);
            assert_eq!(plot.draw(&other)?, None, "{}", plot.name);
        }
        Ok(())
    }

    #[test]
    fn files_of_plots_that_are_gone_are_removed() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let rows = vec![row(
            "subflows 10",
            &[("median_seconds", "1"), ("resident_bytes", "2")],
        )];
        draw_all(directory.path(), &results("scrape", rows))?;
        let file = directory.path().join("images/bench-scrape.svg");
        assert!(file.exists());
        draw_all(directory.path(), &Results::default())?;
        assert!(!file.exists());
        Ok(())
    }
}
