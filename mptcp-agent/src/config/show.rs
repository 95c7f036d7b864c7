//! `config show`: every setting, and where it comes from.

use mptcp_api::schema::one_line;

use super::resolve::Row;

/// Returns a line for each setting: its key, its value, its origin.
pub fn table(rows: &[Row]) -> String {
    let width = |text: fn(&Row) -> &str| {
        let widths = rows.iter().map(|row| text(row).chars().count());
        // One long value does not push all origins out of sight.
        widths.max().unwrap_or(0).min(40)
    };
    let (key, value) = (width(|row| &row.key), width(|row| &row.value));
    let lines = rows.iter().map(|row| {
        let shown = if row.value.is_empty() {
            "-"
        } else {
            &row.value
        };
        let line = format!("{:key$}  {shown:value$}  {}", row.key, row.origin);
        one_line(&line) + "\n"
    });
    lines.collect()
}
