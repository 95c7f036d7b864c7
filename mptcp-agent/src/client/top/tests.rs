#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use mptcp_api::schema::{Event, Request, Status};
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use ratatui::{Terminal as Screen, buffer::Buffer};
use serde_json::json;

use super::keys::Action;
use super::menu::{Dialog, Typed};
use super::model::{Look, Model, Order, Page};
use super::*;

fn status() -> Status {
    let path = |name: &str, weight: u16, alive: u64, share: f64| {
        json!({
            "path": name, "listed": true, "present": name != "usb0", "device": name,
            "addresses": ["10.0.0.1"], "subflows": 3, "alive": alive, "weight": weight,
            "share": share, "target_share": f64::from(weight) / 5.0, "rtt_seconds": 0.0305, "heard_seconds": 0.1,
            "sent_bytes_per_second": 5_000_000.0, "acked_bytes_per_second": 4_900_000.0,
            "received_bytes_per_second": 10.0, "retransmitted_segments": 12,
            "scheduler": {"decisions": 40, "blocked": 2, "candidates": {"eligible": 50,
                          "inactive": 1}},
        })
    };
    serde_json::from_value(json!({
        "agent": {"version": "0.1.0", "commit": "abc", "pid": 7, "uptime_seconds": 3725.2,
                  "listen": "127.0.0.1:8684", "outlived": true},
        "policy": {"policy": {"name": "weighted", "weights": ["eth0=4", "wwan0=1"],
                              "limits": ["wwan0=20mbit"]}, "backend": "pacing"},
        "hooks": [],
        "paths": [path("eth0", 4, 3, 0.8), path("wwan\u{1b}[2J0", 1, 0, 0.2)],
        "connections": 2, "subflows": 3, "events_lost": 0, "map_full": 0,
    }))
    .unwrap()
}

fn look(at: u64, acked: [u64; 2]) -> Look {
    let connection = |token: &str, acked: u64, remote: &str| {
        json!({
            "token": token, "side": "client", "fallback": false, "steered": true,
            "policy": "default",
            "subflows": [{
                "cookie": 1, "path": "eth0", "local": "10.0.0.1:40000", "remote": remote,
                "joined": false, "backup": false, "stale": false, "alive": true,
                "srtt_seconds": 0.02, "sent_bytes": acked, "acked_bytes": acked,
                "received_bytes": 0, "retransmitted_segments": 3, "queued_bytes": 0,
                "copies_sent": 0,
            }],
        })
    };
    let connections = json!([
        connection("00000001", acked[0], "192.0.2.1:443"),
        connection("00000002", acked[1], "192.0.2.2:80"),
    ]);
    Look {
        at: Duration::from_secs(at),
        status: status(),
        connections: serde_json::from_value(connections).unwrap(),
    }
}

/// Returns a model that has looked twice. The second connection is the faster.
fn model() -> Model {
    let mut model = Model::default();
    model.look(look(1, [9_000_000, 1_000_000]));
    model.look(look(2, [9_000_000, 3_000_000]));
    model
}

fn press(model: &mut Model, keys: &str) -> Action {
    let mut last = Action::Nothing;
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            '\x08' => KeyCode::Backspace,
            other => KeyCode::Char(other),
        };
        last = model.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
    last
}

fn buffer(model: &Model, width: u16, height: u16, colours: bool) -> Buffer {
    let mut screen = Screen::new(TestBackend::new(width, height)).unwrap();
    screen
        .draw(|frame| draw::draw(frame, model, colours))
        .unwrap();
    screen.backend().buffer().clone()
}

fn lines(model: &Model, width: u16, height: u16) -> Vec<String> {
    let buffer = buffer(model, width, height, false);
    let line = |y| {
        (0..width)
            .map(|x| buffer[(x, y)].symbol())
            .collect::<String>()
    };
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

fn text(model: &Model) -> String {
    lines(model, 80, 24).join("\n")
}

#[test]
fn the_overview_at_80_columns() {
    let lines = lines(&model(), 80, 24);
    assert_eq!(
        lines[0],
        "mptcp-agent 0.1.0  pid 7  up 1h 2m  connections 2  subflows 3"
    );
    assert!(lines[1].starts_with("policy weighted --weight eth0=4 --weight wwan0=1"));
    for word in ["PATH", "STATE", "SHARE", "TARGET", "RATE", "RTT"] {
        assert!(lines[2].contains(word), "{lines:#?}");
    }
    for word in ["eth0", "alive", "80.0%", "39.2 Mbit/s", "30.5 ms", "██"] {
        assert!(lines[3].contains(word), "{lines:#?}");
    }
    // The control character of the name is no longer one.
    assert!(lines[4].starts_with("wwan\u{fffd}[2J0  down"), "{lines:#?}");
    assert!(lines[4].contains("20.0%"));
    assert!(lines[5].starts_with("CONNECTIONS 2  by rate"), "{lines:#?}");
    assert!(lines[7].starts_with("00000002"), "{lines:#?}");
    assert!(lines[7].contains("16.0 Mbit/s"), "{lines:#?}");
    assert!(lines[8].starts_with("00000001"), "{lines:#?}");
    assert!(lines[23].contains("? help  q quit"), "{lines:#?}");
}

#[test]
fn no_size_and_no_page_panics() {
    let pages = ["", "\n", "\t", "\t\t", "?", "p", "p\n", "p\n\n", "p\n\ny"];
    for keys in pages {
        for empty in [true, false] {
            let mut model = if empty { Model::default() } else { model() };
            press(&mut model, keys);
            for width in (0..50).chain([80, 200]) {
                for height in (0..16).chain([24, 60]) {
                    buffer(&model, width, height, true);
                }
            }
        }
    }
}

#[test]
fn a_terminal_that_is_too_small_gets_one_line() {
    for (width, height, line) in [
        (10, 3, "too small"),
        (5, 1, "small"),
        (30, 24, "too small: needs 40x10"),
        (80, 9, "The terminal is too small: at least 40x10 (q quits)"),
    ] {
        let lines = lines(&model(), width, height);
        assert_eq!(lines[0], line);
        assert!(lines[1..].iter().all(String::is_empty), "{lines:?}");
    }
}

#[test]
fn colours_only_if_they_are_wanted() {
    let coloured = |colours| {
        let buffer = buffer(&model(), 80, 24, colours);
        let mut cells = buffer.content.iter();
        cells.any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(coloured(true));
    assert!(!coloured(false));
}

#[test]
fn keys_sort_filter_and_turn_pages() {
    let mut model = model();
    press(&mut model, "s");
    assert_eq!(model.order.name(), "token");
    assert_eq!(model.connections[0].token.as_deref(), Some("00000001"));
    press(&mut model, "SS");
    assert_eq!(Order::Rate.step(-1), model.order);
    press(&mut model, "s/443 ETH0");
    assert!(text(&model).contains("filter: 443 ETH0_"));
    press(&mut model, "\n");
    assert_eq!(model.listed().len(), 1);
    press(&mut model, "\n");
    assert_eq!(model.page, Page::Connection("00000001".to_owned()));
    let page = text(&model);
    for word in [
        "CONNECTION 00000001",
        "192.0.2.1:443",
        "SCHEDULER",
        "NOT CHOSEN",
    ] {
        assert!(page.contains(word), "{page}");
    }
    press(&mut model, "\x1b\x1b");
    assert_eq!((&model.page, model.filter.as_str()), (&Page::Overview, ""));
    // The mark stays with its connection.
    press(&mut model, "j");
    assert_eq!(model.marked_at(&model.listed()), 1);
    press(&mut model, "\t");
    assert!(text(&model).contains("OF ALL"));
    press(&mut model, "\t");
    assert!(text(&model).contains("EVENTS, the newest below"));
    assert_eq!(press(&mut model, "q"), Action::End);
}

#[test]
fn a_policy_is_set_after_a_confirmation() {
    let mut model = model();
    press(&mut model, "p");
    assert!(text(&model).contains("> weighted"));
    // Overflow is next. It has the paths of the host, and keeps the limit.
    press(&mut model, "j\n");
    let suggested = "overflow --prefer eth0 --prefer wwan\u{1b}[2J0 --limit wwan0=20mbit";
    let Some(Dialog::Edit(typed, None)) = &model.dialog else {
        panic!("{:?}", model.dialog);
    };
    assert_eq!(typed.text, suggested);
    model.dialog = Some(Dialog::Edit(
        Typed::new("overflow --nonsense".to_owned()),
        None,
    ));
    press(&mut model, "\n");
    assert!(text(&model).contains("unexpected argument '--nonsense'"));
    model.dialog = Some(Dialog::Edit(
        Typed::new("weighted --weight a=1".to_owned()),
        None,
    ));
    assert_eq!(press(&mut model, "\nn\n"), Action::Nothing);
    assert!(text(&model).contains("y change it"));
    let Action::Ask(request) = press(&mut model, "y") else {
        panic!("{:?}", model.dialog);
    };
    let Request::PolicySet { policy, .. } = *request else {
        panic!("{request:?}");
    };
    assert_eq!(policy.weighted.weights, ["a=1"]);
    // A refusal is shown in full, and leads back to the settings.
    let why = format!(
        "the agent refuses: {} the end",
        "because it can ".repeat(25)
    );
    model.answered(Err(why));
    let shown = text(&model);
    assert!(
        shown.contains("is not changed") && shown.contains("the end"),
        "{shown}"
    );
    press(&mut model, " ");
    assert!(matches!(model.dialog, Some(Dialog::Edit(..))));
    press(&mut model, "\x1b\x1b");
    assert_eq!(model.dialog, None);
}

#[test]
fn a_line_is_edited_in_place() {
    let mut line = Typed::new("aé".to_owned());
    line.go(-1);
    line.insert('x');
    line.insert('\x1b');
    assert_eq!(line.text, "axé");
    line.remove(line.at);
    line.back();
    line.go(isize::MIN);
    line.back();
    assert_eq!((line.text.as_str(), line.at), ("a", 0));
}

#[test]
fn an_agent_that_is_gone_is_told_and_forgotten_when_another_comes() {
    let mut model = model();
    model.gone("there is no agent at /run/x".to_owned());
    model.gone("there is no agent at /run/x".to_owned());
    let shown = text(&model);
    assert!(shown.contains("The agent is gone, trying again: there is no agent"));
    assert!(shown.contains("eth0"), "{shown}");
    let mut next = look(9, [5, 5]);
    next.status.agent.pid = 8;
    model.look(next);
    assert_eq!(model.events.len(), 2);
    assert_eq!(model.speeds.of("00000001"), None);
    assert!(text(&model).contains("the agent is back (pid 8)"));
}

#[test]
fn an_agent_that_does_not_answer_is_told_until_it_does() {
    let mut model = Model::default();
    assert!(text(&model).contains("waiting for the agent"));
    assert!(!text(&model).contains("no connections"));
    model.silent = true;
    assert!(text(&model).contains("The agent does not answer"));
    model.look(look(1, [5, 5]));
    assert!(!text(&model).contains("does not answer"));
    model.silent = true;
    let shown = text(&model);
    assert!(shown.contains("The agent does not answer") && shown.contains("eth0"));
}

#[test]
fn events_are_bounded_and_stay_in_sight() {
    let mut model = model();
    press(&mut model, "\t\t");
    let event = |number: u32| Event {
        time: "2026-11-24T21:14:45.123456Z".to_owned(),
        event: "joined".to_owned(),
        path: format!("p{number}\u{1b}"),
        ..Event::default()
    };
    (0..600).for_each(|number| model.event(&event(number)));
    assert_eq!(model.events.len(), 500);
    assert!(text(&model).contains("21:14:45  joined          p599\u{fffd}"));
    press(&mut model, "kk");
    model.event(&event(600));
    let shown = text(&model);
    assert!(shown.contains("p597") && !shown.contains("p598"), "{shown}");
}
