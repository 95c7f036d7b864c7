//! Counts what paths use of their quotas, holds out those whose quota is spent,
//! and keeps what was used in a file. [`crate::state::accounts`] decides.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use mptcp_api::saved::{self, Bytes, Saved};
use mptcp_api::schema::{ErrorCode, Event, Refusal, Reply};
use mptcp_common::abi::PathStats;
use tokio::task::JoinSet;

use super::Agent;
use crate::api::control::view;
use crate::host::store::{Found, Store};
use crate::host::{boot, zone};
use crate::net::counters::Counters;
use crate::policy::selector::Selector;
use crate::policy::{Count, Quota, Quotas};
use crate::state::accounts::{Accounts, Change, Now, Reading, Turn};
use crate::state::paths::PathTable;
use crate::state::snapshot;

/// The least time between two saves.
const PERIOD: Duration = Duration::from_secs(10);

/// Counts and keeps what paths use.
#[derive(Debug)]
pub(super) struct Keeper {
    /// The bytes that each path has used of its quota.
    pub accounts: Accounts,
    counters: Counters,
    store: Store,
    /// How many files were set aside.
    set_aside: u32,
    boot: String,
    /// When the host was booted, if the file is lost.
    booted: Option<i64>,
    /// The accounts that were saved last, and the time of that.
    saved: Vec<saved::Account>,
    saved_at: Option<Instant>,
}

impl Keeper {
    /// Reads what earlier agents have saved in `directory`, or else in the default
    /// one. `adopted` says whether the programs go on with the totals of the
    /// agent before.
    ///
    /// # Errors
    /// No netlink socket can be had.
    pub(super) fn start(
        directory: Option<&Path>,
        quotas: &Quotas,
        adopted: bool,
        tasks: &mut JoinSet<Result<()>>,
    ) -> Result<Self> {
        let (store, Found { saved, set_aside }) = Store::open(directory, !quotas.is_empty());
        let lost = saved.is_none() && set_aside > 0;
        let saved = saved.unwrap_or_default().accounts;
        let mut keeper = Self {
            accounts: Accounts::load(&saved),
            counters: Counters::start(tasks)?,
            store,
            set_aside,
            boot: boot::id(),
            booted: boot::time().filter(|_| lost),
            saved,
            saved_at: None,
        };
        keeper.follow(quotas);
        if !adopted {
            keeper.accounts.restart_totals(None);
        }
        for quota in quotas.iter() {
            let label = quota.selector.to_string();
            let standing = keeper.accounts.standing(&label, quotas);
            if standing.is_some_and(|one| one.is_spent()) {
                tracing::info!(
                    path = label,
                    "the quota of the path was spent before: {quota}"
                );
            }
        }
        Ok(keeper)
    }

    /// Follows a change of policy.
    pub(super) fn follow(&mut self, quotas: &Quotas) {
        let zone = zone::local();
        let booted = match quotas.is_empty() {
            true => None,
            false => {
                let name = zone::name(&zone);
                tracing::info!("the periods of quotas follow the time zone {name}");
                self.booted.take()
            }
        };
        self.accounts.follow(quotas, now(&zone), booted);
        let devices = quotas.iter().filter(|quota| quota.count == Count::Device);
        let names = devices.map(|quota| quota.selector.to_string());
        self.counters.want(names.collect());
    }

    /// Counts what was carried since the last call.
    fn step(&mut self, quotas: &Quotas, table: &PathTable, stats: &[PathStats]) -> Vec<Change> {
        let (counters, boot) = (&self.counters, &self.boot);
        let read = |quota: &Quota, label: &str| match quota.count {
            Count::Device => counters.of(label).map(|carried| {
                Reading::Device(saved::Device {
                    boot: boot.clone(),
                    ifindex: carried.ifindex,
                    bytes: Bytes {
                        sent: carried.sent,
                        received: carried.received,
                    },
                })
            }),
            Count::Connections => {
                let stats = stats.get(table.index_of(label)? as usize)?;
                Some(Reading::Connections(Bytes {
                    sent: stats.acked_bytes,
                    received: stats.received_bytes,
                }))
            }
        };
        let zone = zone::local();
        self.accounts.step(quotas, now(&zone), read)
    }

    /// Forgets what a path has used. Returns false if it has no quota.
    fn reset(&mut self, path: &str, quotas: &Quotas) -> bool {
        let zone = zone::local();
        self.accounts.reset(path, quotas, now(&zone))
    }

    /// Saves what has changed, if the last save is long enough ago, or `now`.
    fn save(&mut self, at_once: bool) {
        self.store.poll();
        let due = self.saved_at.is_none_or(|at| at.elapsed() >= PERIOD);
        let accounts = self.accounts.save();
        let again = self.store.failure().is_some();
        if !(due || at_once) || accounts == self.saved && !again {
            return;
        }
        if let Some(content) = self.encode(accounts.clone())
            && self.store.save(content)
        {
            (self.saved, self.saved_at) = (accounts, Some(Instant::now()));
        }
    }

    fn encode(&self, accounts: Vec<saved::Account>) -> Option<Vec<u8>> {
        let content = saved::encode(&Saved {
            boot: self.boot.clone(),
            accounts,
        });
        let failed = |error| tracing::error!("cannot encode what paths have used: {error}");
        content.map_err(failed).ok()
    }

    /// Saves everything, as far as the disk does it in two seconds.
    pub(super) fn finish(self) {
        let accounts = self.accounts.save();
        let changed = accounts != self.saved;
        let content = changed.then(|| self.encode(accounts)).flatten();
        self.store.finish(content);
    }

    /// Returns the quotas and their accounts for a snapshot.
    pub(super) fn shown(&self, quotas: &Quotas) -> snapshot::Quotas {
        let labels = quotas.iter().map(|quota| quota.selector.to_string());
        snapshot::Quotas {
            standings: labels
                .filter_map(|label| self.accounts.standing(&label, quotas))
                .collect(),
            saving: snapshot::Saving {
                file: self.store.path().to_owned(),
                saved: self.store.is_saved(),
                failure: self.store.failure().map(str::to_owned),
                set_aside: self.set_aside,
            },
        }
    }
}

fn now(zone: &TimeZone) -> Now<'_> {
    Now {
        time: Timestamp::now(),
        zone,
    }
}

impl Agent {
    /// Counts what paths have used since the last call, and reports what has become
    /// of their quotas. [`Agent::weigh_paths`] lets the programs know.
    pub(super) fn count_quotas(&mut self, stats: &[PathStats]) {
        let quotas = self.policy.quotas();
        if quotas.is_empty() {
            return;
        }
        let changes = self.keeper.step(quotas, &self.table, stats);
        for change in &changes {
            let report = view::quota_event(change, SystemTime::now());
            log(change, &report);
            // The send fails only if no client listens, so ignore the error.
            let _ = self.subscribers.send(Arc::new(Reply::Event(report)));
        }
        self.keeper.save(false);
    }

    /// Returns whether the path of this label is held out because its quota is
    /// spent.
    pub(super) fn is_spent(&self, label: &str) -> bool {
        let accounts = &self.keeper.accounts;
        accounts.holds_out(label, self.policy.quotas())
    }

    /// Returns all quotas.
    pub(super) fn quotas(&self) -> snapshot::Quotas {
        self.keeper.shown(self.policy.quotas())
    }

    /// Forgets what a path has used in this period, and uses the path again.
    ///
    /// # Errors
    /// It has no quota.
    pub(super) fn reset_quota(&mut self, path: &str) -> Result<snapshot::Quotas, Refusal> {
        let label = path.parse().map(|selector: Selector| selector.to_string());
        let quotas = self.policy.quotas();
        if !label.is_ok_and(|label| self.keeper.reset(&label, quotas)) {
            let named: Vec<String> = quotas.iter().map(|one| one.selector.to_string()).collect();
            let there = match named.is_empty() {
                true => "no path has one".to_owned(),
                false => format!("those that have one are {}", named.join(", ")),
            };
            let why = format!("path `{path}` has no quota: {there}");
            return Err(Refusal::new(ErrorCode::Refused, &why));
        }
        match self.kernel.path_stats() {
            Ok(stats) => self.count_quotas(&stats),
            // The next sample counts.
            Err(error) => tracing::debug!("no totals: {error:#}"),
        }
        self.weigh_paths();
        self.keeper.save(true);
        Ok(self.quotas())
    }
}

fn log(change: &Change, report: &Event) {
    macro_rules! write_at {
        ($level:ident, $words:expr) => {
            tracing::$level!(
                event = report.event,
                path = report.path,
                reason = report.reason,
                used_bytes = report.used_bytes,
                quota_bytes = report.quota_bytes,
                until = report.until,
                "{}",
                $words
            )
        };
    }
    match change.to {
        Turn::Spent => write_at!(warn, "the quota of the path is spent"),
        Turn::Renewed(_) => write_at!(info, "the quota of the path is renewed"),
    }
}
