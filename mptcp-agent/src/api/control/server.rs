//! Serves the control socket, with limits on clients, lines and waiting times.
//!
//! Each client has a task, which holds one of the [`Limits::clients`] places
//! until the client closes, is silent, or does not read. Only the agent's loop
//! knows the answers; nothing here makes it wait.

mod lines;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use mptcp_api::line;
use mptcp_api::policy::Given;
use mptcp_api::rule::RuleSet;
use mptcp_api::schema::{Connections, ErrorCode, Lost, Refusal, Reply, Request, RulesView};
use tokio::io::{AsyncWriteExt as _, copy, sink};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::codec::{AnyDelimiterCodecError, FramedRead};

use super::access::{Access, Peer, Rights};
use super::{Call, EventSender, reload, view};
use crate::config::Reloader;
use crate::policy::{self, Policy};
use crate::rules::{self, Rules};
use lines::Lines;

/// Largest number of connections in a part of the answer to `connections`.
const PART: usize = 256;

/// Pause after a failed accept: descriptors may have run out for a moment.
const PAUSE: Duration = Duration::from_millis(100);

/// Limits for clients.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Number of clients served at once.
    clients: usize,
    /// Time until a request must have arrived in full.
    silence: Duration,
    /// Time until a line must be written.
    write: Duration,
    /// Time until the agent's loop must have answered.
    answer: Duration,
    /// Time until the host must have given what a policy needs.
    provide: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 32,
            silence: Duration::from_secs(10),
            write: Duration::from_secs(10),
            // Loading the programs of another policy takes the verifier a
            // while.
            answer: Duration::from_secs(12),
            provide: Duration::from_secs(2),
        }
    }
}

/// Serves `listener` for ever. It must be non-blocking.
///
/// # Errors
/// The listener cannot be used.
pub async fn serve(
    listener: std::os::unix::net::UnixListener,
    access: Access,
    agent: mpsc::Sender<Call>,
    events: EventSender,
    reloader: Reloader,
) -> Result<()> {
    let listener = UnixListener::from_std(listener).context("cannot serve the control socket")?;
    let limits = Limits::default();
    Server {
        access,
        agent,
        events,
        reloader,
        streams: Arc::new(Semaphore::new(limits.clients * 3 / 4)),
        limits,
    }
    .accept(&listener)
    .await
}

#[derive(Clone)]
struct Server {
    access: Access,
    agent: mpsc::Sender<Call>,
    events: EventSender,
    limits: Limits,
    reloader: Reloader,
    /// Places for clients that listen to events, for as long as they like.
    /// There are fewer of them than clients, so that short requests are still
    /// served.
    streams: Arc<Semaphore>,
}

impl Server {
    async fn accept(self, listener: &UnixListener) -> ! {
        let places = Arc::new(Semaphore::new(self.limits.clients));
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!("cannot accept on the control socket: {error}");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let rights = match Peer::of(&stream) {
                Ok(peer) => self.access.rights(&peer),
                Err(error) => {
                    tracing::warn!("cannot tell who is at the control socket: {error}");
                    Rights::None
                }
            };
            if rights == Rights::None {
                turn_away(stream, &forbidden("use the control socket"));
                continue;
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                let why = format!("{} clients are served already", self.limits.clients);
                turn_away(stream, &Refusal::new(ErrorCode::Busy, &why));
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                let (reader, writer) = stream.into_split();
                let client = Client {
                    lines: FramedRead::new(reader, Lines::default()),
                    writer,
                    rights,
                    server,
                };
                client.serve().await;
                drop(place);
            });
        }
    }

    /// Gets the resources of the host that a policy or rules need. `provide`
    /// may block.
    async fn provide<T: Send + 'static>(
        &self,
        provide: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T, Refusal> {
        let refused = |why: String| Refusal::new(ErrorCode::Refused, &why);
        let provided = aside(provide).map_err(|error| {
            Refusal::new(
                ErrorCode::Failed,
                &format!("cannot start a thread: {error}"),
            )
        })?;
        match timeout(self.limits.provide, provided).await {
            Ok(Ok(provided)) => provided.map_err(|error| refused(format!("{error:#}"))),
            Ok(Err(_)) => Err(Refusal::new(
                ErrorCode::Failed,
                "looking at the host failed",
            )),
            Err(_) => Err(refused(format!(
                "the host does not give what the policy needs within {:?}: is the key file on a \
                 file system that does not answer?",
                self.limits.provide
            ))),
        }
    }

    /// Sends a call to the agent's loop, and waits for the answer.
    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, Refusal> {
        let (sender, answer) = oneshot::channel();
        let exchange = async {
            self.agent.send(call(sender)).await.ok()?;
            answer.await.ok()
        };
        timeout(self.limits.answer, exchange)
            .await
            .ok()
            .flatten()
            .ok_or_else(|| Refusal::new(ErrorCode::Failed, "the agent does not answer"))
    }
}

/// Does `work` on a thread of its own, since it may block for ever. A blocking
/// task of tokio would not do: the runtime waits for those when it ends.
fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (sender, result) = oneshot::channel();
    let work = move || drop(sender.send(work()));
    thread::Builder::new().name("provide".into()).spawn(work)?;
    Ok(result)
}

fn forbidden(what: &str) -> Refusal {
    let why = format!("only root, and the user that the agent runs as, may {what}");
    Refusal::new(ErrorCode::Forbidden, &why)
}

/// Tells a client why it is not served. Writing the line does not block, since
/// the socket is new. If it fails, the client still sees the connection close.
fn turn_away(stream: UnixStream, refusal: &Refusal) {
    use std::io::Write as _;

    if let Ok(line) = line::reply(&Reply::Error(refusal.clone()))
        && let Ok(mut stream) = stream.into_std()
    {
        let _ = stream.write_all(&line);
    }
}

/// Means that the client is gone, or has lost its place.
struct Gone;

struct Client {
    lines: FramedRead<OwnedReadHalf, Lines>,
    writer: OwnedWriteHalf,
    rights: Rights,
    server: Server,
}

impl Client {
    async fn serve(mut self) {
        while self.exchange().await.is_ok() {}
    }

    /// Reads one request and answers it.
    async fn exchange(&mut self) -> Result<(), Gone> {
        let next = timeout(self.server.limits.silence, self.lines.next()).await;
        let request = match next.map_err(|_| Gone)? {
            Some(Ok(bytes)) => line::decode(&bytes),
            Some(Err(AnyDelimiterCodecError::MaxChunkLengthExceeded)) => {
                self.send(&Reply::Error(line::too_long())).await?;
                return Err(Gone);
            }
            // The client closed, or the socket failed.
            Some(Err(AnyDelimiterCodecError::Io(_))) | None => return Err(Gone),
        };
        match request {
            Ok(Request::Events) => self.events().await,
            Ok(Request::Connections) => self.connections().await,
            Ok(request) => {
                let reply = self.answer(request).await;
                self.send(&reply.unwrap_or_else(Reply::Error)).await
            }
            Err(refusal) => self.send(&Reply::Error(refusal)).await,
        }
    }

    /// Returns the answer to a request that is answered in one line.
    async fn answer(&self, request: Request) -> Result<Reply, Refusal> {
        let server = &self.server;
        match request {
            Request::PolicyShow => server.ask(Call::PolicyShow).await.map(Reply::Policy),
            Request::PolicySet {
                policy,
                for_seconds,
                save,
            } => {
                let refused = |why: String| Refusal::new(ErrorCode::Refused, &why);
                // Check this before the path is used, so that a client that may
                // not name a file learns nothing about it.
                if policy.names_a_file() && self.rights != Rights::All {
                    return Err(forbidden("name a key file"));
                }
                if save && self.rights != Rights::All {
                    return Err(forbidden("change the configuration file"));
                }
                if save && for_seconds.is_some() {
                    let why = "a policy for a time cannot be saved".to_owned();
                    return Err(refused(why));
                }
                let policy = Policy::new(*policy).map_err(|error| refused(error.in_fields()))?;
                let lasting = policy::lasting(for_seconds).map_err(refused)?;
                let edit = match save {
                    true => Some(reload::prepare_save(&server.reloader, &policy).await?),
                    false => None,
                };
                let provided = server.provide(|| policy::provide(policy)).await?;
                let set = |reply| Call::PolicySet {
                    provided,
                    lasting,
                    reply,
                };
                let view = server.ask(set).await??;
                if let Some(edit) = edit {
                    reload::save(edit).await?;
                }
                Ok(Reply::Policy(view))
            }
            Request::Reload if self.rights != Rights::All => {
                Err(forbidden("reload the configuration"))
            }
            Request::Reload => {
                let done = reload::reload(&server.reloader, &server.agent).await;
                done.map(Reply::Reloaded)
            }
            Request::RulesShow => server.ask(Call::RulesShow).await?.map(Reply::Rules),
            Request::RulesSet { rules } => {
                let names_a_file = rules.policies.values().any(Given::names_a_file);
                if names_a_file && self.rights != Rights::All {
                    return Err(forbidden("name a key file"));
                }
                self.set_rules(*rules).await.map(Reply::Rules)
            }
            Request::Status => {
                let snapshot = server.ask(Call::Status).await??;
                Ok(Reply::Status(Box::new(view::status(&snapshot))))
            }
            Request::QuotaShow => {
                let quotas = server.ask(Call::QuotaShow).await?;
                Ok(Reply::Quotas(view::quotas(&quotas)))
            }
            Request::QuotaReset { path } => {
                let quotas = server
                    .ask(|reply| Call::QuotaReset { path, reply })
                    .await??;
                Ok(Reply::Quotas(view::quotas(&quotas)))
            }
            Request::HandOver if self.rights != Rights::All => {
                Err(forbidden("take the agent's place"))
            }
            Request::HandOver => {
                server.ask(Call::HandOver).await?;
                Ok(Reply::HandedOver)
            }
            // These are answered in more than one line.
            Request::Connections | Request::Events => {
                Err(Refusal::new(ErrorCode::Failed, "not answered in one line"))
            }
        }
    }

    /// Replaces the rules. Policies that stay keep their indices, which the loop
    /// knows.
    async fn set_rules(&self, set: RuleSet) -> Result<RulesView, Refusal> {
        let server = &self.server;
        let before = server.ask(Call::RulesHeld).await?;
        let refused = |error: rules::Invalid| Refusal::new(ErrorCode::Refused, &error.to_string());
        let rules = Rules::new(set, &before).map_err(refused)?;
        let provided = server.provide(|| rules::provide(rules)).await?;
        let set = |reply| Call::RulesSet { provided, reply };
        server.ask(set).await?
    }

    /// Answers `connections` in parts, so that no line is too long for a
    /// client.
    async fn connections(&mut self) -> Result<(), Gone> {
        let answer = self.server.ask(Call::Connections).await;
        let mut rest = match answer.and_then(|answer| answer) {
            Ok(open) => view::connections(open),
            Err(refusal) => return self.send(&Reply::Error(refusal)).await,
        };
        loop {
            let connections: Vec<_> = rest.by_ref().take(PART).collect();
            let last = rest.len() == 0;
            let part = Connections {
                connections,
                last,
                open: None,
            };
            self.send(&Reply::Connections(part)).await?;
            if last {
                return Ok(());
            }
        }
    }

    /// Sends every event from now on, until the client closes.
    async fn events(&mut self) -> Result<(), Gone> {
        let Ok(_stream) = Arc::clone(&self.server.streams).try_acquire_owned() else {
            let why = "as many clients as may are told events already";
            let busy = Refusal::new(ErrorCode::Busy, why);
            return self.send(&Reply::Error(busy)).await;
        };
        let mut events = self.server.events.subscribe();
        // This line says that no event is missed from here on.
        self.lost(0).await?;
        loop {
            // This ends when the client closes. What it sends is ignored.
            let mut ignored = sink();
            let event = tokio::select! {
                _ = copy(self.lines.get_mut(), &mut ignored) => return Err(Gone),
                event = events.recv() => event,
            };
            match event {
                Ok(event) => self.send(&event).await?,
                Err(RecvError::Lagged(count)) => self.lost(count).await?,
                Err(RecvError::Closed) => return Err(Gone),
            }
        }
    }

    async fn lost(&mut self, to_client: u64) -> Result<(), Gone> {
        let lost = Lost {
            in_ring: 0,
            to_client,
        };
        self.send(&Reply::Lost(lost)).await
    }

    async fn send(&mut self, reply: &Reply) -> Result<(), Gone> {
        let line = line::reply(reply).or_else(|error| {
            let why = format!("the answer cannot be written as JSON: {error}");
            line::reply(&Reply::Error(Refusal::new(ErrorCode::Failed, &why)))
        });
        let line = line.map_err(|_| Gone)?;
        let written = timeout(self.server.limits.write, self.writer.write_all(&line));
        written.await.map_err(|_| Gone)?.map_err(|_| Gone)
    }
}

#[cfg(test)]
mod tests;
