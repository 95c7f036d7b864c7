//! `top` on a terminal, whose screen these tests read.

mod screen;

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use mptcp_lab::traffic::Transfer;
use mptcp_lab::{Agent, Host, Lab, kernel, wait};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::SETTLE;
use crate::support::{failure_of, require_agent, two_paths, upload, wait_for_shares, weighted};
use screen::Screen;

fn open(host: &Host, binary: &Path) -> Result<Screen> {
    let mut command = host.command(binary);
    command.arg("top").env_remove("NO_COLOR");
    Screen::start(host, &mut command, 80, 24)
}

fn status(agent: &Agent) -> Result<Value> {
    Ok(serde_json::from_str(&agent.tell(&["status", "--json"])?)?)
}

fn token(transfer: &Transfer) -> Result<String> {
    Ok(format!(
        "{:08x}",
        kernel::mptcp_info(transfer.socket())?.token
    ))
}

/// Returns the percentages in the line of a path.
fn percentages(text: &str, path: &str) -> Option<Vec<f64>> {
    let line = text.lines().find(|line| line.starts_with(path))?;
    let words = line.split_whitespace();
    let values = words.filter_map(|word| word.strip_suffix('%')?.parse().ok());
    Some(values.collect())
}

#[test]
fn what_is_shown_is_what_the_agent_says() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let (_sink, transfer) = upload(&net, 2)?;
    let token = token(&transfer)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;

    let top = open(&net.client, &binary)?;
    let text = top.shows(&["PATH", "TARGET", "p1", "p2", &token, "steered", "q quit"])?;
    assert!(text.contains("policy weighted"), "{text}");
    assert!(text.lines().count() <= 24, "{text}");
    wait::try_until("shares as in status", SETTLE, || {
        let (text, status) = (
            top.text(),
            status(&agent).map_err(|error| error.to_string())?,
        );
        let paths = status["paths"].as_array().ok_or("no paths")?;
        for (path, target) in [("p1", 25.0), ("p2", 75.0)] {
            let said = paths.iter().find(|one| one["path"] == path);
            let said = said
                .and_then(|one| one["share"].as_f64())
                .ok_or("no share")?;
            let shown = percentages(&text, path).unwrap_or_default();
            // The view is up to a second older than the answer.
            let near = |shown: &[f64]| matches!(shown, [share, to] if (share - said * 100.0).abs() < 3.0 && *to == target);
            if !near(&shown) {
                return Err(format!("{path}: {said} in {text}"));
            }
        }
        Ok(())
    })?;
    // The courses grow with each look.
    top.until("bars", |text| text.contains('█'))?;
    if let Some(path) = std::env::var_os("MPTCP_TOP_CAPTURE") {
        top.until("some looks", |text| text.matches('█').count() > 12)?;
        std::fs::write(path, top.text())?;
    }

    // The page of the connection, and that of paths.
    top.keys("\r")?;
    top.shows(&[
        "CONNECTION",
        &token,
        "LOCAL",
        "SCHEDULER",
        "CHOSEN",
        "NOT CHOSEN",
    ])?;
    top.keys("\t")?;
    let text = top.shows(&["WEIGHT", "SCHEDULER", "OF ALL"])?;
    assert!(!text.contains("CONNECTION"), "{text}");
    top.keys("\t")?;
    top.shows(&["EVENTS, the newest below"])?;

    // Events come as they happen.
    transfer.stop()?;
    top.shows(&["closed", &token])?;
    top.keys("q")?;
    assert!(top.ended()?.success());
    top.is_restored()?;
    agent.stop()
}

#[test]
fn connections_are_sorted_and_filtered() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &["--policy", "default"])?;
    let (_first_sink, first) = upload(&net, 2)?;
    let (_second_sink, second) = upload(&net, 2)?;
    let mut tokens = [token(&first)?, token(&second)?];
    tokens.sort();
    let top = open(&net.client, &binary)?;
    let order = |text: &str| {
        let at = |token: &String| text.find(token.as_str());
        at(&tokens[0]).zip(at(&tokens[1])).map(|(a, b)| a < b)
    };
    top.shows(&["by rate", &tokens[0], &tokens[1]])?;
    top.keys("s")?;
    top.until("the order of tokens", |text| {
        text.contains("by token") && order(text) == Some(true)
    })?;
    top.keys("/")?;
    top.shows(&["filter:", "Enter keep"])?;
    top.keys(&format!("{} P1\r", tokens[1]))?;
    top.until("one connection", |text| {
        text.contains("CONNECTIONS 1 of 2") && order(text).is_none() && text.contains(&tokens[1])
    })?;
    top.keys("\r")?;
    top.shows(&[&format!("CONNECTION {}", tokens[1])])?;
    // Escape twice: back, and no filter. A pause tells it from a sequence.
    top.keys("\x1b")?;
    top.shows(&["CONNECTIONS 1 of 2"])?;
    top.keys("\x1b")?;
    top.until("both", |text| {
        text.contains("CONNECTIONS 2 ") && order(text) == Some(true)
    })?;
    top.keys("?")?;
    top.shows(&["Help", "filter: words", "quit; what the agent does goes on"])?;
    top.keys("x")?;
    top.until("no help", |text| !text.contains("Help"))?;
    top.keys("\x03")?;
    assert!(top.ended()?.success());
    top.is_restored()?;
    first.stop()?;
    second.stop()?;
    agent.stop()
}

#[test]
fn the_menu_changes_the_policy_and_shows_a_refusal() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(
        &net.client,
        &binary,
        &["--policy", "default", "--limit", "p1=30mbit"],
    )?;
    let (_sink, transfer) = upload(&net, 2)?;
    let top = open(&net.client, &binary)?;
    top.shows(&["policy default", "p1", "p2"])?;
    top.keys("p")?;
    top.shows(&["Change the policy", "> default", "weighted"])?;
    top.keys("j\r")?;
    // The limit stays, and each path has a weight.
    top.shows(&["weighted --weight p1=1 --weight p2=1 --limit p1=30"])?;
    // A setting that makes no sense is not even sent.
    top.keys(" --redundant-copies 3\r")?;
    top.shows(&["policy redundant"])?;
    assert_eq!(status(&agent)?["policy"]["policy"]["name"], "default");
    top.keys(&"\x7f".repeat(" --redundant-copies 3".len()))?;
    top.keys("\r")?;
    top.shows(&[
        "Change the policy?",
        "now: default",
        "new: weighted",
        "y change it",
    ])?;
    assert_eq!(status(&agent)?["policy"]["policy"]["name"], "default");
    top.keys("y")?;
    top.shows(&["The policy is changed", "weighted"])?;
    let now = status(&agent)?["policy"]["policy"].clone();
    assert_eq!(now["name"], "weighted");
    assert_eq!(now["weights"], serde_json::json!(["p1=1", "p2=1"]));
    assert_eq!(now["limits"].as_array().map(Vec::len), Some(1), "{now}");

    // The agent refuses: the port is taken.
    let taken = net
        .client
        .in_ns(|| Ok(std::net::UdpSocket::bind("[::]:9000")?))?;
    top.keys(" ")?;
    // The menu marks the policy of the last look.
    top.until("no dialog, and a look", |text| {
        !text.contains("is changed") && text.contains("policy weighted")
    })?;
    top.keys("p")?;
    top.shows(&["> weighted"])?;
    top.keys("jjj\r")?;
    top.shows(&["redundant --limit"])?;
    top.keys(" --redundant-port 9000\r")?;
    top.shows(&["y change it"])?;
    top.keys("y")?;
    top.shows(&["is not changed", "the agent refuses", "UDP port 9000"])?;
    assert_eq!(status(&agent)?["policy"]["policy"], now);
    drop(taken);
    top.signal(Signal::SIGINT)?;
    assert_eq!(top.ended()?.signal(), Some(Signal::SIGINT as i32));
    top.is_restored()?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn the_terminal_is_left_as_it_was() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &["--policy", "default"])?;
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let top = open(&net.client, &binary)?;
        top.shows(&["no connections", "q quit"])?;
        top.resize(10, 3)?;
        top.until("one line", |text| text.trim() == "too small")?;
        // Far more than is drawn on, and than memory holds.
        top.resize(u16::MAX, u16::MAX)?;
        top.shows(&["no connections", "q quit"])?;
        top.resize(10, 3)?;
        top.until("one line", |text| text.trim() == "too small")?;
        top.resize(120, 30)?;
        top.shows(&["no connections", "q quit"])?;
        top.signal(signal)?;
        assert_eq!(top.ended()?.signal(), Some(signal as i32));
        top.is_restored()?;
    }
    // A terminal that is too small from the beginning.
    let mut command = net.client.command(&binary);
    let top = Screen::start(&net.client, command.arg("top"), 10, 3)?;
    top.until("one line", |text| text.trim() == "too small")?;
    top.keys("q")?;
    assert!(top.ended()?.success());
    top.is_restored()?;

    // No colours, if they are not wanted.
    for (no_color, colours) in [("1", false), ("", true)] {
        let mut command = net.client.command(&binary);
        command.arg("top").env("NO_COLOR", no_color);
        let top = Screen::start(&net.client, &mut command, 80, 24)?;
        let (_sink, transfer) = upload(&net, 2)?;
        top.shows(&["alive", "EVENTS"])?;
        transfer.stop()?;
        top.keys("q")?;
        assert!(top.ended()?.success());
        let bytes = String::from_utf8_lossy(&top.bytes()).into_owned();
        let has = has_colours(&bytes);
        assert_eq!(has, colours, "{bytes:?}");
    }

    // Without a terminal, it says so.
    let mut command = net.client.command(&binary);
    let said = failure_of(&net.client, command.arg("top").stdin(Stdio::null()))?;
    assert!(said.contains("stdout is no terminal"), "{said}");
    agent.stop()
}

/// Returns whether any sequence sets a colour other than the terminal's own.
fn has_colours(bytes: &str) -> bool {
    let sequences = bytes.split("\x1b[").skip(1);
    let of_sgr = sequences.filter_map(|rest| rest.split_once('m').map(|(parts, _)| parts));
    let mut parts = of_sgr
        .filter(|parts| parts.chars().all(|one| one.is_ascii_digit() || one == ';'))
        .flat_map(|parts| parts.split(';'))
        .filter_map(|part| part.parse::<u32>().ok());
    parts.any(|part| matches!(part, 30..=38 | 40..=48 | 90..=107))
}

#[test]
fn it_goes_on_with_the_next_agent() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.client, &binary, &["--policy", "default"])?;
    let top = open(&net.client, &binary)?;
    top.shows(&["policy default", "q quit"])?;
    agent.stop()?;
    top.shows(&["The agent is gone, trying again", "there is no agent at"])?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let text = top.until_within("the next agent", SETTLE, |text| {
        text.contains("policy weighted") && text.contains("the agent is back")
    })?;
    let pid = format!("pid {}", agent.process().pid());
    assert!(
        text.contains(&pid) && !text.contains("trying again"),
        "{text}"
    );
    // Events come from it, too, once the view has asked for them again.
    wait::try_until("an event", SETTLE, || {
        let (_sink, transfer) = upload(&net, 2).map_err(|error| error.to_string())?;
        transfer.stop().map_err(|error| error.to_string())?;
        let text = top.text();
        match text.contains("joined") {
            true => Ok(()),
            false => Err(text),
        }
    })?;
    top.keys("q")?;
    assert!(top.ended()?.success());
    agent.stop().context("stop")
}
