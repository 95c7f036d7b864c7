//! Programs as they are, by `mptcp-agent exec`: Debian's curl and nginx, and a
//! Python program with a child. Exit codes, signals and refusals are tested in
//! `mptcp-agent/tests/exec.rs`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::{Agent, Host, Lab, Process, TwoHosts, wait};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{require_agent, two_paths};
use crate::{SETTLE, SOON};

/// The size of the file that is downloaded: some seconds over both paths.
const SIZE: usize = 20_000_000;
/// So many bytes on a path are more than a handshake or a probe.
const MANY: u64 = 1_000_000;

/// Debian's nginx with one file, `data`. Dropping it ends it.
struct Nginx {
    process: Process,
    directory: TempDir,
}

impl Nginx {
    /// Starts nginx, by `mptcp-agent exec` if `agent` is given, and waits until it
    /// listens.
    fn start(host: &Host, agent: Option<&Path>) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let at = |name: &str| directory.path().join(name);
        fs::write(at("data"), vec![b'x'; SIZE])?;
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|of| format!("{of}_temp_path {};\n", at(of).display()))
            .concat();
        let config = format!(
            "user root;\ndaemon off;\nworker_processes 2;\npid {};\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}server {{ listen 80; root {}; }}\n}}\n",
            at("pid").display(),
            directory.path().display(),
        );
        fs::write(at("nginx.conf"), config)?;
        let log = File::create(at("log"))?;
        let mut command = match agent {
            Some(agent) => exec(host, agent, "nginx"),
            None => host.command("nginx"),
        };
        command
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(at("nginx.conf"))
            .args(["-e", "stderr"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let nginx = Self {
            process: host.spawn(&mut command)?,
            directory,
        };
        wait::try_until("nginx to listen", SOON, || {
            let listening = host.run("ss -Hltn sport = 80");
            match listening.map_err(|error| error.to_string()) {
                Ok(line) if !line.is_empty() => Ok(()),
                other => Err((other, nginx.log(), nginx.process.is_running())),
            }
        })?;
        Ok(nginx)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// Makes the command `mptcp-agent exec --way preload -- PROGRAM`.
fn exec(host: &Host, agent: &Path, program: &str) -> Command {
    let mut command = host.command(agent);
    command.args(["exec", "--way", "preload", "--", program]);
    command
}

/// Makes a download of nginx' file by curl through `mptcp-agent exec`. It prints
/// how many bytes came.
fn download(net: &TwoHosts, agent: &Path) -> Command {
    let mut command = exec(&net.client, agent, "curl");
    command
        .args(["--silent", "--show-error", "--fail", "--max-time", "60"])
        .args(["--output", "/dev/null", "--write-out", "%{size_download}"])
        .arg(format!("http://{}/data", net.server_addr()));
    command
}

/// Returns the acknowledged bytes of each subflow that the server's agent shows.
fn acked(agent: &Agent) -> Result<Vec<u64>> {
    let shown: Value = serde_json::from_str(&agent.tell(&["connections", "--json"])?)?;
    let connections = shown["connections"].as_array().context("no connections")?;
    ensure!(connections.len() == 1, "{shown}");
    let subflows = connections[0]["subflows"].as_array();
    let subflows = subflows.context("no subflows")?.iter();
    Ok(subflows
        .map(|subflow| subflow["acked_bytes"].as_u64().unwrap_or(0))
        .collect())
}

#[test]
fn curl_and_nginx_use_both_paths() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let agent = Agent::start(&net.server, &binary, &["--policy", "default"])?;
    let nginx = Nginx::start(&net.server, Some(&binary))?;
    ensure!(nginx.log().contains("exec: by preload"), "{}", nginx.log());
    let before = (net.client.netstat()?, net.server.netstat()?);

    let mut curl = download(&net, &binary);
    let curl = net
        .client
        .spawn(curl.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    wait::try_until("two subflows with bytes", SETTLE, || match acked(&agent) {
        Ok(bytes) if bytes.len() == 2 && bytes.iter().all(|&one| one > MANY) => Ok(()),
        other => Err(other.map_err(|error| format!("{error:#}"))),
    })?;
    ensure!(curl.wait(SETTLE)?.success());
    let output = curl.with_child(|child| child.stdout.take());
    let output = std::io::read_to_string(output.context("no pipe")?)?;
    assert_eq!(output, SIZE.to_string());

    for link in &net.links {
        let sent = net.server.device(&link.name)?.tx_bytes;
        ensure!(sent > MANY, "{}: {sent} bytes", link.name);
    }
    let client = net.client.netstat()?.since(&before.0);
    let server = net.server.netstat()?.since(&before.1);
    assert_eq!(
        client.get("MPTcpExt.MPCapableSYNTX"),
        Some(&1),
        "{client:?}"
    );
    assert_eq!(
        server.get("MPTcpExt.MPCapableSYNRX"),
        Some(&1),
        "{server:?}"
    );
    assert_eq!(server.get("MPTcpExt.MPJoinAckRx"), Some(&1), "{server:?}");
    nginx.process.stop()?;
    agent.stop()
}

#[test]
fn a_server_without_mptcp_gets_plain_tcp() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let _nginx = Nginx::start(&net.server, None)?;
    let before = net.client.netstat()?;
    let bytes = net.client.output(&mut download(&net, &binary))?;
    assert_eq!(bytes, SIZE.to_string());
    let counted = net.client.netstat()?.since(&before);
    let fallback = counted.get("MPTcpExt.MPCapableFallbackSYNACK");
    assert_eq!(fallback, Some(&1), "{counted:?}");
    let second = net.client.device(&net.links[1].name)?.rx_bytes;
    ensure!(second < MANY, "{second} bytes on the second path");
    Ok(())
}

/// Prints the protocol of TCP sockets with all flags, of other sockets, and of TCP
/// sockets in a forked child and in a program that this starts.
const PYTHON: &str = "
import os, socket, subprocess, sys
SO_PROTOCOL = 38
def protocols():
    flags = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    for family, kind, protocol in [
        (socket.AF_INET, socket.SOCK_STREAM, 0),
        (socket.AF_INET6, socket.SOCK_STREAM | flags, socket.IPPROTO_TCP),
        (socket.AF_INET, socket.SOCK_DGRAM, 0),
        (socket.AF_UNIX, socket.SOCK_STREAM, 0),
    ]:
        one = socket.socket(family, kind, protocol)
        yield one.getsockopt(socket.SOL_SOCKET, SO_PROTOCOL)
        if kind & flags:
            assert not os.get_inheritable(one.fileno()) and not one.getblocking()
def show(who):
    print(who, *protocols(), flush=True)
if sys.argv[1:]:
    show('program')
    sys.exit()
show('parent')
if os.fork() == 0:
    show('child')
    os._exit(0)
os.wait()
subprocess.run([sys.executable, __file__, 'again'], check=True)
sys.exit(3)
";

/// Runs [`PYTHON`] and returns its output, and what was said on stderr.
fn python(host: &Host, binary: &Path) -> Result<(String, String)> {
    let directory = tempfile::tempdir()?;
    let script = directory.path().join("sockets.py");
    fs::write(&script, PYTHON)?;
    let mut command = exec(host, binary, "python3");
    command
        .arg(&script)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let process = host.spawn(&mut command)?;
    let status = process.wait(Duration::from_secs(30))?;
    let streams = process.with_child(|child| (child.stdout.take(), child.stderr.take()));
    let said = std::io::read_to_string(streams.1.context("no pipe")?)?;
    ensure!(status.code() == Some(3), "{status}: {said}");
    let output = std::io::read_to_string(streams.0.context("no pipe")?)?;
    Ok((output, said))
}

#[test]
fn children_and_what_they_start_have_it_too() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let (output, _) = python(&host, &binary)?;
    let of = |who: &str, tcp: u32| format!("{who} {tcp} {tcp} 17 0\n");
    let all = |tcp| {
        ["parent", "child", "program"]
            .map(|who| of(who, tcp))
            .concat()
    };
    assert_eq!(output, all(262));

    // Without MPTCP, the program gets what it asked for, and the user is told.
    host.sysctl("net.mptcp.enabled", "0")?;
    let (output, said) = python(&host, &binary)?;
    assert_eq!(output, all(6));
    let warning = "warning: Multipath TCP is switched off in this network namespace";
    ensure!(said.contains(warning), "{said}");
    Ok(())
}

/// Prints the protocol of a TCP socket.
const ONE_SOCKET: &str = "import socket; print(socket.socket().getsockopt(1, 38))";

#[test]
fn bpf_works_or_says_why_not_and_leaves_nothing() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let run = |way: &str| -> Result<(Option<i32>, String, String)> {
        let mut command = host.command(&binary);
        command
            .args(["exec", "--way", way, "--", "python3", "-c", ONE_SOCKET])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let process = host.spawn(&mut command)?;
        let status = process.wait(SOON)?;
        let streams = process.with_child(|child| (child.stdout.take(), child.stderr.take()));
        let output = std::io::read_to_string(streams.0.context("no pipe")?)?;
        let said = std::io::read_to_string(streams.1.context("no pipe")?)?;
        Ok((status.code(), output, said))
    };
    let (code, output, said) = run("bpf")?;
    let works = code == Some(0);
    if works {
        assert_eq!(output, "262\n");
        ensure!(said.contains("exec: by bpf"), "{said}");
    } else {
        // `cargo xtask vm` checks kernels that allow it.
        assert_eq!((code, said.lines().count()), (Some(125), 1), "{said}");
        ensure!(said.contains("update_socket_protocol"), "{said}");
    }
    // By itself it takes another way then, and says why.
    let (code, output, said) = run("auto")?;
    assert_eq!((code, &*output), (Some(0), "262\n"), "{said}");
    assert_eq!(said.contains("exec: not by bpf: "), !works, "{said}");
    assert_eq!(said.contains("exec: by preload: "), !works, "{said}");
    wait::try_until("no cgroup", SOON, || match groups() {
        Ok(groups) if groups.is_empty() => Ok(()),
        other => Err(other.map_err(|error| error.to_string())),
    })
}

/// Returns the cgroups beside that of this process which `exec` has made.
fn groups() -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let mut found = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next(), fields.next());
        let Some(place) = place.filter(|_| kind == Some("cgroup2")) else {
            continue;
        };
        for entry in fs::read_dir(Path::new(place).join(own.unwrap_or_default()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            found.extend(name.starts_with("mptcp-agent-exec-").then_some(name));
        }
    }
    Ok(found)
}
