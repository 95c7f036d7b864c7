//! TLS and passwords by `--web.config.file`, with curl as the client.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use mptcp_lab::{Agent, Host, Lab, wait};
use nix::sys::signal::Signal;

use crate::SOON;
use crate::listeners::curl;
use crate::support::{failure_of, require_agent, wait_for_log};

/// A certificate of 127.0.0.1, and its key.
const CERT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../mptcp-agent/src/web/testdata/cert.pem"
);
const KEY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../mptcp-agent/src/web/testdata/key.pem"
);

/// User `me` with the password `secret`.
const USERS: &str = "basic_auth_users:\n  \
    me: $2b$05$CCCCCCCCCCCCCCCCCCCCC.pIKrLVkBX9/OvQMSygY1pWEVn72t6na\n";

fn tls(more: &str) -> String {
    format!("tls_server_config:\n  cert_file: {CERT}\n  key_file: {KEY}\n{more}")
}

/// A host with a web configuration.
struct Scene {
    host: Host,
    file: PathBuf,
    directory: tempfile::TempDir,
    _lab: Lab,
}

impl Scene {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let directory = tempfile::tempdir()?;
        Ok(Self {
            host: lab.host("alone")?,
            file: directory.path().join("web.yml"),
            directory,
            _lab: lab,
        })
    }

    fn command(&self, binary: &Path) -> Command {
        let mut command = self.host.command(binary);
        command
            .args(["run", "--listen", "127.0.0.1:0", "--listen"])
            .arg(format!("unix:{}", self.socket()))
            .arg("--web.config.file")
            .arg(&self.file);
        command
    }

    fn socket(&self) -> String {
        let socket = self.directory.path().join("metrics.sock");
        socket.to_string_lossy().into_owned()
    }
}

#[test]
fn tls_and_a_password_hold_for_the_address_and_follow_the_file() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::new()?;
    let host = &scene.host;
    fs::write(&scene.file, tls("  min_version: TLS13\n") + USERS)?;
    let agent = Agent::launch(host, scene.command(&binary))?;
    let log = agent.stdout();
    assert!(log.contains("metrics on https://127.0.0.1:"), "{log}");
    let url = |scheme: &str| format!("{scheme}://{}/metrics", agent.listen());
    let trusted = ["--cacert", CERT];
    let get = |args: &[&str]| curl(host, &[&trusted, args].concat());
    let https = url("https");
    assert!(get(&["--user", "me:secret", &https])?.contains("mptcp_agent"));
    for refused in [
        vec![&*https],
        vec!["--user", "me:wrong", &https],
        vec!["--user", "you:secret", &https],
        vec!["--user", "me:secret", "--tls-max", "1.2", &https],
    ] {
        get(&refused).err().context("it is let in")?;
    }
    curl(host, &["--user", "me:secret", &https])
        .err()
        .context("the certificate is not known to curl by itself")?;
    get(&["--user", "me:secret", &url("http")])
        .err()
        .context("it needs TLS")?;
    // A unix socket has the mode of its file.
    let open = curl(
        host,
        &["--unix-socket", &scene.socket(), "http://agent/metrics"],
    )?;
    assert!(open.contains("mptcp_agent"));
    let status = agent.tell(&["status"])?;
    assert!(status.contains(&https), "{status}");

    // A mistake changes nothing and is named; what is right holds at once.
    fs::write(&scene.file, "nonsense: 1\n")?;
    agent.process().signal(Signal::SIGHUP)?;
    wait_for_log(&agent, "web.yml:1:1: unknown field `nonsense`")?;
    get(&["--user", "me:secret", &https])?;
    // So is a file that takes something away, as one that was cut.
    fs::write(&scene.file, tls(""))?;
    wait_for_log(&agent, "would take the passwords away")?;
    get(&[&https]).err().context("it needs the password")?;
    fs::write(&scene.file, tls("") + USERS)?;
    wait::try_until("the new file to hold", SOON, || {
        get(&["--user", "me:secret", "--tls-max", "1.2", &https])
            .map_err(|error| format!("{error:#}"))
    })?;
    agent.stop()
}

#[test]
fn a_broken_file_is_refused_with_line_and_reason() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::new()?;
    for (text, expected) in [
        (
            tls("  min_version: SSL3\n"),
            "web.yml:4:16: the version is `SSL3`",
        ),
        (
            tls("").replace("key.pem", "none.pem"),
            "web.yml:3:13: the key",
        ),
        (
            "basic_auth_users:\n  me: secret\n".to_owned(),
            "web.yml:2:7: user me",
        ),
        (
            "tls_server_config:\n\tcert_file: x\n".to_owned(),
            "web.yml:2:2: ",
        ),
    ] {
        fs::write(&scene.file, &text)?;
        let line = failure_of(&scene.host, &mut scene.command(&binary))?;
        assert!(line.contains(expected), "{text}: {line}");
    }
    fs::remove_file(&scene.file)?;
    let line = failure_of(&scene.host, &mut scene.command(&binary))?;
    assert!(line.contains("cannot read --web.config.file"), "{line}");
    Ok(())
}
