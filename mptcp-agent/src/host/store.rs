//! Keeps the file of data plans: `--state-dir`, or /var/lib/mptcp-agent.
//!
//! ```text
//!   quota.json         the accounts as they were last saved
//!   quota.json.old     the same, one save earlier
//!   quota.json.bad-1   a file that could not be read, set aside
//!   quota.json.lock    held by the agent that uses these
//! ```
//!
//! A save writes another file, lets the disk have it, and gives it the name. So a
//! crash at any moment leaves one of the two. A disk may hang for seconds, and the
//! agent's loop must not, so a thread saves.
//!
//! If the file cannot be read, the earlier one is used: counters of devices say
//! what was carried since. No file is overwritten that was not read: it is set
//! aside, or nothing is saved.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mptcp_api::saved::{self, Saved};

use super::lock::{Lock, NoLock};
use super::privileges;
use super::socket_file::make_directories;
use super::{boot, file, netns, socket_path};

/// Where the file is unless `--state-dir` says otherwise.
pub const DIRECTORY: &str = "/var/lib/mptcp-agent";

/// How long to wait for the lock of an agent that is about to end.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the last save may take.
const LAST: Duration = Duration::from_secs(2);

/// The most files that are set aside.
const MOST_BAD: u32 = 1000;

/// Checks a `--state-dir`.
///
/// # Errors
/// It is relative, or it is no directory.
pub fn check(directory: &Path) -> Result<()> {
    let shown = directory.display();
    ensure!(
        directory.is_absolute(),
        "--state-dir {shown} is relative: expected an absolute path, such as {DIRECTORY}"
    );
    ensure!(
        directory.is_dir() || !directory.exists(),
        "--state-dir {shown} is no directory"
    );
    Ok(())
}

/// The file's names.
#[derive(Clone, Debug)]
struct Names {
    file: PathBuf,
    /// Whether the name holds for one boot only, because it has the cookie of a
    /// network namespace.
    volatile: bool,
}

impl Names {
    /// Returns the names in a directory that the user chose, or else in the
    /// default one, where each network namespace has its own.
    fn choose(directory: Option<&Path>) -> Self {
        let default = Path::new(DIRECTORY);
        let cookie = match (directory, socket_path::is_main()) {
            (None, Some(false)) => netns::own_cookie().ok(),
            _ => None,
        };
        let name = match cookie {
            Some(cookie) => format!("quota-netns-{cookie}.json"),
            None => "quota.json".to_owned(),
        };
        Self {
            file: directory.unwrap_or(default).join(name),
            volatile: cookie.is_some(),
        }
    }

    fn with(&self, end: &str) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(end);
        name.into()
    }

    fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }
}

/// The files that an agent finds at its start.
#[derive(Debug, Default)]
pub struct Found {
    /// The accounts that were saved.
    pub saved: Option<Saved>,
    /// How many files were set aside.
    pub set_aside: u32,
}

/// The file, which a thread writes.
#[derive(Debug)]
pub struct Store {
    names: Names,
    /// `None` if nothing is to be written.
    thread: Option<Writer>,
    /// Saves that the thread has not answered yet.
    waiting: u32,
    /// Why the last save failed.
    failed: Option<String>,
    /// Whether a save has succeeded.
    saved: bool,
}

#[derive(Debug)]
struct Writer {
    contents: Sender<Vec<u8>>,
    results: Receiver<Result<(), String>>,
}

impl Store {
    /// Finds what earlier agents saved in `directory`, or else in the default
    /// place. Unless it is `wanted`, nothing is made where nothing is.
    pub fn open(directory: Option<&Path>, wanted: bool) -> (Self, Found) {
        Self::at(Names::choose(directory), wanted)
    }

    fn at(names: Names, wanted: bool) -> (Self, Found) {
        let mut store = Self {
            names,
            thread: None,
            waiting: 0,
            failed: None,
            saved: false,
        };
        let files = [store.names.file.clone(), store.names.with(".old")];
        if !wanted && !files.iter().any(|file| file.symlink_metadata().is_ok()) {
            store.start(None);
            return (store, Found::default());
        }
        let lock = match lock(&store.names) {
            Ok(lock) => lock,
            Err(held) => {
                store.fail(held);
                return (store, Found::default());
            }
        };
        match load(&store.names) {
            Ok(found) => {
                store.start(lock);
                (store, found)
            }
            Err(why) => {
                store.fail(why);
                (store, Found::default())
            }
        }
    }

    fn start(&mut self, lock: Option<Lock>) {
        let ((contents, wanted), (sender, results)) = (channel(), channel());
        let names = self.names.clone();
        let work = move || {
            privileges::give_up();
            write_all(&names, lock, &wanted, &sender);
        };
        match thread::Builder::new().name("state".to_owned()).spawn(work) {
            Ok(_) => self.thread = Some(Writer { contents, results }),
            Err(error) => self.fail(format!("cannot start a thread: {error}")),
        }
    }

    /// Takes note of a failure, and tells the operator once.
    fn fail(&mut self, why: String) {
        if self.failed.is_none() {
            tracing::warn!(
                "cannot keep what paths have used of their quotas in {}: {why}; they are counted \
                 in memory only",
                self.names.file.display()
            );
        }
        self.failed = Some(why);
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.names.file
    }

    /// Returns whether the last save has succeeded.
    pub fn is_saved(&self) -> bool {
        self.saved && self.failed.is_none()
    }

    /// Returns why the last save failed, if it did.
    pub fn failure(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Saves `content` soon. Returns false if the disk is still busy with what was
    /// saved before.
    pub fn save(&mut self, content: Vec<u8>) -> bool {
        self.poll();
        let Some(thread) = self.thread.as_ref().filter(|_| self.waiting == 0) else {
            return false;
        };
        if thread.contents.send(content).is_ok() {
            self.waiting += 1;
            return true;
        }
        self.fail("the thread that writes it has ended".to_owned());
        false
    }

    /// Takes note of what has become of earlier saves.
    pub fn poll(&mut self) {
        while let Some(result) = self
            .thread
            .as_ref()
            .and_then(|thread| thread.results.try_recv().ok())
        {
            self.note(result);
        }
    }

    fn note(&mut self, result: Result<(), String>) {
        self.waiting = self.waiting.saturating_sub(1);
        match result {
            Ok(()) => {
                if self.failed.take().is_some() {
                    let path = self.names.file.display();
                    tracing::info!("what paths have used of their quotas is kept in {path} again");
                }
                self.saved = true;
            }
            Err(why) => self.fail(why),
        }
    }

    /// Saves `content`, if there is any, and waits for a moment until the disk has
    /// everything.
    pub fn finish(mut self, content: Option<Vec<u8>>) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        if let Some(content) = content
            && thread.contents.send(content).is_ok()
        {
            self.waiting += 1;
        }
        // The thread ends, and with it the lock.
        drop(thread.contents);
        let start = Instant::now();
        while self.waiting > 0 {
            let left = LAST.saturating_sub(start.elapsed());
            match thread.results.recv_timeout(left) {
                Ok(result) => self.note(result),
                Err(_) => {
                    self.fail("the disk does not answer".to_owned());
                    return;
                }
            }
        }
        // Nothing more comes: this waits for the end of the thread.
        let _ = thread.results.recv_timeout(LAST);
    }
}

/// Takes the lock. Returns `None` if none can be made, as in a directory that
/// cannot be written to.
///
/// # Errors
/// Another agent has it.
fn lock(names: &Names) -> Result<Option<Lock>, String> {
    // If this fails, so does the first save, which tells.
    let _ = make_directories(names.directory());
    let path = names.with(".lock");
    let start = Instant::now();
    loop {
        match Lock::take(&path) {
            Ok(lock) => return Ok(Some(lock)),
            Err(NoLock::Held) if start.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(NoLock::Held) => {
                return Err(format!(
                    "another agent holds {}: give each agent a --state-dir of its own",
                    path.display()
                ));
            }
            Err(NoLock::Unavailable(reason)) => {
                tracing::debug!("{reason}");
                return Ok(None);
            }
        }
    }
}

/// Reads what was saved.
///
/// # Errors
/// A file can neither be read nor be set aside.
fn load(names: &Names) -> Result<Found, String> {
    let mut found = Found::default();
    for path in [names.file.clone(), names.with(".old")] {
        let shown = path.display();
        let why = match read(&path, names.volatile) {
            Ok(None) => continue,
            Ok(Some(saved)) => {
                if path != names.file {
                    tracing::warn!(
                        "what paths have used of their quotas is taken from {shown}, which is \
                         seconds older"
                    );
                }
                found.saved = Some(saved);
                return Ok(found);
            }
            Err(why) => why,
        };
        let aside = set_aside(&path, names)
            .map_err(|error| format!("{why}, and it cannot be set aside: {error}"))?;
        found.set_aside += 1;
        tracing::error!(
            "{shown} cannot be used: {why}. It is kept as {}",
            aside.display()
        );
    }
    if found.set_aside > 0 {
        tracing::error!(
            "what paths have used of their quotas in this period is lost: they count what their \
             devices have counted since the host was booted, if that was in this period, and \
             otherwise from now on (`mptcp-agent quota` shows it)"
        );
    }
    Ok(found)
}

/// Reads one file; `None` if there is none.
fn read(path: &Path, volatile: bool) -> Result<Option<Saved>, String> {
    let file = match file::open_own(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        file => file.map_err(|error| format!("it cannot be opened ({error})"))?,
    };
    let unreadable = |error| format!("it cannot be read ({error})");
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut bytes = Vec::new();
    let most = saved::LONGEST as u64 + 1;
    file.take(most)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let saved = saved::decode(&bytes)?;
    if volatile && saved.boot != boot::id() {
        return Err(
            "it is older than the last boot, before which another network namespace may have had \
             the same number (--state-dir gives this one a place that lasts)"
                .to_owned(),
        );
    }
    Ok(Some(saved))
}

fn set_aside(path: &Path, names: &Names) -> std::io::Result<PathBuf> {
    let mut aside = (1..MOST_BAD).map(|number| names.with(&format!(".bad-{number}")));
    let free = aside.find(|path| path.symlink_metadata().is_err());
    let free = free.ok_or_else(|| std::io::Error::other("too many are set aside already"))?;
    fs::rename(path, &free)?;
    Ok(free)
}

/// Writes what comes, until no more can come.
fn write_all(
    names: &Names,
    mut lock: Option<Lock>,
    contents: &Receiver<Vec<u8>>,
    results: &Sender<Result<(), String>>,
) {
    while let Ok(content) = contents.recv() {
        let result = write(names, &mut lock, &content);
        if results.send(result).is_err() {
            break;
        }
    }
}

fn write(names: &Names, held: &mut Option<Lock>, content: &[u8]) -> Result<(), String> {
    if held.is_none() {
        *held = lock(names)?;
    }
    replace(names, content).map_err(|error| error.to_string())
}

/// Replaces the file, so that at any moment either the earlier content or the new
/// one is there in full.
fn replace(names: &Names, content: &[u8]) -> std::io::Result<()> {
    make_directories(names.directory())?;
    let new = names.with(".new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o644);
    let mut file = options.custom_flags(libc::O_NOFOLLOW).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    // Some file systems have no hard links. Then there is no earlier file.
    let link = names.with(".link");
    let _ = fs::remove_file(&link);
    if fs::hard_link(&names.file, &link).is_ok() {
        fs::rename(&link, names.with(".old"))?;
    }
    fs::rename(&new, &names.file)?;
    File::open(names.directory())?.sync_all()
}

#[cfg(test)]
mod tests;
