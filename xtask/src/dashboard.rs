//! `cargo xtask dashboard`: makes Grafana's dashboard of its description.
//!
//! ```text
//!   dashboard.toml --> Description --> panels, placed row by row --> mptcp-agent.json
//! ```

mod panel;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use panel::Panel;
use xtask::workspace::Workspace;

/// The description, below the workspace's root.
const DESCRIPTION: &str = "deploy/grafana/dashboard.toml";
/// The dashboard that is made of it.
const DASHBOARD: &str = "deploy/grafana/mptcp-agent.json";

/// The number of columns of a dashboard.
const COLUMNS: u32 = 24;

/// The agents that are chosen on top of the dashboard, as a selector.
const HOST: &str = r#"job=~"$job", instance=~"$instance""#;
/// The agents and the paths that are chosen.
const PATH: &str = r#"job=~"$job", instance=~"$instance", path=~"$path""#;

/// The whole description.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    title: String,
    uid: String,
    description: String,
    row: Vec<Row>,
}

/// Panels below a heading.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    title: String,
    panel: Vec<Panel>,
}

/// Runs `cargo xtask dashboard`.
pub fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    let text = fs::read_to_string(workspace.root.join(DESCRIPTION))
        .with_context(|| format!("cannot read {DESCRIPTION}"))?;
    let to: PathBuf = workspace.root.join(DASHBOARD);
    fs::write(&to, render(&text)?).with_context(|| format!("cannot write {}", to.display()))?;
    println!("{DASHBOARD}");
    Ok(())
}

/// Returns the dashboard as Grafana imports it.
///
/// # Errors
/// The description has a mistake; the error says in which line.
fn render(description: &str) -> Result<String> {
    let description: Description =
        toml::from_str(description).with_context(|| format!("a mistake in {DESCRIPTION}"))?;
    let dashboard = json!({
        "title": description.title,
        "uid": description.uid,
        "description": description.description,
        "tags": ["mptcp"],
        "schemaVersion": 39,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": variables() },
        "panels": panels(&description.row),
    });
    Ok(format!("{dashboard:#}\n"))
}

/// Returns the choices on top of the dashboard.
fn variables() -> Vec<Value> {
    let choice = |name: &str, label: &str, query: &str| {
        json!({
            "name": name, "label": label, "type": "query",
            "datasource": panel::source(), "definition": query,
            "query": { "query": query, "refId": "variable" },
            "refresh": 2, "sort": 1, "multi": true, "includeAll": true,
            "allValue": ".*", "current": { "text": "All", "value": "$__all" },
        })
    };
    let source = json!({
        "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus",
    });
    let instances = r#"label_values(mptcp_agent_build_info{job=~"$job"}, instance)"#;
    let paths = format!("label_values(mptcp_subflows{{{HOST}}}, path)");
    vec![
        source,
        choice("job", "Job", "label_values(mptcp_agent_build_info, job)"),
        choice("instance", "Agent", instances),
        choice("path", "Path", &paths),
    ]
}

/// Returns the rows and their panels, each at its place.
fn panels(rows: &[Row]) -> Vec<Value> {
    let (mut all, mut y) = (Vec::new(), 0);
    for row in rows {
        let number = all.len() + 1;
        all.push(json!({
            "id": number, "type": "row", "title": row.title, "collapsed": false, "panels": [],
            "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 },
        }));
        y += 1;
        // The panels of a line are as high as its highest one.
        let (mut x, mut line) = (0, 0);
        for panel in &row.panel {
            let (width, height) = (panel.width(), panel.height());
            if x + width > COLUMNS {
                (x, y, line) = (0, y + line, 0);
            }
            let number = all.len() + 1;
            let place = json!({ "x": x, "y": y, "w": width, "h": height });
            all.push(panel.render(number, &place));
            x += width;
            line = line.max(height);
        }
        y += line;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../deploy/grafana/dashboard.toml");

    fn dashboard() -> Result<Value> {
        Ok(serde_json::from_str(&render(TEXT)?)?)
    }

    fn expressions(dashboard: &Value) -> Vec<&str> {
        let panels = dashboard["panels"].as_array().into_iter().flatten();
        let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
        targets
            .filter_map(|target| target["expr"].as_str())
            .collect()
    }

    #[test]
    fn the_dashboard_is_what_its_description_says() -> Result<()> {
        let written = include_str!("../../deploy/grafana/mptcp-agent.json");
        assert!(
            written == render(TEXT)?,
            "{DASHBOARD} is not what {DESCRIPTION} says: run `cargo xtask dashboard`"
        );
        Ok(())
    }

    #[test]
    fn no_two_panels_overlap_or_have_one_number() -> Result<()> {
        let dashboard = dashboard()?;
        let panels = dashboard["panels"].as_array().context("no panels")?;
        let place = |panel: &Value| {
            let of = |name: &str| panel["gridPos"][name].as_u64().unwrap_or(u64::MAX);
            (of("x"), of("y"), of("w"), of("h"))
        };
        for (index, panel) in panels.iter().enumerate() {
            let (x, y, w, h) = place(panel);
            assert!(x + w <= COLUMNS.into(), "{panel}");
            for other in &panels[..index] {
                let (x2, y2, w2, h2) = place(other);
                let apart = x + w <= x2 || x2 + w2 <= x || y + h <= y2 || y2 + h2 <= y;
                assert!(apart, "{panel} and {other}");
                assert_ne!(panel["id"], other["id"]);
            }
        }
        Ok(())
    }

    #[test]
    fn every_metric_that_the_documentation_lists_is_shown() -> Result<()> {
        let dashboard = dashboard()?;
        let shown = expressions(&dashboard).join("\n");
        let documented = include_str!("../../docs/metrics.md").lines();
        let documented = documented.filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `mptcp_")?.split_once('`')?;
            let kinds = [" | counter", " | gauge", " | histogram"];
            let listed = kinds.iter().any(|kind| rest.starts_with(kind));
            listed.then(|| format!("mptcp_{name}"))
        });
        let missing: Vec<String> = documented.filter(|name| !shown.contains(name)).collect();
        assert!(missing.is_empty(), "no panel shows {missing:?}");
        Ok(())
    }

    #[test]
    fn every_query_asks_for_what_was_chosen() -> Result<()> {
        for expression in expressions(&dashboard()?) {
            assert!(!expression.contains('@'), "{expression}");
            let selectors = expression.matches('{').count();
            let chosen = expression.matches("instance=~\"$instance\"").count();
            assert_eq!(selectors, chosen, "{expression}");
        }
        Ok(())
    }

    #[test]
    fn a_mistake_in_the_description_is_located() {
        for (from, to, part) in [
            ("kind = \"stat\"", "kind = \"gauge\"", "gauge"),
            ("unit = \"bps\"", "unit = \"bits\"", "bits"),
            ("help = ", "halp = ", "halp"),
            ("queries = [{", "queries = [] # [{", "queries"),
        ] {
            let error = render(&TEXT.replacen(from, to, 1)).expect_err(to);
            let error = format!("{error:#}");
            assert!(error.contains(part) && error.contains("line"), "{error}");
        }
    }
}
