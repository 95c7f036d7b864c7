//! `quota` and `quota reset`: prints the data plans of paths.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mptcp_api::schema::{NamedQuota, PathQuota, Quotas, Reply, Request, one_line};

use super::connection::Connection;
use super::table::{self, Cell, Column, left, right};
use super::terminal::{Style, Terminal};
use super::{Failure, Output, format};
use crate::host::zone;

/// Prints the quotas.
pub fn show(agent: &mut Connection, output: Output) -> Result<(), Failure> {
    print(agent, output, &Request::QuotaShow)
}

/// Lets a path's quota begin anew, and prints the quotas.
pub fn reset(agent: &mut Connection, output: Output, path: &str) -> Result<(), Failure> {
    let path = path.to_owned();
    print(agent, output, &Request::QuotaReset { path })
}

fn print(agent: &mut Connection, output: Output, request: &Request) -> Result<(), Failure> {
    let reply = agent.exchange(request)?;
    let Reply::Quotas(quotas) = &reply else {
        return Err(Failure::unexpected());
    };
    let zone = zone::local();
    output.write(&reply, |terminal| text(terminal, quotas, &zone))
}

fn text(terminal: Terminal, quotas: &Quotas, zone: &TimeZone) -> String {
    const COLUMNS: [Column; 8] = [
        left("PATH", 0),
        left("STATE", 0),
        right("USED", 0),
        right("QUOTA", 0),
        left("PERIOD", 0),
        left("UNTIL", 0),
        left("COUNTS", 1),
        left("WHEN SPENT", 2),
    ];
    if quotas.quotas.is_empty() {
        return "no path has a quota\n".to_owned();
    }
    let rows: Vec<_> = quotas.quotas.iter().map(|one| row(one, zone)).collect();
    let mut text = table::render(terminal, &COLUMNS, &rows);
    match (quotas.saved, &quotas.not_saved_because) {
        (true, _) => text += &format!("kept in {}\n", one_line(&quotas.file)),
        (false, None) => text += &format!("not kept in {} yet\n", one_line(&quotas.file)),
        (false, Some(why)) => {
            let line = format!("not kept in {}: {why}", quotas.file);
            text += &terminal.paint(Style::Bad, &one_line(&line));
            text.push('\n');
        }
    }
    text
}

fn row(one: &NamedQuota, zone: &TimeZone) -> Vec<Cell> {
    let NamedQuota { path, quota } = one;
    let used = quota.used_bytes as f64 / quota.quota_bytes.max(1) as f64;
    let (style, state) = match (quota.spent, quota.action.as_str()) {
        (true, "standby") => (Style::Bad, "spent, standby"),
        (true, _) => (Style::Bad, "spent"),
        (false, _) if used >= 0.9 => (Style::Notable, "almost spent"),
        (false, _) => (Style::Good, "ok"),
    };
    let counts = match quota.direction.as_str() {
        "both" => quota.count.clone(),
        direction => format!("{}, {direction}", quota.count),
    };
    vec![
        Cell::from(path),
        Cell::styled(style, state),
        Cell::from(format!(
            "{}B ({})",
            format::bytes(quota.used_bytes),
            format::percent(used)
        )),
        Cell::from(format!("{}B", format::bytes(quota.quota_bytes))),
        Cell::from(&quota.period),
        Cell::from(local(&quota.until, zone)),
        Cell::from(counts),
        Cell::from(&quota.action),
    ]
}

/// Describes a quota in a few words: `12.3G of 50.0G`.
pub fn brief(quota: &PathQuota) -> String {
    format!(
        "{} of {}",
        format::bytes(quota.used_bytes),
        format::bytes(quota.quota_bytes)
    )
}

/// Returns a time in a time zone, without its seconds.
pub fn local(time: &str, zone: &TimeZone) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => time
            .to_zoned_datetime(zone.clone())
            .strftime("%Y-%m-%d %H:%M %Z")
            .to_string(),
        Err(_) => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(path: &str, used_bytes: u64, action: &str) -> NamedQuota {
        NamedQuota {
            path: path.to_owned(),
            quota: PathQuota {
                used_bytes,
                quota_bytes: 50_000_000_000,
                spent: used_bytes >= 50_000_000_000,
                period: "month".to_owned(),
                since: "2026-10-31T23:00:00Z".to_owned(),
                until: "2026-11-30T23:00:00Z".to_owned(),
                count: "device".to_owned(),
                direction: "both".to_owned(),
                action: action.to_owned(),
            },
        }
    }

    #[test]
    fn a_line_a_path_and_one_for_the_file() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3");
        let zone = zone.unwrap_or(TimeZone::UTC);
        let mut quotas = Quotas {
            quotas: vec![
                quota("wwan0", 12_345_000_000, "standby"),
                quota("wwan1", 50_000_000_000, "standby"),
                quota("id:2", 60_000_000_000, "warn"),
                quota("\x1b", 49_000_000_000, "warn"),
            ],
            file: "/var/lib/mptcp-agent/quota.json".to_owned(),
            saved: true,
            not_saved_because: None,
        };
        let shown = text(Terminal::default(), &quotas, &zone);
        let expected = "\
PATH   STATE                    USED  QUOTA  PERIOD  UNTIL                 COUNTS  WHEN SPENT
wwan0  ok              12.3GB (24.7%)  50.0GB  month   2026-12-01 00:00 CET  device  standby
wwan1  spent, standby  50.0GB (100.0%)  50.0GB  month   2026-12-01 00:00 CET  device  standby
id:2   spent           60.0GB (120.0%)  50.0GB  month   2026-12-01 00:00 CET  device  warn
\u{fffd}      almost spent    49.0GB (98.0%)  50.0GB  month   2026-12-01 00:00 CET  device  warn
kept in /var/lib/mptcp-agent/quota.json
";
        let words = |text: &str| -> Vec<Vec<String>> {
            let lines = text.lines();
            lines
                .map(|line| line.split_whitespace().map(str::to_owned).collect())
                .collect()
        };
        assert_eq!(words(&shown), words(expected), "{shown}");
        (quotas.saved, quotas.not_saved_because) = (false, Some("\x1bread-only".to_owned()));
        let shown = text(Terminal::default(), &quotas, &zone);
        assert!(
            shown.ends_with("quota.json: \u{fffd}read-only\n"),
            "{shown}"
        );
        let none = text(Terminal::default(), &Quotas::default(), &zone);
        assert_eq!(none, "no path has a quota\n");
    }
}
