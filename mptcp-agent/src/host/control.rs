//! `--control`: checked now, used by a later version.

use std::path::Path;

use anyhow::{Result, ensure};
use rustix::fs::{Access, access};

/// Whether a socket could be made there. Creates nothing.
///
/// # Errors
/// Says why none could.
pub fn check(path: &Path) -> Result<()> {
    let shown = path.display();
    ensure!(
        path.is_absolute(),
        "--control {shown} is relative: expected an absolute path, such as \
         /run/mptcp-agent/control.sock"
    );
    ensure!(
        !path.is_dir() && path.file_name().is_some(),
        "--control {shown} is a directory: expected the path of a socket in it, such as \
         {shown}/control.sock"
    );
    // The closest ancestor that exists must be a directory that takes entries.
    if let Some(ancestor) = path.ancestors().skip(1).find(|ancestor| ancestor.exists()) {
        let at = ancestor.display();
        ensure!(
            ancestor.is_dir(),
            "--control {shown} cannot be made: {at} is not a directory"
        );
        ensure!(
            access(ancestor, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
            "--control {shown} cannot be made: {at} is not writable"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn paths_that_could_become_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let say = |path: &Path| check(path).map_err(|error| error.to_string());

        assert_eq!(say(&dir.path().join("control.sock")), Ok(()));
        assert_eq!(say(&dir.path().join("a/b/control.sock")), Ok(()));
        assert_eq!(say(&file), Ok(()));
        assert!(!dir.path().join("a").exists());

        assert!(
            say(Path::new("control.sock"))
                .unwrap_err()
                .contains("absolute")
        );
        assert!(say(dir.path()).unwrap_err().contains("is a directory"));
        assert!(say(Path::new("/")).unwrap_err().contains("is a directory"));
        assert!(
            say(&file.join("control.sock"))
                .unwrap_err()
                .contains("not a directory")
        );
    }
}
