//! The agent reports any wrong input in one line, fails, and leaves existing
//! connections alone.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mptcp_lab::traffic::{Server, Transfer};
use mptcp_lab::{Agent, Lab, TwoHosts, wait};

use crate::SOON;
use crate::support::{capped, failure_of, require_agent, two_paths, upload};

/// A client that has a connection while an agent fails to start beside it.
struct Scene {
    net: TwoHosts,
    _sink: Server,
    transfer: Transfer,
    _lab: Lab,
}

impl Scene {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let net = two_paths(&lab)?;
        let (sink, transfer) = upload(&net, 2)?;
        Ok(Self {
            net,
            _sink: sink,
            transfer,
            _lab: lab,
        })
    }

    /// Returns the agent's `run` with these arguments, after the words of `before`.
    fn command(&self, before: &[&str], binary: &Path, arguments: &str) -> Command {
        let binary = binary.to_string_lossy();
        let mut words: Vec<&str> = before.to_vec();
        words.extend([&*binary, "run"]);
        words.extend(arguments.split_whitespace());
        let mut command = self.net.client.command(words[0]);
        command.args(&words[1..]);
        command
    }

    /// Checks that the command fails with a message that contains all of
    /// `expected`, and that the connection is not affected.
    fn refuses(&self, command: &mut Command, expected: &[&str]) -> Result<()> {
        let line = failure_of(&self.net.client, command).with_context(|| format!("{command:?}"))?;
        for part in expected {
            assert!(
                line.contains(part),
                "{command:?} does not say {part:?}: {line}"
            );
        }
        assert!(!capped(&self.transfer.subflows()?));
        self.transfer.wait_for_progress(300_000, SOON)?;
        assert_eq!(self.transfer.subflows()?.len(), 2);
        Ok(())
    }

    fn refuses_arguments(&self, binary: &Path, arguments: &str, expected: &[&str]) -> Result<()> {
        // Use port 0: a port in use would be another reason to fail.
        let arguments = match arguments.contains("--listen") {
            true => arguments.to_owned(),
            false => format!("--listen 127.0.0.1:0 {arguments}"),
        };
        self.refuses(&mut self.command(&[], binary, &arguments), expected)
    }
}

#[test]
fn arguments_that_make_no_sense() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::new()?;
    for (arguments, expected) in [
        ("--policy fast", &["fast", "--policy"][..]),
        ("--policy weighted --weight eth0", &["`eth0`", "SELECTOR=N"]),
        ("--policy weighted --weight =1", &["selector is missing"]),
        ("--policy weighted --weight device:eth0=1", &["device:eth0"]),
        (
            "--policy weighted --weight id:256=1",
            &["id:256", "0 to 255"],
        ),
        (
            "--policy weighted --weight remote-id:x=1",
            &["remote-id:x", "0 to 255"],
        ),
        ("--policy weighted --weight 10.0.0.256=1", &["10.0.0.256"]),
        (
            "--policy weighted --weight 10.77.1.1/24=1",
            &["10.77.1.0/24"],
        ),
        ("--policy weighted --weight fd00::1/64=1", &["fd00::/64"]),
        (
            "--policy weighted --weight a-name-that-is-too-long=1",
            &["too long"],
        ),
        ("--policy weighted --weight p1=65536", &["65536", "65535"]),
        ("--policy weighted --weight p1=-1", &["-1", "65535"]),
        (
            "--quota p1=50GB/month",
            &["--quota", "`p1=50GB/month`", "add action:warn"],
        ),
        (
            "--policy weighted --quota p1=50gb/month",
            &["`50gb`", "MB, GB or TB"],
        ),
        (
            "--policy weighted --quota p1=50GB/month,reset:31",
            &["`reset:31`", "1 to 28"],
        ),
        (
            "--policy weighted --quota id:1=50GB/month,count:device",
            &["`id:1` is no device"],
        ),
        (
            "--policy weighted --weight p1=1.5",
            &["1.5", "whole number"],
        ),
        (
            "--policy weighted --weight p1=1 --weight p1=2",
            &["p1", "same path"],
        ),
        (
            "--policy weighted --weight 10.77.1.1=1 --weight ::ffff:10.77.1.1=2",
            &["10.77.1.1", "same path"],
        ),
        (
            "--policy weighted --weight default=1 --weight default=1",
            &["default", "same path"],
        ),
        (
            "--policy weighted --weight p1=0 --weight default=0",
            &["all weights are 0"],
        ),
        ("--weight p1=1", &["--weight", "choose policy weighted"]),
        (
            "--weighted-mode spill",
            &["--weighted-mode", "choose policy weighted"],
        ),
        ("--policy weighted --weighted-mode lax", &["lax"]),
        ("--listen 8684", &["8684", "--listen", "unix:PATH"]),
        (
            "--listen unix:relative.sock",
            &["relative.sock", "absolute"],
        ),
        (
            "--web.config.file /nonexistent",
            &["/nonexistent", "No such file"],
        ),
        ("--max-connections 0", &["0", "--max-connections"]),
        ("--log-format xml", &["xml", "--log-format"]),
        ("--control relative.sock", &["relative.sock", "absolute"]),
        ("--control /", &["directory"]),
        (
            "--control /dev/null/x.sock",
            &["/dev/null", "not a directory"],
        ),
        (
            "--state-dir relative",
            &["--state-dir relative", "absolute"],
        ),
        ("--state-dir /dev/null", &["/dev/null", "no directory"]),
        ("--cgroup /nonexistent", &["/nonexistent", "No such file"]),
        ("--cgroup /tmp", &["/tmp", "cgroup2"]),
        ("--nonsense", &["--nonsense"]),
    ] {
        scene.refuses_arguments(&binary, arguments, expected)?;
    }
    Ok(())
}

#[test]
fn an_address_that_is_taken_or_not_there() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::new()?;
    let taken = scene
        .net
        .client
        .in_ns(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let address = taken.local_addr()?.to_string();
    scene.refuses_arguments(
        &binary,
        &format!("--listen {address}"),
        &[&address, "in use"],
    )?;
    scene.refuses_arguments(&binary, "--listen 192.0.2.1:8684", &["192.0.2.1:8684"])
}

#[test]
fn missing_capabilities_are_named() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::new()?;
    let without = |bounding: &str, expected: &[&str]| {
        let bounding = format!("--bounding-set={bounding}");
        let before = ["setpriv", &*bounding, "--inh-caps=-all"];
        scene.refuses(
            &mut scene.command(&before, &binary, "--listen 127.0.0.1:0"),
            expected,
        )
    };
    without("-all", &["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "root"])?;
    without("-sys_admin,-net_admin", &["CAP_NET_ADMIN"])?;
    let before = ["setpriv", "--reuid=65534", "--clear-groups"];
    let mut command = scene.command(&before, &binary, "--listen 127.0.0.1:0");
    scene.refuses(&mut command, &["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"])
}

#[test]
fn no_mptcp() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::new()?;
    let hidden = hiding("/proc/sys/net/mptcp");
    let mut command = scene.command(&hidden, &binary, "--listen 127.0.0.1:0");
    scene.refuses(&mut command, &["no Multipath TCP", "CONFIG_MPTCP"])?;
    scene.net.client.sysctl("net.mptcp.enabled", "0")?;
    scene.refuses_arguments(&binary, "", &["net.mptcp.enabled"])
}

#[test]
fn no_btf() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::new()?;
    let hidden = hiding("/sys/kernel/btf");
    let mut command = scene.command(&hidden, &binary, "--listen 127.0.0.1:0");
    scene.refuses(
        &mut command,
        &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF", "--btf"],
    )
}

#[test]
fn types_of_a_file() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::new()?;
    let directory = tempfile::tempdir()?;
    let place = |name: &str| directory.path().join(name);
    let run = |before: &[&str], file: &Path| {
        let arguments = format!("--listen 127.0.0.1:0 --btf {}", file.display());
        scene.command(before, &binary, &arguments)
    };
    let hidden = hiding("/sys/kernel/btf");
    let copy = place("copy");
    fs::copy("/sys/kernel/btf/vmlinux", &copy)?;

    // Only the file has the types, so an agent that sees connections uses it.
    for elf in [false, true] {
        let file = if elf { place("elf") } else { copy.clone() };
        if elf {
            let mut objcopy = Command::new("objcopy");
            objcopy.args(["-I", "binary", "-O", "elf64-little"]);
            objcopy.args(["--rename-section", ".data=.BTF"]);
            ensure!(objcopy.arg(&copy).arg(&file).status()?.success(), "objcopy");
        }
        let agent = Agent::launch(&scene.net.client, run(&hidden, &file))?;
        let scrape = || {
            agent
                .scrape()
                .map(|metrics| metrics.sum("mptcp_subflows", &[]))
        };
        wait::until_true("two subflows", SOON, || {
            scrape().is_ok_and(|sum| sum == 2.0)
        });
        agent.stop()?;
    }

    fs::write(place("text"), "types")?;
    scene.refuses(
        &mut run(&hidden, &place("none")),
        &["--btf", "No such file"],
    )?;
    scene.refuses(&mut run(&hidden, &place("text")), &["neither BTF nor"])?;
    scene.refuses(&mut run(&hidden, &binary), &["no section .BTF"])?;
    let mut types = fs::read(&copy)?;
    types.truncate(types.len() / 2);
    fs::write(place("half"), &types)?;
    scene.refuses(&mut run(&hidden, &place("half")), &["broken"])?;
    let other = ["leave --btf out", "/sys/kernel/btf/vmlinux"];
    scene.refuses(&mut run(&[], &place("half")), &other)
}

/// Returns a command that runs its arguments where `directory` is empty.
fn hiding(directory: &str) -> [&str; 6] {
    let script = r#"mount -t tmpfs none "$0" && exec "$@""#;
    ["unshare", "--mount", "sh", "-c", script, directory]
}

#[test]
fn no_cgroup2() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::new()?;
    // If no cgroup2 is mounted, the agent mounts one for itself ...
    let script = r#"umount -a -t cgroup2 && exec "$@""#;
    let unmounted = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let command = scene.command(&unmounted, &binary, "--listen 127.0.0.1:0");
    Agent::launch(&scene.net.client, command)?.stop()?;
    // ... if it has the permission.
    let mut before = unmounted.to_vec();
    before.extend(["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all"]);
    let mut command = scene.command(&before, &binary, "--listen 127.0.0.1:0");
    scene.refuses(&mut command, &["cgroup2", "--cgroup"])
}

#[test]
fn a_device_that_does_not_exist_is_a_warning() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::new()?;
    let weights = "--listen 127.0.0.1:0 --policy weighted --weight p1=1 --weight none0=1";
    let agent = Agent::launch(&scene.net.client, scene.command(&[], &binary, weights))?;
    let log = agent.stderr();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("none0"), "{log}");
    scene.transfer.wait_for_progress(1_000_000, SOON)?;
    agent.stop()
}

#[test]
fn where_ip_netns_exec_hides_the_cgroups() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::new()?;
    // This is what an operator would type. It makes no difference that the command
    // runs inside the namespace already.
    let before = ["ip", "netns", "exec", scene.net.client.netns()];
    let command = scene.command(&before, &binary, "--listen 127.0.0.1:0");
    let agent = Agent::launch(&scene.net.client, command)?;
    assert_eq!(agent.scrape()?.value("mptcp_connections", &[]), Some(1.0));
    agent.stop()
}
