//! Kernels from Debian's archive.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use xtask::apt::{self, Apt, Source};
use xtask::command;
use xtask::cross::Arch;

/// The name of a series that stands for the newest kernel of all.
pub const NEWEST: &str = "backports";

/// The archives with kernels: the security updates have those of the supported
/// release, and the backports of the next release those that follow upstream.
const SOURCES: [Source; 2] = [
    ("/debian-security", "bookworm-security main"),
    ("/debian", "trixie-backports main"),
];

/// The parts around the version in the name of a kernel's package, such as
/// `linux-image-6.1.0-56-cloud-amd64`. The cloud flavour is the smallest, and
/// has MPTCP and BTF like the others. The architecture follows.
const PREFIX: &str = "linux-image-";
const FLAVOUR: &str = "-cloud-";

/// The packages with the files of newer kernels, whose image packages only
/// depend on them.
const PARTS: [&str; 2] = ["linux-binary-", "linux-modules-"];

/// Debian's archive.
pub struct Archive {
    dir: PathBuf,
    apt: Apt,
    arch: Arch,
    /// The names of all kernels' packages.
    names: Vec<String>,
}

/// An unpacked kernel.
pub struct Kernel {
    /// Its release, as `uname -r` will say.
    pub name: String,
    /// The image that QEMU boots.
    pub image: PathBuf,
    /// The directory that contains `kernel/net/...`.
    pub modules: PathBuf,
}

impl Archive {
    /// Brings the package lists up to date and reads the names of kernels.
    pub fn open(dir: &Path, arch: Arch) -> Result<Self> {
        let apt = Apt::new(dir.join("apt"), &SOURCES, arch.debian())?;
        let updated = apt.update();
        let pattern = format!("^{PREFIX}.*{FLAVOUR}{}$", arch.debian());
        let search = ["search", "--names-only", &pattern];
        let found = command::output(apt.command("apt-cache").args(search)).unwrap_or_default();
        let names: Vec<String> = found
            .lines()
            .filter_map(|line| Some(line.split_once(' ')?.0.to_owned()))
            .collect();
        if names.is_empty() {
            updated?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            apt,
            arch,
            names,
        })
    }

    /// Returns the newest kernel of a series. Downloads it if it is not here yet.
    pub fn kernel(&self, series: &str) -> Result<Kernel> {
        let packages = newest_first(&self.names, series, self.arch)
            .into_iter()
            .find_map(|image| self.packages(image));
        let packages = packages.with_context(|| {
            let known = series_of(&self.names).join(", ");
            format!("Debian's archive has no whole kernel {series}; it has packages of {known}")
        })?;
        let debs: Vec<PathBuf> = packages
            .iter()
            .map(|package| self.apt.download(package))
            .collect::<Result<_>>()?;
        Kernel::unpack(&self.dir, &debs)
    }

    /// Returns the packages that make up a kernel; `None` if one of them has gone.
    fn packages(&self, image: &str) -> Option<Vec<String>> {
        let depends = command::output(self.apt.command("apt-cache").args(["depends", image]))?;
        parts(image, &depends)
    }
}

impl Kernel {
    /// Unpacks a kernel's packages into `dir`.
    pub fn unpack(dir: &Path, debs: &[PathBuf]) -> Result<Self> {
        let first = debs.first().context("no package")?;
        let stem = first.file_stem().context("a path without a file")?;
        let root = dir.join("root").join(stem);
        // An earlier run may have left another package, or only a part.
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        apt::unpack(debs, &root)?;
        Self::find(&root).with_context(|| format!("no kernel in {}", first.display()))
    }

    fn find(root: &Path) -> Result<Self> {
        let modules = ["lib/modules", "usr/lib/modules"];
        let modules = modules.iter().map(|path| root.join(path));
        let modules = modules
            .filter_map(|path| fs::read_dir(path).ok())
            .flat_map(|entries| entries.flatten())
            .map(|entry| entry.path())
            .next()
            .context("no directory of modules")?;
        let name = modules.file_name().context("a directory has no name")?;
        let name = name.to_string_lossy().into_owned();
        let images = [
            root.join(format!("boot/vmlinuz-{name}")),
            modules.join("vmlinuz"),
        ];
        let image = images.into_iter().find(|image| image.exists());
        Ok(Self {
            image: image.with_context(|| format!("no vmlinuz of {name}"))?,
            name,
            modules,
        })
    }
}

/// Returns the packages of the kernels whose version begins with `series`.
fn newest_first<'a>(names: &'a [String], series: &str, arch: Arch) -> Vec<&'a str> {
    let suffix = format!("{FLAVOUR}{}", arch.debian());
    let series = if series == NEWEST {
        Vec::new()
    } else {
        numbers(series)
    };
    let versions = names.iter().filter_map(|name| {
        let version = name.strip_prefix(PREFIX)?.strip_suffix(&*suffix)?;
        Some((numbers(version), name.as_str()))
    });
    let mut found: Vec<_> = versions
        .filter(|(version, _)| version.len() > 2 && version.starts_with(&series))
        .collect();
    found.sort_unstable();
    found.into_iter().rev().map(|(_, name)| name).collect()
}

/// Returns `image` and those of its dependencies (`apt-cache depends`) that are
/// parts of the kernel; `None` if one of them is in angle brackets, since then
/// it is not in the archive.
fn parts(image: &str, depends: &str) -> Option<Vec<String>> {
    let mut packages = vec![image.to_owned()];
    for line in depends.lines() {
        let Some(name) = line.trim().strip_prefix("Depends: ") else {
            continue;
        };
        let bare = name.trim_start_matches('<');
        if PARTS.iter().any(|part| bare.starts_with(part)) {
            packages.push((bare == name).then(|| name.to_owned())?);
        }
    }
    Some(packages)
}

/// Returns the available series: 6.1, 6.12, ...
fn series_of(names: &[String]) -> Vec<String> {
    let versions = names.iter().filter_map(|name| name.strip_prefix(PREFIX));
    let series: BTreeSet<_> = versions
        .filter_map(|version| Some([*numbers(version).first()?, *numbers(version).get(1)?]))
        .collect();
    series
        .iter()
        .map(|[major, minor]| format!("{major}.{minor}"))
        .collect()
}

/// Returns the numbers in a version: 6.12.117+deb12 gives 6, 12, 117, 12.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_series() {
        let names = [
            "linux-image-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.99+deb12-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64-dbg",
            "linux-image-6.1.0-57-cloud-arm64",
        ]
        .map(str::to_owned);
        let of = |series, arch| newest_first(&names, series, arch).first().copied();
        let arm = of("6.1", Arch::Aarch64);
        assert_eq!(arm, Some("linux-image-6.1.0-57-cloud-arm64"));
        let newest = |series| of(series, Arch::X86_64);
        for (series, package) in [
            ("6.1", Some("linux-image-6.1.0-56-cloud-amd64")),
            ("6.12", Some("linux-image-6.12.117+deb12-cloud-amd64")),
            (NEWEST, Some("linux-image-7.3.4+deb13-cloud-amd64")),
            ("7", Some("linux-image-7.3.4+deb13-cloud-amd64")),
            ("5.10", None),
        ] {
            assert_eq!(newest(series), package, "{series}");
        }
        assert_eq!(series_of(&names[1..]), ["6.1", "6.12", "7.3"]);
    }

    #[test]
    fn a_kernel_in_parts() {
        let depends = |modules| {
            format!(
                "linux-image-7.3\n  PreDepends: linux-base\n |Depends: <dracut>\n  \
                 Depends: linux-binary-7.3\n  Depends: {modules}\n"
            )
        };
        let whole = parts("linux-image-7.3", &depends("linux-modules-7.3"));
        let names = ["linux-image-7.3", "linux-binary-7.3", "linux-modules-7.3"];
        assert_eq!(whole, Some(names.map(str::to_owned).to_vec()));
        let gone = parts("linux-image-7.3", &depends("<linux-modules-7.3>"));
        assert_eq!(gone, None);
    }
}
