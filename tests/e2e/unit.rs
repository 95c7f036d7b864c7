//! The systemd unit: its rights are enough, few, and fewer once the agent is ready.

mod manager;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::kernel::detach_pinned_link;
use mptcp_lab::{Agent, Host, Lab, require, wait};

use crate::support::{
    capped, failure_of, require_agent, two_paths, upload, wait_for_shares, weighted,
};
use crate::{SETTLE, SOON};

/// The unit, from which the tests take the rights that they give to the agent, and
/// what belongs to it.
const UNIT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/systemd/mptcp-agent.service"
);
const SYSUSERS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/systemd/sysusers.conf"
);
const TMPFILES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../deploy/systemd/tmpfiles.conf"
);

/// The control socket. Without a name for it, an agent without root's rights takes
/// its namespace for the first one, and root's commands do not.
const CONTROL: &str = "/run/mptcp-agent/control.sock";

/// Gives the agent's binary. Returns from the test with a message if it cannot run
/// here as the unit runs it.
macro_rules! require_unit {
    () => {{
        let binary = require_agent!();
        for tool in ["setpriv", "systemd-sysusers", "systemd-tmpfiles"] {
            require!(require::tool(tool), "needs the program `{tool}`");
        }
        binary
    }};
}

/// The bits of capabilities in /proc/PID/status: capability.h.
const NET_ADMIN: u64 = 1 << 12;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// Returns the values of a key of the unit.
fn values(key: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(UNIT)?;
    let lines = text.lines();
    let values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    Ok(values.map(str::to_owned).collect())
}

/// Returns the capabilities of the unit as setpriv calls them.
fn capabilities() -> Result<Vec<String>> {
    let all = values("AmbientCapabilities")?;
    ensure!(
        all == values("CapabilityBoundingSet")?,
        "the sets differ: {all:?}"
    );
    let names = all.iter().flat_map(|line| line.split_whitespace());
    let names = names.map(|name| name.strip_prefix("CAP_").unwrap_or(name).to_lowercase());
    Ok(names.collect())
}

/// The user of the unit, as sysusers.conf makes it, in files of the test's own.
struct User {
    id: u32,
    etc: PathBuf,
    _root: tempfile::TempDir,
}

impl User {
    fn new(host: &Host) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let etc = root.path().join("etc");
        fs::create_dir(&etc)?;
        for file in ["passwd", "group"] {
            fs::copy(Path::new("/etc").join(file), etc.join(file))?;
        }
        let mut sysusers = host.command("systemd-sysusers");
        sysusers
            .arg(format!("--root={}", root.path().display()))
            .arg(SYSUSERS);
        host.output(&mut sysusers)?;
        let users = fs::read_to_string(etc.join("passwd"))?;
        let own = users
            .lines()
            .find_map(|line| line.strip_prefix("mptcp-agent:"));
        let id = own
            .and_then(|line| line.split(':').nth(1))
            .context("no user")?;
        Ok(Self {
            id: id.parse()?,
            etc,
            _root: root,
        })
    }

    /// Returns `binary run` as the unit runs it: as this user, with these
    /// capabilities and no way to others, with directories of its own, and with the
    /// BPF file system of systemd as tmpfiles.conf changes it.
    fn command(&self, host: &Host, binary: &Path, capabilities: &[String]) -> Command {
        let list: String = capabilities
            .iter()
            .map(|name| format!(",+{name}"))
            .collect();
        let (id, etc) = (self.id, self.etc.display());
        // The user may not be allowed into the directory of the binary.
        let script = format!(
            "mount --bind {etc}/passwd /etc/passwd && mount --bind {etc}/group /etc/group && \
             mount -t bpf -o mode=0700 bpf /sys/fs/bpf && systemd-tmpfiles --create {TMPFILES} && \
             mount -t tmpfs run /run && mkdir -m 0755 /run/mptcp-agent && \
             mount -t tmpfs lib /var/lib && mkdir -m 0750 /var/lib/mptcp-agent && \
             chown {id} /run/mptcp-agent /var/lib/mptcp-agent && \
             : > /run/binary && mount --bind \"$0\" /run/binary && \
             exec setpriv --reuid={id} --regid=mptcp-agent --init-groups --no-new-privs \
             --bounding-set=-all{list} --inh-caps=-all{list} --ambient-caps=-all{list} \
             -- /run/binary \"$@\""
        );
        let mut command = host.command("unshare");
        command
            .args(["--mount", "--", "sh", "-c", &script])
            .arg(binary)
            .args(["run", "--listen", "127.0.0.1:0", "--control", CONTROL]);
        command
    }
}

/// Returns a command of root's that sees the directories of the agent.
fn beside(host: &Host, agent: &Agent, binary: &Path) -> Command {
    let mut command = host.command("nsenter");
    command
        .arg(format!("--mount=/proc/{}/ns/mnt", agent.process().pid()))
        .arg("--")
        .arg(binary);
    command
}

/// Returns the values of `Cap...` of every thread of a process, by name.
fn sets(process: u32) -> Result<BTreeSet<(String, u64)>> {
    let mut found = BTreeSet::new();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        for line in status.lines().filter_map(|line| line.strip_prefix("Cap")) {
            let (set, bits) = line.split_once(':').context("no value")?;
            found.insert((set.to_owned(), u64::from_str_radix(bits.trim(), 16)?));
        }
    }
    Ok(found)
}

#[test]
fn systemd_finds_little_to_complain_about() -> Result<()> {
    require!(
        require::tool("systemd-analyze"),
        "needs the program `systemd-analyze`"
    );
    // Twenty is 2.0 in tenths.
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--threshold=20", UNIT])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let verdict = text.lines().find(|line| line.contains("Overall exposure"));
    assert!(output.status.success(), "{verdict:?}");
    let score = verdict.and_then(|line| {
        line.split_whitespace()
            .find_map(|word| word.parse::<f64>().ok())
    });
    assert!(score.context("no score")? <= 2.0, "{verdict:?}");
    Ok(())
}

#[test]
fn the_rights_of_the_unit_are_enough_and_dropped_once_they_are_not_needed() -> Result<()> {
    let binary = require_unit!();
    let names = capabilities()?;
    assert_eq!(names, ["bpf", "perfmon", "net_admin"]);
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let args = weighted(&["p1=1", "p2=3"]);
    let user = User::new(&net.client)?;
    let mut command = user.command(&net.client, &binary, &names);
    command.args(args);
    let agent = Agent::launch(&net.client, command)?;
    let process = agent.process().pid();

    // The rights that every thread has left.
    let expected = [
        ("Amb", NET_ADMIN),
        ("Bnd", BPF | PERFMON | NET_ADMIN),
        ("Eff", NET_ADMIN),
        ("Inh", NET_ADMIN),
        ("Prm", NET_ADMIN),
    ];
    let expected: BTreeSet<_> = expected.map(|(set, bits)| (set.to_owned(), bits)).into();
    // A thread gives them up as soon as it gets to run.
    wait::try_until("the rights that are left", SOON, || {
        let found = sets(process).map_err(|error| format!("{error:#}"))?;
        (found == expected)
            .then_some(())
            .ok_or_else(|| format!("{found:x?}"))
    })?;
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    assert!(status.contains(&format!("Uid:\t{}", user.id)), "{status}");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");

    // It steers, and outlives.
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    let metrics = agent.scrape()?;
    assert_eq!(metrics.value("mptcp_agent_outlived", &[]), Some(1.0));
    assert_eq!(
        metrics.value("mptcp_agent_sees_all_cgroups", &[]),
        Some(1.0)
    );

    // Later work needs no right that was given up: programs that are detached come
    // back, and another policy attaches its own.
    let bpffs = PathBuf::from(format!("/proc/{process}/root/sys/fs/bpf/mptcp-agent"));
    let link = find(&bpffs, "sockops-")?;
    detach_pinned_link(&link)?;
    let restored = |what: &str, count: f64| {
        wait::try_until(what, SETTLE, || {
            let metrics = agent.scrape().map_err(|error| format!("{error:#}"))?;
            let found = metrics.sum("mptcp_agent_restored_total", &[]);
            (found >= count)
                .then_some(())
                .ok_or(format!("{found}: {}", agent.stderr()))
        })
    };
    restored("the program to be attached again", 1.0)?;
    for pins in [
        find(&bpffs, "mptcp_subflow_get_send-"),
        find(&bpffs, "sockops-"),
    ] {
        fs::remove_file(pins?)?;
    }
    restored("the pins to be there again", 2.0)?;
    let tell = |args: &str| {
        let mut command = beside(&net.client, &agent, &binary);
        command.args(args.split(' ')).args(["--control", CONTROL]);
        net.client.output(&mut command)
    };
    tell("policy set redundant")?;
    let status = tell("status")?;
    let hooks = status.lines().filter(|line| line.starts_with("redundant_"));
    assert!(hooks.clone().count() == 2, "{status}");
    assert!(
        hooks.clone().all(|line| line.contains(" attached")),
        "{status}"
    );
    tell("policy set weighted --weight p1=1 --weight p2=1")?;
    wait_for_shares(&transfer, &net.links, &[1, 1])?;

    agent.stop()?;
    assert!(!capped(&transfer.subflows()?));
    transfer.stop().map(drop)
}

/// Finds the only pin below `directory` whose name begins like this.
fn find(directory: &Path, begin: &str) -> Result<PathBuf> {
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
            } else if entry.file_name().to_string_lossy().starts_with(begin) {
                return Ok(entry.path());
            }
        }
    }
    anyhow::bail!("no pin {begin}* in {}", directory.display())
}

#[test]
fn root_takes_over_what_the_unit_has_pinned() -> Result<()> {
    let binary = require_unit!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let user = User::new(&net.client)?;
    let args = weighted(&["p1=1", "p2=3"]);
    let mut command = user.command(&net.client, &binary, &capabilities()?);
    command.args(&args);
    let agent = Agent::launch(&net.client, command)?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    let before = agent.scrape()?;
    let mut command = beside(&net.client, &agent, &binary);
    command
        .args(["run", "--take-over", "--control", CONTROL, "--listen"])
        .arg(agent.listen().to_string())
        .args(&args);
    let next = agent.take_over_with(command)?;
    let log = next.stderr();
    assert!(log.contains("took over the connections"), "{log}");
    assert_eq!(next.scrape()?.backwards_since(&before), [] as [String; 0]);
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    transfer.stop()?;
    next.stop()
}

#[test]
fn endpoints_and_routes_are_managed_with_the_rights_that_are_left() -> Result<()> {
    let binary = require_unit!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut args = weighted(&["p1=1", "p2=1"]);
    args.extend(["--manage-endpoints", "--manage-routes"].map(str::to_owned));
    let names = capabilities()?;
    let user = User::new(&net.client)?;
    let mut command = user.command(&net.client, &binary, &names);
    command.args(args);
    let agent = Agent::launch(&net.client, command)?;
    wait::try_until("routes of the agent", SETTLE, || {
        let rules = net
            .client
            .run("ip rule")
            .map_err(|error| format!("{error:#}"))?;
        let from = |rules: &str| {
            rules
                .lines()
                .filter(|line| line.contains("from 10."))
                .count()
        };
        (from(&rules) >= 2)
            .then_some(())
            .ok_or(rules + &agent.stderr())
    })?;
    let log = agent.stderr();
    assert!(
        !log.contains("ermitted") && !log.contains("denied"),
        "{log}"
    );
    agent.stop()
}

#[test]
fn each_right_of_the_unit_is_needed() -> Result<()> {
    let binary = require_unit!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let (names, user) = (capabilities()?, User::new(&host)?);
    for name in &names {
        let others: Vec<String> = names.iter().filter(|one| *one != name).cloned().collect();
        let line = failure_of(&host, &mut user.command(&host, &binary, &others))?;
        let expected = format!("missing CAP_{}", name.to_uppercase());
        assert!(line.contains(&expected), "{line}");
    }
    Ok(())
}
