//! Starts, scrapes and stops mptcp-agent on a host of the lab.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::host::Host;
use crate::metrics::Metrics;
use crate::process::Process;
use crate::wait;

/// The environment variable with the agent's binary; `cargo xtask test` sets it.
pub const BINARY_VARIABLE: &str = "MPTCP_AGENT_BIN";

/// How long the agent may take to say that it is ready.
const READY: Duration = Duration::from_secs(20);
/// How long the agent may take to end after a signal.
const END: Duration = Duration::from_secs(20);
/// How long an HTTP response may take.
const ANSWER: Duration = Duration::from_secs(10);
/// For how long scrapes of an agent share one answer.
const SHARED: Duration = Duration::from_millis(250);
/// How many bytes of an output stream an error message contains.
const TAIL: usize = 4000;
/// The beginning of the line that reports that the agent is ready.
const READY_LINE: &str = "mptcp-agent ready";
/// The field that reports it with `--log-format json`.
const READY_FIELD: &str = "\"message\":\"ready\"";

/// Returns the path of the agent's binary, if the environment names it.
pub fn binary() -> Option<PathBuf> {
    std::env::var_os(BINARY_VARIABLE)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// A running `mptcp-agent run`. Dropping it sends SIGTERM.
#[derive(Debug)]
pub struct Agent {
    host: Host,
    binary: PathBuf,
    process: Process,
    listen: SocketAddr,
    /// When the last scrape was answered.
    scraped: Mutex<Option<Instant>>,
    stdout: Output,
    stderr: Output,
}

/// The text that one of the agent's output streams has delivered so far.
#[derive(Debug, Clone, Default)]
struct Output {
    text: Arc<Mutex<String>>,
    /// Whether the stream is still open.
    open: Arc<AtomicBool>,
}

impl Agent {
    /// Starts `binary run --listen 127.0.0.1:0`, followed by `args`, on `host` and
    /// waits until it is ready.
    ///
    /// # Errors
    /// The agent ends first or takes too long; the error contains its output.
    pub fn start(host: &Host, binary: &Path, args: &[impl AsRef<str>]) -> Result<Self> {
        let mut command = host.command(binary);
        command
            .args(["run", "--listen", "127.0.0.1:0", "--log-format", "text"])
            .args(args.iter().map(AsRef::as_ref));
        Self::launch(host, command)
    }

    /// Like [`Agent::start`], but runs `command`. It must end up running
    /// `binary run --listen ...`; any log format will do.
    ///
    /// # Errors
    /// Those of [`Agent::start`].
    pub fn launch(host: &Host, command: Command) -> Result<Self> {
        Self::launch_within(host, command, READY)
    }

    /// Like [`Agent::launch`], but waits up to `within`, for slow machines.
    ///
    /// # Errors
    /// Those of [`Agent::start`].
    pub fn launch_within(host: &Host, mut command: Command, within: Duration) -> Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let binary = PathBuf::from(command.get_program());
        let process = host.spawn(&mut command)?;
        let (stdout, stderr) = (Output::default(), Output::default());
        process.with_child(|child| {
            stdout.follow(child.stdout.take());
            stderr.follow(child.stderr.take());
        });
        let ready = wait::try_until("the agent to be ready", within, || {
            match stdout.ready().or_else(|| stderr.ready()) {
                Some(line) => Ok(Some(line)),
                // Even if the agent has ended, its last output may still arrive.
                None if process.is_running() || stdout.is_open() || stderr.is_open() => Err(()),
                None => Ok(None),
            }
        });
        let ready = ready.and_then(|line| line.context("the agent has ended"));
        let listen = ready
            .and_then(|line| listen_address(&line))
            .with_context(|| format!("{command:?} said:\n{}{}", stdout.tail(), stderr.tail()))?;
        Ok(Self {
            host: host.clone(),
            binary,
            process,
            listen,
            scraped: Mutex::default(),
            stdout,
            stderr,
        })
    }

    /// Starts an agent with `--policy weighted` and these weights by device.
    pub fn weighted(host: &Host, binary: &Path, weights: &[(&str, u16)]) -> Result<Self> {
        Self::start(host, binary, &weighted_args(weights))
    }

    /// Starts an agent with `--policy redundant` and the arguments in `more`.
    ///
    /// # Errors
    /// Those of [`Agent::start`].
    pub fn redundant(host: &Host, binary: &Path, more: &[&str]) -> Result<Self> {
        Self::start(host, binary, &redundant_args(more))
    }

    /// Starts a successor, which takes over from this agent while both run. The
    /// successor gets `--take-over`, this agent's HTTP address, and `args`. Waits
    /// until the successor is ready and this agent has ended by itself; the log of
    /// this agent can still be read afterwards.
    ///
    /// # Errors
    /// Those of [`Agent::start`]; or this agent does not end, or ends with a status
    /// other than 0.
    pub fn take_over(&self, args: &[impl AsRef<str>]) -> Result<Self> {
        let mut command = self.host.command(&self.binary);
        command
            .args(["run", "--take-over", "--log-format", "text", "--listen"])
            .arg(self.listen.to_string())
            .args(args.iter().map(AsRef::as_ref));
        self.take_over_with(command)
    }

    /// Like [`Agent::take_over`], but runs `command`. It must end up running
    /// `binary run --take-over ...`; any log format will do.
    ///
    /// # Errors
    /// Those of [`Agent::take_over`].
    pub fn take_over_with(&self, command: Command) -> Result<Self> {
        let successor = Self::launch(&self.host, command)?;
        ensure_success(self.ended()?)?;
        Ok(successor)
    }

    /// Runs a command of the same binary on the agent's host, such as
    /// `["policy", "set", "default"]`, to its end, and returns its output.
    ///
    /// # Errors
    /// The command fails; the error contains its output.
    pub fn tell(&self, args: &[impl AsRef<str>]) -> Result<String> {
        tell(&self.host, &self.binary, args)
    }

    /// Returns the address, in its host, on which the agent serves HTTP.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Returns the agent's process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Returns the agent's standard output: the attach table and the ready line.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Returns the agent's log.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Returns the body of `GET path`, or an error for any status except 200.
    pub fn get(&self, path: &str) -> Result<String> {
        self.host
            .in_ns(|| get(self.listen, path))
            .with_context(|| format!("GET http://{}{path}", self.listen))
    }

    /// Reads the agent's metrics as they are now. Scrapes in quick succession
    /// share one answer, so this waits until the answer to the last scrape no
    /// longer counts. [`Agent::get`] does not wait.
    pub fn scrape(&self) -> Result<Metrics> {
        let mut scraped = self.scraped.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = *scraped {
            sleep(SHARED.saturating_sub(last.elapsed()));
        }
        let text = self.get("/metrics");
        *scraped = Some(Instant::now());
        Metrics::parse(&text?)
    }

    /// Ends the agent with SIGINT, so that it undoes what it has set.
    ///
    /// # Errors
    /// It does not end, or ends with a status other than 0.
    pub fn stop(self) -> Result<()> {
        ensure_success(self.stop_with(Signal::SIGINT)?)
    }

    /// Ends the agent with SIGKILL, as the kernel does when memory runs out.
    ///
    /// # Errors
    /// It does not end.
    pub fn kill(self) -> Result<()> {
        self.stop_with(Signal::SIGKILL).map(drop)
    }

    /// Sends `signal`, waits for the agent's end and returns its exit status.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_with(self, signal: Signal) -> Result<ExitStatus> {
        self.process.signal(signal)?;
        self.ended()
    }

    /// Waits until the agent ends by itself, and returns its exit status.
    ///
    /// # Errors
    /// It does not end.
    pub fn ended(&self) -> Result<ExitStatus> {
        self.process
            .wait(END)
            .with_context(|| format!("the agent said:\n{}", self.stderr.tail()))
    }
}

/// Runs a command of the agent's binary on `host` to its end and returns its
/// output. There need not be a running agent on `host`.
///
/// # Errors
/// The command fails; the error contains its output.
pub fn tell(host: &Host, binary: &Path, args: &[impl AsRef<str>]) -> Result<String> {
    host.output(host.command(binary).args(args.iter().map(AsRef::as_ref)))
}

fn ensure_success(status: ExitStatus) -> Result<()> {
    ensure!(status.success(), "the agent ended with {status}");
    Ok(())
}

/// Returns the arguments `--policy weighted --weight p1=4 ...`.
pub fn weighted_args(weights: &[(&str, u16)]) -> Vec<String> {
    let mut args = vec!["--policy".to_owned(), "weighted".to_owned()];
    for (selector, weight) in weights {
        args.extend(["--weight".to_owned(), format!("{selector}={weight}")]);
    }
    args
}

/// Returns the arguments `--policy redundant ...`.
pub fn redundant_args(more: &[&str]) -> Vec<String> {
    let policy = ["--policy", "redundant"].iter();
    policy.chain(more).map(|&word| word.to_owned()).collect()
}

impl Output {
    /// Collects the lines of a pipe on a thread, until the other end closes it.
    fn follow(&self, pipe: Option<impl Read + Send + 'static>) {
        let Some(pipe) = pipe else { return };
        let output = self.clone();
        output.open.store(true, Relaxed);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut text = output.lock();
                text.push_str(&line);
                text.push('\n');
            }
            output.open.store(false, Relaxed);
        });
    }

    fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    fn text(&self) -> String {
        self.lock().clone()
    }

    /// Returns at most the last [`TAIL`] bytes of the text, for an error message.
    fn tail(&self) -> String {
        let text = self.lock();
        let start = text.ceil_char_boundary(text.len().saturating_sub(TAIL));
        text[start..].to_owned()
    }

    fn ready(&self) -> Option<String> {
        let text = self.lock();
        let line = text
            .lines()
            .find(|line| line.starts_with(READY_LINE) || line.contains(READY_FIELD))?;
        Some(line.to_owned())
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the first address in `mptcp-agent ready: ... on http://ADDRESS/metrics`.
fn listen_address(ready: &str) -> Result<SocketAddr> {
    ready
        .split_once("://")
        .and_then(|(_, url)| url.split('/').next())
        .and_then(|address| address.parse().ok())
        .with_context(|| format!("no address in {ready:?}"))
}

/// Sends a GET over HTTP/1.0, so that the body ends with the connection, and
/// returns the body.
///
/// # Errors
/// Nobody answers in time, or with a status other than 200; the error has the body.
pub fn get(server: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, ANSWER)?;
    stream.set_write_timeout(Some(ANSWER))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")?;
    let (mut answer, deadline) = (Vec::new(), Instant::now() + ANSWER);
    let mut buffer = [0; 16 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        ensure!(!left.is_zero(), "no whole answer within {ANSWER:?}");
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let answer = String::from_utf8(answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("an answer without a head")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("{status}: {body}");
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_has_the_address() -> Result<()> {
        let line =
            "mptcp-agent ready: policy weighted (strict), metrics on http://127.0.0.1:4711/metrics";
        assert_eq!(listen_address(line)?, "127.0.0.1:4711".parse()?);
        assert!(listen_address("mptcp-agent ready").is_err());
        Ok(())
    }

    #[test]
    fn responses_are_split_into_status_and_body() -> Result<()> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = std::thread::spawn(move || -> Result<()> {
            for answer in [
                "HTTP/1.0 200 OK\r\na: b\r\n\r\none\n",
                "HTTP/1.0 503 No\r\n\r\nwhy",
            ] {
                let mut stream = listener.accept()?.0;
                // Read the whole request: closing with unread data would
                // send a reset.
                let mut lines = BufReader::new(stream.try_clone()?).lines();
                while lines
                    .next()
                    .transpose()?
                    .is_some_and(|line| !line.is_empty())
                {}
                stream.write_all(answer.as_bytes())?;
            }
            Ok(())
        });
        assert_eq!(get(address, "/metrics")?, "one\n");
        let error = get(address, "/metrics").expect_err("a failure");
        assert_eq!(error.to_string(), "HTTP/1.0 503 No: why");
        server.join().expect("the server")
    }
}
