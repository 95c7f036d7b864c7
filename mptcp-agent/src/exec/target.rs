//! Looks at the file that will run: the program, or the interpreter that a script
//! names, and how it is linked.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use object::elf::{FileHeader64, PT_INTERP};
use object::read::ReadCache;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use object::{Endianness, FileKind};
use rustix::fs::getxattr;
use rustix::process::{getgid, getuid};

use super::{LIBRARY, program};
use crate::host::file;

/// How many interpreters in a row the kernel follows. [`Target`] follows as many.
const DEPTH: usize = 5;
/// How many bytes of a script's first line the kernel reads.
const FIRST_LINE: u64 = 256;
/// The type of the note with the build ID that every Go program has.
const GO_BUILD_ID: u32 = 4;
/// The bytes of an ELF header that name the machine, with 32 and with 64 bits alike.
const MACHINE: std::ops::Range<usize> = 18..20;

/// The file that will run.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// Its path.
    pub file: PathBuf,
    /// How it is linked; `None` if it is no ELF file or cannot be read.
    pub linkage: Option<Linkage>,
    /// The source of rights of its own, for which the loader ignores `LD_PRELOAD`.
    pub privilege: Option<&'static str>,
    /// Whether it was built by Go's own toolchain.
    pub is_go: bool,
}

/// How an ELF file is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linkage {
    /// It names a dynamic loader, of the machine that this agent is built for.
    Dynamic,
    /// It names no dynamic loader.
    Static,
    /// It is for another machine, or has 32 bits.
    Foreign,
}

impl Target {
    /// Looks at `file`. It follows the first lines of scripts, and the name that
    /// `env` is given there.
    pub fn of(file: &Path, path: Option<&OsStr>) -> Self {
        let mut file = file.to_owned();
        for _ in 0..DEPTH {
            let Some(next) = interpreter(&file, path) else {
                break;
            };
            file = next;
        }
        let (linkage, is_go) = elf(&file).map_or((None, false), |(one, is_go)| (Some(one), is_go));
        Self {
            privilege: privilege(&file),
            file,
            linkage,
            is_go,
        }
    }
}

/// Returns the file that runs a script.
fn interpreter(script: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    let mut line = Vec::new();
    let file = file::open_named(script).ok()?;
    file.take(FIRST_LINE).read_to_end(&mut line).ok()?;
    let line = line
        .strip_prefix(b"#!")?
        .split(|&byte| byte == b'\n')
        .next()?;
    let mut words = line
        .split(|byte| matches!(byte, b' ' | b'\t'))
        .filter(|word| !word.is_empty())
        .map(OsStr::from_bytes);
    let interpreter = PathBuf::from(words.next()?);
    if interpreter.file_name() == Some(OsStr::new("env")) {
        let name = words.find(|word| {
            let bytes = word.as_bytes();
            !bytes.starts_with(b"-") && !bytes.contains(&b'=')
        });
        if let Some(found) = name.and_then(|name| program::find(name, path).ok()) {
            return Some(found);
        }
    }
    Some(interpreter)
}

/// Returns how an ELF file is linked, and whether Go's toolchain has made it.
fn elf(path: &Path) -> Option<(Linkage, bool)> {
    let file = file::open_named(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let data = ReadCache::new(file);
    match FileKind::parse(&data).ok()? {
        FileKind::Elf64 => {}
        FileKind::Elf32 => return Some((Linkage::Foreign, false)),
        _ => return None,
    }
    linkage(&data)
}

fn linkage(data: &ReadCache<File>) -> Option<(Linkage, bool)> {
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let own = LIBRARY.get(MACHINE).and_then(|bytes| bytes.try_into().ok());
    if own.is_some_and(|own| u16::from_ne_bytes(own) != header.e_machine(endian)) {
        return Some((Linkage::Foreign, false));
    }
    let (mut linkage, mut is_go) = (Linkage::Static, false);
    for segment in header.program_headers(endian, data).ok()? {
        if segment.p_type(endian) == PT_INTERP {
            linkage = Linkage::Dynamic;
        }
        let Ok(Some(mut notes)) = segment.notes(endian, data) else {
            continue;
        };
        while let Ok(Some(note)) = notes.next() {
            is_go |= note.name() == b"Go" && note.n_type(endian) == GO_BUILD_ID;
        }
    }
    Some((linkage, is_go))
}

/// Returns what makes the kernel run a file in secure mode (`AT_SECURE`) for this
/// user.
fn privilege(file: &Path) -> Option<&'static str> {
    const GROUP_MAY_RUN: u32 = 0o010;
    let metadata = fs::metadata(file).ok()?;
    let has = |bit: u32| metadata.mode() & bit == bit;
    if has(libc::S_ISUID) && metadata.uid() != getuid().as_raw() {
        return Some("is setuid");
    }
    if has(libc::S_ISGID | GROUP_MAY_RUN) && metadata.gid() != getgid().as_raw() {
        return Some("is setgid");
    }
    let has_capabilities = getxattr(file, "security.capability", &mut [0_u8; 64]).is_ok();
    (has_capabilities && !getuid().is_root()).then_some("has file capabilities")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const PT_LOAD: u32 = 1;
    const PT_NOTE: u32 = 4;

    /// Makes an ELF file of this machine with these program headers, and a note
    /// of this name and type behind them.
    fn elf_file(types: &[u32], note: (&[u8; 4], u32)) -> Vec<u8> {
        let mut bytes = LIBRARY[..64].to_vec();
        bytes[32..40].copy_from_slice(&64_u64.to_ne_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_ne_bytes());
        bytes[56..58].copy_from_slice(&(types.len() as u16).to_ne_bytes());
        let end = 64 + 56 * types.len() as u64;
        for kind in types {
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(4_u32.to_ne_bytes());
            bytes.extend([end, 0, 0, 20, 20, 4].map(u64::to_ne_bytes).concat());
        }
        bytes.extend([4_u32, 4, note.1].map(u32::to_ne_bytes).concat());
        bytes.extend(note.0);
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn how_a_file_is_linked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("program");
        let of = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            let target = Target::of(&file, None);
            assert_eq!(target.file, file);
            (target.linkage, target.is_go)
        };
        let go = (b"Go\0\0", GO_BUILD_ID);
        let gnu = (b"GNU\0", 3);
        let (dynamic, fixed) = (Some(Linkage::Dynamic), Some(Linkage::Static));
        assert_eq!(of(&elf_file(&[PT_LOAD, PT_INTERP], gnu)), (dynamic, false));
        assert_eq!(of(&elf_file(&[PT_LOAD, PT_NOTE], gnu)), (fixed, false));
        assert_eq!(of(&elf_file(&[PT_LOAD, PT_NOTE], go)), (fixed, true));
        assert_eq!(of(&elf_file(&[PT_INTERP, PT_NOTE], go)), (dynamic, true));
        let mut foreign = elf_file(&[PT_LOAD], gnu);
        foreign[MACHINE].copy_from_slice(&[0x77; 2]);
        assert_eq!(of(&foreign), (Some(Linkage::Foreign), false));
        assert_eq!(of(b"\x7fELF\x01"), (None, false));
        assert_eq!(of(b""), (None, false));
        assert_eq!(of(b"echo"), (None, false));
    }

    #[test]
    fn this_program_is_dynamic() {
        let own = std::env::current_exe().unwrap();
        let target = Target::of(&own, None);
        assert_eq!(target.linkage, Some(Linkage::Dynamic));
        assert_eq!((target.privilege, target.is_go), (None, false));
    }

    #[test]
    fn a_script_is_its_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let tool = dir.path().join("tool");
        fs::write(&tool, "").unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        let script = dir.path().join("script");
        let of = |line: &str| {
            fs::write(&script, line).unwrap();
            Target::of(&script, Some(dir.path().as_os_str())).file
        };
        assert_eq!(of(&format!("#! {} -x\nrest", tool.display())), tool);
        assert_eq!(of("#!/usr/bin/env -S A=1 tool -x\n"), tool);
        assert_eq!(of("#!/usr/bin/env missing"), Path::new("/usr/bin/env"));
        assert_eq!(of("no line"), script);
        // It names itself: the kernel gives up, and so does this.
        assert_eq!(of(&format!("#!{}\n", script.display())), script);
    }

    #[test]
    fn rights_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("program");
        fs::write(&file, "").unwrap();
        let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        // Rights that this user has anyway are none of its own.
        for bits in [0o755, 0o4755, 0o2755] {
            mode(bits);
            assert_eq!(privilege(&file), None);
        }
        if getuid().is_root() {
            std::os::unix::fs::chown(&file, Some(65534), Some(65534)).unwrap();
            mode(0o4755);
            assert_eq!(privilege(&file), Some("is setuid"));
            mode(0o2755);
            assert_eq!(privilege(&file), Some("is setgid"));
            mode(0o2745);
            assert_eq!(privilege(&file), None);
        }
    }
}
