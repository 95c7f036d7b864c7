//! The configuration file: an agent follows it, reads it anew, and writes to it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use mptcp_lab::{Agent, Host, Lab, wait};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::SOON;
use crate::support::{failure_of, require_agent, two_paths, upload, wait_for_log, wait_for_shares};

/// A configuration file in a directory of its own.
struct Config {
    _directory: TempDir,
    path: PathBuf,
}

impl Config {
    fn new(text: &str) -> Result<Self> {
        let directory = TempDir::new()?;
        let path = directory.path().join("config.toml");
        fs::write(&path, text)?;
        Ok(Self {
            _directory: directory,
            path,
        })
    }

    /// Writes a file that gives two named paths these weights.
    fn weights(p1: u16, p2: u16) -> String {
        format!(
            "# Two uplinks.\nmax-connections = 1024\n\n[path.first]\ndevice = \"p1\"\n\n\
             [path.second]\naddress = \"10.77.2.0/24\"\n\n[policy.default]\n\
             policy = \"weighted\" # by shares\nweights = {{ first = {p1}, second = {p2} }}\n"
        )
    }

    fn write(&self, text: &str) -> Result<()> {
        Ok(fs::write(&self.path, text)?)
    }

    fn start(&self, host: &Host, binary: &Path, more: &[&str]) -> Result<Agent> {
        let path = self.path.to_str().context("a path of UTF-8")?;
        Agent::start(host, binary, &[&["--config", path], more].concat())
    }
}

fn policy(agent: &Agent) -> Result<Value> {
    let shown = agent.tell(&["policy", "show", "--json"])?;
    Ok(serde_json::from_str::<Value>(&shown)?["policy"].clone())
}

#[test]
fn traffic_follows_the_file_and_the_file_anew() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let config = Config::new(&Config::weights(4, 1))?;
    let agent = config.start(&net.client, &binary, &[])?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[4, 1])?;

    // By command.
    config.write(&Config::weights(1, 2).replace("1024", "2048"))?;
    let said = agent.tell(&["reload"])?;
    assert!(said.starts_with("the policy is now weighted"), "{said}");
    assert!(
        said.contains("\nthese settings need a restart: max-connections\n"),
        "{said}"
    );
    wait_for_shares(&transfer, &net.links, &[1, 2])?;

    // By signal.
    config.write(&Config::weights(3, 1))?;
    agent.process().signal(Signal::SIGHUP)?;
    wait_for_shares(&transfer, &net.links, &[3, 1])?;
    wait_for_log(&agent, "configuration reloaded")?;

    // A policy that was set is in force until then.
    agent.tell(&["policy", "set", "default", "--for", "1h"])?;
    assert_eq!(policy(&agent)?["name"], "default");
    agent.tell(&["reload"])?;
    assert_eq!(policy(&agent)?["name"], "weighted");
    let said = agent.tell(&["reload"])?;
    assert!(said.starts_with("the policy stays weighted"), "{said}");
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_broken_file_is_refused_and_the_transfer_goes_on() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let config = Config::new(&Config::weights(1, 3))?;
    let agent = config.start(&net.client, &binary, &[])?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    let before = policy(&agent)?;

    config.write(&Config::weights(3, 1).replace("weights =", "  wieghts ="))?;
    let mistake = "config.toml:12:3: unknown key \"wieghts\" (did you mean \"weights\"?)";
    let mut reload = net.client.command(&binary);
    let said = failure_of(&net.client, reload.arg("reload"))?;
    assert!(said.trim_end().ends_with(mistake), "{said}");
    agent.process().signal(Signal::SIGHUP)?;
    wait::try_until("the mistake twice in the log", SOON, || {
        let log = agent.stderr();
        match log.matches(mistake).count() >= 2 {
            true => Ok(()),
            false => Err(log),
        }
    })?;
    // So is one that is gone, and one whose policy this host cannot have.
    fs::remove_file(&config.path)?;
    let mut reload = net.client.command(&binary);
    let said = failure_of(&net.client, reload.arg("reload"))?;
    assert!(said.contains("cannot read the configuration"), "{said}");
    config.write("[policy.default]\npolicy = \"redundant\"\nkey = \"/nonexistent/key\"\n")?;
    let mut reload = net.client.command(&binary);
    let said = failure_of(&net.client, reload.arg("reload"))?;
    assert!(said.contains("/nonexistent/key"), "{said}");

    assert_eq!(policy(&agent)?, before);
    transfer.wait_for_progress(2_000_000, SOON)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_policy_that_is_saved_is_that_of_the_next_start() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let config = Config::new(&Config::weights(4, 1))?;
    fs::set_permissions(&config.path, Permissions::from_mode(0o640))?;
    let agent = config.start(&host, &binary, &[])?;
    let set = "policy set weighted --weight p1=4 --weight 10.77.2.0/24=3 --limit p1=20mbit --save";
    agent.tell(&set.split(' ').collect::<Vec<_>>())?;
    let saved = fs::read_to_string(&config.path)?;
    let expected = Config::weights(4, 3).replace("\"p1\"\n", "\"p1\"\nlimit = \"20mbit\"\n");
    assert_eq!(saved, expected);
    let mode = fs::metadata(&config.path)?.permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    let in_force = policy(&agent)?;
    let said = agent.tell(&["reload"])?;
    assert!(said.starts_with("the policy stays"), "{said}");
    agent.stop()?;

    // The next agent has the same policy. Its flags take precedence, and what they
    // overrule cannot be saved.
    let agent = config.start(&host, &binary, &[])?;
    assert_eq!(policy(&agent)?, in_force);
    agent.stop()?;
    let agent = config.start(&host, &binary, &["--weight", "p1=9"])?;
    assert_eq!(policy(&agent)?["weights"], serde_json::json!(["p1=9"]));
    assert_eq!(policy(&agent)?["limits"], serde_json::json!(["p1=20mbit"]));
    let mut command = host.command(&binary);
    let said = failure_of(&host, command.args(set.split(' ')))?;
    assert!(said.contains("flags that take precedence"), "{said}");
    assert_eq!(policy(&agent)?["weights"], serde_json::json!(["p1=9"]));
    assert_eq!(fs::read_to_string(&config.path)?, saved);
    agent.stop()
}

#[test]
fn an_agent_without_a_file_neither_reloads_nor_saves() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let agent = Agent::start(&host, &binary, &["--policy", "default"])?;
    for line in ["reload", "policy set aggregate --save"] {
        let mut command = host.command(&binary);
        let said = failure_of(&host, command.args(line.split(' ')))?;
        assert!(said.contains("started without --config"), "{said}");
    }
    assert_eq!(policy(&agent)?["name"], "default");
    agent.stop()
}

#[test]
fn a_wrong_file_keeps_the_agent_from_starting() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let config = Config::new("listen = \"127.0.0.1:0\"\n[policy.default]\npolicy = \"fast\"\n")?;
    let mut command = host.command(&binary);
    let command = command.args(["run", "--config"]).arg(&config.path);
    let said = failure_of(&host, command)?;
    let place = format!("{}:3:10: policy is `fast`", config.path.display());
    assert!(said.contains(&place), "{said}");
    // The program that checks it says the same, and so do its exit codes.
    for (path, text, code) in [
        (config.path.as_path(), place.as_str(), 2),
        (Path::new("/nonexistent"), "No such file", 1),
    ] {
        let output = std::process::Command::new(&binary)
            .args(["config", "check"])
            .arg(path)
            .output()?;
        let said = String::from_utf8(output.stderr)?;
        assert!(said.contains(text), "{said}");
        assert_eq!(output.status.code(), Some(code), "{said}");
    }
    Ok(())
}
