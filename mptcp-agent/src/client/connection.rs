//! The client's end of the control socket. All waits are limited, except the
//! one for the next event.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mptcp_api::line::{self, LONGEST_REPLY};
use mptcp_api::schema::{Reply, Request};

use super::{Failure, Fault};
use crate::host::socket_path;

/// Time limit for writing a line, and for reading one.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long the agent's backlog may be full before this client gives up.
const QUEUE_PATIENCE: Duration = Duration::from_secs(5);

/// A connection to an agent.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
    path: PathBuf,
    patience: Duration,
}

impl Connection {
    /// Connects to the agent at the path `control`, or else to the agent of
    /// this namespace.
    pub fn open(control: Option<&Path>) -> Result<Self, Failure> {
        let path = control.map_or_else(socket_path::default_path, Path::to_owned);
        Self::with_patience(path, PATIENCE)
    }

    pub(super) fn with_patience(path: PathBuf, patience: Duration) -> Result<Self, Failure> {
        let start = Instant::now();
        let stream = loop {
            match socket_path::connect(&path) {
                Ok(stream) => break stream,
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock
                        && start.elapsed() < QUEUE_PATIENCE.min(patience) =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(unreachable(&path, &error)),
            }
        };
        let limited = stream.set_write_timeout(Some(patience));
        limited.map_err(|error| Failure::new(Fault::Failed, error.to_string()))?;
        Ok(Self {
            stream: BufReader::new(stream),
            path,
            patience,
        })
    }

    /// Returns another handle to the socket, for closing it from elsewhere.
    pub fn handle(&self) -> std::io::Result<UnixStream> {
        self.stream.get_ref().try_clone()
    }

    /// Sends a request.
    pub fn ask(&mut self, request: &Request) -> Result<(), Failure> {
        let line = line::request(request)
            .map_err(|error| Failure::new(Fault::Usage, format!("not to be sent: {error}")))?;
        match self.stream.get_mut().write_all(&line) {
            // The agent has closed the connection already. It may have sent a
            // reason, which can still be read.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| self.failure(&error)),
        }
    }

    /// Sends a request and reads its answer.
    pub fn exchange(&mut self, request: &Request) -> Result<Reply, Failure> {
        self.ask(request)?;
        self.answer()
    }

    /// Reads a line that must come soon.
    pub fn answer(&mut self) -> Result<Reply, Failure> {
        self.answer_or_end()?.ok_or_else(|| {
            let why = "the agent has closed the connection without an answer";
            Failure::new(Fault::Failed, why)
        })
    }

    /// Reads a line that must come soon. Returns `None` if the agent closes.
    pub fn answer_or_end(&mut self) -> Result<Option<Reply>, Failure> {
        self.read(Some(Instant::now() + self.patience))
    }

    /// Reads a line that may never come. Returns `None` if the agent closes.
    pub fn next(&mut self) -> Result<Option<Reply>, Failure> {
        self.read(None)
    }

    fn read(&mut self, deadline: Option<Instant>) -> Result<Option<Reply>, Failure> {
        let Some(line) = self.line(deadline)? else {
            return Ok(None);
        };
        let path = self.path.display();
        let reply = line::decode_reply(&line).map_err(|why| {
            Failure::new(Fault::Foreign, format!("what answers at {path}: {why}"))
        })?;
        match reply {
            Reply::Error(refusal) => Err(Failure::refused(&refusal)),
            reply => Ok(Some(reply)),
        }
    }

    /// Reads a line. Even without a deadline, a line that has begun must be
    /// complete within the time limit.
    fn line(&mut self, mut deadline: Option<Instant>) -> Result<Option<Vec<u8>>, Failure> {
        let mut line = Vec::new();
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(self.failure(&ErrorKind::WouldBlock.into()));
            }
            let chunk = self
                .stream
                .get_ref()
                .set_read_timeout(left)
                .and_then(|()| self.stream.fill_buf().map(<[u8]>::to_vec));
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // If the agent closes before it has read what was sent, the end
                // of the stream is a reset.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Vec::new(),
                Err(error) => return Err(self.failure(&error)),
            };
            let newline = chunk.iter().position(|byte| *byte == b'\n');
            let taken = newline.map_or(chunk.len(), |at| at + 1);
            self.stream.consume(taken);
            line.extend_from_slice(&chunk[..newline.unwrap_or(taken)]);
            if line.len() > LONGEST_REPLY {
                return Err(self.foreign(&format!("a line of more than {LONGEST_REPLY} bytes")));
            }
            if newline.is_some() {
                return Ok(Some(line));
            }
            if chunk.is_empty() {
                return match line.is_empty() {
                    true => Ok(None),
                    false => Err(Failure::new(
                        Fault::Failed,
                        "the agent has closed the connection in the middle of its answer",
                    )),
                };
            }
            deadline.get_or_insert_with(|| Instant::now() + self.patience);
        }
    }

    fn foreign(&self, what: &str) -> Failure {
        let path = self.path.display();
        Failure::new(
            Fault::Foreign,
            format!("what answers at {path} sends {what}"),
        )
    }

    fn failure(&self, error: &std::io::Error) -> Failure {
        let path = self.path.display();
        let why = match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => format!(
                "the agent does not answer at {path} within {} s",
                self.patience.as_secs()
            ),
            _ => format!("cannot talk to the agent at {path}: {error}"),
        };
        Failure::new(Fault::Failed, why)
    }
}

/// Explains why no connection was possible.
pub(super) fn unreachable(path: &Path, error: &std::io::Error) -> Failure {
    let shown = path.display();
    let is_socket = || std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let (fault, why) = match error.kind() {
        ErrorKind::NotFound => (
            Fault::NoAgent,
            format!(
                "there is no agent at {shown}: start one with mptcp-agent run, or name its \
                 socket with --control"
            ),
        ),
        ErrorKind::ConnectionRefused if is_socket() => (
            Fault::NoAgent,
            format!("there is no agent at {shown}: one that has ended left its socket"),
        ),
        ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => (
            Fault::NoAgent,
            format!("there is no agent at {shown}: that is no socket"),
        ),
        ErrorKind::PermissionDenied => (
            Fault::Denied,
            format!(
                "no permission to use {shown}: be root, the user that the agent runs as, or a \
                 member of group mptcp"
            ),
        ),
        ErrorKind::WouldBlock => (
            Fault::Failed,
            format!("the agent does not answer at {shown}: it hangs, or others keep it busy"),
        ),
        _ if error.raw_os_error() == Some(libc::EPROTOTYPE) => (
            Fault::Foreign,
            format!("{shown} is a socket of another kind: that of an agent is a stream"),
        ),
        _ => (
            Fault::Failed,
            format!("cannot connect to the agent at {shown}: {error}"),
        ),
    };
    Failure::new(fault, why)
}
