//! `--redundant-key`: the key that the agents of two hosts share.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// Bytes that a key may have.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=1024;

/// Permission bits of those who are neither owner nor group.
const OTHERS: u32 = 0o007;

/// Reads the key: the file's content without one newline at its end.
///
/// # Errors
/// One line that says what is wrong with the file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let shown = path.display();
    let cannot = || format!("cannot read --redundant-key {shown}");
    // Before it is opened: a pipe would wait for its other end.
    ensure!(
        fs::metadata(path).with_context(cannot)?.is_file(),
        "--redundant-key {shown} is no regular file"
    );
    let mut file = File::open(path).with_context(cannot)?;
    let mode = file.metadata().with_context(cannot)?.mode();
    ensure!(
        mode & OTHERS == 0,
        "--redundant-key {shown} is open to every user of this host (mode {:04o}): chmod o= {shown}",
        mode & 0o7777
    );
    // One byte more than a key and its newline: enough to see that it is too
    // long.
    let most = *LENGTH.end() as u64 + 2;
    let mut key = Vec::new();
    file.by_ref()
        .take(most)
        .read_to_end(&mut key)
        .with_context(cannot)?;
    if key.last() == Some(&b'\n') {
        key.pop();
    }
    let length = key.len();
    ensure!(
        length >= *LENGTH.start(),
        "--redundant-key {shown} has {length} bytes: expected {} to {}",
        LENGTH.start(),
        LENGTH.end()
    );
    ensure!(
        length <= *LENGTH.end(),
        "--redundant-key {shown} has more than {} bytes",
        LENGTH.end()
    );
    Ok(key)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn said(content: &[u8], mode: u32) -> Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        read(&path).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_content_without_its_newline() {
        assert_eq!(said(&[b'k'; 16], 0o600).unwrap(), [b'k'; 16]);
        assert_eq!(said(b"0123456789abcdef\n", 0o640).unwrap().len(), 16);
        // Only one newline, and whatever else is in it.
        assert_eq!(said(b"0123456789abcde\n\n", 0o400).unwrap().len(), 16);
        assert_eq!(said(&[0; 1024], 0o600).unwrap().len(), 1024);
        let longest = [&[7_u8; 1024][..], b"\n"].concat();
        assert_eq!(said(&longest, 0o600).unwrap().len(), 1024);
    }

    #[test]
    fn refused_with_a_reason() {
        for (content, mode, reason) in [
            (vec![b'k'; 15], 0o600, "has 15 bytes: expected 16 to 1024"),
            (b"0123456789abcde\n".to_vec(), 0o600, "has 15 bytes"),
            (Vec::new(), 0o600, "has 0 bytes"),
            (vec![b'k'; 1025], 0o600, "more than 1024"),
            (vec![b'k'; 9999], 0o600, "more than 1024"),
            (vec![b'k'; 32], 0o644, "mode 0644"),
            (vec![b'k'; 32], 0o602, "open to every user"),
        ] {
            let error = said(&content, mode).unwrap_err();
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let error = format!("{:#}", read(Path::new("/nonexistent/key")).unwrap_err());
        assert!(error.contains("No such file"), "{error}");
        let error = read(Path::new("/")).unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
    }
}
