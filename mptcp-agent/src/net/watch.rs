//! Watches the network namespace's devices, as they come, go and change their
//! names, addresses and MTUs.
//!
//! A notice is used only as a sign that something has changed; the present
//! state is always read anew. So nothing depends on a notice's content (a
//! bridge, for one, sends RTM_DELLINK for a port that it gives up), or on every
//! notice arriving.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::{Handle, MulticastGroup, new_connection, new_multicast_connection};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::net::devices::{Device, Present, Source};

const GROUPS: [MulticastGroup; 3] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
];

/// How long to wait after a notice, because they come in bursts (a new device
/// sends several).
const SETTLE: Duration = Duration::from_millis(20);

/// Reads the devices and keeps the result up to date in a task of `tasks`,
/// which ends only with an error.
///
/// # Errors
/// The devices cannot be read.
pub async fn watch(tasks: &mut JoinSet<Result<()>>) -> Result<watch::Receiver<Present>> {
    let (connection, handle, mut notices) = new_multicast_connection(&GROUPS)
        .context("cannot open a netlink socket to list network devices")?;
    tasks.spawn(async {
        connection.await;
        bail!("the netlink connection that lists network devices ended")
    });
    // The notices were subscribed to before this read, so no change falls in
    // between.
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

/// Reads the devices once.
async fn read() -> Result<Present> {
    let (connection, handle, _) =
        new_connection().context("cannot open a netlink socket to list network devices")?;
    let task = tokio::spawn(connection);
    let devices = list(&handle).await;
    task.abort();
    devices
}

/// Reads the devices once, on a runtime of its own.
///
/// # Errors
/// The devices cannot be read.
pub fn now() -> Result<Present> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot list network devices")?;
    runtime.block_on(read())
}

async fn list(handle: &Handle) -> Result<Present> {
    let mut devices = Present::new();
    let mut links = std::pin::pin!(handle.link().get().execute());
    while let Some(link) = links
        .try_next()
        .await
        .context("cannot list network devices")?
    {
        let mut device = Device {
            kind: u16::from(link.header.link_layer_type),
            carrier: (link.header.flags).contains(LinkFlags::Up | LinkFlags::LowerUp),
            ..Device::default()
        };
        let mut elsewhere = false;
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name = name,
                LinkAttribute::Mtu(mtu) => device.mtu = mtu,
                LinkAttribute::Link(lower) => device.lower = Some(lower),
                // The lower device is in another network namespace.
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::Controller(master) => device.master = Some(master),
                _ => {}
            }
        }
        device.lower = device.lower.filter(|&lower| lower != 0 && !elsewhere);
        if !device.name.is_empty() {
            devices.insert(link.header.index, device);
        }
    }
    let mut addresses = std::pin::pin!(handle.address().get().execute());
    while let Some(address) = addresses
        .try_next()
        .await
        .context("cannot list network addresses")?
    {
        let Some(device) = devices.get_mut(&address.header.index) else {
            continue;
        };
        // On a point-to-point device, `Address` is the other end.
        let (mut own, mut other) = (None, None);
        for attribute in &address.attributes {
            match attribute {
                AddressAttribute::Local(address) => own = Some(*address),
                AddressAttribute::Address(address) => other = Some(*address),
                _ => {}
            }
        }
        if let Some(own) = own.or(other) {
            device.addresses.push(own);
            device.sources.extend(source(own, &address));
        }
    }
    for device in devices.values_mut() {
        device.addresses.sort_unstable();
        device.sources.sort_unstable();
    }
    Ok(devices)
}

/// Returns the address, if a new subflow may start from it. While the kernel
/// looks whether another host has it, no socket can be bound to it.
fn source(own: IpAddr, message: &AddressMessage) -> Option<Source> {
    let header = &message.header;
    let unfit = AddressHeaderFlags::Tentative
        | AddressHeaderFlags::Dadfailed
        | AddressHeaderFlags::Deprecated;
    let wide = matches!(header.scope, AddressScope::Universe | AddressScope::Site);
    let fit = wide && !header.flags.intersects(unfit) && !own.is_loopback();
    fit.then(|| Source {
        address: own,
        length: header.prefix_len,
        secondary: header.flags.contains(AddressHeaderFlags::Secondary),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test]
    async fn loopback_is_there() {
        let mut tasks = JoinSet::new();
        let devices = watch(&mut tasks).await.unwrap();
        let lo = devices.borrow().get(&1).cloned().unwrap();
        assert_eq!(lo.name, "lo");
        assert!(lo.mtu > 0 && lo.carrier && !lo.is_path(), "{lo:?}");
    }
}
