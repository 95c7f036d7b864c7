//! The page in a real browser, under traffic: what it shows is what the API says.

mod browser;
mod looks;
mod screenshots;
mod streams;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::traffic::Transfer;
use mptcp_lab::{Agent, Lab, TwoHosts, wait};
use serde_json::Value;

use crate::redundant_support::Scene as Copying;
use crate::support::{require_agent, two_paths, upload, wait_for_shares, weighted};
use crate::{SETTLE, SOON};
use browser::{Browser, require_browser};

/// A host with an agent that weighs its two paths 3 to 1, and the agent's page.
pub(crate) struct Scene {
    agent: Agent,
    browser: Browser,
    net: TwoHosts,
    _lab: Lab,
}

impl Scene {
    pub(crate) fn new(binary: &Path) -> Result<Self> {
        let lab = Lab::new()?;
        let net = two_paths(&lab)?;
        let agent = Agent::start(&net.client, binary, &weighted(&["p1=3", "p2=1"]))?;
        let mut browser = Browser::start(&net.client)?;
        browser.show(1280, 900, "light")?;
        browser.open(&format!("http://{}/", agent.listen()))?;
        Ok(Self {
            agent,
            browser,
            net,
            _lab: lab,
        })
    }

    /// Waits until the page shows this transfer with shares as they are asked for.
    pub(crate) fn settle(&mut self, transfer: &Transfer) -> Result<()> {
        wait_for_shares(transfer, &self.net.links, &[3, 1])?;
        self.browser
            .wait_for("document.querySelectorAll('tr.subflow').length === 2")
    }
}

/// Asks the API.
fn api(agent: &Agent, what: &str) -> Result<Value> {
    let text = agent.get(&format!("/api/v1/{what}"))?;
    serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))
}

fn is_live() -> &'static str {
    "document.getElementById('reached').textContent.includes('live')"
}

/// A script that returns what the page shows of each path, connection and choice.
const SHOWN: &str = "(() => {
    const text = (node, what) => node.querySelector(what)?.textContent;
    const cells = (row) => [...row.children].map((cell) => cell.textContent);
    const cards = [...document.querySelectorAll('#paths > li')].map((card) => ({
        path: text(card, 'h3'), state: text(card, '.badge'), share: text(card, '.now'),
        asked: text(card, '.asked'),
        facts: Object.fromEntries([...card.querySelectorAll('dt')].map(
            (name) => [name.textContent, name.nextSibling.textContent])),
    }));
    return {
        cards,
        policy: text(document, '#summary dd'),
        connections: [...document.querySelectorAll('#connections tbody')].map(
            (group) => ({ key: group.dataset.connection, rows: [...group.rows].map(cells) })),
        scheduler: [...document.querySelectorAll('#scheduler tbody tr')].map(cells),
        copies: [...document.querySelectorAll('#copies tbody tr')].map(cells),
    };
})()";

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn three_digits(value: f64) -> String {
    match value {
        value if value < 1.0 => format!("{value:.3}"),
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// Compares the page with what the API says at about the same time.
fn compare(shown: &Value, status: &Value, connections: &Value) -> Result<()> {
    let paths = status["paths"].as_array().context("no paths")?;
    let cards = shown["cards"].as_array().context("no cards")?;
    ensure!(paths.len() == cards.len(), "{cards:?}");
    for (path, card) in paths.iter().zip(cards) {
        let facts = &card["facts"];
        let mbit = number(&path["acked_bytes_per_second"]) * 8.0 / 1e6;
        for (found, expected) in [
            (
                &card["path"],
                path["path"].as_str().unwrap_or("").to_owned(),
            ),
            (&card["state"], "● alive".to_owned()),
            (
                &card["share"],
                format!("{:.1} %", number(&path["share"]) * 100.0),
            ),
            (
                &card["asked"],
                format!(
                    "of all acked, target {:.1} %",
                    number(&path["target_share"]) * 100.0
                ),
            ),
            (
                &facts["Round trip"],
                format!("{} ms", three_digits(number(&path["rtt_seconds"]) * 1e3)),
            ),
            (&facts["Acked"], format!("{} Mbit/s", three_digits(mbit))),
            (&facts["Subflows"], path["subflows"].to_string()),
            (&facts["Weight"], path["weight"].to_string()),
            (&facts["Resent"], path["retransmitted_segments"].to_string()),
        ] {
            // Thousands are apart.
            let found = found.as_str().unwrap_or("").replace('\u{202f}', "");
            ensure!(found == expected, "{found} instead of {expected}");
        }
    }
    let groups = shown["connections"].as_array().context("no connections")?;
    let open = connections["connections"].as_array().context("none")?;
    ensure!(groups.len() == 1 && open.len() == 1, "{groups:?}: {open:?}");
    ensure!(groups[0]["key"] == open[0]["token"], "{groups:?}");
    let rows = groups[0]["rows"].as_array().context("no rows")?;
    let subflows = open[0]["subflows"].as_array().context("no subflows")?;
    ensure!(rows.len() == 1 + subflows.len(), "{rows:?}");
    for (row, subflow) in rows[1..].iter().zip(subflows) {
        let [local, remote] = ["local", "remote"].map(|end| subflow[end].as_str().unwrap_or(""));
        ensure!(row[0] == format!("{local} → {remote}"), "{row}");
        ensure!(row[1] == subflow["path"], "{row}");
        let state = row[6].as_str().unwrap_or("");
        ensure!(state.starts_with("alive"), "{row}");
        let share = row[5]
            .as_str()
            .unwrap_or("")
            .trim_end_matches(" %")
            .parse::<f64>()?;
        let expected = number(&subflow["share"]) * 100.0;
        ensure!(
            (share - expected).abs() < 1.0,
            "{share} % instead of {expected} %"
        );
    }
    Ok(())
}

#[test]
fn the_page_shows_what_the_api_says_under_traffic() -> Result<()> {
    let binary = require_agent!();
    require_browser!();
    let mut scene = Scene::new(&binary)?;
    scene.browser.wait_for(is_live())?;
    let (_sink, transfer) = upload(&scene.net, 2)?;
    scene.settle(&transfer)?;
    let Scene { agent, browser, .. } = &mut scene;
    wait::try_until("the page to show what the API says", SETTLE, || {
        let shown = browser
            .evaluate(SHOWN)
            .map_err(|error| format!("{error:#}"))?;
        let both = api(agent, "status").and_then(|one| Ok((one, api(agent, "connections")?)));
        let (status, connections) = both.map_err(|error| format!("{error:#}"))?;
        compare(&shown, &status, &connections).map_err(|error| format!("{error:#}"))
    })?;
    let shown = browser.evaluate(SHOWN)?;
    let policy = shown["policy"].as_str().context("no policy")?;
    ensure!(policy.contains("--weight p1=3 --weight p2=1"), "{policy}");
    // The control socket says the same as the API.
    let told: Value = serde_json::from_str(&agent.tell(&["status", "--json"])?)?;
    let status = api(agent, "status")?;
    for field in ["version", "reply", "policy", "hooks"] {
        assert_eq!(told[field], status[field], "{field}");
    }
    for (one, other) in told["paths"]
        .as_array()
        .into_iter()
        .flatten()
        .zip(status["paths"].as_array().into_iter().flatten())
    {
        assert_eq!(one["path"], other["path"]);
        assert_eq!(one["target_share"], other["target_share"]);
    }
    // Both paths were chosen, by the scheduler's own word.
    let chosen = api(agent, "scheduler")?;
    ensure!(chosen["observed"] == true, "{chosen}");
    for path in chosen["paths"].as_array().context("no paths")? {
        ensure!(path["recent"]["decisions"].as_u64() > Some(0), "{path}");
        ensure!(path["total"]["decisions"].as_u64() > Some(0), "{path}");
    }
    for row in shown["scheduler"].as_array().context("no rows")? {
        ensure!(
            row[1].as_str().is_some_and(|text| text.contains(" %)")),
            "{row}"
        );
    }
    transfer.stop()?;
    let complaints = scene.browser.complaints()?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    scene.agent.stop()
}

#[test]
fn events_appear_as_subflows_come_and_go() -> Result<()> {
    let binary = require_agent!();
    require_browser!();
    let mut scene = Scene::new(&binary)?;
    scene.browser.wait_for(is_live())?;
    let (_sink, transfer) = upload(&scene.net, 2)?;
    let entry = |event: &str, path: &str| {
        format!("document.querySelector('#events [data-event={event}][data-path={path}]')")
    };
    scene.browser.wait_for(&entry("joined", "p2"))?;
    // The path is gone, and with it its subflow.
    scene.net.client.run("ip mptcp endpoint flush")?;
    scene.browser.wait_for(&entry("subflow_closed", "p2"))?;
    scene
        .browser
        .wait_for("document.querySelectorAll('tr.subflow').length === 1")?;
    transfer.stop()?;
    scene
        .browser
        .wait_for("document.querySelector('#events [data-event=closed]')")?;
    scene
        .browser
        .wait_for("!document.getElementById('no-connections').hidden")?;
    let live = "document.getElementById('events').getAttribute('aria-live')";
    assert_eq!(scene.browser.evaluate(live)?, "polite");
    let complaints = scene.browser.complaints()?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    scene.agent.stop()
}

#[test]
fn the_page_says_that_the_agent_is_away_and_goes_on_with_the_next() -> Result<()> {
    let binary = require_agent!();
    require_browser!();
    let mut scene = Scene::new(&binary)?;
    scene.browser.wait_for(is_live())?;
    let address = scene.agent.listen().to_string();
    scene.agent.stop()?;
    let away = "document.getElementById('reached').textContent.includes('cannot be reached since')";
    scene.browser.wait_for(away)?;
    let mut command = scene.net.client.command(&binary);
    command.args(["run", "--listen", &address]);
    let next = Agent::launch(&scene.net.client, command)?;
    scene.browser.wait_for(is_live())?;
    let told = "document.getElementById('events').textContent.includes('another agent')";
    scene.browser.wait_for(told)?;
    // Events come again, too.
    let (_sink, transfer) = upload(&scene.net, 2)?;
    scene
        .browser
        .wait_for("document.querySelector('#events [data-event=joined]')")?;
    transfer.stop()?;
    for complaint in scene.browser.complaints()? {
        let expected = complaint.contains("net::ERR_");
        ensure!(expected, "{complaint}");
    }
    next.stop()
}

#[test]
fn copies_and_rescues_are_shown_under_the_redundant_policy() -> Result<()> {
    let binary = require_agent!();
    require_browser!();
    let scene = Copying::of_two(&binary, &[])?;
    let mut browser = Browser::start(&scene.hosts[0])?;
    let [agent, _] = scene.agents();
    browser.open(&format!("http://{}/", agent.listen()))?;
    browser.wait_for("document.querySelectorAll('#copies tbody tr').length === 2")?;
    wait::try_until("the page to show the copies", SOON, || {
        let shown = browser
            .evaluate(SHOWN)
            .map_err(|error| format!("{error:#}"))?;
        let status = api(agent, "status").map_err(|error| format!("{error:#}"))?;
        let paths = status["paths"].as_array().cloned().unwrap_or_default();
        let mut copies = 0;
        let same = paths.iter().enumerate().all(|(index, path)| {
            let sent = shown["copies"][index][1].as_str().unwrap_or("");
            let number = sent.replace('\u{202f}', "").parse().ok();
            copies += number.unwrap_or(0);
            shown["copies"][index][0] == path["path"] && number == path["copies"]["sent"].as_u64()
        });
        // All copies may go over one path: the one that the originals do not use.
        (same && copies > 0)
            .then_some(())
            .ok_or(format!("{} beside {status}", shown["copies"]))
    })?;
    let complaints = browser.complaints()?;
    ensure!(complaints.is_empty(), "{complaints:#?}");
    drop(browser);
    scene.end()
}
