//! A host: one network namespace, and what is done in it.

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
    /// Makes the namespace with loopback up and reverse-path filters off.
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
            // IPv6 addresses come back with their device.
            ("net.ipv6.conf.all.keep_addr_on_down", "1"),
            ("net.ipv6.conf.default.keep_addr_on_down", "1"),
            // A connection starts without what an earlier one learnt.
            ("net.ipv4.tcp_no_metrics_save", "1"),
        ] {
            host.sysctl(key, value)?;
        }
        Ok(host)
    }

    /// The name that [`Lab::host`](crate::Lab::host) was given.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The namespace's name, as `ip netns` prints it.
    pub fn netns(&self) -> &str {
        self.namespace.name()
    }

    /// The namespace's file, for `nsenter --net=`.
    pub fn netns_path(&self) -> PathBuf {
        self.namespace.path()
    }

    /// The same host, on which commands run in a container.
    pub fn container(&self, container: Container) -> Self {
        Self {
            container: Some(Arc::new(container)),
            ..self.clone()
        }
    }

    /// Removes the namespace's name, ahead of the last handle's drop.
    pub(crate) fn remove(&self) {
        self.namespace.remove();
    }

    /// Runs `work` on a thread in the namespace and gives its result. A panic
    /// in `work` goes on in the caller. Sockets made in it stay in the
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

    /// A command that will run in the namespace, and in nothing else that is
    /// new unless this host is a [`Host::container`]: /sys, and so the cgroups,
    /// stay those of the caller. [`Host::spawn`] or [`Host::output`] starts it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = process::command(program);
        // SAFETY: the closure makes one system call, on a file that it owns,
        // and allocates nothing, which is what may be done after a fork.
        unsafe { command.pre_exec(self.namespace.enter_after_fork()) };
        if let Some(container) = self.container.clone() {
            // SAFETY: the closure makes system calls only, on strings and a
            // file that it owns, and allocates nothing.
            unsafe { command.pre_exec(move || container.enter_after_fork()) };
        }
        command
    }

    /// Starts a process with `start`, in the container's PID namespace if it
    /// has one of its own.
    fn start<T: Send>(&self, start: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        if !self.container.as_ref().is_some_and(|own| own.has_pids()) {
            return start();
        }
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // For children of this thread, which ends here.
                unshare(CloneFlags::CLONE_NEWPID).context("make a PID namespace")?;
                start()
            });
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a command made with [`Host::command`] to its end and gives its
    /// standard output.
    ///
    /// # Errors
    /// It fails; what it said is in the error.
    pub fn output(&self, command: &mut Command) -> Result<String> {
        self.start(|| output_of(command))
    }

    /// Runs a command line, split at white space, to its end in the namespace
    /// and gives its standard output.
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

    /// Starts a command made with [`Host::command`]; it ends with its guard.
    pub fn spawn(&self, command: &mut Command) -> Result<Process> {
        self.start(|| Process::start(command))
    }

    /// Sets a sysctl of the namespace: `("net.mptcp.enabled", "1")`.
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

    /// `ip mptcp limits`: how many subflows a connection may have beside its
    /// first, and how many announced addresses it may accept (both at most 8).
    pub fn limits(&self, subflows: u8, add_addr_accepted: u8) -> Result<()> {
        self.run(&format!(
            "ip mptcp limits set subflows {subflows} add_addr_accepted {add_addr_accepted}"
        ))
        .map(drop)
    }

    /// `ip mptcp endpoint add`: `flags` are those of `ip mptcp`, such as
    /// `"subflow"`, `"signal"`, `"subflow backup"` or `"subflow fullmesh id 3"`.
    pub fn endpoint(&self, addr: IpAddr, device: &str, flags: &str) -> Result<()> {
        let mut line = format!("ip mptcp endpoint add {addr} ");
        // ip-mptcp wants the id ahead of the device.
        let mut words: Vec<&str> = flags.split_whitespace().collect();
        if let Some(at) = words.iter().position(|word| *word == "id") {
            let id: Vec<&str> = words.drain(at..(at + 2).min(words.len())).collect();
            write!(line, "{} ", id.join(" "))?;
        }
        write!(line, "dev {device} {}", words.join(" "))?;
        self.run(&line).map(drop)
    }

    /// `ip mptcp endpoint change`: `flags` are `"backup"`, `"nobackup"`,
    /// `"fullmesh"` or `"nofullmesh"`.
    pub fn change_endpoint(&self, id: u8, flags: &str) -> Result<()> {
        self.run(&format!("ip mptcp endpoint change id {id} {flags}"))
            .map(drop)
    }

    /// `ip mptcp endpoint delete`: closes the endpoint's subflows too.
    pub fn delete_endpoint(&self, id: u8) -> Result<()> {
        self.run(&format!("ip mptcp endpoint delete id {id}"))
            .map(drop)
    }
}

/// The file of a sysctl in dotted notation.
fn sysctl_path(key: &str) -> String {
    format!("/proc/sys/{}", key.replace('.', "/"))
}
