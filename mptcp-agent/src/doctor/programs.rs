//! Checks for BPF programs of others that come first, or undo what the agent's
//! do.

use std::os::fd::{AsFd, AsRawFd as _};

use super::finding::{Faults, Finding, Look, Verdict, ok, problem, unknown, warning};
use super::sight::Sight;
use crate::host::sysctl::quoted;
use crate::kernel::{self, AttachedBy, DeviceProgram, SockopsProgram};

/// Runs the checks.
pub fn checks(sight: &Sight) -> Vec<Finding> {
    let sockops = sight.cgroup.as_ref().map_err(String::clone);
    let sockops = sockops.and_then(|cgroup| {
        let programs = kernel::sockops(cgroup.as_fd());
        let programs =
            programs.map_err(|error| format!("cannot list the sockops programs: {error}"))?;
        Ok((programs, path_of(cgroup)))
    });
    let tc = sight.uplinks().and_then(|uplinks| {
        let mut found = Vec::new();
        for (&ifindex, device) in &uplinks {
            let programs = kernel::programs_on(ifindex, &device.name);
            let programs = programs.map_err(|error| format!("{error:#}"))?;
            found.push((device.name.clone(), programs));
        }
        Ok(found)
    });
    vec![
        exclusive(&sockops),
        beside(&sockops),
        first(&tc, sight.is_redundant()),
    ]
}

/// Returns a cgroup's path, as far as this process can name it.
fn path_of(cgroup: &impl AsFd) -> String {
    let handle = cgroup.as_fd().as_raw_fd();
    let path = std::fs::read_link(format!("/proc/self/fd/{handle}"));
    path.map_or_else(
        |_| "/".to_owned(),
        |path| path.to_string_lossy().into_owned(),
    )
}

type Sockops = Look<(Vec<SockopsProgram>, String)>;

/// Returns the command that detaches a program from the cgroup that it is
/// attached to: `path`, or one above.
fn detach(program: &SockopsProgram, path: &str) -> String {
    if let Some(link) = program.link {
        return format!("bpftool link detach id {link}");
    }
    let mut above = std::path::Path::new(path);
    for _ in 0..program.above {
        above = above.parent().unwrap_or(above);
    }
    let above = quoted(&above.to_string_lossy());
    format!("bpftool cgroup detach {above} sock_ops id {}", program.id)
}

fn exclusive(sockops: &Sockops) -> Finding {
    const NAME: &str = "sockops-exclusive";
    let (programs, path) = match sockops {
        Ok(found) => found,
        Err(why) => return unknown(NAME, why),
    };
    match programs.iter().find(|program| program.exclusive) {
        Some(program) => problem(
            NAME,
            format!(
                "the sockops program {program} holds the cgroup for itself, and the agent's is refused"
            ),
            detach(program, path),
        ),
        None => ok(NAME, "no sockops program keeps others away"),
    }
}

fn beside(sockops: &Sockops) -> Finding {
    const NAME: &str = "sockops-beside";
    let (programs, path) = match sockops {
        Ok(found) => found,
        Err(why) => return unknown(NAME, why),
    };
    let mut others = programs
        .iter()
        .filter(|program| !program.exclusive && !program.is_ours())
        .peekable();
    if others.peek().is_none() {
        return ok(NAME, "no other sockops program runs for these sockets");
    }
    let others: Vec<_> = others.collect();
    let names: Vec<String> = others.iter().map(ToString::to_string).collect();
    let mend: Vec<String> = others.iter().map(|one| detach(one, path)).collect();
    warning(
        NAME,
        format!(
            "other sockops programs run for the same sockets ({}): one that sets callback flags \
             without keeping those it finds silences the agent's",
            names.join(", ")
        ),
        mend.join("\n"),
    )
}

/// `redundant` says whether the agent that runs has that policy.
fn first(devices: &Look<Vec<(String, Vec<DeviceProgram>)>>, redundant: Option<bool>) -> Finding {
    const NAME: &str = "tc-order";
    let devices = match devices {
        Ok(devices) => devices,
        Err(why) => return unknown(NAME, why),
    };
    let mut faults = Faults::default();
    for (device, programs) in devices {
        for ingress in [true, false] {
            let mut side = programs.iter().filter(|one| one.ingress == ingress);
            let Some(ahead) = side.next().filter(|one| !one.is_ours()) else {
                continue;
            };
            let behind = side.any(DeviceProgram::is_ours);
            let (verdict, what) = match (behind, redundant) {
                (true, _) => (Verdict::Problem, "runs ahead of the agent's"),
                (false, Some(true)) => (Verdict::Problem, "has the place of the agent's"),
                (false, _) => (
                    Verdict::Warning,
                    "comes first: the redundant policy would go ahead of it",
                ),
            };
            let direction = if ingress { "ingress" } else { "egress" };
            let quoted = quoted(device);
            let mend = match ahead.by {
                AttachedBy::Link(link) => format!("bpftool link detach id {link}"),
                AttachedBy::Itself => format!("bpftool net detach tcx_{direction} dev {quoted}"),
                AttachedBy::Filter(priority) => {
                    format!("tc filter del dev {quoted} {direction} pref {priority}")
                }
            };
            let seen = format!("on {device}, {direction}: `{}` {what}", ahead.name);
            faults.add(verdict, seen, mend);
        }
    }
    faults.finish(NAME, "no tc program of others comes first on an uplink")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn sockops(names: &[(&str, bool)]) -> Sockops {
        let program = |(above, &(name, exclusive)): (usize, &(&str, bool))| SockopsProgram {
            id: 7,
            name: name.to_owned(),
            above,
            exclusive,
            link: None,
        };
        Ok((
            names.iter().enumerate().map(program).collect(),
            "/sys/fs/cgroup/a".to_owned(),
        ))
    }

    #[test]
    fn a_program_that_holds_the_cgroup_is_named() {
        let alone = sockops(&[("mptcp_sockops", false)]);
        assert_eq!(exclusive(&alone).result, Verdict::Ok);
        assert_eq!(beside(&alone).result, Verdict::Ok);
        let finding = exclusive(&sockops(&[("mptcp_sockops", false), ("alien", true)]));
        assert_eq!(finding.result, Verdict::Problem);
        assert!(finding.seen.contains("`alien` (id 7)"), "{}", finding.seen);
        let mend = finding.mend.unwrap();
        assert_eq!(mend, "bpftool cgroup detach /sys/fs/cgroup sock_ops id 7");
        assert_eq!(exclusive(&Err("x".into())).result, Verdict::Unknown);
    }

    #[test]
    fn a_program_beside_the_agents_is_a_warning() {
        let finding = beside(&sockops(&[("alien", false), ("mptcp_sockops", false)]));
        assert_eq!(finding.result, Verdict::Warning);
        let mend = finding.mend.unwrap();
        assert_eq!(mend, "bpftool cgroup detach /sys/fs/cgroup/a sock_ops id 7");
        assert_eq!(beside(&Err("x".into())).result, Verdict::Unknown);
    }

    #[test]
    fn whoever_runs_ahead_on_a_device_is_named() {
        let order = |names: &[&str], by| {
            let programs = names.iter().map(|name| DeviceProgram {
                ingress: false,
                name: (*name).to_owned(),
                by,
            });
            Ok(vec![("p1".to_owned(), programs.collect())])
        };
        let by = AttachedBy::Link(5);
        // The kernel cuts the name; a filter has it in full.
        for ours in ["redundant_egres", "redundant_egress"] {
            for (names, redundant, expected) in [
                (&[][..], Some(true), Verdict::Ok),
                (&[ours, "alien"], Some(true), Verdict::Ok),
                (&["alien", ours], Some(true), Verdict::Problem),
                (&["alien"], Some(true), Verdict::Problem),
                (&["alien"], Some(false), Verdict::Warning),
                (&["alien"], None, Verdict::Warning),
            ] {
                let finding = first(&order(names, by), redundant);
                assert_eq!(finding.result, expected, "{names:?}");
            }
        }
        for (by, expected) in [
            (by, "bpftool link detach id 5"),
            (AttachedBy::Itself, "bpftool net detach tcx_egress dev p1"),
            (AttachedBy::Filter(1), "tc filter del dev p1 egress pref 1"),
        ] {
            let finding = first(&order(&["alien"], by), None);
            assert_eq!(finding.mend.unwrap(), expected);
            assert!(finding.seen.contains("`alien`"), "{}", finding.seen);
        }
    }
}
