//! The files of the agent's unix sockets: that of the control socket (`--control`,
//! or the default place), and those of `--listen unix:PATH`.
//!
//! One agent has a file at a time. A socket file that a killed agent has left is
//! taken over. A socket at which somebody answers is not, nor is anything that
//! is no socket.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::unistd::Group;
use rustix::fs::{Access, access};
use thiserror::Error;

use super::lock::{Lock, NoLock};
use super::socket_path;

/// The group whose members may use the control socket, if there is such a group.
const GROUP: &str = "mptcp";

/// The mode of a socket: its owner and its group may use it.
const MODE: u32 = 0o660;

/// The mode of directories that are made for it.
const DIRECTORY_MODE: u32 = 0o755;

/// The name of a directory's lock file, which is in that directory.
const LOCK: &str = ".mptcp-agent.lock";

/// How long to wait for another agent that is at work in the same directory.
const PATIENCE: Duration = Duration::from_secs(1);

/// The use of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Commands of the agent's users. Belongs to [`GROUP`].
    Control,
    /// HTTP. Belongs to the group of the agent's process.
    Http,
}

impl Purpose {
    /// Returns what the socket is called.
    fn name(self) -> &'static str {
        match self {
            Self::Control => "control socket",
            Self::Http => "HTTP socket",
        }
    }

    /// Returns the flag that names another path.
    fn flag(self) -> &'static str {
        match self {
            Self::Control => "--control",
            Self::Http => "--listen",
        }
    }

    /// Returns `path` as it is given on the command line.
    fn given(self, path: &Path) -> String {
        match self {
            Self::Control => format!("--control {}", path.display()),
            Self::Http => format!("--listen unix:{}", path.display()),
        }
    }
}

/// The outcome of taking the control socket.
#[derive(Debug)]
pub enum Taken {
    /// The socket was taken.
    Socket(Claim),
    /// The default place cannot be had, for this reason. The agent can do
    /// without a socket.
    Without(String),
}

/// The bound socket. Dropping it removes its file, unless another socket is
/// there by then.
#[derive(Debug)]
pub struct Claim {
    listener: UnixListener,
    path: PathBuf,
    file: (u64, u64),
    group: Option<u32>,
}

impl Claim {
    /// Takes the path that was asked for, or else the default one, for the control
    /// socket.
    ///
    /// # Errors
    /// Another agent answers there, or the path that was asked for cannot be
    /// had.
    pub fn take(explicit: Option<&Path>) -> Result<Taken> {
        match explicit {
            Some(path) => {
                check(Purpose::Control, path)?;
                Ok(Taken::Socket(Self::at(Purpose::Control, path)?))
            }
            None => Self::by_default(&socket_path::default_path()),
        }
    }

    /// Takes a path of `--listen`.
    ///
    /// # Errors
    /// Somebody answers there, or the path cannot be had; one line.
    pub fn take_http(path: &Path) -> Result<Self> {
        check(Purpose::Http, path)?;
        Ok(Self::at(Purpose::Http, path)?)
    }

    fn by_default(path: &Path) -> Result<Taken> {
        match Self::at(Purpose::Control, path) {
            Ok(claim) => Ok(Taken::Socket(claim)),
            Err(error @ NotTaken::Answered(..)) => Err(error.into()),
            Err(NotTaken::Other(error)) => Ok(Taken::Without(format!("{error:#}"))),
        }
    }

    fn at(purpose: Purpose, path: &Path) -> Result<Self, NotTaken> {
        let shown = path.display();
        let cannot = || format!("cannot make the {} {shown}", purpose.name());
        let directory = path.parent().unwrap_or(Path::new("/"));
        make_directories(directory).with_context(cannot)?;
        // Nobody else may do the same between looking and binding.
        let _lock = lock(directory).with_context(cannot)?;
        clear(purpose, path)?;
        let listener = UnixListener::bind(path).with_context(cannot)?;
        let made = fs::symlink_metadata(path).with_context(cannot)?;
        let mut claim = Self {
            listener,
            path: path.to_owned(),
            file: (made.dev(), made.ino()),
            group: None,
        };
        if purpose == Purpose::Control {
            claim.group = give_to_group(path);
        }
        fs::set_permissions(path, Permissions::from_mode(MODE)).with_context(cannot)?;
        claim.listener.set_nonblocking(true).with_context(cannot)?;
        Ok(claim)
    }

    /// Returns the listener, which does not block.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Returns the group whose members may use the socket.
    pub fn group(&self) -> Option<u32> {
        self.group
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| (found.dev(), found.ino()) == self.file) {
            // If this fails, a dead file remains, which the next agent removes.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Why a path cannot be taken.
#[derive(Debug, Error)]
enum NotTaken {
    /// Another agent has the socket.
    #[error(
        "another agent has the {} {}: stop it, or choose another path with {}",
        .0.name(), .1.display(), .0.flag()
    )]
    Answered(Purpose, PathBuf),
    /// Something else went wrong.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Checks that a socket could be made at `path`. Creates nothing.
///
/// # Errors
/// None could be made; the error says why.
pub fn check(purpose: Purpose, path: &Path) -> Result<()> {
    let given = purpose.given(path);
    ensure!(
        path.is_absolute(),
        "{given} is relative: expected an absolute path, such as {}",
        socket_path::MAIN
    );
    ensure!(
        !path.is_dir() && path.file_name().is_some(),
        "{given} is a directory: expected the path of a socket in it"
    );
    ensure!(
        socket_path::fits(path),
        "{given} is too long: a socket's path has at most {} bytes",
        socket_path::LONGEST
    );
    // The closest ancestor that exists must be a directory that takes entries.
    if let Some(ancestor) = path.ancestors().skip(1).find(|ancestor| ancestor.exists()) {
        let at = ancestor.display();
        ensure!(
            ancestor.is_dir(),
            "{given} cannot be made: {at} is not a directory"
        );
        ensure!(
            access(ancestor, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
            "{given} cannot be made: {at} is not writable"
        );
    }
    Ok(())
}

/// Makes the directories that are missing, with their mode, whatever the umask
/// is.
///
/// # Errors
/// One cannot be made.
pub fn make_directories(directory: &Path) -> std::io::Result<()> {
    let missing = directory.ancestors().take_while(|path| !path.exists());
    for path in missing.collect::<Vec<_>>().into_iter().rev() {
        match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            Ok(()) => fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))?,
            // Another agent has made it at the same time.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Keeps other agents off a directory. Returns `None` if no lock can be had,
/// because somebody else may have made the directory or the file. Then only two
/// agents that start at the very same moment could get in each other's way.
fn lock(directory: &Path) -> Result<Option<Lock>> {
    let path = directory.join(LOCK);
    let start = Instant::now();
    loop {
        match Lock::take(&path) {
            Ok(lock) => return Ok(Some(lock)),
            Err(NoLock::Held) if start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(NoLock::Held) => bail!("another agent holds the lock {}", path.display()),
            Err(NoLock::Unavailable(reason)) => {
                tracing::debug!("{reason}");
                return Ok(None);
            }
        }
    }
}

/// Removes a socket at which nobody listens any more.
fn clear(purpose: Purpose, path: &Path) -> Result<(), NotTaken> {
    let shown = path.display();
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.with_context(|| format!("cannot look at {shown}"))?,
    };
    if !found.file_type().is_socket() {
        let flag = purpose.flag();
        let why = format!("is there and is no socket: remove it, or choose another with {flag}");
        return Err(anyhow!("{shown} {why}").into());
    }
    match socket_path::connect(path).map_err(|error| (error.kind(), error)) {
        // A listener with a full queue is alive, too.
        Ok(_) | Err((ErrorKind::WouldBlock, _)) => {
            Err(NotTaken::Answered(purpose, path.to_owned()))
        }
        Err((ErrorKind::ConnectionRefused, _)) => Ok(fs::remove_file(path)
            .with_context(|| format!("cannot remove the dead socket {shown}"))?),
        Err((_, error)) => {
            let error = anyhow!(error).context(format!("cannot tell whose socket {shown} is"));
            Err(error.into())
        }
    }
}

/// Removes the sockets that agents of this host left in the default place when
/// they were killed, and returns their paths. No other agent ever takes over
/// those of network namespaces that are gone.
///
/// # Errors
/// The directory cannot be read, or one cannot be removed.
pub fn remove_dead() -> Result<Vec<PathBuf>> {
    remove_dead_in(socket_path::directory())
}

fn remove_dead_in(directory: &Path) -> Result<Vec<PathBuf>> {
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let cannot = || format!("cannot clear {}", directory.display());
    let _lock = lock(directory).with_context(cannot)?;
    let mut removed = Vec::new();
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let path = entry.path();
        let socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
        let refused = || {
            let found = socket_path::connect(&path).err().map(|error| error.kind());
            found == Some(ErrorKind::ConnectionRefused)
        };
        if socket && path.extension().is_some_and(|end| end == "sock") && refused() {
            fs::remove_file(&path).with_context(cannot)?;
            removed.push(path);
        }
    }
    removed.sort();
    Ok(removed)
}

/// Lets the members of the group in, if there is such a group. Returns the
/// group's id.
fn give_to_group(path: &Path) -> Option<u32> {
    #[cfg(all(target_feature = "crt-static", target_env = "gnu"))]
    ask_the_file_only();
    let group = Group::from_name(GROUP).ok().flatten()?.gid.as_raw();
    match chown(path, None, Some(group)) {
        Ok(()) => Some(group),
        Err(error) => {
            tracing::warn!("cannot give the control socket to group {GROUP}: {error}");
            None
        }
    }
}

/// Makes a static glibc look the group up in /etc/group alone. It would otherwise
/// load the modules that /etc/nsswitch.conf names, which belong to another libc.
#[cfg(all(target_feature = "crt-static", target_env = "gnu"))]
fn ask_the_file_only() {
    unsafe extern "C" {
        fn __nss_configure_lookup(
            database: *const libc::c_char,
            services: *const libc::c_char,
        ) -> libc::c_int;
    }
    // SAFETY: both are strings that live forever. No other thread looks a name up.
    unsafe { __nss_configure_lookup(c"group".as_ptr(), c"files".as_ptr()) };
}

#[cfg(test)]
mod tests;
