//! `events`: prints a line for each event, until Ctrl-C or the agent's end.

use std::io::Write as _;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};

use mptcp_api::schema::{Event, Lost, Reply, Request, one_line};

use super::connection::Connection;
use super::terminal::{Style, Terminal};
use super::{Failure, Fault, Output, format};

/// Whether a signal has asked this command to end.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Prints events until the end, and then says how many were lost.
pub fn run(mut agent: Connection, output: Output) -> Result<(), Failure> {
    stop_on_signal(&agent)?;
    let mut lost = 0_u64;
    let outcome = listen(&mut agent, output, &mut lost);
    let stopped = STOPPED.load(Ordering::Relaxed);
    let why = match (&outcome, stopped) {
        // An error after a signal is no failure: the signal closes the
        // connection.
        (_, true) => "",
        (Ok(()), false) => "the agent has closed the connection; ",
        (Err(_), false) => return outcome,
    };
    let total = match lost {
        0 => "no event was lost".to_owned(),
        lost => format!("{lost} events were lost"),
    };
    let _ = writeln!(std::io::stderr(), "{why}{total}");
    Ok(())
}

/// Lets a signal close the connection, which ends the wait for a line.
fn stop_on_signal(agent: &Connection) -> Result<(), Failure> {
    let failed = |error: String| Failure::new(Fault::Failed, format!("cannot wait: {error}"));
    let handle = agent.handle().map_err(|error| failed(error.to_string()))?;
    ctrlc::set_handler(move || {
        if STOPPED.swap(true, Ordering::Relaxed) {
            // This is the second signal, so the command is stuck writing to
            // stdout.
            std::process::exit(1);
        }
        let _ = handle.shutdown(Shutdown::Both);
    })
    .map_err(|error| failed(error.to_string()))
}

pub(super) fn listen(
    agent: &mut Connection,
    output: Output,
    lost: &mut u64,
) -> Result<(), Failure> {
    agent.ask(&Request::Events)?;
    // The first line comes at once. It says that no event is missed from here
    // on.
    let mut next = Some(agent.answer()?);
    while let Some(reply) = next {
        match &reply {
            Reply::Event(event) => output.write(&reply, |terminal| text(terminal, event))?,
            Reply::Lost(gap) => {
                *lost = lost
                    .saturating_add(gap.in_ring)
                    .saturating_add(gap.to_client);
                output.write(&reply, |terminal| gap_text(terminal, *gap))?;
            }
            _ => return Err(Failure::unexpected()),
        }
        next = agent.next()?;
    }
    Ok(())
}

/// Says in a line for each cause how many events were lost.
pub(super) fn gaps(lost: Lost) -> impl Iterator<Item = String> {
    [
        (lost.in_ring, "came faster than the agent reads"),
        (lost.to_client, "came faster than this command reads"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, why)| format!("{count} events are lost here: they {why}"))
}

fn gap_text(terminal: Terminal, lost: Lost) -> String {
    let mut text = String::new();
    for line in gaps(lost) {
        text += &terminal.paint(Style::Bad, &line);
        text.push('\n');
    }
    text
}

/// Returns the style of an event's name.
pub(super) fn style(event: &Event) -> Style {
    match event.event.as_str() {
        "path_down" | "path_left_out" | "path_quota_spent" | "stale" | "fallback" => Style::Bad,
        "subflow_closed" if event.reason.as_deref() != Some("fin") => Style::Bad,
        "path_up" | "path_back" | "path_quota_renewed" => Style::Good,
        "priority" | "path_let_in" | "path_tried_again" => Style::Notable,
        _ => Style::Plain,
    }
}

fn text(terminal: Terminal, event: &Event) -> String {
    let style = style(event);
    let name = format!("{:14}", one_line(&event.event));
    let mut text = format!(
        "{}  {}  {:10}",
        one_line(&event.time),
        terminal.paint(style, &name),
        one_line(&event.path)
    );
    for (name, value) in details(event) {
        text += &format!("  {name} {}", one_line(&value));
    }
    text.push('\n');
    text
}

/// Returns the fields of an event beside time, event and path, with their
/// names.
pub(super) fn details(event: &Event) -> impl Iterator<Item = (&'static str, String)> {
    let side = event.side.map(|side| side.name().to_owned());
    let sender = event.reset_by.map(|sender| sender.name().to_owned());
    let id = |id: Option<u8>| id.map(|id| id.to_string());
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes.to_string());
    let flag = |flag: Option<bool>| flag.map(|flag| if flag { "yes" } else { "no" }.to_owned());
    [
        ("token", event.token.clone()),
        ("side", side),
        ("local", event.local.clone()),
        ("remote", event.remote.clone()),
        ("id", id(event.local_id)),
        ("remote-id", id(event.remote_id)),
        ("reason", event.reason.clone()),
        ("reset-by", sender),
        ("reset-reason", event.reset_reason.clone()),
        ("transient", flag(event.reset_transient)),
        ("early", flag(event.reset_early)),
        ("age", event.age_seconds.map(|age| format!("{age:.3} s"))),
        ("backup", flag(event.backup)),
        ("stale", flag(event.stale)),
        ("sent", bytes(event.sent_bytes)),
        ("acked", bytes(event.acked_bytes)),
        ("received", bytes(event.received_bytes)),
        ("loss", event.loss.map(format::percent)),
        ("of-at-most", event.loss_bound.map(format::percent)),
        ("rtt", event.rtt_seconds.map(format::milliseconds)),
        (
            "of-at-most",
            event.rtt_bound_seconds.map(format::milliseconds),
        ),
        ("used", bytes(event.used_bytes)),
        ("of-at-most", bytes(event.quota_bytes)),
        ("until", event.until.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

#[cfg(test)]
mod tests {
    use mptcp_api::schema::Sender;

    use super::*;

    #[test]
    fn a_line_an_event() {
        let event = Event {
            time: "2026-11-24T21:14:45.123456Z".to_owned(),
            event: "subflow_closed".to_owned(),
            path: "eth0".to_owned(),
            token: Some("00abcdef".to_owned()),
            local: Some("10.0.0.1:80".to_owned()),
            local_id: Some(0),
            reason: Some("reset".to_owned()),
            acked_bytes: Some(17),
            ..Event::default()
        };
        let plain = Terminal::default();
        assert_eq!(
            text(plain, &event),
            "2026-11-24T21:14:45.123456Z  subflow_closed  eth0        token 00abcdef  \
             local 10.0.0.1:80  id 0  reason reset  acked 17\n"
        );
        let reset = Event {
            age_seconds: Some(0.0214),
            reset_by: Some(Sender::Peer),
            reset_reason: Some("mptcp-specific-error".to_owned()),
            reset_transient: Some(false),
            reset_early: Some(true),
            ..event.clone()
        };
        assert!(
            text(plain, &reset).ends_with(
                "  reason reset  reset-by peer  reset-reason mptcp-specific-error  transient no  \
                 early yes  age 0.021 s  acked 17\n"
            ),
            "{}",
            text(plain, &reset)
        );
        let left_out = Event {
            time: "2026-11-24T21:14:45.123456Z".to_owned(),
            event: "path_left_out".to_owned(),
            path: "wwan0".to_owned(),
            reason: Some("loss".to_owned()),
            loss: Some(0.071),
            loss_bound: Some(0.05),
            rtt_seconds: Some(0.02),
            ..Event::default()
        };
        assert!(
            text(plain, &left_out).ends_with(
                "  path_left_out   wwan0       reason loss  loss 7.1%  of-at-most 5.0%  \
                 rtt 20.0 ms\n"
            ),
            "{}",
            text(plain, &left_out)
        );
        let colours = Terminal {
            colours: true,
            ..plain
        };
        assert!(text(colours, &event).contains("\x1b[31msubflow_closed\x1b[0m"));
        let hostile = Event {
            path: "\x1b[2J".to_owned(),
            ..event
        };
        assert!(!text(plain, &hostile).contains('\x1b'));
    }

    #[test]
    fn gaps_are_told_with_their_cause() {
        let gap = |in_ring, to_client| gap_text(Terminal::default(), Lost { in_ring, to_client });
        assert_eq!(gap(0, 0), "");
        assert_eq!(
            gap(0, 7),
            "7 events are lost here: they came faster than this command reads\n"
        );
        assert_eq!(gap(1, 2).lines().count(), 2);
    }
}
