//! Lists what an agent that has ended could leave in the kernel: programs, maps
//! and links, files in the BPF file system, and attachments to devices.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya::maps::loaded_maps;
use aya::programs::{
    ProgramError, SchedClassifier, TcAttachType, links::LinkError, loaded_links, loaded_programs,
};
use mptcp_common::names::{map, program};

use crate::host::Host;

/// The directory in which the agents of all network namespaces pin their objects.
const PINS: &str = "/sys/fs/bpf/mptcp-agent";

/// How many bytes of a program's or map's name the kernel keeps.
const NAME_MAX: usize = 15;

/// BPF objects of agents by id. The kernel does not reuse ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BpfObjects {
    /// Programs with their names.
    pub programs: BTreeMap<u32, String>,
    /// Maps with their names.
    pub maps: BTreeMap<u32, String>,
    /// Links, with the names of their programs.
    pub links: BTreeMap<u32, String>,
}

impl BpfObjects {
    /// Lists the objects that no process holds open: agents that have ended left
    /// them attached or pinned, in any network namespace.
    ///
    /// # Errors
    /// The kernel cannot list its objects.
    pub fn orphans() -> Result<Self> {
        let mut all = Self::loaded()?;
        let held = Held::find();
        all.programs.retain(|id, _| !held.programs.contains(id));
        all.maps.retain(|id, _| !held.maps.contains(id));
        all.links.retain(|id, _| !held.links.contains(id));
        Ok(all)
    }

    fn loaded() -> Result<Self> {
        let mut all = Self::default();
        for program in loaded_programs() {
            // A program may disappear while the list is read.
            let Some(program) = unless_gone(program)? else {
                continue;
            };
            all.programs
                .extend(named(program.id(), program.name_as_str(), program::ALL));
        }
        for map in loaded_maps() {
            let map = match map {
                Err(aya::maps::MapError::SyscallError(error)) if is_gone(&error.io_error) => {
                    continue;
                }
                other => other?,
            };
            all.maps
                .extend(named(map.id(), map.name_as_str(), map::ALL));
        }
        for link in loaded_links() {
            let link = match link {
                Err(LinkError::SyscallError(error)) if is_gone(&error.io_error) => continue,
                other => other?,
            };
            let program = all.programs.get(&link.program_id());
            all.links
                .extend(program.map(|name| (link.id(), name.clone())));
        }
        Ok(all)
    }

    /// Returns the objects that did not exist `before`.
    #[must_use]
    pub fn since(mut self, before: &Self) -> Self {
        self.programs
            .retain(|id, _| !before.programs.contains_key(id));
        self.maps.retain(|id, _| !before.maps.contains_key(id));
        self.links.retain(|id, _| !before.links.contains_key(id));
        self
    }

    /// Returns whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

fn unless_gone<T>(program: Result<T, ProgramError>) -> Result<Option<T>> {
    match program {
        Ok(program) => Ok(Some(program)),
        Err(ProgramError::SyscallError(error)) if is_gone(&error.io_error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}

/// Returns the object, if its name is one of `names`.
fn named(id: u32, name: Option<&str>, names: &[&str]) -> Option<(u32, String)> {
    let name = name?;
    let is_ours = |ours: &&str| &ours[..ours.len().min(NAME_MAX)] == name;
    names.iter().any(is_ours).then(|| (id, name.to_owned()))
}

/// The ids of the objects that processes have open.
#[derive(Default)]
struct Held {
    programs: BTreeSet<u32>,
    maps: BTreeSet<u32>,
    links: BTreeSet<u32>,
}

impl Held {
    fn find() -> Self {
        let mut held = Self::default();
        // A process or file that disappears meanwhile holds nothing any more.
        for process in entries(Path::new("/proc")) {
            for file in entries(&process.join("fdinfo")) {
                let text = fs::read_to_string(file).unwrap_or_default();
                for line in text.lines() {
                    held.take(line);
                }
            }
        }
        held
    }

    /// Takes the id from a line like `prog_id:\t7`. A link's file also has a line
    /// for its program.
    fn take(&mut self, line: &str) {
        let Some((key, value)) = line.split_once(":\t") else {
            return;
        };
        let ids = match key {
            "prog_id" => &mut self.programs,
            "map_id" => &mut self.maps,
            "link_id" => &mut self.links,
            _ => return,
        };
        ids.extend(value.trim().parse::<u32>());
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

impl Host {
    /// Lists the files that agents of this network namespace have pinned.
    ///
    /// # Errors
    /// The namespace's name has been removed.
    pub fn pins(&self) -> Result<Vec<PathBuf>> {
        let path = self.netns_path();
        let inode = fs::metadata(&path).with_context(|| format!("look at {}", path.display()))?;
        // The name is `<cookie>-<inode>`; only the inode is known out here.
        let suffix = format!("-{}", inode.ino());
        let mut left = entries(Path::new(PINS));
        left.retain(|path| path.to_string_lossy().ends_with(&suffix));
        let mut files = Vec::new();
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(entries(&path));
            } else {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    /// Returns all that `tc` shows for a device: qdiscs, classes and filters.
    ///
    /// # Errors
    /// There is no such device.
    pub fn traffic_control(&self, device: &str) -> Result<Vec<String>> {
        let of = |what| self.run(&format!("tc {what} dev {device}"));
        let whats = [
            "qdisc show",
            "class show",
            "filter show ingress",
            "filter show egress",
        ];
        whats.into_iter().map(of).collect()
    }

    /// Counts the tcx programs on a device, ingress and egress; `None` before Linux
    /// 6.6, which has only tc filters.
    ///
    /// # Errors
    /// There is no such device.
    pub fn tcx_programs(&self, device: &str) -> Result<Option<usize>> {
        self.in_ns(|| {
            let mut programs = 0;
            for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
                match SchedClassifier::query_tcx(device, hook) {
                    Ok((_, attached)) => programs += attached.len(),
                    Err(ProgramError::SyscallError(error))
                        if error.io_error.raw_os_error() == Some(libc::EINVAL) =>
                    {
                        return Ok(None);
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(Some(programs))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_the_kernel_truncates_them() {
        let found = |name| named(7, Some(name), program::ALL).is_some();
        assert!(found("mptcp_subflow_g") && found("iter_tcp"));
        assert!(!found("mptcp_subflow_get_send") && !found("iter") && !found(""));
        assert_eq!(named(7, None, map::ALL), None);
    }

    #[test]
    fn the_objects_of_a_process_are_in_its_fdinfo() {
        let mut held = Held::default();
        for line in ["pos:\t0", "link_id:\t3", "prog_id:\t41", "map_id:\t5", "x"] {
            held.take(line);
        }
        let one = |id| BTreeSet::from([id]);
        assert_eq!((held.programs, held.maps), (one(41), one(5)));
        assert_eq!(held.links, one(3));
    }

    #[test]
    fn only_new_objects_count() {
        let of = |ids: &[u32]| BpfObjects {
            maps: ids.iter().map(|&id| (id, "PATHS".to_owned())).collect(),
            ..BpfObjects::default()
        };
        assert_eq!(of(&[1, 2]).since(&of(&[1])), of(&[2]));
        assert!(of(&[1]).since(&of(&[1])).is_empty());
    }
}
