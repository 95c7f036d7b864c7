//! A link whose devices are on top of those of another link. Each of its packets
//! passes two devices of a host, the second time as a packet of the other link.

use anyhow::{Result, ensure};

use super::{Kind, Link};
use crate::host::Host;

/// The kind of a device on top of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// A device with its own MAC address on the same wire.
    Macvlan,
    /// A device for the VLAN (IEEE 802.1Q) with this number.
    Vlan(u16),
}

/// Makes the devices `name` on both hosts of `parent`.
pub(super) fn create(parent: &Link, over: Over, name: &str) -> Result<()> {
    ensure!(
        !matches!(parent.kind, Kind::Delay(_)),
        "{} carries no Ethernet frames",
        parent.name
    );
    for host in [&parent.client, &parent.server] {
        add(host, &parent.name, over, name)?;
    }
    Ok(())
}

fn add(host: &Host, parent: &str, over: Over, name: &str) -> Result<()> {
    let kind = match over {
        Over::Macvlan => "macvlan mode bridge".to_owned(),
        Over::Vlan(id) => format!("vlan id {id}"),
    };
    host.run(&format!(
        "ip link add link {parent} name {name} type {kind}"
    ))
    .map(drop)
}
