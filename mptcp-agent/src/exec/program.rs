//! Finds a program as `execvp` does, and says why it cannot be run as `env` does.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// The directories in which `execvp` looks if there is no PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Why a program was not run.
#[derive(Debug, PartialEq, Eq)]
pub struct NotRun {
    /// The exit code.
    pub code: u8,
    /// The reason, in one line.
    pub why: String,
}

impl NotRun {
    /// Describes a program that is not there.
    pub fn not_found(why: String) -> Self {
        Self { code: 127, why }
    }

    /// Describes a program that is there, but cannot be run.
    pub fn not_runnable(why: String) -> Self {
        Self { code: 126, why }
    }
}

/// Returns the file that `name` means: itself if it has a slash, else the first
/// executable file of that name on `path`.
///
/// # Errors
/// There is none, or none that this user may run.
pub fn find(name: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, NotRun> {
    if name.as_bytes().contains(&b'/') {
        let file = PathBuf::from(name);
        return match obstacle(&file) {
            None => Ok(file),
            Some(ErrorKind::NotFound) => Err(NotRun::not_found(format!(
                "there is no program {}",
                file.display()
            ))),
            Some(kind) => Err(not_runnable(&file, kind)),
        };
    }
    let mut refused = None;
    if !name.is_empty() {
        for directory in env::split_paths(path.unwrap_or(DEFAULT_PATH.as_ref())) {
            // An empty name means the current directory.
            let file = match directory.as_os_str().is_empty() {
                true => Path::new(".").join(name),
                false => directory.join(name),
            };
            match obstacle(&file) {
                None => return Ok(file),
                Some(ErrorKind::NotFound) => {}
                Some(kind) => refused = refused.or(Some(not_runnable(&file, kind))),
            }
        }
    }
    Err(refused.unwrap_or_else(|| {
        NotRun::not_found(format!("there is no program {} on PATH", name.display()))
    }))
}

/// Returns why a file cannot be run, if that is so.
fn obstacle(file: &Path) -> Option<ErrorKind> {
    match fs::metadata(file) {
        Ok(metadata) if metadata.is_dir() => Some(ErrorKind::IsADirectory),
        Ok(_) => access(file, Access::EXEC_OK)
            .err()
            .map(|_| ErrorKind::PermissionDenied),
        // A file stands in the place of a directory, so there is no such program.
        Err(error) if error.kind() == ErrorKind::NotADirectory => Some(ErrorKind::NotFound),
        Err(error) => Some(error.kind()),
    }
}

fn not_runnable(file: &Path, kind: ErrorKind) -> NotRun {
    NotRun::not_runnable(format!("cannot run {}: {kind}", file.display()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_executable_file_on_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let make = |place: &str, mode: u32| {
            let file = dir.path().join(place);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            file
        };
        let closed = make("a/tool", 0o644);
        let open = make("b/tool", 0o755);
        let only_closed = make("a/other", 0o644);
        let path = env::join_paths(["missing", "a", "b"].map(|name| dir.path().join(name)));
        let path = path.unwrap();
        let of = |name: &OsStr| find(name, Some(&path));
        assert_eq!(of("tool".as_ref()), Ok(open.clone()));
        assert_eq!(of(open.as_os_str()), Ok(open));
        assert_eq!(of("none".as_ref()).unwrap_err().code, 127);
        assert_eq!(of("".as_ref()).unwrap_err().code, 127);
        let missing = dir.path().join("missing/tool");
        assert_eq!(of(missing.as_os_str()).unwrap_err().code, 127);
        for refused in [
            of("other".as_ref()),
            of(closed.as_os_str()),
            of(dir.path().as_os_str()),
        ] {
            assert_eq!(refused.unwrap_err().code, 126);
        }
        let why = of("other".as_ref()).unwrap_err().why;
        let shown = only_closed.display();
        assert_eq!(why, format!("cannot run {shown}: permission denied"));
        assert!(find("sh".as_ref(), None).is_ok());
    }
}
