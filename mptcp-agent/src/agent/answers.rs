//! Answers HTTP and the control socket: collects a [`Snapshot`] from the
//! kernel's maps and the agent's own state. `api` renders it, the answers to
//! clients even beside the loop.

use std::time::Instant;

use anyhow::Result;
use mptcp_api::schema::{ErrorCode, Refusal, RulesView};
use mptcp_common::abi::{runs::Runs, sweep};

use super::Agent;
use super::warnings::unmatched;
use crate::api::control::{self, Call};
use crate::api::http::Request;
use crate::api::metrics;
use crate::kernel::monotonic_ns;
use crate::net::endpoints::{self, Endpoints};
use crate::net::snmp;
use crate::redundancy::Service;
use crate::state;
use crate::state::snapshot::{Copies, Gather, Names, Open, Program, Snapshot, Sources};

impl Agent {
    /// Answers `first` and all requests that are queued behind it, with one
    /// scrape.
    pub(super) fn answer(&mut self, first: Request) {
        let mut scrape: Option<Result<String, String>> = None;
        let mut next = Some(first);
        while let Some(request) = next {
            // The requester may be gone; ignore the send error.
            match request {
                Request::Health(reply) => drop(reply.send(())),
                Request::Metrics(reply) if reply.is_closed() => {}
                Request::Look(reply) if reply.is_closed() => {}
                Request::Look(reply) => {
                    let look = self.snapshot(&Want::OpenConnections).map(Box::new);
                    drop(reply.send(look.map_err(|error| format!("cannot look: {error:#}"))));
                }
                Request::Metrics(reply) => {
                    let text = scrape.get_or_insert_with(|| self.scrape());
                    drop(reply.send(text.clone()));
                }
            }
            next = self.requests.try_recv().ok();
        }
    }

    /// Handles what a client of the control socket asks for.
    pub(super) fn take_call(&mut self, call: Call) {
        // The client may be gone; ignore the send error.
        match call {
            Call::PolicyShow(reply) => drop(reply.send(self.policy_view())),
            Call::PolicySet {
                provided,
                lasting,
                reply,
            } => {
                // The server has already told the client that the change
                // failed, so it must not be made.
                if reply.is_closed() {
                    return;
                }
                let answer = self.set_policy(provided, lasting);
                self.reconsider_wishes();
                // Whoever asks next sees the change.
                self.scraped.forget();
                drop(reply.send(answer));
            }
            Call::RulesShow(reply) => drop(reply.send(self.shown_rules())),
            Call::RulesHeld(reply) => drop(reply.send(self.rules.rules.clone())),
            Call::RulesSet { provided, reply } => {
                // The server has already told the client that the change
                // failed, so it must not be made.
                if reply.is_closed() {
                    return;
                }
                let answer = self.set_rules(provided);
                self.reconsider_wishes();
                self.scraped.forget();
                drop(reply.send(answer.and_then(|()| self.shown_rules())));
            }
            Call::Reload { fresh, reply } => {
                // The server has already told the client that the change
                // failed, so it must not be made.
                if reply.is_closed() {
                    return;
                }
                let answer = self.reload(*fresh);
                self.reconsider_wishes();
                self.scraped.forget();
                drop(reply.send(answer));
            }
            Call::Status(reply) => {
                let answer = self.snapshot(&Want::OpenConnections).map(Box::new);
                drop(reply.send(answer.map_err(|error| failed(&error))));
            }
            Call::Connections(reply) => {
                self.sweep(sweep::ACCOUNT);
                let answer = self.open().map_err(|error| failed(&error));
                drop(reply.send(answer));
            }
            Call::QuotaShow(reply) => drop(reply.send(self.quotas())),
            Call::QuotaReset { path, reply } => {
                let answer = self.reset_quota(&path);
                self.scraped.forget();
                drop(reply.send(answer));
            }
            Call::HandOver(reply) => self.hand_over = Some(reply),
        }
    }

    /// Returns the rules and what they have counted, as clients see them.
    fn shown_rules(&mut self) -> Result<RulesView, Refusal> {
        // This sweep makes the totals exact, for idle sockets too.
        self.sweep(sweep::ACCOUNT);
        let rules = self.rules_view().map_err(|error| failed(&error))?;
        Ok(control::rules(&rules, &self.policy))
    }

    /// Returns the metrics, or those of a scrape a moment ago.
    fn scrape(&mut self) -> Result<String, String> {
        if let Some(text) = self.scraped.get(Instant::now()) {
            return Ok(text.clone());
        }
        let text = self
            .snapshot(&Want::KernelEvents)
            .and_then(|snapshot| Ok(metrics::render(&snapshot)?));
        match text {
            Ok(text) => {
                self.scraped.put(text.clone(), Instant::now());
                Ok(text)
            }
            Err(error) => {
                tracing::error!("cannot collect metrics: {error:#}");
                Err(format!("cannot collect metrics: {error:#}"))
            }
        }
    }

    /// Collects everything that an answer shows. This is the only place that
    /// does.
    fn snapshot(&mut self, want: &Want) -> Result<Snapshot> {
        let start = Instant::now();
        // This sweep makes the totals exact, for idle sockets too.
        self.sweep(sweep::ACCOUNT);
        let open = match want {
            Want::OpenConnections => self.open()?,
            Want::KernelEvents => Open::default(),
        };
        let stats = self.kernel.path_stats()?;
        let totals = self.kernel.totals()?;
        let runs = self.kernel.runs()?;
        let service = self.redundant.as_ref().filter(|service| service.copies());
        let copy_stats = service.map(|_| self.kernel.copy_stats()).transpose()?;
        let attached = service.map(Service::attached_paths);
        let copies = copy_stats.as_ref().zip(attached.as_ref());
        let sources = Sources {
            table: &self.table,
            present: &self.devices.borrow(),
            stats: &stats,
            history: &self.history,
            reach: &self.reach,
            judge: &self.judge,
            now: start,
            copies: copies.map(|(stats, attached)| Copies { stats, attached }),
        };
        Ok(Snapshot {
            agent: state::snapshot::Agent {
                pid: std::process::id(),
                uptime: self.started.elapsed(),
                listen: self.listen.clone(),
                web_tls: self.web.borrow().tls.is_some(),
                web_auth: self.web.borrow().passwords.is_some(),
            },
            streams: self.streams.count(),
            policy: self.in_force(),
            rules: self.rules_view()?,
            not_outlived: self.kernel.outlived().err().map(str::to_owned),
            sees_all_cgroups: self.cgroup.is_root(),
            restored: self.kernel.restored(),
            unmatched_selectors: unmatched(&self.table, &stats, &totals).len(),
            totals,
            paths: sources.paths(),
            quotas: self.quotas(),
            peers: service.map(Service::peers),
            peering: self.peering_view(),
            kernel_events: match want {
                Want::OpenConnections => Vec::new(),
                Want::KernelEvents => snmp::read()?,
            },
            programs: self.programs(&runs),
            rearmed: runs.rearmed,
            reclaimed: runs.reclaimed,
            open,
            took: start.elapsed(),
        })
    }

    fn programs(&self, runs: &Runs) -> Vec<Program> {
        let stats_of = self.kernel.program_stats(runs);
        let programs = self.kernel.attachments().iter().map(|hook| {
            let stats = stats_of.iter().find(|row| row.program == hook.program);
            Program {
                name: hook.program,
                purpose: hook.purpose,
                error: hook.error.clone(),
                runs: stats.map_or(0, |row| row.runs),
                run_time: stats.and_then(|row| row.run_time),
            }
        });
        programs.collect()
    }

    /// Returns every open connection and subflow, as the programs know them.
    fn open(&mut self) -> Result<Open> {
        let proven = match &self.redundant {
            Some(service) if service.copies() => Some(self.kernel.proven()?),
            _ => None,
        };
        let mut gather = Gather::new(
            &self.table,
            &self.devices.borrow(),
            Names::new(self.policy.judges(), &self.rules.rules),
            proven,
            monotonic_ns(),
        );
        self.kernel
            .connections(|key, image| gather.connection(key, &image))?;
        self.kernel
            .subflows(|cookie, subflow| gather.subflow(cookie, subflow))?;
        Ok(gather.finish(endpoints()))
    }
}

/// The part of a snapshot that an answer needs beyond the totals.
enum Want {
    /// The kernel's own counters.
    KernelEvents,
    /// The open connections, whose number has no bound.
    OpenConnections,
}

/// Returns what the kernel may open subflows from, if it says so. Without it no
/// connection is called short, and all else can be shown.
fn endpoints() -> Option<Endpoints> {
    let endpoints = endpoints::read();
    endpoints.unwrap_or_else(|error| {
        tracing::debug!("{error:#}");
        None
    })
}

fn failed(error: &anyhow::Error) -> Refusal {
    tracing::error!("cannot answer on the control socket: {error:#}");
    Refusal {
        code: ErrorCode::Failed,
        message: format!("{error:#}"),
    }
}
