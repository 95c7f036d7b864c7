//! The guest's root file system: the agent, this program as /init, the programs
//! of iproute2 and kmod, and the libraries that they are linked with.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cpio::newc::{self, ModeFileType};

use crate::archive::Kernel;
use crate::guest;
use crate::programs::Programs;

/// Modules that Debian's kernels load on demand.
const MODULES: [&str; 11] = [
    "kernel/net/ipv4/tcp_bbr",
    "kernel/drivers/net/veth",
    "kernel/drivers/net/vrf",
    "kernel/net/sched/sch_netem",
    // VLANs, and the modules that they need.
    "kernel/net/8021q/8021q",
    "kernel/net/802/garp",
    "kernel/net/802/mrp",
    "kernel/net/802/stp",
    "kernel/net/llc/llc",
    // The parts of clsact, used before tcx.
    "kernel/net/sched/sch_ingress",
    "kernel/net/sched/cls_bpf",
];

/// The programs that are compiled for the guest.
pub struct Compiled {
    /// The agent.
    pub agent: PathBuf,
    /// This program.
    pub init: PathBuf,
    /// The program that shows what a TCP socket is. It is never static.
    pub socket: PathBuf,
}

/// Writes the initramfs to the file `to`.
pub fn write(to: &Path, compiled: &Compiled, kernel: &Kernel, from: &Programs) -> Result<()> {
    let kmod = from.program("kmod")?;
    let programs = [
        (compiled.init.clone(), guest::INIT),
        (compiled.agent.clone(), guest::AGENT),
        (compiled.socket.clone(), guest::SOCKET),
        (from.program("ip")?, guest::IP),
        (from.program("tc")?, guest::TC),
        (kmod.clone(), guest::KMOD[0]),
        (kmod, guest::KMOD[1]),
    ];
    let mut tree = Tree::new(to)?;
    for dir in guest::DIRECTORIES {
        tree.dir(Path::new(dir))?;
    }
    for (program, place) in &programs {
        tree.file(program, Path::new(place))?;
        for library in from.libraries(program)? {
            tree.file(&library.file, &library.place)?;
        }
    }
    let modules = Path::new("/lib/modules").join(&kernel.name);
    tree.dir(&modules)?;
    for module in MODULES {
        // A module without a file is built into the kernel.
        let found = ["ko", "ko.xz", "ko.zst"]
            .map(|extension| format!("{module}.{extension}"))
            .into_iter()
            .find(|name| kernel.modules.join(name).exists());
        if let Some(name) = found {
            tree.file(&kernel.modules.join(&name), &modules.join(&name))?;
        }
    }
    tree.finish()
}

/// An archive that is being written, in the only format that the kernel reads.
struct Tree {
    archive: BufWriter<File>,
    /// The paths written so far. Each path is written once, after its directory.
    written: BTreeSet<PathBuf>,
}

impl Tree {
    fn new(path: &Path) -> Result<Self> {
        Ok(Self {
            archive: BufWriter::new(File::create(path)?),
            written: BTreeSet::from([PathBuf::from("/")]),
        })
    }

    fn dir(&mut self, path: &Path) -> Result<()> {
        if let Some(parent) = path.parent()
            && self.written.insert(path.to_owned())
        {
            self.dir(parent)?;
            self.entry(path, ModeFileType::Directory, &[])?;
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, path: &Path) -> Result<()> {
        self.dir(path.parent().context("a file without a directory")?)?;
        if self.written.insert(path.to_owned()) {
            let content = fs::read(from).with_context(|| format!("read {}", from.display()))?;
            self.entry(path, ModeFileType::Regular, &content)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, kind: ModeFileType, content: &[u8]) -> Result<()> {
        let name = path.to_str().context("a name that is not UTF-8")?;
        let entry = newc::Builder::new(name.trim_start_matches('/'))
            .mode(0o755)
            .set_mode_file_type(kind);
        let mut writer = entry.write(&mut self.archive, content.len().try_into()?);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        newc::trailer(&mut self.archive)?;
        Ok(self.archive.flush()?)
    }
}
