//! Does what has to be done whenever addresses or paths change, beside the
//! agent's loop.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use super::apply::{apply, apply_route, reopen};
use super::plan::{Action, Without, plan};
use super::record::Record;
use super::reopen::Reopening;
use super::settings::Settings;
use super::wanted::{Address, Wanted};
use super::{rivals, routing};
use crate::net::devices::Present;
use crate::net::{endpoints, sockets};

/// How often to look whether somebody has changed endpoints, about which the
/// kernel gives no notice.
const PERIOD: Duration = Duration::from_secs(1);

/// How often to look whether routes have changed. A host may have very many.
const ROUTES: Duration = Duration::from_secs(5);

/// How often to look at what the agent does not manage, but tells of.
const UNMANAGED: Duration = Duration::from_secs(30);

/// How often to look while an address waits for its routes.
const WAITING: Duration = Duration::from_millis(100);

/// How long a new address waits for a default route by its device before it gets
/// its endpoint. The kernel tries an endpoint once for each connection, and most
/// DHCP clients add the address first.
const ROUTE: Duration = Duration::from_secs(1);

/// The endpoints and routes that the agent manages, from before its start.
#[derive(Debug)]
pub struct Manager {
    settings: Settings,
    /// `None`: nothing is managed, but missing routes are told.
    record: Option<Record>,
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

    /// Opens the record of what earlier agents have made, if the settings ask to manage
    /// anything. `cookie` is that of the network namespace.
    ///
    /// # Errors
    /// Nothing can be recorded.
    pub fn claim(settings: Settings, cookie: u64) -> Result<Self> {
        let manages = settings.manage_endpoints.is_some() || settings.manage_routes;
        let record = || {
            let record = Record::open(cookie)?;
            record.check()?;
            Ok::<_, anyhow::Error>(record)
        };
        let record = manages.then(record).transpose();
        let record = record
            .context("--manage-endpoints and --manage-routes: what is made cannot be recorded")?;
        Ok(Self { settings, record })
    }

    /// Begins to manage, in a task of `tasks` that ends only with an error. The
    /// paths are those that the sender was given last.
    pub fn start(
        self,
        tasks: &mut JoinSet<Result<()>>,
        devices: watch::Receiver<Present>,
        wanted: watch::Receiver<Wanted>,
    ) {
        if self.record.is_some() && wanted.borrow().is_empty() {
            tracing::warn!(
                "no path is named by its device or by an address of this host, so no endpoint \
                 and no route is managed; --weight, --prefer and --limit name paths"
            );
        }
        let worker = Worker {
            manager: self,
            told: BTreeSet::new(),
            waiting: BTreeMap::new(),
            reopening: Reopening::default(),
            looked: None,
            missing: BTreeMap::new(),
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
            () = sleep(worker.pause()) => {}
        }
    }
}

/// The worker that takes one step at a time.
struct Worker {
    manager: Manager,
    /// The remarks that the user has been told, and is not told again while they last.
    told: BTreeSet<String>,
    /// Addresses that wait for their routes, and since when.
    waiting: BTreeMap<IpAddr, Instant>,
    /// The endpoints whose subflows were lost.
    reopening: Reopening,
    /// The last look at routes.
    looked: Option<Look>,
    /// Missing routes that may be told, and since when they are missing.
    missing: BTreeMap<String, Instant>,
}

/// A look at routes.
struct Look {
    at: Instant,
    present: Present,
    wanted: Wanted,
    /// The remarks that there were to make.
    remarks: BTreeSet<String>,
}

impl Worker {
    /// Returns how long nothing has to be done, if nothing changes that the
    /// kernel gives notice of.
    fn pause(&self) -> Duration {
        match &self.manager.record {
            None if self.missing.is_empty() => UNMANAGED,
            None => PERIOD,
            Some(_) if self.waits(Instant::now()).is_empty() => PERIOD,
            Some(_) => WAITING,
        }
    }

    /// Returns the addresses that have not waited long enough.
    fn waits(&self, now: Instant) -> BTreeSet<IpAddr> {
        let waiting = self.waiting.iter();
        let young = waiting.filter(|(_, since)| now.duration_since(**since) < ROUTE);
        young.map(|(address, _)| *address).collect()
    }

    /// Looks at what there is, and does what has to be done.
    fn step(&mut self, present: &Present, wanted: &Wanted) {
        let mut remarks = BTreeSet::new();
        let steps = [Self::routes, Self::endpoints];
        for step in steps {
            if let Err(error) = step(self, present, wanted, &mut remarks) {
                remarks.insert(format!("{error:#}"));
            }
        }
        for remark in remarks.difference(&self.told) {
            tracing::warn!("{remark}");
        }
        self.told = remarks;
    }

    fn routes(
        &mut self,
        present: &Present,
        wanted: &Wanted,
        remarks: &mut BTreeSet<String>,
    ) -> Result<()> {
        let waits = !self.waits(Instant::now()).is_empty();
        let record = self.manager.record.as_mut();
        let Some(record) = record.filter(|_| self.manager.settings.manage_routes) else {
            let missing = routing::missing(present, wanted)?;
            remarks.extend(self.lasting(missing, Instant::now()));
            return Ok(());
        };
        if let Some(look) = &self.looked
            && look.at.elapsed() < ROUTES
            && (&look.present, &look.wanted) == (present, wanted)
            && !waits
        {
            remarks.extend(look.remarks.iter().cloned());
            return Ok(());
        }
        let plan = routing::look(present, wanted, record.made())?;
        let said: BTreeSet<String> = plan.without.iter().map(routing::without).collect();
        remarks.extend(said.iter().cloned());
        self.looked = Some(Look {
            at: Instant::now(),
            present: present.clone(),
            wanted: wanted.clone(),
            remarks: said,
        });
        for action in &plan.actions {
            match apply_route(action, record) {
                Ok(()) => tracing::info!("{}", routing::words(action, present)),
                Err(error) => drop(remarks.insert(format!("{error:#}"))),
            }
        }
        Ok(())
    }

    /// Returns the routes that have been missing for long enough to be told of. A
    /// new address has none at first.
    fn lasting(&mut self, missing: BTreeSet<String>, now: Instant) -> Vec<String> {
        let since = |remark: &String| self.missing.get(remark).copied().unwrap_or(now);
        let missing = missing.into_iter().map(|remark| {
            let since = since(&remark);
            (remark, since)
        });
        self.missing = missing.collect();
        let lasting = self.missing.iter();
        let lasting = lasting.filter(|(_, since)| now.duration_since(**since) >= ROUTE);
        lasting.map(|(remark, _)| remark.clone()).collect()
    }

    fn endpoints(
        &mut self,
        present: &Present,
        wanted: &Wanted,
        remarks: &mut BTreeSet<String>,
    ) -> Result<()> {
        let Some(role) = self.manager.settings.manage_endpoints else {
            return Ok(());
        };
        self.wait_for_routes(&wanted.addresses(present));
        let young = self.waits(Instant::now());
        let Some(record) = &mut self.manager.record else {
            return Ok(());
        };
        let now = endpoints::read_all()?.context("the kernel has no path manager any more")?;
        let plan = plan(&now, present, wanted, role, record.made(), &young);
        remarks.extend(plan.without.iter().map(without));
        if plan.actions.is_empty() {
            return self.reopen(&wanted.addresses(present), &now);
        }
        if let Some(rival) = rivals::find() {
            remarks.insert(format!("no endpoint is changed, because {rival}"));
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

    /// Opens the subflows of endpoints anew whose address no subflow has any more.
    fn reopen(&mut self, addresses: &[Address], now: &endpoints::Manager) -> Result<()> {
        let unused = addresses.iter().filter(|one| one.unused && one.carrier);
        let unused = unused.map(|one| one.source.address).collect();
        let due = self.reopening.due(&unused, Instant::now());
        let Some(record) = self.manager.record.as_mut().filter(|_| !due.is_empty()) else {
            return Ok(());
        };
        // The agent may not see the sockets of every cgroup; the kernel does.
        let held = sockets::subflow_addresses()?;
        if rivals::find().is_some() {
            return Ok(());
        }
        for own in record.made().endpoints.clone() {
            let endpoint = now.endpoints.iter().find(|one| own.is(one));
            let lost = due.contains(&own.address) && !held.contains(&own.address);
            if let Some(endpoint) = endpoint.filter(|one| lost && one.opens_subflows()) {
                reopen(endpoint, record)?;
                tracing::info!(
                    "no subflow is left at endpoint {} ({}): asked the kernel to open them anew",
                    endpoint.id,
                    endpoint.address
                );
            }
        }
        Ok(())
    }

    /// Takes note of the addresses from which nothing leads out by their own
    /// device.
    fn wait_for_routes(&mut self, addresses: &[Address]) {
        let now = Instant::now();
        let lacking = addresses
            .iter()
            .filter(|one| one.carrier && !routing::leads_out(one));
        let waiting = lacking.map(|one| {
            let address = one.source.address;
            (address, self.waiting.get(&address).copied().unwrap_or(now))
        });
        self.waiting = waiting.collect();
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
