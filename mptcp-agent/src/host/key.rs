//! `--redundant-key`: the key that the agents of two hosts share.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::file;

/// Bytes that a key may have.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=1024;

/// Permission bits of those who are neither owner nor group.
const OTHERS: u32 = 0o007;

/// Reads the key: the file's content without one newline at its end. Waits for
/// the file system only.
///
/// # Errors
/// One line that says what is wrong with the file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let shown = path.display();
    let cannot = || format!("cannot read --redundant-key {shown}");
    let mut file = file::open_named(path).with_context(cannot)?;
    let metadata = file.metadata().with_context(cannot)?;
    ensure!(
        metadata.is_file(),
        "--redundant-key {shown} is no regular file"
    );
    let mode = metadata.mode();
    ensure!(
        mode & OTHERS == 0,
        "--redundant-key {shown} is open to every user of this host (mode {:04o}): chmod o= {shown}",
        mode & 0o7777
    );
    // Reading one byte more than a key and its newline is enough to see that
    // the key is too long.
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

    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::mpsc;
    use std::time::Duration;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn said(content: &[u8], mode: u32) -> Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let key = read(&path).map_err(|error| format!("{error:#}"))?;
        Ok(key)
    }

    /// Writes a file with a good key.
    fn good(path: &Path) {
        fs::write(path, [b'k'; 16]).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn a_file_that_becomes_a_pipe_makes_nobody_wait() {
        const TRIES: usize = 20_000;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let others = [dir.path().join("a"), dir.path().join("b")];
        good(&path);
        let (sender, done) = mpsc::channel();
        let reader = path.clone();
        std::thread::spawn(move || {
            for _ in 0..TRIES {
                match read(&reader) {
                    Ok(key) => assert_eq!(key, [b'k'; 16]),
                    Err(error) => assert!(error.to_string().contains("no regular file")),
                }
            }
            sender.send(()).unwrap();
        });
        loop {
            // A reader that is stuck would never send.
            match done.recv_timeout(Duration::ZERO) {
                Ok(()) => break,
                Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the reader has failed"),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
            let mode = Mode::from_raw_mode(0o600);
            mknodat(CWD, &others[0], FileType::Fifo, mode, 0).unwrap();
            fs::rename(&others[0], &path).unwrap();
            good(&others[1]);
            fs::rename(&others[1], &path).unwrap();
        }
    }

    #[test]
    fn a_pipe_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let mode = Mode::from_raw_mode(0o600);
        mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
    }

    #[test]
    fn the_content_without_its_newline() {
        assert_eq!(said(&[b'k'; 16], 0o600).unwrap(), [b'k'; 16]);
        assert_eq!(said(b"0123456789abcdef\n", 0o640).unwrap().len(), 16);
        // Only one newline is removed. Everything else is part of the key.
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
