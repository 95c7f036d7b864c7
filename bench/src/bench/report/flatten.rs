//! Turns the JSON that a benchmark writes into rows of figures.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use super::results::{Group, Row};

/// How many digits of a figure are kept: more than a benchmark can repeat exactly.
const DIGITS: usize = 5;

/// Returns the rows of a benchmark's JSON.
///
/// # Errors
/// It has no rows, or one has no name.
pub fn group(json: &Value) -> Result<Group> {
    let rows = json["rows"].as_array().context("no rows")?;
    let row = |figures: &Value| -> Result<Row> {
        let name = figures["name"].as_str().context("a row without a name")?;
        let mut row = Row {
            name: name.to_owned(),
            figures: Vec::new(),
        };
        let figures = figures.as_object().context("a row that is no object")?;
        for (key, value) in figures {
            match (key.as_str(), value) {
                ("name" | "row", _) => {}
                // The figures of `bench traffic` need no name in front of theirs.
                ("figures", Value::Object(figures)) => object("", figures, &mut row),
                _ => add(key, value, &mut row),
            }
        }
        Ok(row)
    };
    Ok(Group {
        rows: rows.iter().map(row).collect::<Result<_>>()?,
    })
}

/// Adds what a value consists of, under this name.
fn add(name: &str, value: &Value, row: &mut Row) {
    match value {
        Value::Null => {}
        Value::Object(members) => object(name, members, row),
        Value::Array(items) => {
            if let Some(words) = items.iter().map(scalar).collect::<Option<Vec<_>>>() {
                row.figures.push((name.to_owned(), words.join(" ")));
            } else if let Some(columns) = columns(items) {
                for (key, words) in columns {
                    row.figures.push((format!("{name}.{key}"), words.join(" ")));
                }
            } else {
                for (index, item) in items.iter().enumerate() {
                    add(&format!("{name}.{index}"), item, row);
                }
            }
        }
        value => row
            .figures
            .extend(scalar(value).map(|text| (name.to_owned(), text))),
    }
}

/// Turns a list of objects with the same simple members into a list of each member.
fn columns(items: &[Value]) -> Option<Vec<(&String, Vec<String>)>> {
    let keys = items.first()?.as_object()?.keys();
    let column = |key| {
        let words = items.iter().map(|item| scalar(item.get(key)?));
        Some((key, words.collect::<Option<Vec<_>>>()?))
    };
    keys.map(column).collect()
}

fn object(prefix: &str, members: &Map<String, Value>, row: &mut Row) {
    let inside = |key: &str| match prefix {
        "" => key.to_owned(),
        prefix => format!("{prefix}.{key}"),
    };
    // A figure of several rounds: its median and spread follow from the rounds.
    if let Some(rounds) = members.get("rounds") {
        add(prefix, rounds, row);
        if let Some(ok @ Value::Bool(_)) = members.get("ok") {
            add(&inside("ok"), ok, row);
        }
        return;
    }
    for (key, value) in members {
        add(&inside(key), value, row);
    }
}

/// Returns a value in one word or text; `None` if it has parts.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::String(text) => {
            let words: Vec<&str> = text.split_whitespace().collect();
            Some(words.join(" "))
        }
        Value::Number(number) if number.is_f64() => number.as_f64().map(rounded),
        Value::Number(number) => Some(number.to_string()),
        Value::Null => Some("NaN".to_owned()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// Formats a number with [`DIGITS`] digits.
fn rounded(number: f64) -> String {
    let digits = format!("{number:.*e}", DIGITS - 1);
    digits.parse().unwrap_or(number).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::results::tests::row;
    use super::*;

    #[test]
    fn json_becomes_figures() -> Result<()> {
        let json = json!({ "rows": [
            { "row": "x", "name": "loss x", "agent": { "p50_ms": 0.123_456_789, "late": 3 },
              "ok": true, "p999_ratio": null, "share": [0.5, 0.5], "names": ["a b", "c"],
              "off": [{ "ratio": "4:1" }, { "ratio": "1:1" }] },
            { "row": "frames", "name": "frames", "figures": {
                "p99 by default": { "median": 1.0, "least": 0.5, "most": 2.0,
                    "rounds": [1.0, 0.5, 2.0], "ok": false }, "none": null } },
            { "row": "y", "name": "y", "broken": "no  way\nout" },
        ]});
        let group = group(&json)?;
        let expected = [
            row(
                "loss x",
                &[
                    ("agent.late", "3"),
                    ("agent.p50_ms", "0.12346"),
                    ("names", "a b c"),
                    ("off.ratio", "4:1 1:1"),
                    ("ok", "true"),
                    ("share", "0.5 0.5"),
                ],
            ),
            row(
                "frames",
                &[
                    ("p99 by default", "1 0.5 2"),
                    ("p99 by default.ok", "false"),
                ],
            ),
            row("y", &[("broken", "no way out")]),
        ];
        assert_eq!(group.rows, expected);
        Ok(())
    }

    #[test]
    fn a_row_without_a_name_is_an_error() {
        assert!(group(&json!({ "rows": [{}] })).is_err());
        assert!(group(&json!({})).is_err());
    }

    #[test]
    fn numbers_keep_five_digits() {
        let all = [123_456_789.0, 0.000_012_345_678, 0.0, 1.5].map(rounded);
        assert_eq!(all, ["123460000", "0.000012346", "0", "1.5"]);
    }
}
