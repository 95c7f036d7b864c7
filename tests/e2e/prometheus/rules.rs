//! `promtool` accepts the rules and the example, and each rule does what its unit
//! test says.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::require;
use serde_json::Value;

use crate::deployed::{deployed, each, yaml};

/// Returns the files with unit tests of rules.
fn unit_tests() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(deployed("prometheus/tests"))?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    ensure!(!files.is_empty(), "there are no unit tests of rules");
    Ok(files)
}

/// Runs promtool; the error of a failure is what it said.
fn promtool(args: &[&str], files: &[PathBuf]) -> Result<()> {
    let mut promtool = Command::new("promtool");
    let output = promtool.args(args).args(files).output();
    let output = output.context("cannot start promtool")?;
    ensure!(
        output.status.success(),
        "promtool {}: {}\n{}{}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() -> Result<()> {
    require!(
        require::tool("promtool"),
        "needs promtool (Debian's package prometheus)"
    );
    promtool(
        &["check", "config"],
        &[deployed("prometheus/prometheus.yml")],
    )?;
    promtool(&["test", "rules"], &unit_tests()?)
}

/// Returns the rules of a file that have a name in this field.
fn names(file: &str, field: &str) -> Result<BTreeSet<String>> {
    let file = yaml(&deployed("prometheus").join(file))?;
    let rules = each(&file["groups"]).flat_map(|group| each(&group["rules"]));
    let names = rules.filter_map(|rule| rule[field].as_str());
    Ok(names.map(str::to_owned).collect())
}

#[test]
fn every_alert_has_a_test_that_fires_it_and_one_host_that_does_not() -> Result<()> {
    let mut fired = BTreeSet::new();
    for file in unit_tests()? {
        let file = yaml(&file)?;
        for test in each(&file["tests"]) {
            // A quiet host shows that the alert tells hosts apart.
            let series = each(&test["input_series"]).filter_map(|one| one["series"].as_str());
            let loud = series.clone().any(|name| name.contains("instance=\"a\""));
            let quiet = series.clone().any(|name| !name.contains("instance=\"a\""));
            let alerts = each(&test["alert_rule_test"]);
            let fires = alerts.filter(|one| each(&one["exp_alerts"]).next().is_some());
            for alert in fires.filter(|_| loud && quiet) {
                fired.extend(alert["alertname"].as_str().map(str::to_owned));
            }
        }
    }
    let alerts = names("alerts.yml", "alert")?;
    ensure!(alerts.len() > 20, "{alerts:?}");
    assert_eq!(alerts, fired, "alerts, and those that a test fires");
    Ok(())
}

#[test]
fn every_recorded_figure_has_a_test() -> Result<()> {
    let mut tested = String::new();
    for file in unit_tests()? {
        let file = yaml(&file)?;
        for test in each(&file["tests"]) {
            for one in each(&test["promql_expr_test"]) {
                tested.push_str(one["expr"].as_str().context("no expression")?);
                tested.push('\n');
            }
        }
    }
    let mut untested = names("recording.yml", "record")?;
    ensure!(!untested.is_empty(), "there are no recording rules");
    untested.retain(|name| !tested.contains(name.as_str()));
    assert_eq!(untested, BTreeSet::new(), "recorded figures without a test");
    Ok(())
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() -> Result<()> {
    let file = yaml(&deployed("prometheus/alerts.yml"))?;
    for rule in each(&file["groups"]).flat_map(|group| each(&group["rules"])) {
        let severity = rule["labels"]["severity"].as_str();
        ensure!(
            severity.is_some_and(|severity| ["critical", "warning", "info"].contains(&severity)),
            "{rule}"
        );
        for text in ["summary", "description"] {
            let text = rule["annotations"][text].as_str();
            ensure!(text.is_some_and(|text| text.ends_with('.')), "{rule}");
        }
        let named = matches!(&rule["annotations"]["summary"], Value::String(text)
            if text.contains("$labels.instance"));
        ensure!(named, "the summary does not name the host: {rule}");
    }
    Ok(())
}
