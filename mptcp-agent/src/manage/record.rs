//! A record of what the agent has made, in a file beside the control sockets.
//!
//! The file belongs to a network namespace and a boot of the host, and is
//! replaced as a whole. The agent writes down what it will make before it makes it:
//! after a crash the file may name what is not there, but nothing is there that it
//! does not name.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

use crate::host::{boot, file, make_directories, socket_path};
use crate::net::endpoints::Endpoint;
use crate::net::source_routes::SourceRoute;

/// Changes whenever the file's content changes its meaning.
const VERSION: u32 = 1;

/// The longest file that is read, bytes.
const LONGEST: u64 = 1 << 20;

/// Everything that the agent has made and not removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Made {
    /// The endpoints.
    pub endpoints: Vec<OwnEndpoint>,
    /// The routes by source.
    pub routes: Vec<SourceRoute>,
    /// The limit that was raised.
    pub limit: Option<Limit>,
    /// The id that an endpoint was given last; 0: none was.
    pub last_id: u8,
}

/// An endpoint that the agent has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnEndpoint {
    /// Its id.
    pub id: u8,
    /// Its address.
    pub address: IpAddr,
    /// The ifindex of its device.
    pub device: u32,
    /// Its flags.
    pub flags: u32,
}

impl OwnEndpoint {
    /// Returns what is recorded of an endpoint.
    pub fn of(endpoint: &Endpoint) -> Self {
        Self {
            id: endpoint.id,
            address: endpoint.address,
            device: endpoint.device.unwrap_or(0),
            flags: endpoint.bits,
        }
    }

    /// Returns whether the kernel's endpoint is this one.
    pub fn is(&self, endpoint: &Endpoint) -> bool {
        (self.id, self.address) == (endpoint.id, endpoint.address) && !endpoint.is_implicit()
    }

    /// Returns the endpoint.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint {
            id: self.id,
            address: self.address,
            port: None,
            bits: self.flags,
            device: Some(self.device),
        }
    }
}

/// The number of subflows beside the first that a connection may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// The value from before.
    pub before: u32,
    /// The value that the agent has set.
    pub raised: u32,
}

/// The file's content.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    boot: String,
    made: Made,
}

/// The record of a network namespace.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    boot: String,
    made: Made,
}

impl Record {
    /// Opens the record of the network namespace with this cookie. A file that
    /// makes no sense is set aside, which is logged.
    ///
    /// # Errors
    /// The file or its directory cannot be used.
    pub fn open(cookie: u64) -> Result<Self> {
        Self::open_at(path(cookie), &boot::id())
    }

    /// Opens the record, if there is one.
    ///
    /// # Errors
    /// The file or its directory cannot be used.
    pub fn find(cookie: u64) -> Result<Option<Self>> {
        let exists = path(cookie).exists();
        exists.then(|| Self::open(cookie)).transpose()
    }

    fn open_at(path: PathBuf, boot: &str) -> Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        make_directories(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let made = match read(&path)? {
            None => Made::default(),
            Some(text) => match serde_json::from_str::<Content>(&text) {
                Ok(content) if content.version == VERSION && content.boot == boot => content.made,
                // The host was started anew, so all that is gone.
                Ok(content) if content.boot != boot => Made::default(),
                other => {
                    set_aside(&path, other.err())?;
                    Made::default()
                }
            },
        };
        let boot = boot.to_owned();
        Ok(Self { path, boot, made })
    }

    /// Returns what the agent has made, or may have.
    pub fn made(&self) -> &Made {
        &self.made
    }

    /// Changes the record, in the file first.
    ///
    /// # Errors
    /// The file cannot be written. Then nothing has changed.
    pub fn change(&mut self, change: impl FnOnce(&mut Made)) -> Result<()> {
        let mut made = self.made.clone();
        change(&mut made);
        if made != self.made {
            self.write(&made)
                .with_context(|| format!("cannot write {}", self.path.display()))?;
            self.made = made;
        }
        Ok(())
    }

    /// Checks that the file could be written.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self) -> Result<()> {
        self.write(&self.made)
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn write(&self, made: &Made) -> Result<()> {
        let nothing = Made {
            last_id: made.last_id,
            ..Made::default()
        };
        if *made == nothing {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            };
        }
        let content = Content {
            version: VERSION,
            boot: self.boot.clone(),
            made: made.clone(),
        };
        let draft = self.path.with_extension("new");
        // A draft that a killed agent has left would keep its mode.
        let _ = fs::remove_file(&draft);
        let mut file = create(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(&content)?)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        Ok(())
    }
}

/// Reads the record of a network namespace, without changing anything; `None`
/// if there is none that makes sense.
pub fn look(cookie: u64) -> Option<Made> {
    let text = read(&path(cookie)).ok()??;
    let content: Content = serde_json::from_str(&text).ok()?;
    let boot = boot::id();
    (!boot.is_empty() && content.boot == boot).then_some(content.made)
}

fn path(cookie: u64) -> PathBuf {
    socket_path::directory().join(format!("made-netns-{cookie}.json"))
}

fn create(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    options.open(path)
}

fn read(path: &Path) -> Result<Option<String>> {
    let shown = path.display();
    let file = match file::open_own(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.with_context(|| format!("cannot read {shown}"))?,
    };
    let found = file.metadata()?;
    let is_ours = found.uid() == 0 || found.uid() == geteuid().as_raw();
    ensure!(
        found.is_file() && is_ours && found.mode() & 0o022 == 0,
        "{shown} is not the agent's: it belongs to user {} and has mode {:04o}; remove it",
        found.uid(),
        found.mode() & 0o7777
    );
    let mut bytes = Vec::new();
    file.take(LONGEST)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {shown}"))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn set_aside(path: &Path, why: Option<serde_json::Error>) -> Result<()> {
    let aside = path.with_extension("unreadable");
    fs::rename(path, &aside).with_context(|| format!("cannot set {} aside", path.display()))?;
    let why = why.map_or_else(
        || "it is of another version".to_owned(),
        |why| why.to_string(),
    );
    tracing::warn!(
        "{} makes no sense ({why}) and is now {}: what an agent before has made is left as it is",
        path.display(),
        aside.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn made() -> Made {
        Made {
            endpoints: vec![OwnEndpoint {
                id: 7,
                address: [10, 0, 0, 1].into(),
                device: 3,
                flags: 2,
            }],
            limit: Some(Limit {
                before: 2,
                raised: 4,
            }),
            last_id: 7,
            ..Made::default()
        }
    }

    #[test]
    fn what_was_made_outlives_the_agent_but_not_the_boot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/made.json");
        let open = |boot| Record::open_at(path.clone(), boot).unwrap();
        let mut record = open("a");
        record.check().unwrap();
        assert!(!path.exists(), "nothing was made");
        record.change(|all| *all = made()).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o022, 0);
        assert_eq!(*open("a").made(), made());
        assert_eq!(*open("b").made(), Made::default());
        let mut record = open("a");
        record
            .change(|all| (all.endpoints, all.limit) = Default::default())
            .unwrap();
        assert!(!path.exists(), "nothing is left");
    }

    #[test]
    fn a_file_that_makes_no_sense_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made.json");
        for text in [
            "",
            "{",
            "[]",
            "{\"version\":1,\"boot\":\"a\"}",
            "\u{0}\u{1}",
        ] {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            let record = Record::open_at(path.clone(), "a").unwrap();
            assert_eq!(*record.made(), Made::default());
            let aside = path.with_extension("unreadable");
            assert_eq!(fs::read_to_string(aside).unwrap(), text);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made.json");
        let refused = || {
            let error = Record::open_at(path.clone(), "a").unwrap_err();
            format!("{error:#}")
        };
        fs::write(&path, "{}").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(refused().contains("mode 0666"), "{}", refused());
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(refused().contains("cannot read"), "{}", refused());
    }
}
