//! Holds docs/config.schema.json to the types of the file, docs/configuration.md
//! to their keys, and files to the schema.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::File;

/// Set to write the schema instead of comparing it.
const WRITE: &str = "MPTCP_WRITE_SCHEMA";

fn docs(name: &str) -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.join("../docs").join(name)
}

/// Returns the schema of the file as the types have it.
fn generated() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<File>().to_value();
    without_null(&mut schema);
    schema
}

/// TOML has no null: a key that is not given is absent.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(kinds)) = fields.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [kind] = &kinds[..] {
                    let kind = kind.clone();
                    fields.insert("type".to_owned(), kind);
                }
            }
            if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let [Value::Object(choice)] = &choices[..] {
                    let choice = choice.clone();
                    fields.remove("anyOf");
                    fields.extend(choice);
                }
            }
            // These are formats of Rust's types.
            let is_rust = |format: &Value| ["int64", "uint32"].iter().any(|one| format == one);
            fields.retain(|name, value| name != "format" || !is_rust(value));
            fields.values_mut().for_each(without_null);
        }
        Value::Array(values) => values.iter_mut().for_each(without_null),
        _ => {}
    }
}

#[test]
fn the_schema_in_the_docs_is_that_of_the_types() {
    let path = docs("config.schema.json");
    let text = serde_json::to_string_pretty(&generated()).expect("it is JSON") + "\n";
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &text).expect("the schema can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found, text,
        "docs/config.schema.json is not that of the types: run this test with {WRITE}=1"
    );
}

/// Collects the keys of every table in the schema.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = fields.get("properties") {
                found.extend(properties.keys().cloned());
            }
            fields.values().for_each(|value| keys(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_key_is_in_the_documentation() {
    let text = std::fs::read_to_string(docs("configuration.md")).expect("the page is there");
    let mut found = BTreeSet::new();
    keys(&generated(), &mut found);
    assert!(found.len() > 30, "{found:?}");
    for key in found {
        assert!(
            text.contains(&format!("\n| `{key}` |")),
            "docs/configuration.md has no row of `{key}`"
        );
    }
}

/// Says where `value` does not follow `schema`, for the words that our schema
/// uses. Crates that know all of JSON Schema bring seventy others.
fn fault(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    let empty = Map::new();
    let schema = schema.as_object().unwrap_or(&empty);
    for (word, rule) in schema {
        let wrong = match (word.as_str(), value) {
            ("$schema" | "title" | "description" | "$defs" | "default" | "format", _) => None,
            ("$ref", _) => {
                let name = rule.as_str()?.strip_prefix('#')?;
                fault(root, root.pointer(name)?, value, at)
            }
            ("anyOf" | "oneOf", _) => {
                let mut fits = rule.as_array()?.iter();
                let none = fits.all(|choice| fault(root, choice, value, at).is_some());
                none.then(|| format!("{at}: {value} is none of {rule}"))
            }
            ("type", _) => {
                let kind = match value {
                    Value::Object(_) => "object",
                    Value::Array(_) => "array",
                    Value::String(_) => "string",
                    Value::Bool(_) => "boolean",
                    Value::Number(number) if number.is_i64() => "integer",
                    _ => "other",
                };
                (rule != kind).then(|| format!("{at}: {value} is no {rule}"))
            }
            ("properties" | "additionalProperties", Value::Object(fields)) => {
                let named = schema.get("properties");
                let mut faults = fields.iter().filter_map(|(key, value)| {
                    let at = format!("{at}/{key}");
                    let own = named.and_then(|named| named.get(key));
                    match (own, word.as_str()) {
                        (Some(own), "properties") => fault(root, own, value, &at),
                        (None, "additionalProperties") if rule == false => Some(at),
                        (None, "additionalProperties") => fault(root, rule, value, &at),
                        _ => None,
                    }
                });
                faults.next()
            }
            ("items", Value::Array(values)) => {
                values.iter().find_map(|value| fault(root, rule, value, at))
            }
            ("required", Value::Object(fields)) => {
                let mut required = rule.as_array()?.iter().filter_map(Value::as_str);
                required
                    .find(|key| !fields.contains_key(*key))
                    .map(str::to_owned)
            }
            ("minimum", Value::Number(number)) => {
                (number.as_f64() < rule.as_f64()).then(|| format!("{at}: below {rule}"))
            }
            ("maximum", Value::Number(number)) => {
                (number.as_f64() > rule.as_f64()).then(|| format!("{at}: above {rule}"))
            }
            ("maxItems", Value::Array(values)) => {
                (values.len() as u64 > rule.as_u64()?).then(|| format!("{at}: too long"))
            }
            // A rule for another kind of value.
            (
                "properties"
                | "additionalProperties"
                | "items"
                | "required"
                | "minimum"
                | "maximum"
                | "maxItems",
                _,
            ) => None,
            _ => Some(format!("{at}: this test does not know `{word}`")),
        };
        if wrong.is_some() {
            return wrong;
        }
    }
    None
}

fn check(text: &str) -> Option<String> {
    let schema = generated();
    let value: toml::Table = text.parse().expect("it is TOML");
    let value = serde_json::to_value(value).expect("it is JSON");
    fault(&schema, &schema, &value, "")
}

#[test]
fn the_example_follows_the_schema() {
    let example = include_str!("example.toml");
    assert_eq!(check(example), None);
    super::parse(example).expect("the example can be read");
}

#[test]
fn the_schema_refuses_what_the_agent_refuses() {
    for text in [
        "lisen = \"a\"",
        "listen = 1",
        "max-connections = 0",
        "[path.a]\nid = 256",
        "[path.a]\nstandby = \"yes\"",
        "[policy.a]\nmode = \"strict\"",
        "[policy.a]\npolicy = \"weighted\"\nweights = [\"a=1\"]",
        "[policy.a]\npolicy = \"overflow\"\nprefer = \"a\"",
        "[[rule]]\ndport = 1",
        "[[rule]]\npolicy = \"a\"\ndport = [1, true]",
    ] {
        assert!(check(text).is_some(), "{text}");
    }
    assert_eq!(
        check("[[rule]]\npolicy = \"a\"\ndport = 443\nlport = [1, \"2-3\"]"),
        None
    );
}
