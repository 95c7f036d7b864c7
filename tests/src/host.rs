//! A host: one network namespace, and the operations on it.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};

use crate::container::Container;
use crate::namespace::Namespace;
use crate::process::{self, Process, output_of, output_with_input};

/// A host of a [`Lab`](crate::Lab). A clone is another handle on the same host.
#[derive(Debug, Clone)]
pub struct Host {
    label: String,
    namespace: Arc<Namespace>,
    container: Option<Arc<Container>>,
}

impl Host {
    /// Makes the namespace, sets loopback up and reverse-path filters off.
    pub(crate) fn create(label: &str) -> Result<Self> {
        let host = Self {
            label: label.to_owned(),
            namespace: Arc::new(Namespace::create(label)?),
            container: None,
        };
        host.run("ip link set lo up")?;
        for (key, value) in [
            ("net.ipv4.conf.all.rp_filter", "0"),
            ("net.ipv4.conf.default.rp_filter", "0"),
            ("net.ipv6.conf.all.disable_ipv6", "0"),
            ("net.ipv6.conf.default.disable_ipv6", "0"),
            // Keep the IPv6 addresses of a device that goes down and up again.
            ("net.ipv6.conf.all.keep_addr_on_down", "1"),
            ("net.ipv6.conf.default.keep_addr_on_down", "1"),
            // Do not let a connection start with metrics of an earlier one.
            ("net.ipv4.tcp_no_metrics_save", "1"),
        ] {
            host.sysctl(key, value)?;
        }
        Ok(host)
    }

    /// Returns the name that was given to [`Lab::host`](crate::Lab::host).
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns the namespace's name, as `ip netns` prints it.
    pub fn netns(&self) -> &str {
        self.namespace.name()
    }

    /// Returns the namespace's file, for `nsenter --net=`.
    pub fn netns_path(&self) -> PathBuf {
        self.namespace.path()
    }

    /// Returns a handle on the same host whose commands run in a container.
    pub fn container(&self, container: Container) -> Self {
        Self {
            container: Some(Arc::new(container)),
            ..self.clone()
        }
    }

    /// Removes the namespace's name, even while other handles exist.
    pub(crate) fn remove(&self) {
        self.namespace.remove();
    }

    /// Runs `work` on a thread in the namespace and returns its result. A panic in
    /// `work` continues in the caller. Sockets that `work` makes stay in the
    /// namespace wherever they are used.
    pub fn in_ns<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.namespace.enter()?;
                work()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts `work` on a thread in the namespace.
    pub fn spawn_in_ns<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> JoinHandle<Result<T>> {
        let namespace = Arc::clone(&self.namespace);
        std::thread::spawn(move || {
            namespace.enter()?;
            work()
        })
    }

    /// Returns a command that will run in the network namespace. It shares all
    /// other namespaces with the caller, unless this host is a
    /// [`Host::container`]; so /sys and the cgroups are the caller's. Start it
    /// with [`Host::spawn`] or [`Host::output`].
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = process::command(program);
        // SAFETY: the closure makes one system call, on a file that it owns,
        // and allocates nothing, as is required after a fork.
        unsafe { command.pre_exec(self.namespace.enter_after_fork()) };
        if let Some(container) = self.container.clone() {
            // SAFETY: the closure makes system calls only, on strings and a
            // file that it owns, and allocates nothing.
            unsafe { command.pre_exec(move || container.enter_after_fork()) };
        }
        command
    }

    /// Calls `start` to start a process, in a new PID namespace if the container
    /// asks for one.
    fn start<T: Send>(&self, start: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        if !self.container.as_ref().is_some_and(|own| own.has_pids()) {
            return start();
        }
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // This affects only the children of this thread, which ends here.
                unshare(CloneFlags::CLONE_NEWPID).context("make a PID namespace")?;
                start()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a command made with [`Host::command`] to its end and returns its
    /// standard output.
    ///
    /// # Errors
    /// The command fails; the error contains its standard error.
    pub fn output(&self, command: &mut Command) -> Result<String> {
        self.start(|| output_of(command))
    }

    /// Splits a command line at white space, runs it to its end in the namespace
    /// and returns its standard output.
    pub fn run(&self, command_line: &str) -> Result<String> {
        let mut words = command_line.split_whitespace();
        let program = words.next().context("an empty command line")?;
        self.output(self.command(program).args(words))
    }

    /// Applies an nftables script in the namespace, as one transaction.
    pub fn nft(&self, script: &str) -> Result<()> {
        self.start(|| output_with_input(self.command("nft").args(["-f", "-"]), script))
            .with_context(|| format!("nftables script:\n{script}"))
            .map(drop)
    }

    /// Starts a command made with [`Host::command`]; dropping the guard ends it.
    pub fn spawn(&self, command: &mut Command) -> Result<Process> {
        self.start(|| Process::start(command))
    }

    /// Sets a sysctl of the namespace, such as `("net.mptcp.enabled", "1")`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.in_ns(|| {
            std::fs::write(sysctl_path(key), value).with_context(|| format!("set {key}={value}"))
        })
    }

    /// Reads a sysctl of the namespace.
    pub fn sysctl_get(&self, key: &str) -> Result<String> {
        self.in_ns(|| {
            let value = std::fs::read_to_string(sysctl_path(key));
            Ok(value
                .with_context(|| format!("read {key}"))?
                .trim()
                .to_owned())
        })
    }

    /// Runs `ip mptcp limits`: sets how many subflows a connection may have beside
    /// its first, and how many announced addresses it may accept (both at most 8).
    pub fn limits(&self, subflows: u8, add_addr_accepted: u8) -> Result<()> {
        self.run(&format!(
            "ip mptcp limits set subflows {subflows} add_addr_accepted {add_addr_accepted}"
        ))
        .map(drop)
    }

    /// Runs `ip mptcp endpoint add`: `flags` are those of `ip mptcp`, such as
    /// `"subflow"`, `"signal"`, `"subflow backup"` or `"subflow fullmesh id 3"`.
    pub fn endpoint(&self, addr: IpAddr, device: &str, flags: &str) -> Result<()> {
        let mut line = format!("ip mptcp endpoint add {addr} ");
        // ip-mptcp wants the id before the device.
        let mut words: Vec<&str> = flags.split_whitespace().collect();
        if let Some(at) = words.iter().position(|word| *word == "id") {
            let id: Vec<&str> = words.drain(at..(at + 2).min(words.len())).collect();
            write!(line, "{} ", id.join(" "))?;
        }
        write!(line, "dev {device} {}", words.join(" "))?;
        self.run(&line).map(drop)
    }

    /// Runs `ip mptcp endpoint change`: `flags` are `"backup"`, `"nobackup"`,
    /// `"fullmesh"` or `"nofullmesh"`.
    pub fn change_endpoint(&self, id: u8, flags: &str) -> Result<()> {
        self.run(&format!("ip mptcp endpoint change id {id} {flags}"))
            .map(drop)
    }

    /// Runs `ip mptcp endpoint delete`, which also closes the endpoint's subflows.
    pub fn delete_endpoint(&self, id: u8) -> Result<()> {
        self.run(&format!("ip mptcp endpoint delete id {id}"))
            .map(drop)
    }
}

/// Returns the file of a sysctl that is given in dotted notation.
fn sysctl_path(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}
