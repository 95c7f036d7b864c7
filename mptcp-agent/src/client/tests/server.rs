//! A server that follows a script, for one client.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

/// One step of the script. After the last one, the server closes.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Reads a line.
    Read,
    /// Writes a line.
    Line(&'a [u8]),
    /// Writes bytes that need not be a line.
    Bytes(&'a [u8]),
    /// Writes an endless line, for as long as the client reads.
    Flood,
    /// Writes an endless line slowly, a byte now and then.
    Trickle,
    /// Does nothing until the client closes.
    Wait,
}

/// The server, which ends with its client.
pub struct Scripted {
    _directory: TempDir,
    path: PathBuf,
}

impl Scripted {
    pub fn start(steps: &[Step<'_>]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let steps: Vec<Owned> = steps.iter().map(Owned::from).collect();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            for step in &steps {
                if step.perform(&mut reader).is_err() {
                    return;
                }
            }
        });
        Self {
            _directory: directory,
            path,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A [`Step`] without borrowed data, for the server's thread.
enum Owned {
    Read,
    Bytes(Vec<u8>),
    Repeat(usize, Duration),
    Wait,
}

impl From<&Step<'_>> for Owned {
    fn from(step: &Step<'_>) -> Self {
        match step {
            Step::Read => Self::Read,
            Step::Line(bytes) => Self::Bytes([*bytes, b"\n"].concat()),
            Step::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            Step::Flood => Self::Repeat(1 << 20, Duration::ZERO),
            Step::Trickle => Self::Repeat(1, Duration::from_millis(10)),
            Step::Wait => Self::Wait,
        }
    }
}

impl Owned {
    fn perform(&self, reader: &mut BufReader<UnixStream>) -> std::io::Result<()> {
        match self {
            Self::Read | Self::Wait => reader.read_line(&mut String::new()).map(drop),
            Self::Bytes(bytes) => reader.get_mut().write_all(bytes),
            Self::Repeat(count, pause) => loop {
                reader.get_mut().write_all(&vec![b' '; *count])?;
                std::thread::sleep(*pause);
            },
        }
    }
}
