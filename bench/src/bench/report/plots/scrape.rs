//! Plots the cost of scrapes, by the number of subflows.

use anyhow::Result;
use plotters::prelude::*;

use super::{AGENT, Area, axes, chart, failed, largest};
use crate::bench::report::results::Group;

/// Draws the time of a scrape, and the agent's memory.
pub fn by_subflows(group: &Group, area: &Area) -> Result<bool> {
    let points = |figure: &str, scale: f64| -> Vec<(f64, f64)> {
        let rows = group.rows.iter().filter_map(|row| {
            let subflows: f64 = row.name.strip_prefix("subflows ")?.parse().ok()?;
            Some((subflows, row.values(figure)?.first()? * scale))
        });
        rows.collect()
    };
    let (times, memory) = (
        points("median_seconds", 1e3),
        points("resident_bytes", 1e-6),
    );
    if times.is_empty() || memory.is_empty() {
        return Ok(false);
    }
    let (left, right) = area.split_horizontally(380);
    draw(&left, "Time of a scrape", "milliseconds", &times)?;
    draw(&right, "Resident memory", "MB", &memory)?;
    Ok(true)
}

fn draw(area: &Area, title: &str, unit: &str, points: &[(f64, f64)]) -> Result<()> {
    let most = largest(points.iter().map(|(subflows, _)| *subflows), 100.0);
    let top = largest(points.iter().map(|(_, value)| *value), 1e-3) * 1.15;
    let mut chart = chart(area, title, 60, (8.0..most * 1.5).log_scale(), 0.0..top)?;
    axes(&mut chart)
        .x_desc("open subflows")
        .y_desc(unit)
        .x_label_formatter(&|subflows| format!("{subflows}"))
        .draw()
        .map_err(failed)?;
    let style = AGENT.stroke_width(2);
    chart
        .draw_series(LineSeries::new(points.iter().copied(), style))
        .map_err(failed)?;
    chart
        .draw_series(points.iter().map(|&at| Circle::new(at, 4, AGENT.filled())))
        .map_err(failed)?;
    Ok(())
}
