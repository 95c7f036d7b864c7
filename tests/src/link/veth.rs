//! A link without a delay: a veth pair, a TBF for the rate, nftables for loss.

use anyhow::Result;

use super::path::{Path, bits_per_sec};
use crate::host::Host;

/// The bucket holds this much time at the link's rate, or [`BURST_MIN`].
const BURST_SECONDS: f64 = 0.004;
/// Two full packets of Ethernet.
const BURST_MIN: u64 = 3200;
/// What a device allows a segment at first.
const GSO_MAX: u64 = 65536;

/// What happens to packets that arrive.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Impairment {
    /// In units of 0.01 %.
    pub(super) loss: u32,
    pub(super) blackhole: bool,
}

impl Impairment {
    pub(super) fn set_loss(&mut self, percent: f64) {
        self.loss = (percent * 100.0).round() as u32;
    }
}

pub(super) fn create(client: &Host, server: &Host, path: &Path) -> Result<()> {
    let name = &path.name;
    let peer = server.netns();
    client.run(&format!(
        "ip link add name {name} type veth peer name {name} netns {peer}"
    ))?;
    for host in [client, server] {
        if !path.gso {
            host.run(&format!("ip link set dev {name} gso_max_segs 1"))?;
        }
        if let Some(rate_mbit) = path.rate_mbit {
            set_rate(host, path, rate_mbit)?;
        }
    }
    Ok(())
}

/// Sets the rate at which `host` sends.
pub(super) fn set_rate(host: &Host, path: &Path, rate_mbit: f64) -> Result<()> {
    let rate = bits_per_sec(rate_mbit);
    let burst = ((BURST_SECONDS * rate as f64 / 8.0) as u64).max(BURST_MIN + u64::from(path.mtu));
    let limit = path.queue_bytes(rate) + burst;
    let name = &path.name;
    // TBF splits larger segments; should it drop some of the packets of one,
    // TCP believes that it dropped all, and sends them again and again.
    host.run(&format!(
        "ip link set dev {name} gso_max_size {}",
        burst.min(GSO_MAX)
    ))?;
    host.run(&format!(
        "tc qdisc replace dev {name} root tbf rate {rate}bit burst {burst} limit {limit}"
    ))
    .map(drop)
}

/// Sets what happens to packets that arrive on `host`.
pub(super) fn impair(host: &Host, device: &str, impairment: Impairment) -> Result<()> {
    let table = format!("table netdev lab-{device}");
    let policy = if impairment.blackhole {
        "drop"
    } else {
        "accept"
    };
    let rule = match impairment.loss {
        0 => String::new(),
        loss => format!("numgen random mod 10000 < {loss} drop"),
    };
    // The first line makes the second one right also the first time.
    host.nft(&format!(
        "{table}\ndelete {table}\n{table} {{\nchain arriving {{\n\
         type filter hook ingress device \"{device}\" priority 0; policy {policy};\n{rule}\n}}\n}}\n"
    ))
}
