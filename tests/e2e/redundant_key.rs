//! With a key, only agents with the same key become peers.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;

use anyhow::Result;
use mptcp_lab::Path;
use mptcp_lab::traffic::{ANY, Behaviour, Server};

use crate::SETTLE;
use crate::redundant_support::{
    Stage, arrived, ask, hellos, peers, redundant, sent, wait_for_proven,
};
use crate::support::{require_agent, scrape_until};

/// A file that is removed when it is dropped.
pub(crate) struct KeyFile(PathBuf);

impl KeyFile {
    /// Makes the file with these access rights.
    pub(crate) fn new(name: &str, content: &[u8], mode: u32) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("mptcp-key-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).create_new(true).mode(mode);
        options.open(&path)?.write_all(content)?;
        // Set the rights again, since the umask may have removed some.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        Ok(Self(path))
    }

    /// Returns the file's path.
    pub(crate) fn path(&self) -> String {
        self.0.display().to_string()
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn agents_with_the_same_key_become_peers() -> Result<()> {
    let binary = require_agent!();
    // A newline at the end is not part of the key.
    let keys = [
        KeyFile::new("with", b"sixteen bytes and more\n", 0o600)?,
        KeyFile::new("without", b"sixteen bytes and more", 0o640)?,
    ];
    let stage = Stage::new(["p1", "p2"].map(Path::new))?;
    let agents = [
        redundant(
            &stage.hosts[0],
            &binary,
            &["--redundant-key", &keys[0].path()],
        )?,
        redundant(
            &stage.hosts[1],
            &binary,
            &["--redundant-key", &keys[1].path()],
        )?,
    ];
    let echo = Server::spawn(&stage.hosts[1], ANY, Behaviour::Echo)?;
    let exchange = ask(&stage.hosts[0], &echo, &stage.links)?;
    for agent in &agents {
        wait_for_proven(agent, 2)?;
        scrape_until(agent, "copies", |metrics| arrived(metrics) > 0.0)?;
    }
    exchange.stop()?;
    Ok(())
}

/// Checks that agents whose keys differ prove nothing.
fn differ(client: Option<&KeyFile>, server: Option<&KeyFile>) -> Result<()> {
    let binary = require_agent!();
    let stage = Stage::new(["p1", "p2"].map(Path::new))?;
    let start = |index: usize, key: Option<&KeyFile>| {
        let path = key.map(KeyFile::path);
        let args: Vec<&str> = path
            .iter()
            .flat_map(|path| ["--redundant-key", path])
            .collect();
        redundant(&stage.hosts[index], &binary, &args)
    };
    let agents = [start(0, client)?, start(1, server)?];
    let echo = Server::spawn(&stage.hosts[1], ANY, Behaviour::Echo)?;
    let exchange = ask(&stage.hosts[0], &echo, &stage.links)?;
    exchange.wait_for_responses(100, SETTLE)?;
    // The server sees hellos that do not verify, and answers none of them.
    let metrics = scrape_until(&agents[1], "refused hellos", |metrics| {
        hellos(metrics, "refused") >= 2.0
    })?;
    assert_eq!(hellos(&metrics, "answered"), 0.0);
    for agent in &agents {
        let metrics = agent.scrape()?;
        assert_eq!(peers(&metrics, "proven"), 0.0);
        assert_eq!(sent(&metrics), 0.0);
    }
    exchange.wait_for_responses(exchange.responses() + 50, SETTLE)?;
    exchange.stop()?;
    Ok(())
}

#[test]
fn agents_with_different_keys_do_not_become_peers() -> Result<()> {
    let keys = [
        KeyFile::new("one", b"sixteen bytes and more", 0o600)?,
        KeyFile::new("other", b"sixteen bytes and less", 0o600)?,
    ];
    differ(Some(&keys[0]), Some(&keys[1]))
}

#[test]
fn agents_with_a_key_at_one_end_do_not_become_peers() -> Result<()> {
    let key = KeyFile::new("single", b"sixteen bytes and more", 0o600)?;
    differ(None, Some(&key))?;
    differ(Some(&key), None)
}
