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
use xtask::cross::Arch;

use crate::links::Links;
use crate::platform::Platform;

/// The programs in the guest, and the packages that contain them.
const PROGRAMS: [&str; 3] = ["kmod", "ip", "tc"];
const PACKAGES: [&str; 2] = ["kmod", "iproute2"];
/// The archives of the oldest release that we build on. Its libraries are no
/// newer than this machine's C library, which some programs use in the guest.
const SOURCES: [Source; 2] = [
    ("/debian-security", "bookworm-security main"),
    ("/debian", "bookworm main"),
];

/// The directories with programs in a root.
const PROGRAM_DIRS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];

/// Finds the programs on this machine, or in directories.
pub struct Programs {
    platform: &'static Platform,
    /// QEMU, for this machine.
    host: Root,
    /// The guest's programs.
    guest: Root,
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
    /// Finds all programs for guests of a platform, and unpacks missing ones below
    /// `tools`.
    pub fn supply(tools: &Path, platform: &'static Platform) -> Result<Self> {
        let name = platform.arch.name();
        let qemu = tools.join(format!("vm-qemu-{name}"));
        let guest = tools.join(format!("vm-guest-{name}"));
        let programs = Self {
            platform,
            host: Root::new(qemu, Platform::of(Arch::own()?))?,
            guest: Root::new(guest, platform)?,
        };
        let packages = [platform.qemu_package];
        programs.host.supply(&[platform.qemu], &packages)?;
        programs.guest.supply(&PROGRAMS, &PACKAGES)?;
        Ok(programs)
    }

    /// Returns the file of a program that runs in the guest.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        self.guest.program(name)
    }

    /// Returns the shared libraries of a program that runs in the guest, including its
    /// loader. The loader will find each at its place in the guest.
    pub fn libraries(&self, program: &Path) -> Result<Vec<Library>> {
        self.guest.libraries(program)
    }

    /// Returns a command that starts QEMU.
    pub fn qemu(&self) -> Result<Command> {
        let host = &self.host;
        let program = host.program(self.platform.qemu)?;
        if !program.starts_with(&host.dir) {
            return Ok(Command::new(program));
        }
        // Use the libraries, loader, modules and firmware that were unpacked
        // with it, and nothing of this machine.
        let loader = Links::of(&program)?.loader;
        let loader = loader.as_deref().and_then(Path::file_name);
        let loader = loader.context("QEMU has no loader")?.to_string_lossy();
        let libraries = host.library_dirs();
        let mut command = Command::new(host.library(&loader)?);
        command
            .arg("--library-path")
            .arg(std::env::join_paths(&libraries)?)
            .arg(program)
            .env("QEMU_MODULE_DIR", libraries[1].join("qemu"));
        for firmware in ["usr/share/seabios", "usr/share/qemu"] {
            command.arg("-L").arg(host.dir.join(firmware));
        }
        Ok(command)
    }
}

/// Programs of an architecture: this machine's, if it has that architecture, and those
/// of unpacked packages.
struct Root {
    /// The unpacked packages. Does not exist if this machine has all programs.
    dir: PathBuf,
    platform: &'static Platform,
    is_own: bool,
}

impl Root {
    fn new(dir: PathBuf, platform: &'static Platform) -> Result<Self> {
        Ok(Self {
            dir,
            platform,
            is_own: platform.arch == Arch::own()?,
        })
    }

    /// Unpacks packages if one of the programs is missing.
    fn supply(&self, programs: &[&str], packages: &[&str]) -> Result<()> {
        let missing = || programs.iter().find(|name| self.program(name).is_err());
        if missing().is_some() {
            self.unpack(packages)?;
        }
        if let Some(name) = missing() {
            bail!("there is no {name} in {}", packages.join(", "));
        }
        Ok(())
    }

    fn unpack(&self, packages: &[&str]) -> Result<()> {
        let architecture = self.platform.arch.debian();
        let apt = Apt::new(self.dir.with_extension("apt"), &SOURCES, architecture)?;
        apt.update()?;
        let debs = apt.download_with_dependencies(packages)?;
        // An interrupted run must not leave something that looks complete.
        let part = self.dir.with_extension("part");
        for old in [&part, &self.dir] {
            if old.exists() {
                fs::remove_dir_all(old)?;
            }
        }
        unpack(&debs, &part)?;
        fs::rename(&part, &self.dir)?;
        // The lists and packages are not needed any more.
        Ok(fs::remove_dir_all(apt.dir())?)
    }

    /// Returns the file of a program.
    fn program(&self, name: &str) -> Result<PathBuf> {
        let mut dirs = Vec::new();
        if self.is_own {
            let path = std::env::var_os("PATH").unwrap_or_default();
            dirs.extend(std::env::split_paths(&path));
            dirs.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
        }
        dirs.extend(PROGRAM_DIRS.map(|dir| self.dir.join(dir)));
        let dirs = std::env::join_paths(dirs)?;
        which::which_in(name, Some(dirs), "/").with_context(|| format!("there is no {name}"))
    }

    /// Returns the directories with the unpacked libraries.
    fn library_dirs(&self) -> [PathBuf; 2] {
        let multiarch = self.platform.arch.multiarch();
        ["lib", "usr/lib"].map(|dir| self.dir.join(dir).join(&multiarch))
    }

    /// Returns the file of an unpacked library.
    fn library(&self, name: &str) -> Result<PathBuf> {
        let files = self.library_dirs().map(|dir| dir.join(name));
        let file = files.into_iter().find(|file| file.exists());
        file.with_context(|| format!("there is no {name}"))
    }

    /// Returns the place where a guest's loader looks for a library.
    fn place(&self, name: &str) -> PathBuf {
        Path::new("/lib")
            .join(self.platform.arch.multiarch())
            .join(name)
    }

    fn libraries(&self, program: &Path) -> Result<Vec<Library>> {
        if self.is_own {
            self.own_libraries(program)
        } else {
            self.foreign_libraries(program)
        }
    }

    /// Returns the libraries that this machine's loader finds, and unpacked ones in
    /// place of those that this machine lacks.
    fn own_libraries(&self, program: &Path) -> Result<Vec<Library>> {
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
                let place = self.place(name);
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

    /// Returns the libraries that a program of another architecture names, and those
    /// that these name in turn: the cross compiler's, with which some programs are
    /// linked, before unpacked ones, which may be older.
    fn foreign_libraries(&self, program: &Path) -> Result<Vec<Library>> {
        let cross = Path::new("/usr")
            .join(self.platform.arch.multiarch())
            .join("lib");
        let find = |name: &str| {
            let file = cross.join(name);
            if file.exists() {
                Ok(file)
            } else {
                self.library(name)
            }
        };
        let mut libraries: Vec<Library> = Vec::new();
        let mut unseen = vec![program.to_owned()];
        while let Some(file) = unseen.pop() {
            let links = Links::of(&file)?;
            let mut wanted: Vec<(String, PathBuf)> = links
                .needed
                .into_iter()
                .map(|name| {
                    let place = self.place(&name);
                    (name, place)
                })
                .collect();
            if let Some(place) = links.loader {
                let name = place.file_name().context("a loader without a name")?;
                wanted.push((name.to_string_lossy().into_owned(), place));
            }
            for (name, place) in wanted {
                if libraries.iter().all(|library| library.place != place) {
                    let file = find(&name).with_context(|| file.display().to_string())?;
                    unseen.push(file.clone());
                    libraries.push(Library { file, place });
                }
            }
        }
        Ok(libraries)
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
        let root = Root::new(dir.clone(), Platform::of(Arch::own()?))?;
        assert!(root.library("libnone.so.1").is_err());
        let library = root.library_dirs()[1].join("libnone.so.1");
        fs::create_dir_all(library.parent().context("a directory")?)?;
        fs::write(&library, "")?;
        assert_eq!(root.library("libnone.so.1")?, library);
        // A program of the machine comes before an unpacked one.
        assert!(!root.program("sh")?.starts_with(&dir));
        Ok(fs::remove_dir_all(dir)?)
    }

    #[test]
    fn another_architecture_has_nothing_of_this_machine() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("xtask-foreign-{}", std::process::id()));
        let other = match Arch::own()? {
            Arch::X86_64 => Arch::Aarch64,
            Arch::Aarch64 => Arch::X86_64,
        };
        let root = Root::new(dir.clone(), Platform::of(other))?;
        assert!(root.program("sh").is_err());
        // This test's own file stands in for a program of the other architecture: it
        // names a loader and libraries, and they come from the unpacked files only.
        let own = std::env::current_exe()?;
        let links = Links::of(&own)?;
        let loader = links.loader.context("a loader")?;
        let name = loader.file_name().context("a name")?.to_string_lossy();
        let unpacked = &root.library_dirs()[0];
        fs::create_dir_all(unpacked)?;
        for name in links.needed.iter().map(|name| &**name).chain([&*name]) {
            // A file without sections names nothing.
            fs::write(unpacked.join(name), minimal_elf())?;
        }
        let libraries = root.libraries(&own)?;
        let of = |place: &Path| libraries.iter().find(|library| library.place == place);
        assert!(of(&loader).is_some(), "{libraries:?}");
        assert!(of(&root.place("libc.so.6")).is_some(), "{libraries:?}");
        Ok(fs::remove_dir_all(dir)?)
    }

    /// Returns the header of an ELF file with 64 bits, and no more.
    fn minimal_elf() -> [u8; 64] {
        let mut header = [0; 64];
        header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        header
    }
}
