//! Plots the cost of each program, as bars.

use anyhow::Result;
use plotters::prelude::*;

use super::{AGENT, Area, TEXT, axes, chart, failed, largest};
use crate::bench::report::results::{Group, Row};

/// The room for the text beside the longest bar, as a part of the bar.
const TEXT_ROOM: f64 = 0.75;

/// Draws the nanoseconds of a run.
pub fn hooks(group: &Group, area: &Area) -> Result<bool> {
    let bar = |row: &Row| {
        let nanos = *row.values("ns_per_run")?.first()?;
        let (policy, program) = (row.text("policy")?, row.text("program")?);
        Some((nanos, format!("{policy}: {program}, {nanos:.0}")))
    };
    let bars: Vec<(f64, String)> = group.rows.iter().filter_map(bar).collect();
    if bars.is_empty() {
        return Ok(false);
    }
    let right = largest(bars.iter().map(|(nanos, _)| *nanos), 1.0) * (1.0 + TEXT_ROOM);
    let count = bars.len() as f64;
    let title = "Nanoseconds of a run of each program, by policy";
    let mut chart = chart(area, title, 0, 0.0..right, count..0.0)?;
    axes(&mut chart)
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc("nanoseconds")
        .x_label_formatter(&|nanos| format!("{nanos:.0}"))
        .draw()
        .map_err(failed)?;
    for (index, (nanos, text)) in bars.into_iter().enumerate() {
        let top = index as f64;
        let bar = Rectangle::new([(0.0, top + 0.15), (nanos, top + 0.85)], AGENT.filled());
        let beside = (nanos + right * 0.008, top + 0.15);
        chart.draw_series([bar]).map_err(failed)?;
        let label = Text::new(text, beside, TEXT);
        chart.draw_series([label]).map_err(failed)?;
    }
    Ok(true)
}
