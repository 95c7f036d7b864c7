//! Loads the eBPF object into the running kernel and attaches its programs.

use std::{os::fd::BorrowedFd, path::Path};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Btf, Ebpf, EbpfLoader, include_bytes_aligned,
    programs::{BtfTracePoint, CgroupAttachMode, Iter, ProgramError, SockOps},
    sys::{Stats, enable_stats},
};
use aya_log::EbpfLogger;
use mptcp_common::{
    abi::{ABI_SYMBOL, ABI_VERSION, SUBFLOWS_PER_CONNECTION},
    offsets::hook,
};
use rustix::fs::{Access, AtFlags};

use super::{
    Attachment, Kernel,
    btf::{Layout, VMLINUX},
    members::Members,
    program,
    tc::{self, Tc},
};

/// The eBPF side, built by `cargo xtask build`; empty if it was not.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/mptcp-ebpf.o"));

/// What is to be loaded, and where.
pub struct LoadOptions<'a> {
    /// Connections that the maps hold.
    pub max_connections: u32,
    /// cgroup2 directory whose sockets are seen.
    pub cgroup: BorrowedFd<'a>,
    /// The agent's network namespace: `SO_NETNS_COOKIE`.
    pub netns_cookie: u64,
    /// Under the redundant policy: a random number, not 0, that marks copies
    /// on their way through this host.
    pub redundant: Option<u64>,
}

/// A program of the object.
pub(super) struct Hook {
    pub(super) name: &'static str,
    pub(super) symbol: &'static str,
    purpose: &'static str,
    /// Bit in `offsets::hook`.
    bit: u8,
    attach: fn(&mut Ebpf, &Btf, BorrowedFd<'_>) -> Result<()>,
}

/// Every program, the indispensable first.
pub(super) const PROGRAMS: &[Hook] = &[
    Hook {
        name: program::SOCKOPS,
        symbol: "mptcp_sockops",
        purpose: "sees connections and subflows, steers them",
        bit: hook::SOCKOPS,
        attach: attach_sockops,
    },
    Hook {
        name: program::GET_SEND,
        symbol: "mptcp_subflow_get_send",
        purpose: "sees scheduling decisions, MP_PRIO and stale subflows",
        bit: hook::GET_SEND,
        attach: attach_get_send,
    },
    Hook {
        name: program::ITER,
        symbol: "iter_tcp",
        purpose: "adopts older connections, exact totals, lifts limits",
        bit: hook::ITER,
        attach: load_iter,
    },
];

pub(super) fn load(options: &LoadOptions<'_>) -> Result<Kernel> {
    // Lockdown does not always say that it is there: its file is in securityfs,
    // which may not be mounted.
    if may_probe_read() {
        match load_with(options, true) {
            Err(error) => tracing::debug!("without bpf_probe_read_kernel, because: {error:#}"),
            loaded => return loaded,
        }
    }
    load_with(options, false)
}

fn load_with(options: &LoadOptions<'_>, probe_read: bool) -> Result<Kernel> {
    if OBJECT.is_empty() {
        bail!("this binary was built without its eBPF programs: build it with `cargo xtask build`");
    }
    let layout = Layout::read(Path::new(VMLINUX))?;
    let members = Members::find(&layout);
    if let Some(missing) = members.refusal(hook::SOCKOPS) {
        bail!("cannot observe MPTCP: {missing}");
    }
    let btf = Btf::from_sys_fs().context("cannot read the kernel's BTF")?;
    // Before anything is loaded, so that no run is missed. It only costs the
    // metrics of run time where it is refused.
    let stats = enable_stats(Stats::RunTime).ok();

    let probe_read = u32::from(probe_read);
    let adopt = u32::from(is_root(options.cgroup));
    let subflows = options
        .max_connections
        .saturating_mul(SUBFLOWS_PER_CONNECTION);
    let copy_magic = options.redundant.unwrap_or(0);
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(&btf))
        .override_global(ABI_SYMBOL, &ABI_VERSION, true)
        .override_global("PROBE_READ", &probe_read, true)
        .override_global("ADOPT", &adopt, true)
        .override_global("NETNS_COOKIE", &options.netns_cookie, true)
        .override_global("COPY_MAGIC", &copy_magic, options.redundant.is_some())
        .map_max_entries("CONNECTIONS", options.max_connections)
        .map_max_entries("SUBFLOWS", subflows)
        .map_max_entries("CARRIERS", options.max_connections)
        .map_max_entries("PEER_VIEW", subflows)
        .map_max_entries("COOKIE_OF", subflows)
        // This one takes its memory in advance.
        .map_max_entries("ARRIVALS", options.redundant.map_or(1, |_| subflows));
    for (global, value) in &members.globals {
        // A member that no program reads has no global.
        loader.override_global(global, value, false);
    }
    let mut ebpf = loader
        .load(OBJECT)
        .map_err(|error| anyhow!("cannot load the eBPF programs: {}", describe(&error.into())))?;

    let logger = EbpfLogger::init(&mut ebpf)
        .map_err(|error| tracing::debug!("no log of the eBPF programs: {error}"))
        .ok();

    let mut attachments = Vec::with_capacity(PROGRAMS.len());
    for hook in PROGRAMS {
        let result = match members.refusal(hook.bit) {
            Some(missing) => Err(anyhow!(missing)),
            None => (hook.attach)(&mut ebpf, &btf, options.cgroup),
        };
        let error = result.err().map(|error| describe(&error));
        attachments.push(Attachment {
            program: hook.name,
            purpose: hook.purpose,
            error,
        });
    }
    if let Some(error) = attachments.first().and_then(|first| first.error.as_ref()) {
        bail!("cannot observe MPTCP: the kernel refused the sockops program: {error}");
    }
    let tc = match options.redundant {
        Some(_) => Some(load_tc(&mut ebpf, &members, &mut attachments)?),
        None => None,
    };
    Ok(Kernel {
        ebpf,
        attachments,
        tc,
        logger,
        lifted: false,
        stats,
    })
}

/// The redundant policy is nothing without its programs: no fallback.
fn load_tc(ebpf: &mut Ebpf, members: &Members, attachments: &mut Vec<Attachment>) -> Result<Tc> {
    if let Some(missing) = members.refusal(hook::INGRESS) {
        bail!("--policy redundant cannot run here: {missing}");
    }
    tc::load(ebpf).context("--policy redundant cannot run here")?;
    let tc = Tc::default();
    attachments.extend(tc::PROGRAMS.iter().map(|hook| Attachment {
        program: hook.name,
        purpose: hook.purpose,
        error: tc.error(),
    }));
    Ok(tc)
}

fn attach_sockops(ebpf: &mut Ebpf, _: &Btf, cgroup: BorrowedFd<'_>) -> Result<()> {
    let program: &mut SockOps = find(ebpf, "mptcp_sockops")?.try_into()?;
    program.load()?;
    // A link: any number of them share a cgroup, whatever the mode's name.
    program.attach(cgroup, CgroupAttachMode::Single)?;
    Ok(())
}

fn attach_get_send(ebpf: &mut Ebpf, btf: &Btf, _: BorrowedFd<'_>) -> Result<()> {
    let program: &mut BtfTracePoint = find(ebpf, "mptcp_subflow_get_send")?.try_into()?;
    program.load("mptcp_subflow_get_send", btf)?;
    program.attach()?;
    Ok(())
}

/// The iterator is attached anew for each pass.
fn load_iter(ebpf: &mut Ebpf, btf: &Btf, _: BorrowedFd<'_>) -> Result<()> {
    let program: &mut Iter = find(ebpf, "iter_tcp")?.try_into()?;
    program.load("tcp", btf)?;
    Ok(())
}

pub(super) fn find<'a>(ebpf: &'a mut Ebpf, symbol: &str) -> Result<&'a mut aya::programs::Program> {
    ebpf.program_mut(symbol)
        .with_context(|| format!("the eBPF object has no program {symbol}"))
}

/// Whether a cgroup2 directory is the root of its hierarchy: all others have
/// this file. Older sockets do not tell the programs where they belong, so that
/// only an agent at the root may adopt them.
fn is_root(cgroup: BorrowedFd<'_>) -> bool {
    rustix::fs::accessat(cgroup, "cgroup.type", Access::EXISTS, AtFlags::empty()).is_err()
}

/// Whether programs may call bpf_probe_read_kernel: not under lockdown
/// `confidentiality` (LOCKDOWN_BPF_READ_KERNEL).
fn may_probe_read() -> bool {
    match std::fs::read_to_string("/sys/kernel/security/lockdown") {
        Ok(levels) => !levels.contains("[confidentiality]"),
        // No lockdown in this kernel, or its file system is not mounted.
        Err(_) => true,
    }
}

/// The first line of an error; the rest, such as the verifier's log, goes to
/// the debug log.
pub(super) fn describe(error: &anyhow::Error) -> String {
    let whole = format!("{error:#}");
    if let Some(ProgramError::LoadError {
        io_error,
        verifier_log,
    }) = error.downcast_ref()
    {
        tracing::debug!("verifier log:\n{verifier_log}");
        return format!("the verifier refused it: {io_error} (RUST_LOG=debug shows its log)");
    }
    match whole.split_once('\n') {
        Some((first, rest)) => {
            tracing::debug!("{first}\n{rest}");
            format!("{first} (RUST_LOG=debug shows more)")
        }
        None => whole,
    }
}
