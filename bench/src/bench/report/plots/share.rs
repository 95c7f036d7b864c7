//! Plots shares over time, and goodput against its bound.

use anyhow::Result;
use plotters::prelude::*;

use super::{AGENT, Area, DEFAULT, TARGET, axes, chart, curve, failed, largest, legend};
use crate::bench::report::results::{Group, Row};

/// Draws the first path's share over time while the weights change.
pub fn over_time(group: &Group, area: &Area) -> Result<bool> {
    let series = |row: &str, figure: &str| -> Option<Vec<(f64, f64)>> {
        let row = group.row(row)?;
        let seconds = row.values("seconds")?;
        Some(seconds.into_iter().zip(row.values(figure)?).collect())
    };
    let (Some(agent), Some(default), Some(target)) = (
        series("live series agent", "share"),
        series("live series default", "share"),
        series("live series agent", "target"),
    ) else {
        return Ok(false);
    };
    let end = largest(agent.iter().map(|(second, _)| *second), 1.0);
    let title = "Share of the first path while the weights change";
    let mut chart = chart(area, title, 60, 0.0..end, 0.0..1.0)?;
    axes(&mut chart)
        .x_desc("seconds")
        .x_label_formatter(&|seconds| format!("{seconds:.0}"))
        .y_desc("share, every half second")
        .draw()
        .map_err(failed)?;
    let curves = [
        ("asked for", TARGET, steps(&target)),
        ("default scheduler", DEFAULT, default),
        ("mptcp-agent", AGENT, agent),
    ];
    for (name, colour, points) in curves {
        curve(&mut chart, name, colour.stroke_width(2), points)?;
    }
    legend(&mut chart, SeriesLabelPosition::LowerLeft)?;
    Ok(true)
}

/// Makes upright steps of a series: each figure counts from the previous point on.
fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut before = 0.0;
    let mut all = Vec::new();
    for &(at, value) in points {
        all.extend([(before, value), (at, value)]);
        before = at;
    }
    all
}

/// Draws each row's goodput against the most that its ratio and its load allow.
pub fn goodput(group: &Group, area: &Area) -> Result<bool> {
    let points = |figure: &str| -> Vec<(f64, f64)> {
        let point = |row: &Row| {
            let best = *row.values("best_mbit")?.first()?;
            Some((best, best * row.values(figure)?.first()?))
        };
        group.rows.iter().filter_map(point).collect()
    };
    let (agent, default) = (points("goodput_ratio"), points("default_goodput_ratio"));
    if agent.is_empty() {
        return Ok(false);
    }
    let right = largest(agent.iter().map(|(bound, _)| *bound), 1.0) * 1.05;
    let top = largest(agent.iter().chain(&default).map(|(_, mbit)| *mbit), right) * 1.05;
    let title = "Goodput against the most that ratio and load allow";
    let mut chart = chart(area, title, 60, 0.0..right, 0.0..top)?;
    axes(&mut chart)
        .x_desc("bound, Mbit/s")
        .y_desc("goodput, Mbit/s")
        .x_label_formatter(&|mbit| format!("{mbit:.0}"))
        .y_label_formatter(&|mbit| format!("{mbit:.0}"))
        .draw()
        .map_err(failed)?;
    let bound = [(0.0, 0.0), (right, right)];
    curve(
        &mut chart,
        "the bound itself",
        TARGET.stroke_width(1),
        bound,
    )?;
    let series = [
        (
            "default scheduler, which ignores the ratio",
            DEFAULT,
            default,
        ),
        ("mptcp-agent", AGENT, agent),
    ];
    for (name, colour, points) in series {
        let dot = move |at| Circle::new(at, 4, colour.mix(0.8).filled());
        chart
            .draw_series(points.into_iter().map(dot))
            .map_err(failed)?
            .label(name)
            .legend(move |(x, y)| Circle::new((x + 9, y), 4, colour.filled()));
    }
    legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_steps() {
        assert_eq!(
            steps(&[(1.0, 0.8), (2.0, 0.5)]),
            [(0.0, 0.8), (1.0, 0.8), (1.0, 0.5), (2.0, 0.5)]
        );
    }
}
