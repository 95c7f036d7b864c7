//! `rules`, `rules test` and `rules set`.

use mptcp_api::rule::{Rule, RuleSet};
use mptcp_api::schema::{Reply, Request, RuleCounts, RuleView, RulesView, one_line};

use super::connection::Connection;
use super::table::{self, Cell, Column, left, right};
use super::terminal::{Style, Terminal};
use super::{Failure, Fault, Output, format, print};
use crate::rules::{Candidate, Explained, Rules, explain};

/// Prints each rule with what its connections have done.
pub fn show(agent: &mut Connection, output: Output) -> Result<(), Failure> {
    answer(agent, output, &Request::RulesShow)
}

/// Changes the rules, and prints the new ones.
pub fn set(agent: &mut Connection, output: Output, rules: &RuleSet) -> Result<(), Failure> {
    let rules = Box::new(rules.clone());
    answer(agent, output, &Request::RulesSet { rules })
}

fn answer(agent: &mut Connection, output: Output, request: &Request) -> Result<(), Failure> {
    let reply = agent.exchange(request)?;
    let Reply::Rules(view) = &reply else {
        return Err(Failure::unexpected());
    };
    output.write(&reply, |terminal| text(terminal, view))
}

/// Says which rule of the agent `candidate` would match.
pub fn test(agent: &mut Connection, output: Output, candidate: &Candidate) -> Result<(), Failure> {
    let Reply::Rules(view) = agent.exchange(&Request::RulesShow)? else {
        return Err(Failure::unexpected());
    };
    let named = view.policies.iter().skip(1);
    let set = RuleSet {
        policies: named
            .map(|named| (named.name.clone(), named.policy.clone()))
            .collect(),
        rules: view.rules.into_iter().map(|view| view.rule).collect(),
    };
    let rules = Rules::new(set, &Rules::default())
        .map_err(|error| Failure::new(Fault::Foreign, format!("the agent's rules: {error}")))?;
    let explained = explain(&rules, candidate);
    if output.json {
        return print(format!("{}\n", json(&explained)).as_bytes());
    }
    print(explanation(&explained).as_bytes())
}

fn json(explained: &Explained<'_>) -> serde_json::Value {
    let passed = explained.passed.iter().map(|(rule, reasons)| {
        serde_json::json!({
            "number": rule.number, "name": rule.given.name, "reasons": reasons,
        })
    });
    let passed: Vec<_> = passed.collect();
    serde_json::json!({
        "version": mptcp_api::schema::VERSION,
        "number": explained.rule.map(|rule| rule.number),
        "name": explained.rule.and_then(|rule| rule.given.name.as_ref()),
        "policy": explained.policy,
        "passed_over": passed,
    })
}

fn explanation(explained: &Explained<'_>) -> String {
    let mut text = String::new();
    for (rule, reasons) in &explained.passed {
        let line = format!(
            "{} does not match: {}",
            title(&rule.given, rule.number),
            reasons.join("; ")
        );
        text += &(one_line(&line) + "\n");
    }
    let last = match explained.rule {
        Some(rule) => format!(
            "{} matches: policy {}",
            title(&rule.given, rule.number),
            explained.policy
        ),
        None => format!("no rule matches: policy {}", explained.policy),
    };
    text + &one_line(&last) + "\n"
}

fn title(rule: &Rule, number: usize) -> String {
    match &rule.name {
        Some(name) => format!("rule {number} ({name})"),
        None => format!("rule {number}"),
    }
}

fn text(terminal: Terminal, view: &RulesView) -> String {
    const COLUMNS: [Column; 9] = [
        right("RULE", 0),
        left("NAME", 2),
        left("POLICY", 0),
        left("MATCH", 0),
        right("CONNECTIONS", 0),
        right("OPENED", 3),
        right("ACKED", 1),
        right("SENT", 5),
        right("RECEIVED", 4),
    ];
    let mut rows: Vec<Vec<Cell>> = view.rules.iter().map(row).collect();
    let mut rest = vec![
        Cell::from("-"),
        Cell::from("-"),
        Cell::from("default"),
        Cell::from("everything else"),
    ];
    rest.extend(counts(&view.unmatched));
    rows.push(rest);
    table::render(terminal, &COLUMNS, &rows) + &policies(view)
}

fn row(view: &RuleView) -> Vec<Cell> {
    let name = view.rule.name.clone().unwrap_or_else(|| "-".to_owned());
    let asked = asked(&view.rule);
    let mut row = vec![
        Cell::from(view.number.to_string()),
        Cell::from(name),
        Cell::from(&view.rule.policy),
        match view.cgroup_missing {
            true => Cell::styled(Style::Notable, format!("{asked} (no such cgroup now)")),
            false => Cell::from(asked),
        },
    ];
    row.extend(counts(&view.counts));
    row
}

fn counts(counts: &RuleCounts) -> [Cell; 5] {
    [
        Cell::from(counts.connections.to_string()),
        Cell::from(counts.connections_opened.to_string()),
        Cell::from(format::bytes(counts.acked_bytes)),
        Cell::from(format::bytes(counts.sent_bytes)),
        Cell::from(format::bytes(counts.received_bytes)),
    ]
}

/// Returns the settings of the policies beside the default one, a line each.
fn policies(view: &RulesView) -> String {
    let named = view.policies.iter().skip(1);
    let lines = named.map(|named| {
        let settings = super::policy::settings(&named.policy);
        let count = named.connections;
        one_line(&format!(
            "policy {}: {settings} ({count} connections)",
            named.name
        )) + "\n"
    });
    lines.collect()
}

/// Returns what a rule asks for, in one line.
fn asked(rule: &Rule) -> String {
    fn list<T: ToString>(values: &[T]) -> Option<String> {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        (!values.is_empty()).then(|| values.join(","))
    }
    let asked = [
        ("dst", list(&rule.dst)),
        ("src", list(&rule.src)),
        ("dport", list(&rule.dport)),
        ("lport", list(&rule.lport)),
        ("cgroup", rule.cgroup.clone()),
        ("uid", list(&rule.uid)),
        ("fwmark", rule.fwmark.as_ref().map(ToString::to_string)),
        ("dscp", rule.dscp.as_ref().map(ToString::to_string)),
        ("side", rule.side.clone()),
        ("congestion", rule.congestion.clone()),
    ];
    let asked = asked
        .into_iter()
        .filter_map(|(key, value)| Some(format!("{key} {}", value?)));
    let asked: Vec<String> = asked.collect();
    match asked.is_empty() {
        true => "everything".to_owned(),
        false => asked.join(", "),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_is_a_row_and_the_rest_is_the_last() {
        let view = json!({
            "policies": [
                {"name": "default", "policy": {"name": "default"}, "backend": "none",
                 "connections": 5},
                {"name": "fast", "policy": {"name": "redundant", "redundant_copies": 2},
                 "backend": "copies", "connections": 3},
            ],
            "rules": [
                {"number": 1, "connections": 3, "connections_opened": 4, "sent_bytes": 1500,
                 "acked_bytes": 1200, "received_bytes": 9,
                 "rule": {"name": "ssh", "policy": "fast", "dport": [22, "8000-8099"],
                          "side": "client"}},
                {"number": 2, "cgroup_missing": true, "connections": 0, "connections_opened": 0,
                 "sent_bytes": 0, "acked_bytes": 0, "received_bytes": 0,
                 "rule": {"policy": "fast", "cgroup": "/a\u{1b}"}},
            ],
            "unmatched": {"connections": 5, "connections_opened": 6, "sent_bytes": 0,
                          "acked_bytes": 0, "received_bytes": 0},
        });
        let view: RulesView = serde_json::from_value(view).unwrap();
        let text = text(Terminal::default(), &view);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| {
                line.split("  ")
                    .map(str::trim)
                    .filter(|s| !s.is_empty())
                    .collect()
            })
            .collect();
        assert_eq!(
            lines[1],
            [
                "1",
                "ssh",
                "fast",
                "dport 22,8000-8099, side client",
                "3",
                "4",
                "1.20k",
                "1.50k",
                "9"
            ]
        );
        assert_eq!(lines[2][3], "cgroup /a\u{fffd} (no such cgroup now)");
        assert_eq!(lines[3][2..6], ["default", "everything else", "5", "6"]);
        assert_eq!(
            lines[4],
            ["policy fast: redundant --redundant-copies 2 (3 connections)"]
        );
    }
}
