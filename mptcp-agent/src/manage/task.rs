//! Does what has to be done whenever addresses or paths change, beside the
//! agent's loop.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use super::apply::apply;
use super::plan::{Action, Without, plan};
use super::record::Record;
use super::rivals;
use super::settings::{Role, Settings};
use super::wanted::Wanted;
use crate::net::devices::Present;
use crate::net::endpoints;

/// How often to look whether somebody has changed endpoints, about which the
/// kernel gives no notice.
const PERIOD: Duration = Duration::from_secs(1);

/// What the agent manages, from before its start.
#[derive(Debug)]
pub struct Manager {
    role: Role,
    record: Record,
}

impl Manager {
    /// Checks that the agent may manage what the settings ask for.
    ///
    /// # Errors
    /// Somebody else does the same, or the kernel has no path manager.
    pub fn check(settings: &Settings) -> Result<()> {
        if settings.manage_endpoints.is_none() {
            return Ok(());
        }
        if let Some(rival) = rivals::find() {
            bail!("--manage-endpoints: {rival}");
        }
        if endpoints::read_all()?.is_none() {
            bail!(
                "--manage-endpoints: this kernel has no path manager for MPTCP, so it has no \
                 endpoints"
            );
        }
        Ok(())
    }

    /// Opens the record of what earlier agents have made; `None` if nothing is to
    /// be managed. `cookie` is that of the network namespace.
    ///
    /// # Errors
    /// Nothing can be recorded.
    pub fn claim(settings: &Settings, cookie: u64) -> Result<Option<Self>> {
        let Some(role) = settings.manage_endpoints else {
            return Ok(None);
        };
        let record = Record::open(cookie).and_then(|record| {
            record.check()?;
            Ok(record)
        });
        let record = record.context("--manage-endpoints: what is made cannot be recorded")?;
        Ok(Some(Self { role, record }))
    }

    /// Begins to manage, in a task of `tasks` that ends only with an error. The
    /// paths are those that the sender was given last.
    pub fn start(
        self,
        tasks: &mut JoinSet<Result<()>>,
        devices: watch::Receiver<Present>,
        wanted: watch::Receiver<Wanted>,
    ) {
        if wanted.borrow().is_empty() {
            tracing::warn!(
                "--manage-endpoints: no path is named by its device or by an address of this \
                 host, so no endpoint is managed; --weight, --prefer and --limit name paths"
            );
        }
        let worker = Worker {
            manager: self,
            told: BTreeSet::new(),
        };
        tasks.spawn(serve(worker, devices, wanted));
    }
}

async fn serve(
    mut worker: Worker,
    mut devices: watch::Receiver<Present>,
    mut wanted: watch::Receiver<Wanted>,
) -> Result<()> {
    loop {
        let present = devices.borrow_and_update().clone();
        let paths = wanted.borrow_and_update().clone();
        let done = spawn_blocking(move || {
            worker.step(&present, &paths);
            worker
        });
        worker = done.await.context("managing endpoints failed")?;
        tokio::select! {
            changed = devices.changed() => changed.context("notices about devices ended")?,
            // The sender is the agent's loop, which may have ended just now.
            Ok(()) = wanted.changed() => {}
            () = sleep(PERIOD) => {}
        }
    }
}

/// What does the work, one step at a time.
struct Worker {
    manager: Manager,
    /// What the user has been told, and is not told again while it lasts.
    told: BTreeSet<String>,
}

impl Worker {
    /// Looks at what there is, and does what has to be done.
    fn step(&mut self, present: &Present, wanted: &Wanted) {
        let mut remarks = BTreeSet::new();
        if let Err(error) = self.try_step(present, wanted, &mut remarks) {
            remarks.insert(format!("{error:#}"));
        }
        for remark in remarks.difference(&self.told) {
            tracing::warn!("--manage-endpoints: {remark}");
        }
        self.told = remarks;
    }

    fn try_step(
        &mut self,
        present: &Present,
        wanted: &Wanted,
        remarks: &mut BTreeSet<String>,
    ) -> Result<()> {
        let Manager { role, record } = &mut self.manager;
        let now = endpoints::read_all()?.context("the kernel has no path manager any more")?;
        let plan = plan(&now, present, wanted, *role, record.made());
        remarks.extend(plan.without.iter().map(without));
        if plan.actions.is_empty() {
            return Ok(());
        }
        if let Some(rival) = rivals::find() {
            remarks.insert(format!("nothing is changed, because {rival}"));
            return Ok(());
        }
        for action in &plan.actions {
            match apply(action, &now, record) {
                Ok(()) => tracing::info!("{}", words(action, present)),
                Err(error) => drop(remarks.insert(format!("{error:#}"))),
            }
        }
        Ok(())
    }
}

fn without(reason: &Without) -> String {
    match reason {
        Without::Foreign(address) => {
            format!("{address} has an endpoint that this agent has not made; it is left as it is")
        }
        Without::NoRoom(address) => {
            format!("{address} gets no endpoint: the kernel takes 8, and there are as many")
        }
    }
}

fn words(action: &Action, present: &Present) -> String {
    let name = |device: Option<u32>| {
        let device = device.and_then(|device| present.get(&device));
        device.map_or_else(
            || "a device that is gone".to_owned(),
            |one| one.name.clone(),
        )
    };
    match action {
        Action::Forget(one) => format!(
            "endpoint {} ({}) was removed by others",
            one.id, one.address
        ),
        Action::Remove(one) => format!(
            "removed endpoint {} ({} on {})",
            one.id,
            one.address,
            name(one.device)
        ),
        Action::Raise(limit) => {
            format!("a connection may have {limit} subflows beside its first now")
        }
        Action::Flags(one) => format!(
            "endpoint {} ({}) is {} now",
            one.id,
            one.address,
            one.flags()
        ),
        Action::Add(one) | Action::Replace(one) => format!(
            "added endpoint {} ({} on {}): {}",
            one.id,
            one.address,
            name(one.device),
            one.flags()
        ),
    }
}
