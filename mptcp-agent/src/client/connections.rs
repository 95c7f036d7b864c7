//! `connections`: prints a row for each subflow, grouped by connection.

use std::cmp::Reverse;

use mptcp_api::schema::{Connection, Connections, Reply, Request, Subflow};

use super::connection::Connection as Agent;
use super::table::{self, Cell, Column, known, left, right};
use super::terminal::{Style, Terminal};
use super::{Failure, Fault, Output, format};
use crate::cli::SortKey;

/// The largest number of connections that an agent can track: the limit of
/// `--max-connections`.
const MOST: usize = 1_048_576;

/// Requests the connections, joins the parts of the answer, sorts and prints.
pub fn run(agent: &mut Agent, output: Output, sort: SortKey) -> Result<(), Failure> {
    let mut connections = all(agent)?;
    by(sort, &mut connections);
    let reply = Reply::Connections(Connections {
        connections,
        last: true,
        open: None,
    });
    output.write(&reply, |terminal| match &reply {
        Reply::Connections(all) => text(terminal, &all.connections),
        _ => String::new(),
    })
}

pub(super) fn all(agent: &mut Agent) -> Result<Vec<Connection>, Failure> {
    agent.ask(&Request::Connections)?;
    let mut all = Vec::new();
    loop {
        let Reply::Connections(part) = agent.answer()? else {
            return Err(Failure::unexpected());
        };
        // Refuse an answer that never ends, be it of full or of empty parts.
        let endless = part.connections.is_empty() && !part.last;
        if endless || all.len() + part.connections.len() > MOST {
            let why = "the agent sends more connections than there can be";
            return Err(Failure::new(Fault::Foreign, why));
        }
        all.extend(part.connections);
        if part.last {
            return Ok(all);
        }
    }
}

/// Sorts connections by `sort`, and those that are equal by token.
pub(super) fn by(sort: SortKey, connections: &mut [Connection]) {
    connections.sort_by(|a, b| a.token.cmp(&b.token));
    let total = |value: fn(&Subflow) -> u64| {
        move |of: &Connection| Reverse(of.subflows.iter().map(value).fold(0, u64::saturating_add))
    };
    match sort {
        SortKey::Token => {}
        SortKey::Acked => connections.sort_by_key(total(|subflow| subflow.acked_bytes)),
        SortKey::Sent => connections.sort_by_key(total(|subflow| subflow.sent_bytes)),
        SortKey::Received => connections.sort_by_key(total(|subflow| subflow.received_bytes)),
        SortKey::Retransmitted => {
            connections.sort_by_key(total(|subflow| subflow.retransmitted_segments.into()));
        }
        SortKey::Queued => connections.sort_by_key(total(|subflow| subflow.queued_bytes.into())),
        SortKey::Subflows => connections.sort_by_key(total(|_| 1)),
        SortKey::Rtt => greatest_first(connections, |subflow| subflow.srtt_seconds),
        SortKey::Share => greatest_first(connections, |subflow| subflow.share),
    }
}

fn greatest_first(connections: &mut [Connection], value: fn(&Subflow) -> Option<f64>) {
    let greatest = |of: &Connection| {
        let values = of.subflows.iter().filter_map(value);
        values.fold(f64::NEG_INFINITY, f64::max)
    };
    connections.sort_by(|a, b| greatest(b).total_cmp(&greatest(a)));
}

/// The columns of the table of subflows. Those of the connection come first.
static COLUMNS: [Column; 22] = [
    left("TOKEN", 0),
    left("SIDE", 7),
    left("POLICY", 4),
    left("RULE", 5),
    right("SUBFLOWS", 1),
    left("PATH", 0),
    left("LOCAL", 1),
    left("REMOTE", 1),
    right("IDS", 6),
    left("STATE", 0),
    right("SRTT", 2),
    right("CWND", 5),
    right("ACKED", 0),
    right("SENT", 5),
    right("RECEIVED", 2),
    right("SHARE", 0),
    right("CAP", 3),
    right("QUEUED", 6),
    right("QUEUE LIMIT", 8),
    right("RETRANSMITTED", 7),
    right("COPIES", 4),
    left("DEVICE", 8),
];

/// Returns the columns that [`cells`] fills.
pub(super) fn subflow_columns() -> &'static [Column] {
    &COLUMNS[5..]
}

fn text(terminal: Terminal, connections: &[Connection]) -> String {
    if connections.is_empty() {
        return "no connections\n".to_owned();
    }
    let mut rows = Vec::new();
    for connection in connections {
        let mut head = vec![
            known(connection.token.as_ref(), String::clone),
            Cell::from(connection.side.name()),
            policy(connection),
            known(connection.rule.as_ref(), String::clone),
            number(connection),
        ];
        if connection.subflows.is_empty() {
            head.resize(COLUMNS.len(), Cell::from("-"));
            rows.push(head);
            continue;
        }
        for subflow in &connection.subflows {
            let mut row = head.clone();
            row.extend(cells(connection, subflow));
            rows.push(row);
        }
    }
    table::render(terminal, &COLUMNS, &rows) + &shortage(connections)
}

/// Returns the connection's policy if a rule has chosen it: without rules there is
/// only one.
fn policy(connection: &Connection) -> Cell {
    let chosen = connection.rule.as_ref().and(connection.policy.as_ref());
    known(chosen, String::clone)
}

/// Returns how many subflows a connection has, of those that it could have, if
/// it has too few.
fn number(connection: &Connection) -> Cell {
    match connection.subflows_allowed {
        Some(allowed) if connection.short => Cell::styled(
            Style::Bad,
            format!("{} of {allowed}", connection.subflows.len()),
        ),
        _ => Cell::from("-"),
    }
}

/// Says how many connections have too few subflows, if any.
fn shortage(connections: &[Connection]) -> String {
    let said = match connections.iter().filter(|one| one.short).count() {
        0 => return String::new(),
        1 => "1 connection has".to_owned(),
        short => format!("{short} connections have"),
    };
    format!("{said} fewer subflows than this host's endpoints allow (`ip mptcp endpoint`)\n")
}

/// Returns what the row of a subflow says beside its connection.
pub(super) fn cells(connection: &Connection, subflow: &Subflow) -> [Cell; 17] {
    let id = |id: Option<u8>| id.map_or_else(|| "?".to_owned(), |id| id.to_string());
    let (style, state) = state(connection, subflow);
    [
        Cell::from(&subflow.path),
        Cell::from(&subflow.local),
        Cell::from(&subflow.remote),
        Cell::from(format!(
            "{}/{}",
            id(subflow.local_id),
            id(subflow.remote_id)
        )),
        Cell::styled(style, state),
        known(subflow.srtt_seconds, format::milliseconds),
        known(subflow.cwnd_segments, |segments| segments.to_string()),
        Cell::from(format::bytes(subflow.acked_bytes)),
        Cell::from(format::bytes(subflow.sent_bytes)),
        Cell::from(format::bytes(subflow.received_bytes)),
        known(subflow.share, format::percent),
        known(subflow.cap_bytes_per_second, |cap| {
            format::rate(f64::from(cap))
        }),
        Cell::from(format::bytes(subflow.queued_bytes.into())),
        known(subflow.queue_limit_bytes, |bytes| {
            format::bytes(bytes.into())
        }),
        Cell::from(subflow.retransmitted_segments.to_string()),
        known(connection.peer_proven, |_| subflow.copies_sent.to_string()),
        // The device is shown only if it differs from the path's name.
        known(
            subflow
                .device
                .as_ref()
                .filter(|device| **device != subflow.path),
            String::clone,
        ),
    ]
}

/// Returns the most important fact about a subflow, in a word or two.
pub(super) fn state(connection: &Connection, subflow: &Subflow) -> (Style, &'static str) {
    if connection.fallback {
        (Style::Notable, "plain TCP")
    } else if subflow.stale {
        (Style::Bad, "stale")
    } else if !subflow.alive {
        (Style::Bad, "down")
    } else if subflow.backup {
        (Style::Notable, "backup")
    } else if subflow.cap_bytes_per_second == Some(0) {
        (Style::Notable, "standby")
    } else if connection.steered {
        (Style::Good, "steered")
    } else if connection.peer_proven == Some(true) {
        (Style::Good, "copied")
    } else {
        (Style::Plain, "ok")
    }
}

#[cfg(test)]
mod tests;
