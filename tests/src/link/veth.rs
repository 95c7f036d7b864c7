//! A link without a delay: a veth pair, a TBF for the rate, a tc filter for
//! loss.

use anyhow::Result;

use super::path::{Path, bits_per_sec};
use crate::host::Host;
use crate::process::output_of;

/// The bucket holds this much time at the link's rate, or [`BURST_MIN`].
const BURST_SECONDS: f64 = 0.004;
/// Two full packets of Ethernet.
const BURST_MIN: u64 = 3200;
/// What a device allows a segment at first.
const GSO_MAX: u64 = 65536;

/// The last there is: behind every other filter.
const FILTER_PRIORITY: &str = "65535";
/// Classic BPF: let the packet pass (`TC_ACT_UNSPEC`), and make it vanish
/// without a word to its sender (`TC_ACT_STOLEN`).
const PASS: &str = "6 0 0 4294967295";
const STEAL: &str = "6 0 0 4";
/// Classic BPF: a random number (`SKF_AD_RANDOM`).
const RANDOM: &str = "32 0 0 4294963256";

/// What happens to packets on their way.
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

    /// As `tc` takes it: the number of instructions, and each of them.
    fn bytecode(self) -> String {
        match self {
            Self {
                blackhole: true, ..
            } => format!("1,{STEAL}"),
            Self { loss: 0, .. } => format!("1,{PASS}"),
            // Modulo 10000, and one instruction further if that is no less.
            Self { loss, .. } => {
                format!("5,{RANDOM},148 0 0 10000,53 1 0 {loss},{STEAL},{PASS}")
            }
        }
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

/// Sets what happens to packets that `host` sends.
///
/// A classic BPF filter on clsact, behind whatever else is there: the kernel
/// runs tcx programs first, and filters in the order of their priorities. It
/// passes (-1: as if there were no filter) or steals: to the sender it is sent.
pub(super) fn impair(host: &Host, device: &str, impairment: Impairment) -> Result<()> {
    tc(host, &["qdisc", "replace", "dev", device, "clsact"])?;
    let filter = [
        &[
            "filter", "replace", "dev", device, "egress", "protocol", "all",
        ][..],
        &["prio", FILTER_PRIORITY, "handle", "1", "bpf"],
        &["bytecode", &impairment.bytecode(), "direct-action"],
    ];
    tc(host, &filter.concat())
}

fn tc(host: &Host, args: &[&str]) -> Result<()> {
    output_of(host.command("tc").args(args)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_programs_of_the_length_they_tell() {
        let mut impairment = Impairment::default();
        let mut seen = Vec::new();
        for (loss, blackhole) in [(0.0, false), (20.0, false), (20.0, true)] {
            impairment.set_loss(loss);
            impairment.blackhole = blackhole;
            let code = impairment.bytecode();
            let (length, instructions) = code.split_once(',').expect("a length");
            let count = instructions.split(',').count();
            assert_eq!(length.parse(), Ok(count), "{code}");
            seen.push(code);
        }
        assert!(seen[1].contains(" 2000,"), "{}", seen[1]);
        assert_eq!(seen[2], "1,6 0 0 4");
    }
}
