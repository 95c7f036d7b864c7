//! mptcp-agent on a host of the lab: started, scraped and stopped.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::host::Host;
use crate::metrics::Metrics;
use crate::process::Process;
use crate::wait;

/// Names the agent's binary: `cargo xtask test` sets it.
pub const BINARY_VARIABLE: &str = "MPTCP_AGENT_BIN";

/// How long the agent may take to say that it is ready.
const READY: Duration = Duration::from_secs(20);
/// How long it may take to end after a signal.
const END: Duration = Duration::from_secs(20);
/// How long an answer over HTTP may take.
const ANSWER: Duration = Duration::from_secs(10);
/// Bytes of a stream that an error message holds.
const TAIL: usize = 4000;
/// How the line begins that says that it is ready.
const READY_LINE: &str = "mptcp-agent ready";
/// What says so under `--log-format json`.
const READY_FIELD: &str = "\"message\":\"ready\"";

/// The agent's binary, if the environment names it.
pub fn binary() -> Option<PathBuf> {
    std::env::var_os(BINARY_VARIABLE)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// A running `mptcp-agent run`. Its drop ends it with SIGTERM.
#[derive(Debug)]
pub struct Agent {
    host: Host,
    binary: PathBuf,
    process: Process,
    listen: SocketAddr,
    stdout: Output,
    stderr: Output,
}

/// What one of its streams has brought so far.
#[derive(Debug, Clone, Default)]
struct Output {
    text: Arc<Mutex<String>>,
    /// Whether there is more to come.
    open: Arc<AtomicBool>,
}

impl Agent {
    /// Starts `binary run --listen 127.0.0.1:0`, with `args` behind, on `host`
    /// and waits until it is ready.
    ///
    /// # Errors
    /// It ends before that, or takes too long; what it said is in the error.
    pub fn start(host: &Host, binary: &Path, args: &[impl AsRef<str>]) -> Result<Self> {
        let mut command = host.command(binary);
        command
            .args(["run", "--listen", "127.0.0.1:0", "--log-format", "text"])
            .args(args.iter().map(AsRef::as_ref));
        Self::launch(host, command)
    }

    /// Like [`Agent::start`], with a command of the caller's that ends up as
    /// `binary run --listen ...`, in any log format.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn launch(host: &Host, command: Command) -> Result<Self> {
        Self::launch_within(host, command, READY)
    }

    /// Like [`Agent::launch`], on a machine that may take so long.
    ///
    /// # Errors
    /// As [`Agent::start`].
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
                // What it said last may still be on its way.
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
            stdout,
            stderr,
        })
    }

    /// Starts it with `--policy weighted` and these weights, by device.
    pub fn weighted(host: &Host, binary: &Path, weights: &[(&str, u16)]) -> Result<Self> {
        Self::start(host, binary, &weighted_args(weights))
    }

    /// Starts it with `--policy redundant` and what else is asked for.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn redundant(host: &Host, binary: &Path, more: &[&str]) -> Result<Self> {
        Self::start(host, binary, &redundant_args(more))
    }

    /// Starts its successor, which takes over from it while both run: with
    /// `--take-over`, `args` behind, and the same address for HTTP. Waits until
    /// the successor is ready and this one, whose log can still be read, has
    /// ended by itself.
    ///
    /// # Errors
    /// As [`Agent::start`]; or this one does not end, or with a status other
    /// than 0.
    pub fn take_over(&self, args: &[impl AsRef<str>]) -> Result<Self> {
        let mut command = self.host.command(&self.binary);
        command
            .args(["run", "--take-over", "--log-format", "text", "--listen"])
            .arg(self.listen.to_string())
            .args(args.iter().map(AsRef::as_ref));
        self.take_over_with(command)
    }

    /// Like [`Agent::take_over`], with a command of the caller's that ends up
    /// as `binary run --take-over ...`, in any log format.
    ///
    /// # Errors
    /// As [`Agent::take_over`].
    pub fn take_over_with(&self, command: Command) -> Result<Self> {
        let successor = Self::launch(&self.host, command)?;
        ensure_success(self.ended()?)?;
        Ok(successor)
    }

    /// Runs a command of the same binary on its host, such as
    /// `["policy", "set", "default"]`, to its end, and gives what it prints.
    ///
    /// # Errors
    /// It fails; what it said is in the error.
    pub fn tell(&self, args: &[impl AsRef<str>]) -> Result<String> {
        tell(&self.host, &self.binary, args)
    }

    /// Where it serves HTTP, in its host.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What it has printed: the attach table and the ready line.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has logged.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// The body that `GET path` brings, and an error for any status but 200.
    pub fn get(&self, path: &str) -> Result<String> {
        self.host
            .in_ns(|| get(self.listen, path))
            .with_context(|| format!("GET http://{}{path}", self.listen))
    }

    /// Its metrics now.
    pub fn scrape(&self) -> Result<Metrics> {
        Metrics::parse(&self.get("/metrics")?)
    }

    /// Ends it with SIGINT, after which it has lifted what it set.
    ///
    /// # Errors
    /// It does not end, or with a status other than 0.
    pub fn stop(self) -> Result<()> {
        ensure_success(self.stop_with(Signal::SIGINT)?)
    }

    /// Ends it with SIGKILL, as what runs out of memory ends.
    ///
    /// # Errors
    /// It does not end.
    pub fn kill(self) -> Result<()> {
        self.stop_with(Signal::SIGKILL).map(drop)
    }

    /// Sends `signal` and gives the status with which it ends.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_with(self, signal: Signal) -> Result<ExitStatus> {
        self.process.signal(signal)?;
        self.ended()
    }

    /// Waits for the end that it comes to by itself, and gives its status.
    ///
    /// # Errors
    /// It does not end.
    pub fn ended(&self) -> Result<ExitStatus> {
        self.process
            .wait(END)
            .with_context(|| format!("the agent said:\n{}", self.stderr.tail()))
    }
}

/// Runs a command of the agent's binary on `host`, where an agent may run or
/// not, to its end, and gives what it prints.
///
/// # Errors
/// It fails; what it said is in the error.
pub fn tell(host: &Host, binary: &Path, args: &[impl AsRef<str>]) -> Result<String> {
    host.output(host.command(binary).args(args.iter().map(AsRef::as_ref)))
}

fn ensure_success(status: ExitStatus) -> Result<()> {
    ensure!(status.success(), "the agent ended with {status}");
    Ok(())
}

/// `--policy weighted --weight p1=4 ...`.
pub fn weighted_args(weights: &[(&str, u16)]) -> Vec<String> {
    let mut args = vec!["--policy".to_owned(), "weighted".to_owned()];
    for (selector, weight) in weights {
        args.extend(["--weight".to_owned(), format!("{selector}={weight}")]);
    }
    args
}

/// `--policy redundant ...`.
pub fn redundant_args(more: &[&str]) -> Vec<String> {
    let policy = ["--policy", "redundant"].iter();
    policy.chain(more).map(|&word| word.to_owned()).collect()
}

impl Output {
    /// Collects a pipe's lines on a thread, until its other end is closed.
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

    /// As much of its end as an error message should hold.
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

/// The address in `mptcp-agent ready: ... on http://ADDRESS/metrics`.
fn listen_address(ready: &str) -> Result<SocketAddr> {
    ready
        .split_once("http://")
        .and_then(|(_, url)| url.split('/').next())
        .and_then(|address| address.parse().ok())
        .with_context(|| format!("no address in {ready:?}"))
}

/// HTTP/1.0, so that the body comes in one piece and ends with the connection.
fn get(server: SocketAddr, path: &str) -> Result<String> {
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
    fn the_ready_line_tells_the_address() -> Result<()> {
        let line =
            "mptcp-agent ready: policy weighted (strict), metrics on http://127.0.0.1:4711/metrics";
        assert_eq!(listen_address(line)?, "127.0.0.1:4711".parse()?);
        assert!(listen_address("mptcp-agent ready").is_err());
        Ok(())
    }

    #[test]
    fn answers_are_taken_apart() -> Result<()> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = std::thread::spawn(move || -> Result<()> {
            for answer in [
                "HTTP/1.0 200 OK\r\na: b\r\n\r\none\n",
                "HTTP/1.0 503 No\r\n\r\nwhy",
            ] {
                let mut stream = listener.accept()?.0;
                // All of the request, or the close would reset the connection.
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
