//! Answers HTTP and the control socket from the kernel's maps.

use std::time::Instant;

use anyhow::Result;
use mptcp_api::schema::{self, Connection, ErrorCode, Refusal, Status};
use mptcp_common::abi::sweep;

use super::Agent;
use super::warnings::unmatched;
use crate::api::control::{Call, view};
use crate::api::http::Request;
use crate::api::metrics::{self, PathRow, ProgramRow, Snapshot};
use crate::kernel::monotonic_ns;
use crate::net::snmp;
use crate::{COMMIT, VERSION};

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
                drop(reply.send(answer));
            }
            Call::Status(reply) => {
                let answer = self.status().map_err(|error| failed(&error));
                drop(reply.send(answer));
            }
            Call::Connections(reply) => {
                let answer = self.connections().map_err(|error| failed(&error));
                drop(reply.send(answer));
            }
            Call::HandOver(reply) => self.hand_over = Some(reply),
        }
    }

    fn scrape(&mut self) -> Result<String, String> {
        let text = self
            .snapshot()
            .and_then(|snapshot| Ok(metrics::render(&snapshot)?));
        text.map_err(|error| {
            tracing::error!("cannot collect metrics: {error:#}");
            format!("cannot collect metrics: {error:#}")
        })
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let start = Instant::now();
        // This sweep makes the totals exact, for idle sockets too.
        self.sweep(sweep::ACCOUNT);
        let stats = self.kernel.path_stats()?;
        let totals = self.kernel.totals()?;
        let shares = self.recent.shares();
        let runs = self.kernel.runs()?;
        let stats_of = self.kernel.program_stats(&runs);
        let programs = self.kernel.attachments().iter().map(|hook| {
            let stats = stats_of.iter().find(|row| row.program == hook.program);
            ProgramRow {
                program: hook.program,
                attached: hook.error.is_none(),
                runs: stats.map_or(0, |row| row.runs),
                run_time: stats.and_then(|row| row.run_time),
            }
        });
        let copies = self.redundant.as_ref();
        let copies = copies.map(|service| service.rows(&self.table, &self.kernel));
        Ok(Snapshot {
            policy: self.policy.name(),
            backend: self.policy.backend(),
            weighted: self.policy.caps(),
            outlived: self.kernel.outlived().is_ok(),
            sees_all_cgroups: self.cgroup.is_root(),
            restored: self.kernel.restored().by_what().to_vec(),
            unmatched_selectors: unmatched(&self.table, &stats, &totals).len(),
            totals,
            paths: PathRow::collect(&self.table, &stats, shares.as_deref()),
            redundant: copies.transpose()?,
            kernel_events: snmp::read()?,
            programs: programs.collect(),
            rearmed: runs.rearmed,
            reclaimed: runs.reclaimed,
            scrape_duration: start.elapsed(),
        })
    }

    fn status(&mut self) -> Result<Status> {
        self.sweep(sweep::ACCOUNT);
        let totals = self.kernel.totals()?;
        let stats = self.kernel.path_stats()?;
        let open = self.open()?;
        let copies = self.redundant.as_ref();
        let copies = copies.map(|service| service.rows(&self.table, &self.kernel));
        let copies = copies.transpose()?;
        let paths = view::Paths {
            table: &self.table,
            present: &self.links.borrow(),
            stats: &stats,
            recent: &self.recent,
            weighted: self.policy.caps(),
            copies: copies.as_ref(),
        };
        let outlived = self.kernel.outlived();
        Ok(Status {
            agent: schema::Agent {
                version: VERSION.to_owned(),
                commit: COMMIT.to_owned(),
                pid: std::process::id(),
                uptime_seconds: self.started.elapsed().as_secs_f64(),
                listen: self.listen.to_string(),
                outlived: outlived.is_ok(),
                not_outlived_because: outlived.err().map(str::to_owned),
            },
            policy: self.policy_view(),
            hooks: self.kernel.attachments().iter().map(view::hook).collect(),
            paths: paths.rows(&open),
            peers: copies.as_ref().map(view::peers),
            connections: totals.connections,
            subflows: totals.subflows,
            events_lost: totals.events_lost,
            map_full: totals.connections_full + totals.subflows_full,
        })
    }

    fn connections(&mut self) -> Result<Vec<Connection>> {
        self.sweep(sweep::ACCOUNT);
        let open = self.open()?;
        let redundant = self.redundant.is_some();
        let kernel = &self.kernel;
        let proven = |key| redundant.then(|| kernel.has_carriers(key));
        Ok(open.connections(&self.table, &self.links.borrow(), proven))
    }

    /// Returns every open connection and subflow, as the programs know them.
    fn open(&mut self) -> Result<view::Open> {
        let weighted = self.policy.caps();
        let connections = self.kernel.connections()?;
        Ok(view::Open::new(
            connections,
            self.kernel.subflows()?,
            weighted,
            monotonic_ns(),
        ))
    }
}

fn failed(error: &anyhow::Error) -> Refusal {
    tracing::error!("cannot answer on the control socket: {error:#}");
    Refusal {
        code: ErrorCode::Failed,
        message: format!("{error:#}"),
    }
}
