//! Opens files that may be something else, such as a pipe.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

/// The flags open even a pipe or a terminal without waiting for its other end.
const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Opens a file for reading. Waits for the file system only. Whoever calls this
/// checks by the open file that it is a regular one: a path may change meanwhile.
///
/// # Errors
/// The file cannot be opened.
pub fn open_named(path: &Path) -> io::Result<File> {
    Ok(open(path, FLAGS, Mode::empty())?.into())
}

/// Opens a file of the agent's own as [`open_named`] does, but no symbolic link.
///
/// # Errors
/// The file cannot be opened, or is a symbolic link.
pub fn open_own(path: &Path) -> io::Result<File> {
    Ok(open(path, FLAGS.union(OFlags::NOFOLLOW), Mode::empty())?.into())
}

/// Reads a regular file of at most `most` bytes. Waits for the file system only.
///
/// # Errors
/// The file cannot be read, is no regular file, or is larger.
pub fn read_whole(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_named(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}
