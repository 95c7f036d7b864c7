//! HTTP on several places: addresses and unix sockets, through an upgrade and a
//! kill, and with clients that behave badly.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mptcp_lab::{Agent, Host, Lab, wait};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::support::{failure_of, require_agent};
use crate::{SETTLE, SOON};

/// Gets a page with curl, which knows unix sockets.
pub(crate) fn curl(host: &Host, args: &[&str]) -> Result<String> {
    let mut curl = host.command("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "10"]);
    host.output(curl.args(args))
}

/// Gets a page over a unix socket.
fn over_unix(host: &Host, socket: &Path, page: &str) -> Result<String> {
    let socket = socket.to_string_lossy();
    curl(
        host,
        &["--unix-socket", &socket, &format!("http://agent{page}")],
    )
}

/// An agent on an address and a unix socket, and a directory for the latter.
struct Scene {
    agent: Agent,
    socket: PathBuf,
    host: Host,
    _directory: tempfile::TempDir,
    _lab: Lab,
}

impl Scene {
    fn new(binary: &Path) -> Result<Self> {
        let lab = Lab::new()?;
        let host = lab.host("alone")?;
        let directory = tempfile::tempdir()?;
        // The agent makes directories that are missing.
        let socket = directory.path().join("run/metrics.sock");
        let agent = Agent::start(&host, binary, &["--listen", &unix(&socket)])?;
        Ok(Self {
            agent,
            socket,
            host,
            _directory: directory,
            _lab: lab,
        })
    }
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

#[test]
fn an_address_and_a_unix_socket_serve_the_same_through_an_upgrade() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::new(&binary)?;
    let (host, socket) = (&scene.host, &scene.socket);
    assert!(scene.agent.get("/metrics")?.contains("mptcp_agent"));
    assert!(over_unix(host, socket, "/metrics")?.contains("mptcp_agent"));
    let file = fs::metadata(socket)?;
    assert!(file.file_type().is_socket());
    assert_eq!(
        (file.mode() & 0o7777, file.uid(), file.gid()),
        (0o660, 0, 0)
    );
    let status = scene.agent.tell(&["status"])?;
    let places = format!("http://{}/metrics, unix:", scene.agent.listen());
    assert!(status.contains(&places), "{status}");

    let successor = scene.agent.take_over(&["--listen", &unix(socket)])?;
    assert_eq!(successor.listen(), scene.agent.listen());
    assert_eq!(successor.get("/healthz")?, "ok\n");
    assert_eq!(over_unix(host, socket, "/healthz")?, "ok\n");

    // Another agent, in another namespace, does not get the socket.
    let lab = Lab::new()?;
    let other = lab.host("other")?;
    let mut command = other.command(&binary);
    command.args(["run", "--listen", &unix(socket)]);
    let line = failure_of(&other, &mut command)?;
    assert!(line.contains("another agent has the HTTP socket"), "{line}");
    assert_eq!(over_unix(host, socket, "/healthz")?, "ok\n");

    successor.kill()?;
    assert!(socket.exists(), "a kill leaves the file");
    let next = Agent::start(host, &binary, &["--listen", &unix(socket)])?;
    assert_eq!(over_unix(host, socket, "/healthz")?, "ok\n");
    next.stop()?;
    assert!(!socket.exists(), "a stop removes the file");
    Ok(())
}

#[test]
fn what_cannot_be_had_is_one_line() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("file");
    fs::write(&file, "precious")?;
    let taken = host.in_ns(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let taken = taken.local_addr()?.to_string();
    for (places, expected) in [
        (vec![unix(&file)], "is no socket: remove it"),
        (vec![unix(directory.path())], "is a directory"),
        (vec!["127.0.0.1:0".to_owned(), taken.clone()], "in use"),
        (
            vec!["[::1]:7".to_owned(), "[::1]:7".to_owned()],
            "given twice",
        ),
    ] {
        let mut command = host.command(&binary);
        command.arg("run");
        for place in &places {
            command.args(["--listen", place]);
        }
        let line = failure_of(&host, &mut command)?;
        assert!(line.contains(expected), "{places:?}: {line}");
    }
    assert_eq!(fs::read(&file)?, b"precious");
    Ok(())
}

#[test]
fn an_open_address_without_tls_and_password_is_warned_of_once() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let places = ["--listen", "0.0.0.0:0", "--listen", "[::]:0"];
    let agent = Agent::start(&host, &binary, &places)?;
    let log = agent.stderr();
    let warnings = log.lines().filter(|line| line.contains("neither TLS nor"));
    assert_eq!(warnings.count(), 1, "{log}");
    assert!(log.contains("0.0.0.0:0 and [::]:0"), "{log}");
    agent.stop()
}

/// Makes room for this many open files in this process.
fn allow_files(count: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < count {
        setrlimit(Resource::RLIMIT_NOFILE, count, hard.max(count))?;
    }
    Ok(())
}

/// Returns a value of /proc/PID/status, kB, and the number of open files.
pub(crate) fn footprint(agent: &Agent) -> Result<(u64, usize)> {
    let process = agent.process().pid();
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = line.and_then(|line| line.split_whitespace().next());
    let files = fs::read_dir(format!("/proc/{process}/fd"))?.count();
    Ok((memory.context("no VmRSS")?.parse()?, files))
}

/// Opens connections that say nothing. Those for which the listener has no room
/// stay half open.
fn idle(host: &Host, address: SocketAddr, count: usize) -> Result<Vec<Socket>> {
    host.in_ns(|| {
        let sockets = (0..count).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            match socket.connect(&address.into()) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error.into()),
                _ => Ok(socket),
            }
        });
        sockets.collect()
    })
}

#[test]
fn ten_thousand_idle_clients_cost_little_and_keep_nobody_from_the_socket() -> Result<()> {
    const CLIENTS: usize = 10_000;
    const MORE_KB: u64 = 8 * 1024;
    let binary = require_agent!();
    let scene = Scene::new(&binary)?;
    allow_files(CLIENTS as u64 + 1000)?;
    scene.agent.get("/metrics")?;
    let (before_kb, files) = footprint(&scene.agent)?;
    let clients = idle(&scene.host, scene.agent.listen(), CLIENTS)?;
    wait::try_until("the agent to accept what it will", SOON, || {
        let now = footprint(&scene.agent).map_err(|error| error.to_string())?;
        (now.1 >= files + 32)
            .then_some(())
            .ok_or(format!("{now:?}"))
    })?;
    for _ in 0..10 {
        let text = over_unix(&scene.host, &scene.socket, "/metrics")?;
        assert!(text.contains("mptcp_agent"));
        let (now_kb, now) = footprint(&scene.agent)?;
        ensure!(now <= files + 40, "{files} files before, {now} now");
        ensure!(
            now_kb <= before_kb + MORE_KB,
            "{before_kb} kB before, {now_kb} now"
        );
    }
    // Once they are gone, others get in.
    drop(clients);
    wait::try_until("the address to answer", SETTLE, || {
        scene
            .agent
            .get("/healthz")
            .map(drop)
            .map_err(|error| format!("{error:#}"))
    })?;
    scene.agent.stop()
}

#[test]
fn clients_that_never_read_lose_their_places() -> Result<()> {
    let binary = require_agent!();
    let scene = Scene::new(&binary)?;
    let (_, files) = footprint(&scene.agent)?;
    let address = scene.agent.listen();
    let clients = scene.host.in_ns(|| {
        let clients = (0..32).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            // As little as the kernel allows, so that the answer does not fit.
            socket.set_recv_buffer_size(1)?;
            socket.connect(&address.into())?;
            let mut stream = TcpStream::from(socket);
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
            Ok(stream)
        });
        clients.collect::<Result<Vec<_>>>()
    })?;
    assert_eq!(over_unix(&scene.host, &scene.socket, "/healthz")?, "ok\n");
    wait::try_until("the agent to give up on them", SETTLE, || {
        let (_, now) = footprint(&scene.agent).map_err(|error| error.to_string())?;
        (now <= files)
            .then_some(())
            .ok_or(format!("{files} before, {now} now"))
    })?;
    assert_eq!(scene.agent.get("/healthz")?, "ok\n");
    drop(clients);
    scene.agent.stop()
}
