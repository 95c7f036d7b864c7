//! The processes of this network namespace, by name and by socket.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its name, of which the kernel keeps 15 bytes.
    pub name: String,
    /// Its id as /proc shows it.
    pub id: u32,
    /// The systemd unit that it belongs to, if it is a service.
    pub unit: Option<String>,
}

impl Process {
    /// Returns the command that ends it for good.
    pub fn stop(&self) -> String {
        match &self.unit {
            Some(unit) => format!(
                "systemctl disable --now {}",
                crate::host::sysctl::quoted(unit)
            ),
            None => format!("kill {}", self.id),
        }
    }
}

/// Returns the processes with these names in this network namespace, as far as
/// they are seen.
pub fn named(names: &[&str]) -> Vec<Process> {
    let own = fs::read_link("/proc/self/ns/net").ok();
    let all = all().filter_map(|(id, path)| {
        let name = name(&path)?;
        let here = || fs::read_link(path.join("ns/net")).ok() == own;
        let wanted = names.contains(&name.as_str()) && here();
        wanted.then(|| Process {
            name,
            id,
            unit: unit(&fs::read_to_string(path.join("cgroup")).unwrap_or_default()),
        })
    });
    all.collect()
}

/// Returns the names of the processes that hold these sockets, by inode, as far
/// as they are seen.
pub fn holders(inodes: &[u32]) -> BTreeMap<u32, String> {
    let mut found = BTreeMap::new();
    for (_, path) in all() {
        let open = fs::read_dir(path.join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        for file in open {
            let target = fs::read_link(file.path()).unwrap_or_default();
            let inode = inode_in(&target.to_string_lossy());
            if let Some(inode) = inode.filter(|inode| inodes.contains(inode))
                && let Some(name) = name(&path)
            {
                found.insert(inode, name);
            }
        }
    }
    found
}

fn all() -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        Some((id, entry.path()))
    })
}

fn name(process: &Path) -> Option<String> {
    let name = fs::read_to_string(process.join("comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Returns the service in the text of `/proc/PID/cgroup`.
fn unit(cgroups: &str) -> Option<String> {
    let mut parts = cgroups.lines().flat_map(|line| line.split('/'));
    parts
        .find(|part| part.ends_with(".service"))
        .map(str::to_owned)
}

/// Returns the number in `socket:[4711]`.
fn inode_in(link: &str) -> Option<u32> {
    link.strip_prefix("socket:[")?
        .strip_suffix(']')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::net::UdpSocket;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_service_is_stopped_by_its_unit() {
        let process = |cgroups: &str| Process {
            name: "mptcpd".to_owned(),
            id: 7,
            unit: unit(cgroups),
        };
        assert_eq!(process("0::/user.slice/x.scope\n").stop(), "kill 7");
        let service = process("0::/system.slice/mptcp.service\n");
        assert_eq!(service.stop(), "systemctl disable --now mptcp.service");
    }

    #[test]
    fn this_process_holds_its_socket() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let inode = inode_in(&link.to_string_lossy()).unwrap();
        let own = name(Path::new("/proc/self")).unwrap();
        assert_eq!(holders(&[inode]), BTreeMap::from([(inode, own)]));
        assert!(holders(&[]).is_empty());
    }
}
