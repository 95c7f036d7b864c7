//! A link without a delay: a veth pair, a TBF for the rate, and a tc filter for
//! loss.

use anyhow::Result;

use super::path::{Path, bits_per_sec};
use crate::host::Host;
use crate::process::output_of;

/// The bucket holds this much time at the link's rate, or [`BURST_MIN`].
const BURST_SECONDS: f64 = 0.004;
/// Two full packets of Ethernet.
const BURST_MIN: u64 = 3200;
/// The initial limit for the size of a segment on a device.
const GSO_MAX: u64 = 65536;

/// The lowest priority there is, so that the filter runs after all others.
const FILTER_PRIORITY: &str = "65535";
/// Classic BPF: lets the packet pass (`TC_ACT_UNSPEC`), or drops it while the
/// sender believes that it was sent (`TC_ACT_STOLEN`).
const PASS: &str = "6 0 0 4294967295";
const STEAL: &str = "6 0 0 4";
/// Classic BPF: loads a random number (`SKF_AD_RANDOM`).
const RANDOM: &str = "32 0 0 4294963256";

/// The impairments of packets in one direction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Impairment {
    /// The loss, in units of 0.01 %.
    pub(super) loss: u32,
    pub(super) blackhole: bool,
}

impl Impairment {
    pub(super) fn set_loss(&mut self, percent: f64) {
        self.loss = (percent * 100.0).round() as u32;
    }

    /// Returns the program as `tc` takes it: the number of instructions, then each
    /// instruction.
    fn bytecode(self) -> String {
        match self {
            Self {
                blackhole: true, ..
            } => format!("1,{STEAL}"),
            Self { loss: 0, .. } => format!("1,{PASS}"),
            // Take it modulo 10000, and skip the drop if that is `loss` or more.
            Self { loss, .. } => {
                format!("5,{RANDOM},148 0 0 10000,53 1 0 {loss},{STEAL},{PASS}")
            }
        }
    }
}

/// The queue of one direction, and what a TBF there needs to know of the sender.
#[derive(Debug)]
pub(super) struct Queue {
    /// The host that has the device `device`: the sender, or a modem.
    host: Host,
    device: String,
    sender: Host,
}

impl Queue {
    /// Returns the queue on the sender's own device.
    pub(super) fn on(sender: &Host, path: &Path) -> Self {
        Self {
            host: sender.clone(),
            device: path.name.clone(),
            sender: sender.clone(),
        }
    }

    /// Sets the rate at which the queue empties.
    pub(super) fn set_rate(&self, path: &Path, rate_mbit: f64) -> Result<()> {
        let rate = bits_per_sec(rate_mbit);
        let burst = (BURST_SECONDS * rate as f64 / 8.0) as u64;
        let burst = burst.max(BURST_MIN + u64::from(path.mtu));
        let limit = path.queue_bytes(rate) + burst;
        // TBF splits larger segments. If it drops some packets of a segment, TCP
        // believes that all are dropped and sends the segment again and again.
        self.sender.run(&format!(
            "ip link set dev {} gso_max_size {}",
            path.name,
            burst.min(GSO_MAX)
        ))?;
        let device = &self.device;
        self.host
            .run(&format!(
                "tc qdisc replace dev {device} root tbf rate {rate}bit burst {burst} limit {limit}"
            ))
            .map(drop)
    }
}

/// Makes the devices of both hosts. Returns the queues (up, down).
pub(super) fn create(client: &Host, server: &Host, path: &Path) -> Result<[Queue; 2]> {
    let name = &path.name;
    let queues = if path.modem {
        create_modem(client, server, path)?
    } else {
        let peer = server.netns();
        client.run(&format!(
            "ip link add name {name} type veth peer name {name} netns {peer}"
        ))?;
        [client, server].map(|host| Queue::on(host, path))
    };
    for host in [client, server] {
        if !path.gso {
            host.run(&format!("ip link set dev {name} gso_max_segs 1"))?;
        }
    }
    if let Some(rate_mbit) = path.rate_mbit {
        for queue in &queues {
            queue.set_rate(path, rate_mbit)?;
        }
    }
    Ok(queues)
}

/// Makes a modem: a host with a bridge between two ports, to which the hosts'
/// devices lead. A direction's queue is on the port towards its receiver.
fn create_modem(client: &Host, server: &Host, path: &Path) -> Result<[Queue; 2]> {
    let modem = Host::create("modem")?;
    // Nothing but what the hosts send may pass.
    modem.run("ip link add name bridge type bridge stp_state 0 mcast_snooping 0")?;
    modem.run("ip link set dev bridge addrgenmode none up")?;
    let ports = [("client", client), ("server", server)];
    for (port, host) in ports {
        let (name, netns) = (&path.name, host.netns());
        for command in [
            format!("ip link add name {port} type veth peer name {name} netns {netns}"),
            format!("ip link set dev {port} addrgenmode none mtu {}", path.mtu),
            format!("ip link set dev {port} master bridge up"),
        ] {
            modem.run(&command)?;
        }
    }
    Ok(
        [("server", client), ("client", server)].map(|(port, sender)| Queue {
            host: modem.clone(),
            device: port.to_owned(),
            sender: sender.clone(),
        }),
    )
}

/// Sets what happens to packets that `host` sends.
///
/// Uses a classic BPF filter on clsact that runs after everything else there:
/// the kernel runs tcx programs first, then filters in the order of their
/// priorities. The filter passes a packet (-1: as if there were no filter) or
/// steals it, and then the sender believes that it was sent.
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
    fn filters_begin_with_the_number_of_their_instructions() {
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
