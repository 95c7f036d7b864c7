//! Loads the eBPF object into the running kernel and attaches its programs.

use std::{
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Btf, Ebpf, EbpfLoader, Endianness, include_bytes_aligned,
    maps::Array,
    programs::{BtfTracePoint, CgroupAttachMode, Iter, ProgramError, SockOps, links::FdLink},
    sys::{Stats, enable_stats},
};
use aya_log::EbpfLogger;
use mptcp_common::names::{self, map};
use mptcp_common::{
    abi::{SUBFLOWS_PER_CONNECTION, runs},
    offsets::hook,
};

use super::{
    Attachment, Kernel, Link, Restored, embedded,
    gone::Gone,
    life::{self, Heart},
    members::Members,
    others,
    pins::Pins,
    program, tc,
};
use crate::host::types::{self, Layout, VMLINUX};
use crate::host::{Namespace, can_bring_back, is_cgroup_root};

/// The eBPF object, built by `cargo xtask build`; empty if it was not built.
pub(super) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/mptcp-ebpf.o"));

/// Options for loading the kernel side.
pub struct LoadOptions<'a> {
    /// How many connections the maps can hold.
    pub max_connections: u32,
    /// The cgroup2 directory whose sockets are seen.
    pub cgroup: BorrowedFd<'a>,
    /// The file with the kernel's types, if it is not the kernel's own.
    pub btf: Option<&'a Path>,
    /// The agent's network namespace.
    pub namespace: Namespace,
    /// Whether to let the kernel measure the programs' run time.
    pub measure_programs: bool,
    /// A random number, not 0. It identifies the owner of the programs, and
    /// marks copies on their way through this host.
    pub number: u64,
}

/// A program of the object.
pub(super) struct Hook {
    pub(super) name: &'static str,
    pub(super) symbol: &'static str,
    purpose: &'static str,
    /// The index of its run counter: one of `abi::runs::program`.
    pub(super) count: usize,
    /// Bit in `offsets::hook`.
    bit: u8,
    attach: fn(&mut Ebpf, &Btf, BorrowedFd<'_>) -> Result<Option<FdLink>>,
}

/// Every program. The indispensable one comes first.
pub(super) const PROGRAMS: &[Hook] = &[
    Hook {
        name: program::SOCKOPS,
        symbol: names::program::SOCKOPS,
        purpose: "sees connections and subflows, steers them",
        count: runs::program::SOCKOPS,
        bit: hook::SOCKOPS,
        attach: attach_sockops,
    },
    Hook {
        name: program::GET_SEND,
        symbol: names::program::GET_SEND,
        purpose: "sees scheduling decisions, MP_PRIO and stale subflows",
        count: runs::program::GET_SEND,
        bit: hook::GET_SEND,
        attach: attach_get_send,
    },
    Hook {
        name: program::ITER,
        symbol: names::program::ITER_TCP,
        purpose: "adopts older connections, exact totals, lifts limits",
        count: runs::program::ITER,
        bit: hook::ITER,
        attach: load_iter,
    },
];

pub(super) fn load(options: &LoadOptions<'_>) -> Result<Kernel> {
    let mut adopted = false;
    let pins = Pins::open(options.namespace).and_then(|mut pins| {
        adopted = prepare(&mut pins, options)?;
        Ok(pins)
    });
    if let Err(error) = &pins {
        tracing::warn!(
            "if the agent is killed, connections keep their limits until one is started again: \
             {error:#}"
        );
    }
    let loaded = while_standing_in(pins.as_ref().ok().filter(|_| adopted), || {
        load_into(options, pins.as_ref())
    });
    if loaded.is_err()
        && !adopted
        && let Ok(pins) = &pins
    {
        pins.remove();
    }
    let (mut kernel, links) = loaded?;
    kernel.adopted = adopted;
    kernel.keep(pins, links)?;
    Ok(kernel)
}

/// Does `work`, which may take the verifier a second or more. Meanwhile sends
/// the heartbeat for the previous agent, if that one was alive a moment ago, so
/// that its programs go on until the new ones take over.
fn while_standing_in<T: Send>(
    before: Option<&Pins>,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    const STEP: Duration = Duration::from_millis(10);
    const STEPS_A_BEAT: u32 = 20;
    let mut config = before.and_then(Pins::living_config);
    thread::scope(|scope| {
        let working = scope.spawn(work);
        for step in 0_u32.. {
            if working.is_finished() {
                break;
            }
            if step % STEPS_A_BEAT == 0
                && let Some(config) = &mut config
            {
                life::stand_in(config)?;
            }
            thread::sleep(STEP);
        }
        working.join().map_err(|_| anyhow!("the loader failed"))?
    })
}

/// Makes room for the pins of this agent. Returns whether it goes on with those
/// of an earlier one.
fn prepare(pins: &mut Pins, options: &LoadOptions<'_>) -> Result<bool> {
    for (layout, removed) in pins.reject_foreign()? {
        tracing::warn!(
            layout,
            links = removed.links.len(),
            maps = removed.maps.len(),
            "replaced what an agent of another version had left: its totals and connections are \
             not read, but counted anew"
        );
    }
    let capacity = pins.capacity(map::CONNECTIONS);
    if capacity.is_some() {
        tc::remove_leftovers();
    }
    if let Some(held) = capacity.filter(|&held| held != options.max_connections) {
        tracing::warn!(
            held,
            wanted = options.max_connections,
            "--max-connections stays what it was: the maps of the agent before go on; stop the \
             agent in good order to change it"
        );
    }
    Ok(capacity.is_some())
}

fn load_into(
    options: &LoadOptions<'_>,
    pins: Result<&Pins, &anyhow::Error>,
) -> Result<(Kernel, Vec<Link>)> {
    let pins = pins.ok();
    // Lockdown may be in force unseen, because its file is in securityfs, which
    // may not be mounted. So if this attempt fails, another one follows that
    // does without bpf_probe_read_kernel.
    if may_probe_read() {
        match load_with(options, pins, true) {
            Err(error) => tracing::debug!("without bpf_probe_read_kernel, because: {error:#}"),
            loaded => return loaded,
        }
    }
    load_with(options, pins, false)
}

fn load_with(
    options: &LoadOptions<'_>,
    pins: Option<&Pins>,
    probe_read: bool,
) -> Result<(Kernel, Vec<Link>)> {
    if OBJECT.is_empty() {
        bail!("this binary was built without its eBPF programs: build it with `cargo xtask build`");
    }
    embedded::check(OBJECT)?;
    let layout = Layout::new(types::read(options.btf)?)?;
    let members = Members::find(&layout);
    if let Some(missing) = members.refusal(hook::SOCKOPS) {
        bail!("cannot observe MPTCP: {missing}");
    }
    if let Some(missing) = members.not_shown() {
        tracing::info!("{missing}: what these would tell is not shown");
    }
    // Adopting takes an option that older kernels lack. They would refuse each
    // socket, and the verifier of Linux 6.1 does not get through the code.
    let can_adopt = layout.has_name("TCP_BPF_SOCK_OPS_CB_FLAGS");
    // Tens of megabytes: the parsed form goes before aya makes its own.
    let types = layout.into_bytes();
    let btf = Btf::parse(&types, Endianness::default()).context("cannot read the kernel's BTF")?;
    drop(types);
    let stats = options.measure_programs.then(measure).flatten();

    let probe_read = u32::from(probe_read);
    // Programs cannot tell which cgroup an older socket belongs to, so only an
    // agent at the root may adopt such sockets.
    let adopt = u32::from(can_adopt && is_cgroup_root(&options.cgroup));
    // Without BBR an idle subflow that was held out would never be used again.
    let revives = u32::from(can_bring_back());
    let subflows = options
        .max_connections
        .saturating_mul(SUBFLOWS_PER_CONNECTION);
    let owner = owner(options.number);
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(&btf))
        .override_global("PROBE_READ", &probe_read, true)
        .override_global("ADOPT", &adopt, true)
        .override_global("REVIVES", &revives, true)
        .override_global("OWNER", &owner, true)
        .override_global("NETNS_COOKIE", &options.namespace.cookie, true)
        .override_global("COPY_MAGIC", &options.number, true)
        .map_max_entries(map::CONNECTIONS, options.max_connections)
        .map_max_entries(map::SUBFLOWS, subflows)
        .map_max_entries(map::CARRIERS, options.max_connections)
        .map_max_entries(map::PEER_VIEW, subflows)
        .map_max_entries(map::COOKIE_OF, subflows)
        .map_max_entries(map::ARRIVALS, subflows);
    for (map, path) in pins.into_iter().flat_map(Pins::map_paths) {
        loader.map_pin_path(map, path);
    }
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

    // Load these now rather than when another policy needs them, so that a
    // switch is quick. The redundant policy cannot work without them.
    let no_tc = match members.refusal(hook::INGRESS) {
        Some(missing) => Some(missing),
        None => tc::load(&mut ebpf).err().map(|error| describe(&error)),
    };
    let mut attachments = Vec::with_capacity(PROGRAMS.len());
    let mut links = Vec::new();
    for hook in PROGRAMS {
        let result = match members.refusal(hook.bit) {
            Some(missing) => Err(anyhow!(missing)),
            None => (hook.attach)(&mut ebpf, &btf, options.cgroup),
        };
        let error = match result {
            Ok(link) => {
                let held = link.map(|link| Link::new(hook.name, link));
                links.extend(held.transpose()?);
                None
            }
            Err(error) => Some(describe(&error)),
        };
        attachments.push(Attachment {
            program: hook.name,
            purpose: hook.purpose,
            error,
        });
    }
    if let Some(error) = attachments.first().and_then(|first| first.error.as_ref()) {
        bail!(
            "cannot observe MPTCP: the kernel refused the sockops program: {error}{}",
            without_types(options.btf)
        );
    }
    let config = ebpf
        .take_map(map::CONFIG)
        .context("the eBPF object has no map CONFIG")?;
    let heart = Heart::new(Array::try_from(config)?)?;
    let kernel = Kernel {
        ebpf,
        attachments,
        tc: None,
        no_tc,
        peers_left: false,
        gone: Gone::default(),
        logger,
        owner,
        heart,
        pins: None,
        not_outlived: None,
        kept_maps: Vec::new(),
        links: Vec::new(),
        cgroup_gone: false,
        restored: Restored::default(),
        adopted: false,
        lifted: false,
        stats,
    };
    Ok((kernel, links))
}

/// Says what may be behind a refusal if the kernel shows no types of its own.
fn without_types(btf: Option<&Path>) -> &'static str {
    if btf.is_none() || Path::new(VMLINUX).exists() {
        return "";
    }
    ". The types of --btf tell the agent where things lie, and cannot replace those in the \
     kernel, which checks each program by its own: a kernel built without CONFIG_DEBUG_INFO_BTF \
     refuses it, as does one of another build than the file"
}

/// Lets the kernel drop the pages that hold [`OBJECT`]. It is read once, and takes
/// as much memory as everything that the agent allocates. If it is needed again,
/// its pages come back from the agent's file.
pub fn put_object_aside() {
    // SAFETY: sysconf has no precondition.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let range = OBJECT.as_ptr_range();
    let start = range.start.addr().next_multiple_of(page);
    let end = range.end.addr() / page * page;
    let Some(length) = end.checked_sub(start) else {
        return;
    };
    let first = range.start.with_addr(start).cast_mut().cast();
    // SAFETY: the range is whole pages of OBJECT. They are mapped from the agent's
    // file and nobody writes to them, so a later read finds the same bytes.
    unsafe { libc::madvise(first, length, libc::MADV_DONTNEED) };
}

/// Makes the kernel measure the run time of every BPF program of the host, for
/// as long as the descriptor is open. If the kernel refuses, only that metric
/// is missing.
fn measure() -> Option<OwnedFd> {
    match enable_stats(Stats::RunTime) {
        Ok(stats) => Some(stats),
        Err(error) => {
            tracing::warn!("--measure-programs: the kernel refuses to measure programs: {error}");
            None
        }
    }
}

/// Returns the owner id that is made from the random number. It is never 0,
/// which means no agent.
fn owner(number: u64) -> u32 {
    ((number >> 32) as u32).max(1)
}

fn attach_sockops(ebpf: &mut Ebpf, _: &Btf, cgroup: BorrowedFd<'_>) -> Result<Option<FdLink>> {
    let program: &mut SockOps = find(ebpf, names::program::SOCKOPS)?.try_into()?;
    program.load()?;
    attach_again(ebpf, cgroup).map(Some)
}

/// Attaches the sockops program, which is already loaded, to a cgroup.
pub(super) fn attach_again(ebpf: &mut Ebpf, cgroup: BorrowedFd<'_>) -> Result<FdLink> {
    let program: &mut SockOps = find(ebpf, names::program::SOCKOPS)?.try_into()?;
    // With a BPF link, any number of programs share a cgroup, despite the
    // mode's name.
    let id = program
        .attach(cgroup, CgroupAttachMode::Single)
        .map_err(|error| match others::exclusive(cgroup) {
            Some(other) => anyhow!(
                "the sockops program {other} holds the cgroup for itself: it was attached without \
                 the flag that lets others join (BPF_F_ALLOW_MULTI); detach it (bpftool cgroup \
                 detach), or have it attached with that flag (bpftool: `multi`)"
            ),
            None => error.into(),
        })?;
    Ok(program.take_link(id)?.try_into()?)
}

fn attach_get_send(ebpf: &mut Ebpf, btf: &Btf, _: BorrowedFd<'_>) -> Result<Option<FdLink>> {
    let program: &mut BtfTracePoint = find(ebpf, names::program::GET_SEND)?.try_into()?;
    program.load("mptcp_subflow_get_send", btf)?;
    attach_get_send_again(ebpf).map(Some)
}

/// Attaches the program of the tracepoint, which is already loaded.
pub(super) fn attach_get_send_again(ebpf: &mut Ebpf) -> Result<FdLink> {
    let program: &mut BtfTracePoint = find(ebpf, names::program::GET_SEND)?.try_into()?;
    let id = program.attach()?;
    Ok(program.take_link(id)?.into())
}

/// Loads the iterator. Each pass attaches it anew.
fn load_iter(ebpf: &mut Ebpf, btf: &Btf, _: BorrowedFd<'_>) -> Result<Option<FdLink>> {
    let program: &mut Iter = find(ebpf, names::program::ITER_TCP)?.try_into()?;
    program.load("tcp", btf)?;
    Ok(None)
}

pub(super) fn find<'a>(ebpf: &'a mut Ebpf, symbol: &str) -> Result<&'a mut aya::programs::Program> {
    ebpf.program_mut(symbol)
        .with_context(|| format!("the eBPF object has no program {symbol}"))
}

/// Returns whether programs may call bpf_probe_read_kernel. Lockdown
/// `confidentiality` forbids it (LOCKDOWN_BPF_READ_KERNEL).
fn may_probe_read() -> bool {
    match std::fs::read_to_string("/sys/kernel/security/lockdown") {
        Ok(levels) => !levels.contains("[confidentiality]"),
        // This kernel has no lockdown, or its file system is not mounted.
        Err(_) => true,
    }
}

/// Returns the first line of an error. The rest, such as the verifier's log,
/// goes to the debug log.
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
