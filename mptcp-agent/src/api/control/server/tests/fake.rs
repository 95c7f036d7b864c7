//! A server on a socket in a directory of its own, an agent that answers it,
//! and clients.

use std::path::PathBuf;

use mptcp_api::line::decode_reply;
use mptcp_api::schema::{Event, PolicyView, Reloaded};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::super::*;
use crate::api::control;
use crate::state::snapshot::{Connection, Open, Quotas};

/// A time limit that is short enough for a test.
pub const SHORT: Duration = Duration::from_millis(100);

/// Makes so many connections, with tokens and nothing else of interest.
fn open(count: usize) -> Open {
    let connection = |token| Connection {
        token: token as u32,
        ..Connection::default()
    };
    let mut open = Open::default();
    open.connections.extend((0..count).map(connection));
    open
}

/// Makes an event that differs from others by its time.
pub fn event(number: usize) -> Arc<Reply> {
    Arc::new(Reply::Event(Event {
        time: number.to_string(),
        ..Event::default()
    }))
}

/// A server that runs until it is dropped.
pub struct Fake {
    directory: TempDir,
    pub events: EventSender,
    /// The calls that reach the agent's loop.
    pub calls: mpsc::Receiver<Call>,
    tasks: tokio::task::JoinSet<()>,
}

impl Fake {
    pub fn start(limits: Limits) -> Self {
        Self::with_access(limits, Access::new(None), None)
    }

    /// Makes the reloader of an agent whose file is `config.toml` in `directory`.
    fn reloader(directory: &std::path::Path) -> Reloader {
        let path = directory.join("config.toml");
        let flags = crate::cli::flags_of(&format!("--config {}", path.display()));
        let args = flags.args.clone();
        Reloader::new(flags, args)
    }

    /// Writes the agent's configuration file.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.directory.path().join("config.toml"), text).unwrap();
    }

    /// Returns the text of the agent's configuration file.
    pub fn configuration(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("config.toml")).unwrap()
    }

    /// Starts a server with the real limits, except for silence.
    pub fn impatient() -> Self {
        Self::start(Limits {
            silence: SHORT,
            ..Limits::default()
        })
    }

    /// Starts a server. With `rights`, it serves one client, which has these
    /// rights whatever the kernel reports.
    pub fn with_access(limits: Limits, access: Access, rights: Option<Rights>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("x.sock")).unwrap();
        let ((agent, calls), events) = (control::channel(), control::events());
        let server = Server {
            streams: Arc::new(Semaphore::new(limits.clients * 3 / 4)),
            access,
            agent,
            events: events.clone(),
            limits,
            reloader: Self::reloader(directory.path()),
        };
        let mut tasks = tokio::task::JoinSet::new();
        match rights {
            None => drop(tasks.spawn(async move { server.accept(&listener).await })),
            Some(rights) => drop(tasks.spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let (reader, writer) = stream.into_split();
                let lines = FramedRead::new(reader, Lines::default());
                let client = Client {
                    lines,
                    writer,
                    rights,
                    server,
                };
                client.serve().await;
            })),
        }
        Self {
            directory,
            events,
            calls,
            tasks,
        }
    }

    /// Starts an agent that answers its calls; it has `count` connections.
    pub fn answering(mut self, count: usize) -> Self {
        let mut calls = std::mem::replace(&mut self.calls, mpsc::channel(1).1);
        self.tasks.spawn(async move {
            let mut view = PolicyView {
                policy: Policy::default().given(),
                backend: "none".to_owned(),
                then: None,
            };
            while let Some(call) = calls.recv().await {
                match call {
                    Call::PolicyShow(reply) => drop(reply.send(view.clone())),
                    Call::PolicySet {
                        provided, reply, ..
                    } => {
                        view.policy = provided.policy.given();
                        drop(reply.send(Ok(view.clone())));
                    }
                    Call::RulesShow(reply) => drop(reply.send(Ok(RulesView::default()))),
                    Call::RulesHeld(reply) => drop(reply.send(Rules::default())),
                    Call::RulesSet { reply, .. } => {
                        drop(reply.send(Ok(RulesView::default())));
                    }
                    Call::Reload { fresh, reply } => {
                        view.policy = fresh.provided.policy.given();
                        let reloaded = Reloaded {
                            policy: view.clone(),
                            changed: true,
                            needs_restart: fresh.needs_restart,
                            warnings: fresh.warnings,
                        };
                        drop(reply.send(Ok(reloaded)));
                    }
                    Call::Status(reply) => {
                        let refusal = Refusal::new(ErrorCode::Failed, "no maps");
                        drop(reply.send(Err(refusal)));
                    }
                    Call::Connections(reply) => {
                        drop(reply.send(Ok(open(count))));
                    }
                    Call::QuotaShow(reply) => drop(reply.send(Quotas::default())),
                    Call::QuotaReset { path, reply } => {
                        let refusal = Refusal::new(ErrorCode::Refused, &path);
                        drop(reply.send(Err(refusal)));
                    }
                    Call::HandOver(reply) => drop(reply.send(())),
                }
            }
        });
        self
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("x.sock")
    }

    pub async fn connect(&self) -> Peer {
        let stream = UnixStream::connect(self.path()).await.unwrap();
        Peer(BufReader::new(stream))
    }
}

/// A client.
pub struct Peer(BufReader<UnixStream>);

impl Peer {
    pub async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Sends nothing more, but goes on reading.
    pub async fn finish(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Sends a line and reads one.
    pub async fn ask(&mut self, line: &str) -> Reply {
        self.send(&format!("{line}\n")).await;
        self.reply().await.unwrap()
    }

    /// Returns the answer to a request, if there is one.
    pub async fn reply_to(&mut self, name: &str) -> Option<Reply> {
        let line = format!("{}\n", request(name));
        let _ = self.0.write_all(line.as_bytes()).await;
        self.reply().await
    }

    /// Reads a line; `None` if the server has closed.
    pub async fn reply(&mut self) -> Option<Reply> {
        let mut line = Vec::new();
        match self.0.read_until(b'\n', &mut line).await {
            // The end is an error (a reset) if the server closed before it had
            // read everything.
            Ok(0) | Err(_) => None,
            Ok(_) => Some(decode_reply(&line).unwrap()),
        }
    }

    /// Sends a line, and returns code and message of the error that it gets.
    pub async fn refused(&mut self, line: &str) -> (ErrorCode, String) {
        match self.ask(line).await {
            Reply::Error(refusal) => (refusal.code, refusal.message),
            other => panic!("{other:?}"),
        }
    }
}

/// Returns the line of a request, without its newline.
pub fn request(name: &str) -> String {
    format!("{{\"version\":1,\"request\":\"{name}\"}}")
}
