//! Reads the file's text.

use std::io::Read as _;
use std::path::Path;

use mptcp_api::config::LONGEST;

use super::Wrong;
use crate::host::file;

/// Reads the file. Waits for the file system only.
///
/// # Errors
/// It cannot be read, is no regular file, is larger than [`LONGEST`], or is no
/// text.
pub fn read(path: &Path) -> Result<String, Wrong> {
    let shown = path.display();
    let cannot = |error: &dyn std::fmt::Display| {
        Wrong::unreadable(format!("cannot read the configuration {shown}: {error}"))
    };
    let file = file::open_named(path).map_err(|error| cannot(&error))?;
    let metadata = file.metadata().map_err(|error| cannot(&error))?;
    if !metadata.is_file() {
        return Err(cannot(&"it is no regular file"));
    }
    let mut bytes = Vec::new();
    let most = LONGEST as u64 + 1;
    let read = file.take(most).read_to_end(&mut bytes);
    read.map_err(|error| cannot(&error))?;
    if bytes.len() > LONGEST {
        let why = format!("{shown} is too large for a configuration: at most {LONGEST} bytes");
        return Err(Wrong::new(why));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n');
        let before = String::from_utf8_lossy(&before[start.map_or(0, |at| at + 1)..]);
        let column = before.chars().count() + 1;
        Wrong::new(format!("{shown}:{line}:{column}: this is no UTF-8 text"))
    })
}
