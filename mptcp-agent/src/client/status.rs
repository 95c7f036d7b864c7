//! `status`: prints the agent's state, its policy, its hooks and the paths.

mod peering;

use mptcp_api::listen::Listen;
use mptcp_api::schema::{Agent, Hook, LeftOut, Path, Reply, Request, Status, one_line};

use super::connection::Connection;
use super::table::{self, Cell, Column, known, left, right};
use super::terminal::{Style, Terminal};
use super::{Failure, Output, format, policy, quota};
use crate::host::zone;

/// Requests the status and prints it.
pub fn run(agent: &mut Connection, output: Output) -> Result<(), Failure> {
    let reply = agent.exchange(&Request::Status)?;
    let Reply::Status(status) = &reply else {
        return Err(Failure::unexpected());
    };
    output.write(&reply, |terminal| text(terminal, status))
}

fn text(terminal: Terminal, status: &Status) -> String {
    let mut text = String::new();
    for (name, value) in summary(status) {
        let name = terminal.paint(Style::Bold, &format!("{name:12}"));
        text += &format!("{name}  {}\n", one_line(&value));
    }
    text += "\n";
    text += &hooks(terminal, &status.hooks);
    text += "\n";
    text += &paths(terminal, &status.paths);
    text
}

/// Returns where the metrics are, as URLs.
fn metrics(agent: &Agent) -> String {
    // An agent of an earlier version names one place only.
    let listeners = match &agent.listeners[..] {
        [] => std::slice::from_ref(&agent.listen),
        all => all,
    };
    let urls = listeners.iter().map(|text| match text.parse::<Listen>() {
        Ok(place) => place.url(agent.web_tls, "metrics"),
        Err(_) => text.clone(),
    });
    urls.collect::<Vec<_>>().join(", ")
}

fn summary(status: &Status) -> Vec<(&'static str, String)> {
    let agent = &status.agent;
    let mut lines = vec![
        (
            "agent",
            format!(
                "{} (commit {}), pid {}, up {}",
                agent.version,
                agent.commit,
                agent.pid,
                format::duration(agent.uptime_seconds)
            ),
        ),
        ("policy", policy::describe(&status.policy)),
        ("metrics", metrics(agent)),
        (
            "connections",
            format!("{}, subflows {}", status.connections, status.subflows),
        ),
        (
            "lost",
            format!(
                "{} events, {} connections and subflows that found their map full",
                status.events_lost, status.map_full
            ),
        ),
        (
            "dead man",
            match (&agent.not_outlived_because, agent.outlived) {
                (_, true) => "limits are lifted even if the agent is killed".to_owned(),
                (None, false) => "limits stay if the agent is killed".to_owned(),
                (Some(why), false) => format!("limits stay if the agent is killed: {why}"),
            },
        ),
    ];
    if let Some(peering) = &status.peering {
        lines.extend(peering::lines(peering));
    }
    if let Some(peers) = &status.peers {
        lines.push((
            "peers",
            format!(
                "{} proven, {} silent, {} asking, {} refused",
                peers.proven, peers.silent, peers.asking, peers.refused
            ),
        ));
    }
    lines
}

fn hooks(terminal: Terminal, hooks: &[Hook]) -> String {
    const COLUMNS: [Column; 3] = [left("HOOK", 0), left("STATE", 0), left("PURPOSE", 0)];
    let row = |hook: &Hook| {
        let (style, state) = match hook.attached {
            true => (Style::Good, "attached"),
            false => (Style::Bad, "not attached"),
        };
        vec![
            Cell::from(&hook.program),
            Cell::styled(style, state),
            Cell::from(&hook.purpose),
        ]
    };
    let rows: Vec<_> = hooks.iter().map(row).collect();
    let mut text = table::render(terminal, &COLUMNS, &rows);
    // Reasons may be long, so each one has a line of its own.
    for hook in hooks {
        if let Some(reason) = &hook.reason {
            let line = format!("{}: {reason}", hook.program);
            text += &terminal.paint(Style::Bad, &one_line(&line));
            text.push('\n');
        }
    }
    text
}

/// The columns of the table of paths.
pub(super) const PATH_COLUMNS: [Column; 18] = [
    left("PATH", 0),
    left("STATE", 0),
    right("WEIGHT", 0),
    right("RANK", 1),
    right("LIMIT", 1),
    right("QUOTA", 1),
    right("SHARE", 0),
    right("ACKED", 0),
    right("SENT", 3),
    right("RECEIVED", 2),
    right("RTT", 1),
    right("SUBFLOWS", 2),
    right("RETRANSMITTED", 5),
    right("COPIES", 3),
    right("NOT COPIED", 6),
    right("RECEIVED FIRST/LATE", 6),
    left("DEVICE", 4),
    left("ADDRESSES", 4),
];

fn paths(terminal: Terminal, paths: &[Path]) -> String {
    let rows: Vec<_> = paths.iter().map(path).collect();
    table::render(terminal, &PATH_COLUMNS, &rows)
}

/// After this long without news from a path, it is unknown whether it is alive.
const KNOWN_SECONDS: f64 = 10.0;

/// Says for how long it has been unknown whether a path is alive. Returns
/// `None` if it is known.
fn unknown_since(path: &Path) -> Option<String> {
    let heard = path.heard_seconds.is_some_and(|ago| ago <= KNOWN_SECONDS);
    let carries = path.acked_bytes_per_second > 0.0 || path.received_bytes_per_second > 0.0;
    // Under the redundant policy, the peers' proof shows whether a path is
    // alive, even if it carries nothing.
    if heard || carries || path.copies.is_some() {
        return None;
    }
    Some(match path.heard_seconds {
        Some(ago) => format!("unknown for {}", format::duration(ago)),
        None => "unknown".to_owned(),
    })
}

/// Says why a path is left out, or was until now.
fn why_left_out(left_out: &LeftOut) -> String {
    let percent = |part: Option<f64>| part.map_or_else(|| "-".to_owned(), format::percent);
    let time = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), format::milliseconds);
    let LeftOut {
        loss, rtt_seconds, ..
    } = *left_out;
    let state = match left_out.tried {
        true => "tried again",
        false => "left out",
    };
    match left_out.reason.as_str() {
        "rtt" => {
            let bound = time(left_out.rtt_bound_seconds);
            format!(
                "{state}: round trip {} of at most {bound}",
                time(rtt_seconds)
            )
        }
        _ => {
            let bound = percent(left_out.loss_bound);
            format!("{state}: loss {} of at most {bound}", percent(loss))
        }
    }
}

/// Says why nobody is reached over a path whose device is there.
fn unreached(down: &str) -> Option<&'static str> {
    match down {
        "absent" => Some("absent"),
        "no-carrier" => Some("no carrier"),
        "unanswered" => Some("down, unanswered"),
        "peer-silent" => Some("down, peer silent"),
        _ => None,
    }
}

/// Returns the most important fact about a path.
pub(super) fn state(path: &Path) -> (Style, String) {
    let (style, state) = if !path.present {
        (Style::Bad, "absent")
    } else if path.carrier == Some(false) {
        (Style::Bad, "no carrier")
    } else if path.subflows == 0 {
        (Style::Plain, "idle")
    } else if let Some(quota) =
        (path.quota.as_ref()).filter(|quota| quota.spent && quota.action == "standby")
    {
        let down = if path.alive == 0 { "down, " } else { "" };
        let until = quota::local(&quota.until, &zone::local());
        return (
            Style::Bad,
            format!("{down}standby, quota spent until {until}"),
        );
    } else if let Some(left_out) = &path.left_out {
        let down = if path.alive == 0 { "down, " } else { "" };
        return (Style::Bad, format!("{down}{}", why_left_out(left_out)));
    } else if let Some(why) = path.down.as_deref().and_then(unreached) {
        (Style::Bad, why)
    } else if path.alive == 0 {
        (Style::Bad, "down")
    } else if let Some(unknown) = unknown_since(path) {
        let standby = if path.weight == Some(0) {
            "standby, "
        } else {
            ""
        };
        return (Style::Notable, format!("{standby}{unknown}"));
    } else if path.weight == Some(0) {
        (Style::Notable, "standby")
    } else if path.alive < path.subflows {
        (Style::Notable, "partly down")
    } else {
        (Style::Good, "alive")
    };
    (style, state.to_owned())
}

/// Returns the row of a path.
pub(super) fn path(path: &Path) -> Vec<Cell> {
    let (style, state) = state(path);
    let subflows = match path.alive == path.subflows {
        true => path.subflows.to_string(),
        false => format!("{} of {}", path.alive, path.subflows),
    };
    let copies = path.copies.as_ref();
    vec![
        Cell::from(&path.path),
        Cell::styled(style, state),
        known(path.weight, |weight| weight.to_string()),
        known(path.rank, |rank| rank.to_string()),
        known(path.limit_bytes_per_second, |limit| {
            format::rate(limit as f64)
        }),
        known(path.quota.as_ref(), quota::brief),
        known(path.share, format::percent),
        Cell::from(format::rate(path.acked_bytes_per_second)),
        Cell::from(format::rate(path.sent_bytes_per_second)),
        Cell::from(format::rate(path.received_bytes_per_second)),
        known(path.rtt_seconds, format::milliseconds),
        Cell::from(subflows),
        Cell::from(path.retransmitted_segments.to_string()),
        known(copies, |copies| copies.sent.to_string()),
        known(copies, |copies| copies.dropped.to_string()),
        known(copies, |copies| {
            format!("{}/{}", copies.received_first, copies.received_duplicate)
        }),
        // The device is shown only if it differs from the path's name.
        known(
            path.device.as_ref().filter(|device| **device != path.path),
            String::clone,
        ),
        known(
            Some(&path.addresses).filter(|addresses| !addresses.is_empty()),
            |addresses| addresses.join(", "),
        ),
    ]
}

#[cfg(test)]
mod tests;
