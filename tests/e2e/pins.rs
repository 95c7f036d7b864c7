//! The agent's pins in the BPF file system belong to it alone. Agents in other
//! namespaces, users without rights and a dead policy do not affect them, and
//! the agent puts back pins that somebody has removed.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::agent::tell;
use mptcp_lab::kernel::detach_pinned_link;
use mptcp_lab::traffic::Transfer;
use mptcp_lab::{Agent, Container, Host, Lab, Process, require, wait};
use nix::sys::signal::Signal;

use crate::support::{
    Watched, capped, failure_of, require_agent, scrape_until, two_paths, upload, wait_for_cap,
    wait_for_shares, weighted,
};
use crate::{SETTLE, SOON};

/// Runs a command as the user `nobody`, without any rights.
const NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

/// Returns a command that runs `script` in its own mount namespace, where the
/// BPF file system is new and open to everybody, as `mount -t bpf` makes it.
fn with_open_bpffs(host: &Host, binary: &Path, script: &str) -> Command {
    let mut command = host.command("unshare");
    let script = format!("mount -t bpf -o mode=1777 bpf /sys/fs/bpf && {script}");
    command
        .args(["--mount", "--", "sh", "-c", &script])
        .arg(binary);
    command
}

/// Runs a command that must succeed, and returns its output on both streams.
fn said_by(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    Ok(said)
}

/// Runs `command` as nobody on the host, and waits for the line that says that
/// it has taken the name or lock.
fn squatter(host: &Host, command: &[&str]) -> Result<Process> {
    let mut squatter = host.command(NOBODY[0]);
    squatter.args(&NOBODY[1..]).args(command);
    squatter.stdin(Stdio::null()).stdout(Stdio::piped());
    let process = host.spawn(&mut squatter)?;
    let stdout = process.with_child(|child| child.stdout.take());
    let mut line = String::new();
    BufReader::new(stdout.context("no pipe")?).read_line(&mut line)?;
    ensure!(line == "ready\n", "{line}");
    Ok(process)
}

/// Binds the name by which agents of a network namespace exclude each other.
const SQUAT: &str = r#"
    use Socket;
    my $name = pack_sockaddr_un("\0mptcp-agent");
    socket(D, AF_UNIX, SOCK_DGRAM, 0) and bind(D, $name) or die $!;
    socket(S, AF_UNIX, SOCK_STREAM, 0) and bind(S, $name) and listen(S, 5) or die $!;
    $| = 1;
    print "ready\n";
    sleep 300;
"#;

#[test]
fn an_agent_in_a_container_leaves_a_living_one_attached() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let container = lab.host("other")?.container(Container::default().pids());
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let before = net.client.pins()?;
    assert!(!before.is_empty());

    let said = tell(&container, &binary, &["cleanup"])?;
    assert!(!said.contains("that are gone"), "{said}");
    assert_eq!(net.client.pins()?, before);
    let other = Agent::start(&container, &binary, &["--policy", "default"])?;
    assert_eq!(net.client.pins()?, before);
    other.stop()?;
    assert_eq!(net.client.pins()?, before);

    // The policy of the running agent applies to new connections, and can be
    // changed on open ones.
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_cap(&transfer)?;
    agent.tell(&[
        "policy", "set", "weighted", "--weight", "p1=4", "--weight", "p2=1",
    ])?;
    wait_for_shares(&transfer, &net.links, &[4, 1])?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn a_container_does_not_take_a_namespace_for_gone_that_it_cannot_see() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let container = lab.host("other")?.container(Container::default().pids());
    let (_sink, transfer) = upload(&net, 2)?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    wait_for_cap(&transfer)?;
    agent.stop_with(Signal::SIGKILL)?;
    wait::try_until("no limit", SOON, || match transfer.subflows() {
        Ok(subflows) if !capped(&subflows) => Ok(()),
        other => Err(other),
    })?;
    let before = net.client.pins()?;
    let said = tell(&container, &binary, &["cleanup"])?;
    assert!(said.contains("cannot be told from here"), "{said}");
    assert_eq!(net.client.pins()?, before);
    let said = tell(&net.client, &binary, &["cleanup"])?;
    assert!(said.contains("removed 2 attached programs"), "{said}");
    transfer.stop()?;
    Ok(())
}

/// Like `ip netns exec`, this gives the agent a mount namespace with a /sys of its own.
/// A BPF file system that it mounted there would go with it, and its programs too.
#[test]
fn an_agent_with_a_sys_of_its_own_promises_only_what_it_keeps() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut command = net.client.command("unshare");
    let script = r#"mount -t sysfs sysfs /sys && exec "$0" "$@""#;
    command
        .args(["--mount", "--", "sh", "-c", script])
        .arg(&binary)
        .args(["run", "--listen", "127.0.0.1:0"])
        .args(weighted(&["p1=1", "p2=3"]));
    let agent = Agent::launch(&net.client, command)?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_cap(&transfer)?;
    let outlived = agent.scrape()?.value("mptcp_agent_outlived", &[]);
    let said = agent.stderr();
    agent.kill()?;
    if outlived == Some(1.0) {
        wait::try_until("no cap", SETTLE, || match transfer.subflows() {
            Ok(subflows) if !capped(&subflows) => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
    } else {
        assert!(said.contains("nsenter --net=FILE"), "{said}");
        tell(&net.client, &binary, &["cleanup"])?;
        assert!(!capped(&transfer.subflows()?));
    }
    transfer.stop()?;
    Ok(())
}

#[test]
fn pins_that_somebody_removed_are_made_again() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let before = net.client.pins()?;
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_cap(&transfer)?;
    for pin in &before {
        fs::remove_file(pin)?;
    }
    wait::try_until("the pins", SOON, || match net.client.pins() {
        Ok(pins) if pins == before => Ok(()),
        other => Err(other),
    })?;
    let metrics = scrape_until(&agent, "the count of what was put back", |metrics| {
        metrics.value("mptcp_agent_restored_total", &[("what", "pins")]) == Some(1.0)
    })?;
    assert_eq!(metrics.value("mptcp_agent_outlived", &[]), Some(1.0));
    assert_eq!(metrics.value("mptcp_connections", &[]), Some(1.0));
    assert!(
        agent.stderr().contains("somebody removed"),
        "{}",
        agent.stderr()
    );
    wait_for_shares(&transfer, &net.links, &[1, 3])?;

    // Remove the whole directory as well.
    let layout = before[0].ancestors().nth(2).context("a layout")?;
    for pin in &before {
        fs::remove_file(pin)?;
    }
    for directory in ["links", "maps", ""] {
        fs::remove_dir(layout.join(directory))?;
    }
    wait::try_until("the pins", SOON, || match net.client.pins() {
        Ok(pins) if pins == before => Ok(()),
        other => Err(other),
    })?;

    // The new pins do what pins are for.
    wait_for_cap(&transfer)?;
    agent.stop_with(Signal::SIGKILL)?;
    wait::try_until("no limit", SOON, || match transfer.subflows() {
        Ok(subflows) if !capped(&subflows) => Ok(()),
        other => Err(other),
    })?;
    let next = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let metrics = next.scrape()?;
    assert_eq!(metrics.sum("mptcp_connections_opened_total", &[]), 1.0);
    transfer.stop()?;
    next.stop()?;
    assert!(net.client.pins()?.is_empty());
    Ok(())
}

#[test]
fn a_program_that_somebody_detached_is_attached_again() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Watched::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    let pins = net.client.pins()?;
    let is_sockops = |pin: &&std::path::PathBuf| pin.to_string_lossy().contains("sockops-");
    detach_pinned_link(pins.iter().find(is_sockops).context("no link")?)?;
    scrape_until(&agent, "the count of what was put back", |metrics| {
        metrics.value("mptcp_agent_restored_total", &[("what", "programs")]) == Some(1.0)
    })?;
    assert!(
        agent.stderr().contains("somebody detached"),
        "{}",
        agent.stderr()
    );
    assert_eq!(net.client.pins()?, pins);
    let (_sink, transfer) = upload(&net, 2)?;
    wait_for_cap(&transfer)?;
    wait_for_shares(&transfer, &net.links, &[1, 3])?;
    transfer.stop()?;
    agent.stop()
}

#[test]
fn nothing_outside_the_bpf_file_system_is_removed() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("open")?;
    let precious = tempfile::tempdir()?;
    let file = precious.path().join("file");
    fs::write(&file, "precious")?;
    // By its name, the namespace 1-1 is gone. The directory of the agent's own
    // namespace is `<cookie>-<inode>`; everybody can ask for both. Any cookie
    // is enough to show that the directory of all agents is not used.
    let plant = format!(
        "{} sh -c 'd=/sys/fs/bpf/mptcp-agent/1-1/abi-1; mkdir -p $d && \
         ln -s {1} $d/maps && ln -s {1} $d/links && ln -s {1} /sys/fs/bpf/mptcp-agent/2-2'",
        NOBODY.join(" "),
        precious.path().display()
    );
    let script = format!("{plant} && exec \"$0\" cleanup");
    said_by(&mut with_open_bpffs(&host, &binary, &script))?;
    assert!(file.exists(), "cleanup removed it");

    let script = format!("{plant} && exec \"$0\" run --listen 127.0.0.1:0");
    let agent = Agent::launch(&host, with_open_bpffs(&host, &binary, &script))?;
    assert!(file.exists(), "run removed it");
    // The agent still has its own directory.
    let metrics = agent.scrape()?;
    assert_eq!(metrics.value("mptcp_agent_outlived", &[]), Some(1.0));
    assert!(
        agent.stderr().contains("belongs to user 65534"),
        "{}",
        agent.stderr()
    );
    agent.stop()?;
    assert!(file.exists(), "the end removed it");

    // Now a symbolic link takes the place of the directory of all agents.
    let plant = format!(
        "{} ln -s {} /sys/fs/bpf/mptcp-agent",
        NOBODY.join(" "),
        precious.path().display()
    );
    let script = format!("{plant} && exec \"$0\" run --listen 127.0.0.1:0");
    let agent = Agent::launch(&host, with_open_bpffs(&host, &binary, &script))?;
    assert_eq!(
        agent.scrape()?.value("mptcp_agent_outlived", &[]),
        Some(1.0)
    );
    agent.stop()?;
    assert_eq!(fs::read(&file)?, b"precious");
    assert_eq!(fs::read_dir(precious.path())?.count(), 1);
    Ok(())
}

#[test]
fn a_name_that_a_user_has_taken_keeps_no_agent_out() -> Result<()> {
    let binary = require_agent!();
    require!(Path::new("/usr/bin/perl").exists(), "perl is not there");
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    let _squatter = squatter(&net.client, &["perl", "-e", SQUAT])?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    assert!(agent.stderr().contains("user 65534"), "{}", agent.stderr());
    wait_for_cap(&transfer)?;

    // Still only one agent can run, in this mount namespace and in another, where
    // its lock file cannot be seen.
    let mut second = net.client.command(&binary);
    second.args(["run", "--listen", "127.0.0.1:0"]);
    let line = failure_of(&net.client, &mut second)?;
    assert!(line.contains("another mptcp-agent runs"), "{line}");
    let mut elsewhere = net.client.command("unshare");
    let script = "mount -t tmpfs none /run && exec \"$0\" cleanup";
    elsewhere
        .args(["--mount", "--", "sh", "-c", script])
        .arg(&binary);
    let output = elsewhere.stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("another mptcp-agent runs"), "{said}");
    wait_for_cap(&transfer)?;

    let agent = agent.take_over(&weighted(&["p1=1", "p2=3"]))?;
    wait_for_cap(&transfer)?;
    cleanup_after_a_kill(agent, &net.client, &binary, transfer)
}

/// Kills the agent, and checks that `cleanup` leaves no limit and no pin.
fn cleanup_after_a_kill(
    agent: Agent,
    host: &Host,
    binary: &Path,
    transfer: Transfer,
) -> Result<()> {
    agent.kill()?;
    tell(host, binary, &["cleanup"])?;
    assert!(!capped(&transfer.subflows()?));
    assert!(host.pins()?.is_empty());
    transfer.stop()?;
    Ok(())
}

#[test]
fn a_lock_that_a_user_holds_keeps_no_agent_from_its_socket() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    fs::create_dir_all("/run/mptcp-agent")?;
    let hold = "flock 9; echo ready; exec sleep 300";
    let script = format!("exec 9< /run/mptcp-agent; {hold}");
    let _squatter = squatter(&net.client, &["sh", "-c", &script])?;
    let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
    agent.tell(&["status"])?;
    wait_for_cap(&transfer)?;
    cleanup_after_a_kill(agent, &net.client, &binary, transfer)
}

#[test]
fn a_policy_that_is_dead_stays_dead() -> Result<()> {
    /// The time between two looks. It is short, because a dead policy that comes
    /// back sets its limits within a round trip.
    const LOOK: Duration = Duration::from_millis(5);
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let (_sink, transfer) = upload(&net, 2)?;
    for next in [vec!["cleanup"], vec!["run", "--listen", "127.0.0.1:0"]] {
        let agent = Agent::start(&net.client, &binary, &weighted(&["p1=1", "p2=3"]))?;
        wait_for_cap(&transfer)?;
        agent.kill()?;
        wait::try_until("no limit", SOON, || match transfer.subflows() {
            Ok(subflows) if !capped(&subflows) => Ok(()),
            other => Err(other),
        })?;
        let (mut looks, mut came_back) = (0, 0);
        let mut look = || -> Result<()> {
            looks += 1;
            came_back += usize::from(capped(&transfer.subflows()?));
            std::thread::park_timeout(LOOK);
            Ok(())
        };
        if next == ["cleanup"] {
            let mut command = net.client.command(&binary);
            let process = net
                .client
                .spawn(command.args(&next).stdout(Stdio::null()))?;
            while process.is_running() {
                look()?;
            }
        } else {
            let ready = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| -> Result<()> {
                let starting = scope.spawn(|| {
                    let agent = Agent::start(&net.client, &binary, &["--policy", "default"]);
                    ready.store(true, std::sync::atomic::Ordering::Relaxed);
                    agent
                });
                while !ready.load(std::sync::atomic::Ordering::Relaxed) {
                    look()?;
                }
                starting
                    .join()
                    .map_err(|_| anyhow::anyhow!("a panic"))??
                    .stop()
            })?;
        }
        assert!(looks > 10, "{looks}");
        assert_eq!(came_back, 0, "of {looks} looks during {next:?}");
    }
    transfer.stop()?;
    Ok(())
}
