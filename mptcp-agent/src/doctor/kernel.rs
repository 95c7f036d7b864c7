//! Checks what the kernel offers: MPTCP, its types, congestion controls, and the
//! file systems that the agent needs.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::finding::{Finding, Look, ok, problem, unknown, warning};
use super::sight::Sight;
use crate::host::types::{self, VMLINUX};
use crate::host::{self, sysctl};
use crate::kernel::{self, BPF_FILE_SYSTEM, BpfFileSystem};

const ENABLED: &str = "net/mptcp/enabled";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const AVAILABLE: &str = "net/ipv4/tcp_available_congestion_control";

/// Runs the checks.
pub fn checks(sight: &Sight) -> Vec<Finding> {
    let value = sysctl::read(ENABLED);
    let sysctls = sysctl::read("net/ipv4/tcp_timestamps").is_ok();
    let needs_bbr = sight.status().is_some_and(|status| {
        let mut paths = status.paths.iter();
        paths.any(|path| path.weight == Some(0) || path.rank.is_some_and(|rank| rank > 1))
    });
    let cgroup = sight.cgroup.as_ref().map_err(String::clone);
    vec![
        built_in(&value, sysctls),
        enabled(&value),
        match &sight.btf {
            Some(file) => types_of(file, types::check(Some(file))),
            None => types(
                Path::new(VMLINUX).exists(),
                Path::new("/sys/kernel").exists(),
            ),
        },
        lockdown(fs::read_to_string(LOCKDOWN)),
        bbr(sysctl::read(AVAILABLE), needs_bbr),
        cgroup2(cgroup.as_ref().map(|_| ()).map_err(|why| why.as_str())),
        cgroup_root(cgroup.map(host::Cgroup::warning)),
        bpffs(&mounted()),
        bpffs_mode(&mounted()),
    ]
}

fn mounted() -> Look<Option<BpfFileSystem>> {
    kernel::bpf_file_system().map_err(|error| format!("{error:#}"))
}

fn built_in(value: &io::Result<String>, sysctls: bool) -> Finding {
    const NAME: &str = "mptcp-built-in";
    match value {
        Ok(_) => ok(NAME, "the kernel has Multipath TCP"),
        Err(_) if !sysctls => unknown(NAME, "/proc/sys/net is not to be seen here"),
        Err(error) if error.kind() == ErrorKind::NotFound => problem(
            NAME,
            "the kernel has no Multipath TCP (/proc/sys/net/mptcp/enabled is not there)",
            "# boot a kernel that is built with CONFIG_MPTCP=y",
        ),
        Err(error) => unknown(NAME, format!("cannot read net.mptcp.enabled: {error}")),
    }
}

fn enabled(value: &io::Result<String>) -> Finding {
    const NAME: &str = "mptcp-enabled";
    match value.as_deref() {
        Ok("0") => problem(
            NAME,
            "Multipath TCP is switched off in this network namespace: net.mptcp.enabled is 0",
            sysctl::command(ENABLED, "1"),
        ),
        Ok(value) => ok(NAME, format!("net.mptcp.enabled is {value}")),
        Err(error) => unknown(NAME, format!("cannot read net.mptcp.enabled: {error}")),
    }
}

const TYPES: &str = "btf";

fn types(vmlinux: bool, sys: bool) -> Finding {
    const NAME: &str = TYPES;
    if vmlinux {
        return ok(NAME, format!("the kernel's types are in {VMLINUX}"));
    }
    if !sys {
        let seen = "/sys is not mounted, so the kernel's types (BTF) are not to be had: the agent \
                    does not start";
        return problem(NAME, seen, "mount -t sysfs sysfs /sys");
    }
    problem(
        NAME,
        format!("{VMLINUX} is not there: the agent does not start without --btf FILE"),
        "# boot a kernel that is built with CONFIG_DEBUG_INFO_BTF=y, or, if this one is and hides \
         the file, start the agent with --btf and a copy of it",
    )
}

/// Judges a file of `--btf` by what [`types::check`] says of it.
fn types_of(file: &Path, checked: anyhow::Result<()>) -> Finding {
    match checked {
        Ok(()) => ok(
            TYPES,
            format!("the kernel's types are in {}", file.display()),
        ),
        Err(error) => problem(
            TYPES,
            format!("the agent does not start: {error:#}"),
            format!(
                "# put a copy of this kernel's {VMLINUX} at {}",
                file.display()
            ),
        ),
    }
}

fn lockdown(levels: io::Result<String>) -> Finding {
    const NAME: &str = "lockdown";
    match levels {
        Ok(levels) if levels.contains("[confidentiality]") => warning(
            NAME,
            "lockdown is `confidentiality`: connections older than the agent are not adopted, and \
             address ids, backup and stale are known late",
            "# boot without lockdown=confidentiality",
        ),
        Ok(levels) => {
            let level = levels.split(['[', ']']).nth(1).unwrap_or("unknown");
            ok(NAME, format!("lockdown is `{level}`"))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => unknown(
            NAME,
            format!(
                "{LOCKDOWN} is not there: the kernel has no lockdown, or securityfs is not mounted"
            ),
        ),
        Err(error) => unknown(NAME, format!("cannot read {LOCKDOWN}: {error}")),
    }
}

fn bbr(available: io::Result<String>, needed: bool) -> Finding {
    const NAME: &str = "standby-bbr";
    const MEND: &str = "modprobe tcp_bbr";
    match available {
        Err(error) => unknown(
            NAME,
            format!("cannot list the congestion controls: {error}"),
        ),
        Ok(names) if host::has_bbr(&names) => ok(
            NAME,
            "bbr is there to bring back an idle path that was held out",
        ),
        Ok(names) if needed => problem(
            NAME,
            format!(
                "the policy holds paths out, and bbr, which brings an idle one back, is not among \
                 the congestion controls ({names})"
            ),
            MEND,
        ),
        Ok(names) => warning(
            NAME,
            format!(
                "bbr is not among the congestion controls ({names}): a weight of 0 and the \
                 overflow policy need it, and the agent loads it only if it may"
            ),
            MEND,
        ),
    }
}

fn cgroup2(found: Result<(), &str>) -> Finding {
    const NAME: &str = "cgroup2";
    match found {
        Ok(()) => ok(NAME, "a cgroup2 directory can be attached to"),
        Err(why) => problem(
            NAME,
            format!("the agent does not start: {why}"),
            "mkdir -p /run/cgroup2 && mount -t cgroup2 cgroup2 /run/cgroup2",
        ),
    }
}

fn cgroup_root(found: Look<Option<&'static str>>) -> Finding {
    const NAME: &str = "cgroup-root";
    match found {
        Ok(None) => ok(
            NAME,
            "it is the one that was asked for, or the root of the host's hierarchy",
        ),
        Ok(Some(why)) => warning(
            NAME,
            why,
            "# docker run --cgroupns=host, or -v /sys/fs/cgroup:/host/cgroup:ro",
        ),
        Err(_) => unknown(NAME, "there is no cgroup2 directory to look at"),
    }
}

fn bpffs(found: &Look<Option<BpfFileSystem>>) -> Finding {
    const NAME: &str = "bpffs";
    match found {
        Ok(Some(found)) => ok(NAME, format!("the BPF file system is at {}", found.path)),
        Ok(None) => warning(
            NAME,
            "no BPF file system is mounted: if the agent is killed and could not mount one, \
             connections keep their limits until it is started again",
            format!("mount -t bpf -o mode=0700 bpf {BPF_FILE_SYSTEM}"),
        ),
        Err(why) => unknown(NAME, why),
    }
}

fn bpffs_mode(found: &Look<Option<BpfFileSystem>>) -> Finding {
    const NAME: &str = "bpffs-mode";
    let found = match found {
        Ok(Some(found)) => found,
        Ok(None) => return unknown(NAME, "no BPF file system is mounted"),
        Err(why) => return unknown(NAME, why),
    };
    let BpfFileSystem {
        path, mode, user, ..
    } = found;
    let seen = format!("{path} belongs to user {user} and has mode {mode:04o}");
    let mend = format!("chown 0:0 {path} && chmod 0700 {path}");
    if found.is_open_to_all() {
        let what = "others may rename what is in it, so the agent does not use it";
        problem(NAME, format!("{seen}: {what}"), mend)
    } else if found.lets_all_write() {
        let what = "every user may pin programs there";
        warning(NAME, format!("{seen}: {what}"), mend)
    } else {
        ok(NAME, seen)
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn missing() -> io::Result<String> {
        Err(ErrorKind::NotFound.into())
    }

    #[test]
    fn mptcp_that_is_absent_off_or_on() {
        for (value, sysctls, there, on) in [
            (Ok("1"), true, Verdict::Ok, Verdict::Ok),
            (Ok("0"), true, Verdict::Ok, Verdict::Problem),
            (Err(()), true, Verdict::Problem, Verdict::Unknown),
            (Err(()), false, Verdict::Unknown, Verdict::Unknown),
        ] {
            let value = value.map(str::to_owned).or_else(|()| missing());
            assert_eq!(built_in(&value, sysctls).result, there);
            assert_eq!(enabled(&value).result, on);
        }
        let mend = enabled(&Ok("0".to_owned())).mend;
        assert_eq!(mend.as_deref(), Some("sysctl -w net.mptcp.enabled=1"));
    }

    #[test]
    fn types_are_there_hidden_or_not_built() {
        assert_eq!(types(true, true).result, Verdict::Ok);
        let mend = |finding: Finding| finding.mend.unwrap_or_default();
        assert_eq!(mend(types(false, false)), "mount -t sysfs sysfs /sys");
        assert!(mend(types(false, true)).contains("CONFIG_DEBUG_INFO_BTF"));
        let given = |result| types_of(Path::new("/a"), result);
        assert_eq!(given(Ok(())).result, Verdict::Ok);
        assert!(mend(given(Err(anyhow::anyhow!("broken")))).ends_with(" at /a"));
    }

    #[test]
    fn only_confidentiality_locks_something_out() {
        for (levels, expected) in [
            ("[none] integrity confidentiality\n", Verdict::Ok),
            ("none [integrity] confidentiality\n", Verdict::Ok),
            ("none integrity [confidentiality]\n", Verdict::Warning),
        ] {
            assert_eq!(lockdown(Ok(levels.to_owned())).result, expected);
        }
        assert_eq!(lockdown(missing()).result, Verdict::Unknown);
    }

    #[test]
    fn bbr_is_a_problem_only_if_it_is_needed() {
        let names = |names: &str| Ok(names.to_owned());
        assert_eq!(bbr(names("reno bbr"), true).result, Verdict::Ok);
        assert_eq!(bbr(names("reno bbr2"), false).result, Verdict::Warning);
        assert_eq!(bbr(names("reno"), true).result, Verdict::Problem);
        assert_eq!(bbr(missing(), true).result, Verdict::Unknown);
    }

    #[test]
    fn cgroups_of_the_host_of_a_container_and_none() {
        assert_eq!(cgroup2(Ok(())).result, Verdict::Ok);
        assert_eq!(cgroup2(Err("none")).result, Verdict::Problem);
        assert_eq!(cgroup_root(Ok(None)).result, Verdict::Ok);
        assert_eq!(cgroup_root(Ok(Some("part"))).result, Verdict::Warning);
        assert_eq!(cgroup_root(Err(String::new())).result, Verdict::Unknown);
    }
}
