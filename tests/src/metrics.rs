//! A parser for Prometheus' text format, as far as the agent uses it. (Crate
//! `prometheus-parse` skips a line that it cannot read, where a test must fail.)

use anyhow::{Context, Result};

/// Metrics that restart with each agent, or exist under one policy only.
const OWN: [&str; 2] = ["mptcp_agent_program_", "mptcp_redundant_"];

/// One scrape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// The samples, in the order of the text.
    pub samples: Vec<Sample>,
}

/// One line of a scrape.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric's name, or a histogram's with `_bucket`, `_sum`, `_count`.
    pub name: String,
    /// The labels' names and values.
    pub labels: Vec<(String, String)>,
    /// The sample's value.
    pub value: f64,
}

impl Metrics {
    /// Parses a scrape.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| {
            Sample::parse(line).with_context(|| format!("no sample of a metric: {line:?}"))
        });
        Ok(Self {
            samples: samples.collect::<Result<_>>()?,
        })
    }

    /// Returns the samples of a metric that have all these labels, and maybe more.
    pub fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            let has = |&(name, value): &(&str, &str)| sample.label(name) == Some(value);
            sample.name == name && labels.iter().all(has)
        })
    }

    /// Returns the value of the first sample that [`Metrics::select`] gives.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.select(name, labels).next().map(|sample| sample.value)
    }

    /// Returns the sum of the samples that [`Metrics::select`] gives; 0 for none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        // `Iterator::sum` would give -0 for no samples.
        self.select(name, labels)
            .fold(0.0, |sum, sample| sum + sample.value)
    }

    /// Lists the totals that are less than in an earlier scrape of any agent on the
    /// same host, with both values. A total that is missing now counts as 0.
    pub fn backwards_since(&self, before: &Self) -> Vec<String> {
        let totals = before.samples.iter().filter(|sample| sample.is_total());
        let back = totals.filter_map(|was| {
            let same = |now: &&Sample| now.name == was.name && now.labels == was.labels;
            let now = self.samples.iter().find(same);
            let now = now.map_or(0.0, |sample| sample.value);
            let Sample { name, labels, .. } = was;
            (now < was.value).then(|| format!("{name}{labels:?}: {} -> {now}", was.value))
        });
        back.collect()
    }
}

impl Sample {
    /// Returns the value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns whether the metric only grows, even across agents.
    fn is_total(&self) -> bool {
        let ends = ["_total", "_bucket", "_count"];
        ends.iter().any(|end| self.name.ends_with(end))
            && !OWN.iter().any(|own| self.name.starts_with(own))
    }

    /// Parses `name{label="value",...} value`.
    fn parse(line: &str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            while !rest.starts_with('}') {
                let (label, value) = rest.split_once("=\"")?;
                let (value, after) = unescape(value)?;
                labels.push((label.trim_start_matches(',').to_owned(), value));
                rest = after;
            }
            rest = &rest[1..];
        }
        Some(Self {
            name: name.to_owned(),
            labels,
            // Rust also parses Prometheus' +Inf and NaN.
            value: rest.split_whitespace().next()?.parse().ok()?,
        })
    }
}

/// Returns a label's value up to its closing quote, and the text after that.
fn unescape(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_with_and_without_labels() -> Result<()> {
        let text = "# HELP a b\n# TYPE a counter\na 1\nb{path=\"p1\",state=\"x, \\\"y}\"} 2.5\n\
                    b{path=\"p2\",state=\"z\"} 1e3\nc_bucket{le=\"+Inf\"} +Inf\n";
        let metrics = Metrics::parse(text)?;
        assert_eq!(metrics.value("a", &[]), Some(1.0));
        assert_eq!(metrics.value("b", &[("path", "p2")]), Some(1000.0));
        assert_eq!(metrics.value("b", &[("path", "p3")]), None);
        assert_eq!(metrics.sum("b", &[]), 1002.5);
        let first = metrics.select("b", &[]).next().context("b")?;
        assert_eq!(first.label("state"), Some("x, \"y}"));
        assert_eq!(metrics.value("c_bucket", &[]), Some(f64::INFINITY));
        for wrong in ["a", "a{b=\"c} 1", "a{b} 1", "a one"] {
            assert!(Metrics::parse(wrong).is_err(), "{wrong}");
        }
        Ok(())
    }

    #[test]
    fn only_totals_that_shrink_or_vanish_are_named() -> Result<()> {
        let before = Metrics::parse(
            "a_total{path=\"p1\"} 5\na_total{path=\"p2\"} 5\nb_total 3\nc 9\nd_total 0\n\
             mptcp_redundant_x_total 7\nmptcp_agent_program_runs_total{program=\"x\"} 7\n",
        )?;
        let now = Metrics::parse("a_total{path=\"p1\"} 6\na_total{path=\"p2\"} 4\nc 1\n")?;
        let found = now.backwards_since(&before);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("a_total") && found[0].ends_with("5 -> 4"));
        assert_eq!(found[1], "b_total[]: 3 -> 0");
        assert!(before.backwards_since(&before).is_empty());
        Ok(())
    }
}
