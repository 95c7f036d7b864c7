//! The programs that boot a virtual machine, and those that run in it.
//!
//! Programs that this machine has are used. The others come from Debian's
//! archive, unpacked below `target/tools` together with all their libraries.
//! Nothing is installed, so no package of this machine is replaced.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use xtask::apt::{Apt, Source, unpack};

/// QEMU's name.
const QEMU: &str = "qemu-system-x86_64";
/// All programs, and the packages that contain them.
const PROGRAMS: [&str; 4] = [QEMU, "kmod", "ip", "tc"];
const PACKAGES: [&str; 3] = ["qemu-system-x86", "kmod", "iproute2"];
/// The archives of the oldest release that we build on. Its libraries are no
/// newer than this machine's C library, which some programs use in the guest.
const SOURCES: [Source; 2] = [
    ("/debian-security", "bookworm-security main"),
    ("/debian", "bookworm main"),
];

/// The directories with programs, and those with libraries, in a root.
const PROGRAM_DIRS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];
const LIBRARY_DIRS: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
/// The loader's name, in one of the directories with libraries.
const LOADER: &str = "ld-linux-x86-64.so.2";

/// Finds the programs on this machine, or in a directory.
pub struct Programs {
    /// The unpacked packages. Does not exist if this machine has all programs.
    root: PathBuf,
}

/// A shared library, and the place where a guest needs it.
#[derive(Debug, PartialEq, Eq)]
pub struct Library {
    /// The file on this machine.
    pub file: PathBuf,
    /// Its path in the guest.
    pub place: PathBuf,
}

impl Programs {
    /// Finds all programs, and unpacks missing ones below `tools`.
    pub fn supply(tools: &Path) -> Result<Self> {
        let programs = Self {
            root: tools.join("vm"),
        };
        if programs.missing().is_some() {
            programs.unpack(tools)?;
        }
        if let Some(name) = programs.missing() {
            bail!("there is no {name} in {}", PACKAGES.join(", "));
        }
        Ok(programs)
    }

    fn missing(&self) -> Option<&str> {
        PROGRAMS
            .into_iter()
            .find(|name| self.program(name).is_err())
    }

    fn unpack(&self, tools: &Path) -> Result<()> {
        let apt = Apt::new(tools.join("vm-apt"), &SOURCES, "amd64")?;
        apt.update()?;
        let debs = apt.download_with_dependencies(&PACKAGES)?;
        // An interrupted run must not leave something that looks complete.
        let part = tools.join("vm-part");
        for old in [&part, &self.root] {
            if old.exists() {
                fs::remove_dir_all(old)?;
            }
        }
        unpack(&debs, &part)?;
        fs::rename(&part, &self.root)?;
        // The lists and packages are not needed any more.
        Ok(fs::remove_dir_all(apt.dir())?)
    }

    /// Returns the file of a program.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let machine = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
        let unpacked = PROGRAM_DIRS.map(|dir| self.root.join(dir));
        let dirs = std::env::join_paths(machine.chain(unpacked))?;
        which::which_in(name, Some(dirs), "/").with_context(|| format!("there is no {name}"))
    }

    /// Returns a command that starts QEMU.
    pub fn qemu(&self) -> Result<Command> {
        let program = self.program(QEMU)?;
        if !program.starts_with(&self.root) {
            return Ok(Command::new(program));
        }
        // Use the libraries, loader, modules and firmware that were unpacked
        // with it, and nothing of this machine.
        let libraries = LIBRARY_DIRS.map(|dir| self.root.join(dir));
        let mut command = Command::new(self.library(LOADER)?);
        command
            .arg("--library-path")
            .arg(std::env::join_paths(&libraries)?)
            .arg(program)
            .env("QEMU_MODULE_DIR", libraries[1].join("qemu"));
        for firmware in ["usr/share/seabios", "usr/share/qemu"] {
            command.arg("-L").arg(self.root.join(firmware));
        }
        Ok(command)
    }

    /// Returns the shared libraries of a program, including its loader. The loader
    /// will find each at its place in the guest.
    pub fn libraries(&self, program: &Path) -> Result<Vec<Library>> {
        let mut libraries = Vec::new();
        let mut unseen = vec![program.to_owned()];
        while let Some(file) = unseen.pop() {
            let shown = file.display();
            let output = Command::new("ldd").arg(&file).env("LC_ALL", "C").output();
            let output = output.with_context(|| format!("ldd {shown}"))?;
            // Ignore ldd's status: it fails for a static program.
            let text = String::from_utf8_lossy(&output.stdout);
            libraries.extend(found(&text).map(|path| Library {
                file: path.into(),
                place: path.into(),
            }));
            for name in not_found(&text) {
                let file = self
                    .library(name)
                    .with_context(|| format!("ldd {shown}:\n{text}"))?;
                let place = Path::new("/").join(LIBRARY_DIRS[0]).join(name);
                let library = Library { file, place };
                if !libraries.contains(&library) {
                    // The library may need others that this machine lacks.
                    unseen.push(library.file.clone());
                    libraries.push(library);
                }
            }
        }
        Ok(libraries)
    }

    /// Returns the file of an unpacked library.
    fn library(&self, name: &str) -> Result<PathBuf> {
        let files = LIBRARY_DIRS.map(|dir| self.root.join(dir).join(name));
        let file = files.into_iter().find(|file| file.exists());
        file.with_context(|| format!("there is no {name}"))
    }
}

/// Returns the files that ldd has found.
fn found(ldd: &str) -> impl Iterator<Item = &str> {
    ldd.split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
}

/// Returns the libraries that ldd has not found.
fn not_found(ldd: &str) -> impl Iterator<Item = &str> {
    ldd.lines()
        .filter_map(|line| Some(line.trim().strip_suffix("=> not found")?.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader() {
        let text = "\tlinux-vdso.so.1 (0x7fff1)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f1)\n\
                    \tlibkmod.so.2 => not found\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x7f2)\n";
        let paths: Vec<&str> = found(text).collect();
        assert_eq!(
            paths,
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
        assert_eq!(not_found(text).collect::<Vec<_>>(), ["libkmod.so.2"]);
        assert_eq!(found("\tstatically linked\n").count(), 0);
    }

    #[test]
    fn what_this_machine_lacks_comes_from_what_was_unpacked() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("xtask-programs-{}", std::process::id()));
        let programs = Programs { root: dir.clone() };
        assert!(programs.library("libnone.so.1").is_err());
        let library = dir.join("usr/lib/x86_64-linux-gnu/libnone.so.1");
        fs::create_dir_all(library.parent().context("a directory")?)?;
        fs::write(&library, "")?;
        assert_eq!(programs.library("libnone.so.1")?, library);
        // A program of the machine comes before an unpacked one.
        assert!(!programs.program("sh")?.starts_with(&dir));
        Ok(fs::remove_dir_all(dir)?)
    }
}
