//! One panel: what the description says of it, and what Grafana wants to read.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Value, json};

use super::{COLUMNS, HOST, PATH};

/// A panel of the description.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    title: String,
    help: String,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    unit: Unit,
    /// Columns; by default a third of the dashboard.
    width: Option<u32>,
    /// The upper end of the axis, if it is known.
    max: Option<f64>,
    /// Whether the series add up to something.
    #[serde(default)]
    stack: bool,
    #[serde(deserialize_with = "at_least_one")]
    queries: Vec<Query>,
}

/// A query and the name of its series.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    expr: String,
    #[serde(default)]
    legend: String,
}

/// How a panel shows its series.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// Lines over time.
    #[default]
    Graph,
    /// One number.
    Stat,
    /// The labels of each series, and its value now.
    Table,
    /// Buckets of a histogram over time.
    Heatmap,
    /// 1 is green and 0 is red, over time.
    State,
    /// 1 is red and 0 is green, over time.
    Fault,
}

/// The unit of a panel's values, with Grafana's own names.
#[derive(Clone, Copy, Default, Deserialize)]
enum Unit {
    #[default]
    #[serde(rename = "short")]
    Short,
    #[serde(rename = "bps")]
    BitsPerSecond,
    #[serde(rename = "ops")]
    PerSecond,
    #[serde(rename = "percentunit")]
    Ratio,
    #[serde(rename = "s")]
    Seconds,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::BitsPerSecond => "bps",
            Self::PerSecond => "ops",
            Self::Ratio => "percentunit",
            Self::Seconds => "s",
        }
    }
}

/// Refuses a panel that asks for nothing.
fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Query>, D::Error> {
    let queries = Vec::deserialize(deserializer)?;
    if queries.is_empty() {
        return Err(D::Error::custom("a panel needs queries"));
    }
    Ok(queries)
}

/// Returns the data source that is chosen on top of the dashboard.
pub fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

impl Panel {
    /// Returns the width in columns.
    pub fn width(&self) -> u32 {
        self.width.unwrap_or(COLUMNS / 3).min(COLUMNS)
    }

    /// Returns the height in Grafana's lines.
    pub fn height(&self) -> u32 {
        if self.kind == Kind::Stat { 4 } else { 8 }
    }

    /// Returns the panel as Grafana reads it, with this number and place.
    pub fn render(&self, number: usize, place: &Value) -> Value {
        let (kind, options, custom) = self.looks();
        let mut defaults = json!({ "unit": self.unit.name(), "custom": custom });
        if matches!(self.kind, Kind::Graph) && !self.may_be_negative() {
            defaults["min"] = json!(0);
        }
        if let Some(max) = self.max {
            defaults["max"] = json!(max);
        }
        let colors = match self.kind {
            Kind::State => Some(["red", "green"]),
            Kind::Fault => Some(["green", "red"]),
            _ => None,
        };
        if let Some([zero, one]) = colors {
            defaults["mappings"] = json!([{ "type": "value", "options": {
                "0": { "text": "0", "color": zero, "index": 0 },
                "1": { "text": "1", "color": one, "index": 1 },
            } }]);
        }
        let mut panel = json!({
            "id": number, "type": kind, "title": self.title, "description": self.help,
            "datasource": source(), "gridPos": place, "options": options,
            "fieldConfig": { "defaults": defaults, "overrides": self.overrides() },
            "targets": self.targets(),
        });
        if self.kind == Kind::Table {
            panel["transformations"] = json!([
                { "id": "organize", "options": { "excludeByName": {
                    "Time": true, "__name__": true,
                } } },
            ]);
        }
        panel
    }

    /// Returns Grafana's name of the kind, its options, and those of its fields.
    fn looks(&self) -> (&'static str, Value, Value) {
        let legend = json!({ "showLegend": true, "displayMode": "list", "placement": "bottom" });
        let tooltip = json!({ "mode": "multi", "sort": "desc" });
        match self.kind {
            Kind::Graph => {
                let stacking = if self.stack { "normal" } else { "none" };
                let custom = json!({
                    "drawStyle": "line", "lineWidth": 1, "showPoints": "never",
                    "fillOpacity": if self.stack { 25 } else { 5 },
                    "stacking": { "mode": stacking, "group": "A" },
                });
                let options = json!({ "legend": legend, "tooltip": tooltip });
                ("timeseries", options, custom)
            }
            Kind::Stat => {
                let options = json!({
                    "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
                    "colorMode": "none", "graphMode": "none", "textMode": "auto",
                });
                ("stat", options, json!({}))
            }
            Kind::Table => ("table", json!({ "showHeader": true }), json!({})),
            Kind::Heatmap => {
                let options = json!({
                    "calculate": false, "cellGap": 1,
                    "color": { "mode": "scheme", "scheme": "Oranges", "steps": 64 },
                    "yAxis": { "axisPlacement": "left", "unit": self.unit.name() },
                    "tooltip": { "mode": "single", "yHistogram": false },
                });
                ("heatmap", options, json!({}))
            }
            Kind::State | Kind::Fault => {
                let options = json!({
                    "mergeValues": true, "showValue": "never", "rowHeight": 0.8,
                    "legend": legend, "tooltip": tooltip,
                });
                let custom = json!({ "fillOpacity": 70, "lineWidth": 0 });
                ("state-timeline", options, custom)
            }
        }
    }

    /// Draws targets with dashes.
    fn overrides(&self) -> Value {
        let named = |query: &Query| query.legend.ends_with(" target");
        if !self.queries.iter().any(named) {
            return json!([]);
        }
        json!([{
            "matcher": { "id": "byRegexp", "options": "/ target$/" },
            "properties": [
                { "id": "custom.lineStyle", "value": { "fill": "dash", "dash": [8, 8] } },
                { "id": "custom.fillOpacity", "value": 0 },
            ],
        }])
    }

    /// A difference of counters is below 0 for a moment now and then.
    fn may_be_negative(&self) -> bool {
        self.queries.iter().any(|query| query.expr.contains(" - "))
    }

    fn targets(&self) -> Vec<Value> {
        let instant = matches!(self.kind, Kind::Stat | Kind::Table);
        let format = match self.kind {
            Kind::Table => "table",
            Kind::Heatmap => "heatmap",
            _ => "time_series",
        };
        let queries = ('A'..='Z').zip(&self.queries);
        let target = |(name, query): (char, &Query)| {
            json!({
                "refId": name, "datasource": source(), "editorMode": "code", "format": format,
                "expr": query.expr.replace("@host", HOST).replace("@path", PATH),
                "legendFormat": query.legend, "instant": instant, "range": !instant,
            })
        };
        queries.map(target).collect()
    }
}
