//! Serves the control socket: few clients, short lines, short patience.
//!
//! Each client has a task, which holds one of the [`Limits::clients`] places
//! until it closes, is silent, or does not read. Only the agent's loop knows
//! the answers; nothing here makes it wait.

mod lines;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use mptcp_api::line;
use mptcp_api::schema::{Connections, ErrorCode, Lost, Refusal, Reply, Request};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::access::{Access, Peer, Rights};
use super::{Call, EventSender, settings};
use crate::policy::{self, Policy, Provided};
use lines::{Line, Lines};

/// Connections in a part of the answer to `connections`.
const PART: usize = 256;

/// After a failed accept: descriptors may have run out, and come back.
const PAUSE: Duration = Duration::from_millis(100);

/// What a client may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Clients at once.
    clients: usize,
    /// Until a request is there in full.
    silence: Duration,
    /// Until a line is written.
    write: Duration,
    /// Until the agent's loop has answered.
    answer: Duration,
    /// Until the host has given what a policy needs.
    provide: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 32,
            silence: Duration::from_secs(10),
            write: Duration::from_secs(10),
            // The verifier may have to look at the programs of another policy.
            answer: Duration::from_secs(12),
            provide: Duration::from_secs(2),
        }
    }
}

/// Serves `listener`, which must be non-blocking, for ever.
///
/// # Errors
/// The listener cannot be used.
pub async fn serve(
    listener: std::os::unix::net::UnixListener,
    access: Access,
    agent: mpsc::Sender<Call>,
    events: EventSender,
) -> Result<()> {
    let listener = UnixListener::from_std(listener).context("cannot serve the control socket")?;
    let limits = Limits::default();
    Server {
        access,
        agent,
        events,
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
    /// For those who listen for as long as they like: the other places stay
    /// for short questions.
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
                    lines: Lines::new(reader),
                    writer,
                    rights,
                    server,
                };
                client.serve().await;
                drop(place);
            });
        }
    }

    /// Gets what `policy` needs of the host.
    async fn provide(&self, policy: Policy) -> Result<Provided, Refusal> {
        let refused = |why: String| Refusal::new(ErrorCode::Refused, &why);
        let provided = aside(|| policy::provide(policy)).map_err(|error| {
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

    /// Asks the agent's loop.
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

/// Does `work`, which may wait for ever, on a thread that nobody waits for, as
/// a runtime waits for its blocking tasks when it ends.
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

/// Says why not. A new socket takes a line without delay, and who does not
/// get it sees the end all the same.
fn turn_away(stream: UnixStream, refusal: &Refusal) {
    use std::io::Write as _;

    if let Ok(line) = line::reply(&Reply::Error(refusal.clone()))
        && let Ok(mut stream) = stream.into_std()
    {
        let _ = stream.write_all(&line);
    }
}

/// The client is gone, or no longer worth a place.
struct Gone;

struct Client {
    lines: Lines,
    writer: OwnedWriteHalf,
    rights: Rights,
    server: Server,
}

impl Client {
    async fn serve(mut self) {
        while self.exchange().await.is_ok() {}
    }

    /// One request and its answer.
    async fn exchange(&mut self) -> Result<(), Gone> {
        let next = timeout(self.server.limits.silence, self.lines.next()).await;
        let request = match next.map_err(|_| Gone)? {
            Line::Whole(bytes) => line::decode(bytes),
            Line::TooLong => {
                self.send(&Reply::Error(line::too_long())).await?;
                return Err(Gone);
            }
            Line::Ended => return Err(Gone),
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

    /// What is answered in one line.
    async fn answer(&self, request: Request) -> Result<Reply, Refusal> {
        let server = &self.server;
        match request {
            Request::PolicyShow => server.ask(Call::PolicyShow).await.map(Reply::Policy),
            Request::PolicySet {
                policy,
                for_seconds,
            } => {
                let refused = |why: String| Refusal::new(ErrorCode::Refused, &why);
                // Before the path is looked at: who may not name a file learns
                // nothing about it.
                if policy.redundant_key.is_some() && self.rights != Rights::All {
                    return Err(forbidden("name a key file"));
                }
                let policy = settings::policy(&policy).map_err(refused)?;
                let lasting = settings::lasting(for_seconds).map_err(refused)?;
                let provided = server.provide(policy).await?;
                let set = |reply| Call::PolicySet {
                    provided,
                    lasting,
                    reply,
                };
                server.ask(set).await?.map(Reply::Policy)
            }
            Request::Status => {
                let status = server.ask(Call::Status).await??;
                Ok(Reply::Status(Box::new(status)))
            }
            Request::HandOver if self.rights != Rights::All => {
                Err(forbidden("take the agent's place"))
            }
            Request::HandOver => {
                server.ask(Call::HandOver).await?;
                Ok(Reply::HandedOver)
            }
            // Those answer in more than one line.
            Request::Connections | Request::Events => {
                Err(Refusal::new(ErrorCode::Failed, "not answered in one line"))
            }
        }
    }

    /// Part by part, so that no line is longer than a client may read.
    async fn connections(&mut self) -> Result<(), Gone> {
        let answer = self.server.ask(Call::Connections).await;
        let mut rest = match answer.and_then(|answer| answer) {
            Ok(connections) => connections.into_iter(),
            Err(refusal) => return self.send(&Reply::Error(refusal)).await,
        };
        loop {
            let connections: Vec<_> = rest.by_ref().take(PART).collect();
            let last = rest.len() == 0;
            let part = Connections { connections, last };
            self.send(&Reply::Connections(part)).await?;
            if last {
                return Ok(());
            }
        }
    }

    /// Every event from now on, until the client closes.
    async fn events(&mut self) -> Result<(), Gone> {
        let Ok(_stream) = Arc::clone(&self.server.streams).try_acquire_owned() else {
            let why = "as many clients as may are told events already";
            let busy = Refusal::new(ErrorCode::Busy, why);
            return self.send(&Reply::Error(busy)).await;
        };
        let mut events = self.server.events.subscribe();
        // Says that nothing is missed from here on.
        self.lost(0).await?;
        loop {
            let event = tokio::select! {
                () = self.lines.ended() => return Err(Gone),
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
