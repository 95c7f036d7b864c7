//! Plots how latencies are distributed. The axis with the part of the requests is
//! in nines (0.9, 0.99, 0.999), because the slowest requests matter most.

use anyhow::Result;
use plotters::prelude::*;

use super::{
    AGENT, AGENT_TOO, Area, DEFAULT, DEFAULT_TOO, axes, chart, curve, failed, largest, legend,
};
use crate::bench::quantiles;
use crate::bench::report::results::{Group, Row};

/// A curve: its name, and latencies in milliseconds with their nines.
struct Curve {
    name: String,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// Draws the latencies while the first path loses packets.
pub fn loss(group: &Group, area: &Area) -> Result<bool> {
    let title = "Requests while the first path loses 20 % of its packets";
    draw(group, area, title, |name| {
        name.starts_with("loss ") && name.ends_with(" 20 %")
    })
}

/// Draws the latencies while the first path is cut.
pub fn blackout(group: &Group, area: &Area) -> Result<bool> {
    let title = "Requests while the first path is cut again and again";
    draw(group, area, title, |name| {
        name.starts_with("blackout ") && name.ends_with(" p1 both")
    })
}

fn draw(group: &Group, area: &Area, title: &str, rows: fn(&str) -> bool) -> Result<bool> {
    let rows = group.rows.iter().filter(|row| rows(&row.name));
    // Two colours a row; there are two lengths of the paths.
    let colours = [(AGENT, DEFAULT), (AGENT_TOO, DEFAULT_TOO)];
    let mut curves = Vec::new();
    for (row, (agent, default)) in rows.zip(colours) {
        let length = row.name.split(' ').nth(1).unwrap_or_default();
        let sides = [
            ("agent", "redundant", agent),
            ("default", "default scheduler", default),
        ];
        for (side, name, colour) in sides {
            curves.extend(points(row, side).map(|points| Curve {
                name: format!("{name}, round trip {length}"),
                colour,
                points,
            }));
        }
    }
    if curves.is_empty() {
        return Ok(false);
    }
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let least = all().map(|(ms, _)| *ms).fold(f64::INFINITY, f64::min);
    let most = largest(all().map(|(ms, _)| *ms), least * 10.0);
    let top = largest(all().map(|(_, nines)| *nines), 3.0) * 1.03;
    // Plotters lets one choose the marks of whole numbers only.
    let thousandths = |nines: f64| (nines * 1e3) as i32;
    // Half of the requests, and each further nine.
    let mut marks = vec![0.0, 2.0_f64.log10(), 1.0, 2.0, 3.0, 4.0];
    marks.retain(|mark| *mark <= top);
    let marks = marks.into_iter().map(thousandths).collect();
    let (x, y) = (least * 0.8..most * 1.3, 0..thousandths(top));
    let y = y.with_key_points(marks);
    let mut chart = chart(area, title, 72, x.log_scale(), y)?;
    axes(&mut chart)
        .x_desc("milliseconds until the response")
        .y_desc("part of the requests")
        .x_label_formatter(&|ms| format!("{ms}"))
        .y_label_formatter(&|nines| percent(f64::from(*nines) / 1e3))
        .draw()
        .map_err(failed)?;
    for one in curves {
        let points = one.points.into_iter();
        let points = points.map(|(ms, nines)| (ms, thousandths(nines)));
        curve(&mut chart, one.name, one.colour.stroke_width(2), points)?;
    }
    legend(&mut chart, SeriesLabelPosition::LowerRight)?;
    Ok(true)
}

/// Returns the latency of each quantile with its nines. The largest of n samples
/// has the nines of one in n.
fn points(row: &Row, side: &str) -> Option<Vec<(f64, f64)>> {
    let values = row.values(&format!("{side}.quantiles_ms"))?;
    let requests = *row.values(&format!("{side}.requests"))?.first()?;
    let last = requests.max(1.0).log10();
    let nines = quantiles::parts().map(|part| (-(1.0 - part).log10()).min(last));
    Some(
        values
            .into_iter()
            .map(|ms| ms.max(0.01))
            .zip(nines)
            .collect(),
    )
}

/// Formats nines as a part of the requests.
fn percent(nines: f64) -> String {
    let decimals = (nines.round() - 2.0).max(0.0) as usize;
    format!("{:.decimals$} %", (1.0 - 10_f64.powf(-nines)) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nines_are_parts() {
        assert_eq!(
            [0.0, 1.0, 2.0, 3.0].map(percent),
            ["0 %", "90 %", "99 %", "99.9 %"]
        );
    }
}
