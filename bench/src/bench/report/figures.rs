//! Defines how the figures of the benchmarks are judged: whether lower or higher is
//! better, and how large a difference is noise where a figure was measured only once.

/// The direction in which a figure improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// A lower figure.
    Lower,
    /// A higher figure.
    Higher,
}

/// How a figure is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// The direction in which the figure improves.
    pub better: Better,
    /// A difference of less than this part of the figure is noise.
    pub relative: f64,
    /// A difference of less than this is noise, in the figure's unit.
    pub absolute: f64,
}

const fn lower(relative: f64, absolute: f64) -> Rule {
    Rule {
        better: Better::Lower,
        relative,
        absolute,
    }
}

const fn higher(relative: f64, absolute: f64) -> Rule {
    Rule {
        better: Better::Higher,
        relative,
        absolute,
    }
}

/// The figures that are compared, by their names, or by the last part of a name
/// after a dot. All others only describe what was done. The thresholds come from
/// how much figures of the same build differ on a shared machine with two cores.
const RULES: &[(&str, Rule)] = &[
    // Distances of shares from what the weights ask for.
    ("worst_deviation", lower(0.0, 0.005)),
    ("deviation", lower(0.0, 0.005)),
    ("window", lower(0.0, 0.005)),
    ("error", lower(0.0, 0.01)),
    ("off", lower(0.0, 0.005)),
    ("worst off", lower(0.0, 0.005)),
    ("second", lower(0.0, 0.01)),
    // Goodput, relative to a bound or to the default scheduler.
    ("goodput_ratio", higher(0.03, 0.0)),
    ("goodput_mbit", higher(0.05, 0.0)),
    ("by bound", higher(0.05, 0.0)),
    ("by best", higher(0.03, 0.0)),
    ("by single", higher(0.1, 0.0)),
    ("by default", higher(0.1, 0.0)),
    ("slowest", higher(0.2, 0.05)),
    // Latencies in milliseconds.
    ("p50_ms", lower(0.1, 0.05)),
    ("p99_ms", lower(0.25, 0.3)),
    ("p999_ms", lower(0.5, 3.0)),
    ("max_ms", lower(1.0, 20.0)),
    ("p99_ratio", lower(0.0, 0.15)),
    ("p50 by default", lower(0.1, 0.0)),
    ("p95 by default", lower(0.25, 0.0)),
    ("p99 by default", lower(0.2, 0.0)),
    // Counts of what must not happen.
    ("late", lower(0.0, 3.0)),
    ("late_ratio", lower(0.0, 0.05)),
    ("timeouts", lower(0.5, 5.0)),
    ("retransmitted_segments", lower(0.5, 5.0)),
    ("resets", lower(0.0, 0.0)),
    ("events_lost", lower(0.0, 0.0)),
    ("failed", lower(0.0, 0.0)),
    ("backwards", lower(0.0, 0.0)),
    // Costs.
    ("wire_bytes_per_byte", lower(0.03, 0.0)),
    ("cpu_seconds_per_gigabyte", lower(0.25, 0.0)),
    ("ns_per_run", lower(0.15, 30.0)),
    ("series", lower(0.0, 0.0)),
    ("bytes", lower(0.02, 0.0)),
    ("median_seconds", lower(0.3, 0.002)),
    ("resident_bytes", lower(0.1, 0.0)),
    ("longest_seconds", lower(0.5, 0.2)),
];

/// Returns how a figure is compared; `None` if it is not.
pub fn rule(figure: &str) -> Option<Rule> {
    // Figures of the default scheduler do not depend on this project.
    if figure.starts_with("default") || figure.ends_with(".ok") {
        return None;
    }
    let find = |name: &str| RULES.iter().find(|(of, _)| *of == name);
    let last = figure.rsplit('.').next().unwrap_or(figure);
    find(figure).or_else(|| find(last)).map(|(_, rule)| *rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_the_agent_have_rules() {
        let better = |figure| rule(figure).map(|rule| rule.better);
        assert_eq!(better("agent.p999_ms"), Some(Better::Lower));
        assert_eq!(better("by default"), Some(Better::Higher));
        assert_eq!(better("p99 by default"), Some(Better::Lower));
        assert_eq!(better("default.p999_ms"), None);
        assert_eq!(better("default_goodput_ratio"), None);
        assert_eq!(better("agent.requests"), None);
        assert_eq!(better("window.ok"), None);
    }

    #[test]
    fn no_figure_has_two_rules() {
        let mut names: Vec<&str> = RULES.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), RULES.len());
    }
}
