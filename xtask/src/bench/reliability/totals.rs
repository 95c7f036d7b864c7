//! Totals never go backwards, whoever counts.

use mptcp_lab::metrics::{Metrics, Sample};

/// What counts anew with each agent, or is there under one policy only.
const OWN: [&str; 2] = ["mptcp_agent_program_", "mptcp_redundant_"];

/// The samples of totals that are less than they were, or gone, with both
/// values.
pub fn backwards(before: &Metrics, now: &Metrics) -> Vec<String> {
    let totals = before
        .samples
        .iter()
        .filter(|sample| is_total(&sample.name));
    totals.filter_map(|was| went_back(was, now)).collect()
}

fn is_total(name: &str) -> bool {
    let counts = ["_total", "_bucket", "_count"];
    counts.iter().any(|end| name.ends_with(end)) && !OWN.iter().any(|own| name.starts_with(own))
}

fn went_back(was: &Sample, now: &Metrics) -> Option<String> {
    let same = |sample: &&Sample| sample.name == was.name && sample.labels == was.labels;
    let value = now
        .samples
        .iter()
        .find(same)
        .map_or(0.0, |sample| sample.value);
    let Sample { name, labels, .. } = was;
    (value < was.value).then(|| format!("{name}{labels:?}: {} -> {value}", was.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_totals_that_shrink_or_vanish_are_named() -> anyhow::Result<()> {
        let before = Metrics::parse(
            "a_total{path=\"p1\"} 5\na_total{path=\"p2\"} 5\nb_total 3\nc 9\nd_total 0\n\
             mptcp_redundant_x_total 7\nmptcp_agent_program_runs_total{program=\"x\"} 7\n",
        )?;
        let now = Metrics::parse("a_total{path=\"p1\"} 6\na_total{path=\"p2\"} 4\nc 1\n")?;
        let found = backwards(&before, &now);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("a_total") && found[0].ends_with("5 -> 4"));
        assert_eq!(found[1], "b_total[]: 3 -> 0");
        assert!(backwards(&before, &before).is_empty());
        Ok(())
    }
}
