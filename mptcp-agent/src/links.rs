//! The network namespace's devices, as they come, go and change their names.
//!
//! A notice says only that something changed; what there is now is always read
//! anew. So nothing depends on a notice's content (a bridge, for one, sends
//! RTM_DELLINK for a port that it gives up) or on none being lost.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, MulticastGroup, new_multicast_connection};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::paths::Devices;

/// Notices come in bursts (a new device sends several).
const SETTLE: Duration = Duration::from_millis(20);

/// Reads the devices and keeps the result up to date in a task of `tasks`,
/// which ends only with an error.
///
/// # Errors
/// The devices cannot be read.
pub async fn watch(tasks: &mut JoinSet<Result<()>>) -> Result<watch::Receiver<Devices>> {
    let (connection, handle, mut notices) = new_multicast_connection(&[MulticastGroup::Link])
        .context("cannot open a netlink socket to list network devices")?;
    tasks.spawn(async {
        connection.await;
        bail!("the netlink connection that lists network devices ended")
    });
    // Subscribed before it is read: no change falls between.
    let (sender, receiver) = watch::channel(list(&handle).await?);
    tasks.spawn(async move {
        while notices.next().await.is_some() {
            tokio::time::sleep(SETTLE).await;
            while notices.try_recv().is_ok() {}
            let devices = list(&handle).await?;
            sender.send_if_modified(|known| {
                let changed = *known != devices;
                *known = devices;
                changed
            });
        }
        bail!("notices about network devices ended")
    });
    Ok(receiver)
}

async fn list(handle: &Handle) -> Result<Devices> {
    let mut dump = std::pin::pin!(handle.link().get().execute());
    let mut devices = Devices::new();
    while let Some(link) = dump
        .try_next()
        .await
        .context("cannot list network devices")?
    {
        let name = link
            .attributes
            .into_iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            });
        if let Some(name) = name {
            devices.insert(link.header.index, name);
        }
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test]
    async fn loopback_is_there() {
        let mut tasks = JoinSet::new();
        let devices = watch(&mut tasks).await.unwrap();
        assert_eq!(devices.borrow().get(&1).map(String::as_str), Some("lo"));
    }
}
