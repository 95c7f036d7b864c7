//! The place of the preload library: where it is installed, or else a private
//! directory, into which this writes the agent's own copy.
//!
//! A memfd would need no place. But programs close the descriptors that they do
//! not know, and would then start others with an `LD_PRELOAD` that leads nowhere.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::process::geteuid;
use sha2::{Digest as _, Sha256};

use super::{LIBRARY, LIBRARY_NAME};
use crate::host::file;

/// The mode of the library's copy: everybody may read it, only its owner may change it.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
/// The bits of a mode that let group and others write.
const WRITABLE: u32 = 0o022;

/// Returns the place of a library that is this agent's own, byte for byte. Writes
/// it if it is not installed.
///
/// # Errors
/// There is no place for it. One line names what was tried.
pub fn place() -> Result<PathBuf, String> {
    if LIBRARY.is_empty() {
        return Err(
            "this agent was built without its preload library: build it with `cargo xtask \
             build`, or use --way mptcpize"
                .to_owned(),
        );
    }
    let mut tried = Vec::new();
    for file in installed() {
        if holds_library(&file) && is_plain(&file) {
            return Ok(file);
        }
        tried.push(format!("{} is not that of this agent", file.display()));
    }
    for directory in private() {
        match write(&directory) {
            Ok(file) => return Ok(file),
            Err(error) => tried.push(format!("{}: {error}", directory.display())),
        }
    }
    if tried.is_empty() {
        tried.push("set HOME or XDG_CACHE_HOME to a directory, by its whole path".to_owned());
    }
    Err(format!(
        "there is no place for the preload library: {}",
        tried.join("; ")
    ))
}

/// Returns where the library may be installed: beside the agent, or where the
/// package puts it.
fn installed() -> Vec<PathBuf> {
    let Ok(agent) = std::env::current_exe() else {
        return Vec::new();
    };
    let Some(beside) = agent.parent() else {
        return Vec::new();
    };
    let packaged = beside
        .parent()
        .map(|prefix| prefix.join("lib/mptcp-agent").join(LIBRARY_NAME));
    let places = packaged.into_iter().chain([beside.join(LIBRARY_NAME)]);
    places.filter(|file| file.exists()).collect()
}

/// Returns the directories that this user may write to and others not. Those of
/// root do not depend on the environment, which may be another user's.
fn private() -> Vec<PathBuf> {
    if geteuid().is_root() {
        return ["/run/mptcp-agent-exec", "/var/cache/mptcp-agent-exec"]
            .map(PathBuf::from)
            .to_vec();
    }
    let directory = |name: &str| {
        let value = std::env::var_os(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    let cache =
        directory("XDG_CACHE_HOME").or_else(|| directory("HOME").map(|home| home.join(".cache")));
    let parents = directory("XDG_RUNTIME_DIR").into_iter().chain(cache);
    parents
        .map(|parent| parent.join("mptcp-agent-exec"))
        .collect()
}

/// Writes the library to a directory, unless it is there, and returns its place.
///
/// # Errors
/// The directory cannot be made, is not this user's alone, or takes no library.
fn write(directory: &Path) -> io::Result<PathBuf> {
    // Another version of the agent may have its library in use.
    let hash = Sha256::digest(LIBRARY);
    let hash: String = hash
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let file = directory.join(format!("libmptcp-preload-{hash}.so"));
    if !is_plain(&file) {
        return Err(io::Error::other("LD_PRELOAD cannot have such a path"));
    }
    make_private(directory)?;
    if is_own(&file) && holds_library(&file) {
        return Ok(file);
    }
    let fresh = directory.join(format!(".{}.new", std::process::id()));
    // A process with the same id may have been killed and left its file here.
    if let Err(error) = fs::remove_file(&fresh)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut options = OpenOptions::new();
    let mut open = options
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&fresh)?;
    let written = open
        .write_all(LIBRARY)
        .and_then(|()| open.set_permissions(Permissions::from_mode(FILE_MODE)))
        .and_then(|()| fs::rename(&fresh, &file));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    written.map(|()| file)
}

/// Makes a directory that only this user can write to, and from which libraries can
/// be loaded; or checks that it is such a directory. Makes `~/.cache` above it as well,
/// which a new user does not have yet.
fn make_private(directory: &Path) -> io::Result<()> {
    if let Some(above) = directory.parent()
        && above.ends_with(".cache")
        && !above.exists()
    {
        DirBuilder::new().mode(0o700).create(above)?;
    }
    match DirBuilder::new()
        .recursive(false)
        .mode(DIRECTORY_MODE)
        .create(directory)
    {
        Ok(()) => fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE))?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let metadata = fs::symlink_metadata(directory)?;
    if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() || metadata.mode() & WRITABLE != 0
    {
        return Err(io::Error::other(
            "it is no directory that only this user can write to",
        ));
    }
    if statvfs(directory)?
        .f_flag
        .contains(StatVfsMountFlags::NOEXEC)
    {
        return Err(io::Error::other(
            "it is mounted with noexec, so no library can be loaded from it",
        ));
    }
    Ok(())
}

/// Returns whether a file is this user's, and nobody else can write to it.
fn is_own(file: &Path) -> bool {
    fs::symlink_metadata(file).is_ok_and(|metadata| {
        metadata.is_file()
            && metadata.uid() == geteuid().as_raw()
            && metadata.mode() & WRITABLE == 0
    })
}

/// Returns whether a file has the same bytes as the library in this agent.
fn holds_library(path: &Path) -> bool {
    file::read_whole(path, LIBRARY.len() as u64).is_ok_and(|bytes| bytes == LIBRARY)
}

/// Returns whether `LD_PRELOAD` can name a file: its separators have no escape.
fn is_plain(file: &Path) -> bool {
    !file.to_string_lossy().contains([' ', ':'])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn it_is_written_once_and_repaired() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("exec");
        let file = write(&directory).unwrap();
        assert_eq!(fs::read(&file).unwrap(), LIBRARY);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&file)), (0o755, 0o644));
        let inode = fs::metadata(&file).unwrap().ino();
        assert_eq!(write(&directory).unwrap(), file);
        assert_eq!(fs::metadata(&file).unwrap().ino(), inode);

        fs::write(&file, "something else").unwrap();
        assert_eq!(fs::read(write(&directory).unwrap()).unwrap(), LIBRARY);
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        assert_eq!(mode(&write(&directory).unwrap()), 0o644);
        // Nothing but the library is left.
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn a_cache_that_is_missing_is_made() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join(".cache/mptcp-agent-exec");
        assert!(write(&directory).is_ok());
        // No other directory is made: it may be the system's.
        assert!(write(&home.path().join("cache/mptcp-agent-exec")).is_err());
    }

    #[test]
    fn a_directory_of_others_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let open = parent.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(parent.path(), &link).unwrap();
        for directory in [open, link, parent.path().join("a b")] {
            assert!(write(&directory).is_err(), "{}", directory.display());
        }
        assert!(write(Path::new("/proc/none")).is_err());
    }

    #[test]
    fn the_library_needs_no_other() {
        use object::{Object as _, ObjectSymbol as _};
        let library = object::File::parse(LIBRARY).unwrap();
        let names = |symbols: object::SymbolIterator<'_, '_>, undefined| -> Vec<String> {
            let fits = symbols.filter(|symbol| symbol.is_undefined() == undefined);
            let names = fits.filter_map(|symbol| symbol.name().ok().map(str::to_owned));
            names.filter(|name| !name.is_empty()).collect()
        };
        assert_eq!(names(library.dynamic_symbols(), false), ["socket"]);
        let mut needed = names(library.dynamic_symbols(), true);
        needed.sort_unstable();
        assert_eq!(needed, ["__errno_location", "dlsym", "syscall"]);
        let strings = library.section_by_name(".dynstr").unwrap();
        let strings = object::ObjectSection::data(&strings).unwrap();
        assert!(!strings.windows(5).any(|word| word == b"libc."));
    }
}
