//! Reads how many bytes devices have sent and received.
//!
//! A task asks the kernel for one device after the other, since a host may have
//! thousands of them. The kernel may make it wait for a lock (RTNL), so the
//! agent's loop does not ask itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::TryStreamExt as _;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, new_connection};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// How often the counters are read.
const PERIOD: Duration = Duration::from_secs(1);

/// The bytes that a device has carried since it was made, headers of its link layer
/// included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// The index of the device.
    pub ifindex: u32,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

/// The counters of the devices that someone wants to know of.
#[derive(Debug)]
pub struct Counters {
    wanted: watch::Sender<BTreeSet<String>>,
    seen: watch::Receiver<BTreeMap<String, Carried>>,
}

impl Counters {
    /// Starts a task that reads counters, once devices are [wanted](Self::want).
    ///
    /// # Errors
    /// No netlink socket can be had.
    pub fn start(tasks: &mut JoinSet<Result<()>>) -> Result<Self> {
        let (connection, handle, _) =
            new_connection().context("cannot open a netlink socket to read devices' counters")?;
        tasks.spawn(async {
            connection.await;
            bail!("the netlink connection that reads devices' counters ended")
        });
        let (wanted, names) = watch::channel(BTreeSet::new());
        let (sender, seen) = watch::channel(BTreeMap::new());
        tasks.spawn(follow(handle, names, sender));
        Ok(Self { wanted, seen })
    }

    /// Chooses the devices.
    pub fn want(&self, names: BTreeSet<String>) {
        self.wanted.send_if_modified(|known| {
            let changed = *known != names;
            *known = names;
            changed
        });
    }

    /// Returns what a device had carried when it was last read; `None` if there
    /// was no such device.
    pub fn of(&self, name: &str) -> Option<Carried> {
        self.seen.borrow().get(name).copied()
    }
}

async fn follow(
    handle: Handle,
    mut names: watch::Receiver<BTreeSet<String>>,
    seen: watch::Sender<BTreeMap<String, Carried>>,
) -> Result<()> {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let wanted = names.borrow_and_update().clone();
        let mut carried = BTreeMap::new();
        for name in &wanted {
            carried.extend(read(&handle, name).await.map(|one| (name.clone(), one)));
        }
        seen.send_replace(carried);
        let changed = async {
            match wanted.is_empty() {
                // Nothing has to be read until something is wanted.
                true => names.changed().await,
                false => tokio::select! {
                    _ = ticks.tick() => Ok(()),
                    changed = names.changed() => changed,
                },
            }
        };
        if changed.await.is_err() {
            // The agent ends.
            return std::future::pending().await;
        }
    }
}

/// Reads the counters of one device; `None` if there is none of this name.
async fn read(handle: &Handle, name: &str) -> Option<Carried> {
    let mut links = std::pin::pin!(handle.link().get().match_name(name.to_owned()).execute());
    let link = match links.try_next().await {
        Ok(link) => link?,
        // Most often there is no such device.
        Err(error) => {
            tracing::trace!("no counters of {name}: {error}");
            return None;
        }
    };
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(Carried {
                ifindex: link.header.index,
                sent: stats.tx_bytes,
                received: stats.rx_bytes,
            }),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::net::UdpSocket;

    use super::*;

    #[tokio::test]
    async fn what_lo_carries_is_counted_while_it_is_wanted() {
        let mut tasks = JoinSet::new();
        let mut counters = Counters::start(&mut tasks).unwrap();
        assert_eq!(counters.of("lo"), None);
        counters.want(["lo", "no-such-device"].map(str::to_owned).into());
        let seen = |name| move |seen: &BTreeMap<String, Carried>| seen.contains_key(name);
        counters.seen.wait_for(seen("lo")).await.unwrap();
        let before = counters.of("lo").unwrap();
        assert_eq!(before.ifindex, 1);
        assert_eq!(counters.of("no-such-device"), None);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        socket.send_to(&[0; 5000], to).unwrap();
        let more = |seen: &BTreeMap<String, Carried>| {
            let lo = seen["lo"];
            lo.sent >= before.sent + 5000 && lo.received >= before.received + 5000
        };
        counters.seen.wait_for(more).await.unwrap();
        counters.want(BTreeSet::new());
        counters.seen.wait_for(BTreeMap::is_empty).await.unwrap();
    }
}
