//! The running kernel's types (BTF): where they are, and where members of its
//! structures lie.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use btf_rs::{Btf, BtfType, Struct, Type};
use object::{Object as _, ObjectSection as _};

use super::file::read_whole;

/// The kernel's own word on its types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The most bytes of a file of `--btf`: a vmlinux with all its debugging information
/// is smaller.
const LARGEST: u64 = 2 << 30;

/// The section of an ELF file that has them.
const SECTION: &str = ".BTF";

/// The number that BTF begins with, as a kernel of this byte order writes it.
const MAGIC: [u8; 2] = 0xeb9f_u16.to_ne_bytes();

/// Returns the kernel's types as BTF: from the file of `--btf`, else from
/// [`VMLINUX`].
///
/// # Errors
/// The file cannot be read, or is neither BTF nor an ELF file that has BTF in it.
pub fn read(file: Option<&Path>) -> Result<Vec<u8>> {
    let Some(file) = file else {
        return fs::read(VMLINUX)
            .with_context(|| format!("cannot read the kernel's types from {VMLINUX}"));
    };
    let bytes = read_whole(file, LARGEST)
        .with_context(|| format!("--btf {}: cannot read it", file.display()))?;
    extract(bytes).with_context(|| format!("--btf {}", file.display()))
}

/// Checks that the kernel's types can be had, and that a file of `--btf` can be
/// the running kernel's.
///
/// Where the kernel shows its own types, the file must hold the same: with those
/// of another kernel, programs would read the wrong memory.
///
/// # Errors
/// One line that says what is wrong, and what to do.
pub fn check(file: Option<&Path>) -> Result<()> {
    let Some(file) = file else {
        ensure!(
            Path::new(VMLINUX).exists(),
            "{VMLINUX} is not there: the agent needs a kernel built with CONFIG_DEBUG_INFO_BTF \
             (as distributions build theirs) and /sys mounted. If such a kernel hides the file, \
             name a copy with --btf FILE"
        );
        return Ok(());
    };
    let types = read(Some(file))?;
    // A kernel that shows nothing has to be believed by its file.
    if let Ok(own) = fs::read(VMLINUX) {
        ensure!(
            own == types,
            "--btf {}: its types are not those of this kernel, which shows its own in {VMLINUX}: \
             leave --btf out",
            file.display()
        );
        return Ok(());
    }
    plausible(types).with_context(|| format!("--btf {}", file.display()))
}

/// Returns the BTF of a file: all of it, or a section of an ELF file.
fn extract(bytes: Vec<u8>) -> Result<Vec<u8>> {
    const EXPECTED: &str = "expected a copy of /sys/kernel/btf/vmlinux, or the vmlinux of this \
                            kernel with its section .BTF";
    if bytes.starts_with(&MAGIC) {
        return Ok(bytes);
    }
    let swapped = [MAGIC[1], MAGIC[0]];
    ensure!(
        !bytes.starts_with(&swapped),
        "its types are those of a machine with the other byte order: {EXPECTED}"
    );
    if !bytes.starts_with(&object::elf::ELFMAG) {
        bail!("it is neither BTF nor an ELF file: {EXPECTED}");
    }
    let elf = object::File::parse(&*bytes)
        .with_context(|| format!("it is a broken ELF file: {EXPECTED}"))?;
    let section = elf
        .section_by_name(SECTION)
        .with_context(|| format!("this ELF file has no section {SECTION}: {EXPECTED}"))?;
    let types = section.data().context("its section .BTF cannot be read")?;
    ensure!(
        types.starts_with(&MAGIC),
        "its section {SECTION} holds no BTF of this machine's byte order: {EXPECTED}"
    );
    Ok(types.to_vec())
}

/// Checks that types can be the running kernel's: a kernel with MPTCP, of this
/// machine's word size.
fn plausible(types: Vec<u8>) -> Result<()> {
    const EXPECTED: &str = "expected those of the kernel that runs (uname -r)";
    let layout = Layout::new(types)?;
    let word = layout.offset_bits("list_head", "prev");
    ensure!(
        word == Some(usize::BITS),
        "it has no types of a kernel of {} bits: {EXPECTED}",
        usize::BITS
    );
    ensure!(
        layout.offset_bits("mptcp_sock", "token").is_some(),
        "it has no struct mptcp_sock, so it is of a kernel without Multipath TCP, or of a module: \
         {EXPECTED}"
    );
    Ok(())
}

/// The layout of the running kernel's structures.
pub struct Layout {
    btf: Btf,
    /// The BTF, which holds all names.
    bytes: Vec<u8>,
}

impl Layout {
    /// Parses BTF.
    ///
    /// # Errors
    /// It is broken.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        let btf = Btf::from_bytes(&bytes).context("the kernel's types (BTF) are broken")?;
        Ok(Self { btf, bytes })
    }

    /// Gives the BTF back.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns whether the kernel's types have this name, for a constant or for
    /// anything else.
    pub fn has_name(&self, name: &str) -> bool {
        let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
        let mut windows = self.bytes.windows(wanted.len());
        windows.any(|window| window == wanted)
    }

    /// Returns the offset in bits of `member` (a path of names) in `structure`;
    /// `None` if the kernel has no such member.
    pub fn offset_bits(&self, structure: &str, member: &str) -> Option<u32> {
        let types = self.btf.resolve_types_by_name(structure).ok()?;
        types.into_iter().find_map(|found| match found {
            Type::Struct(found) | Type::Union(found) => self.member_bits(&found, member),
            _ => None,
        })
    }

    fn member_bits(&self, structure: &Struct, path: &str) -> Option<u32> {
        let (name, rest) = match path.split_once('.') {
            Some((name, rest)) => (name, Some(rest)),
            None => (path, None),
        };
        for member in &structure.members {
            let found = self.btf.resolve_name(member).unwrap_or_default();
            let inner = if found.is_empty() {
                // The members of unnamed structs and unions count as members of
                // the outer one.
                self.aggregate(member)
                    .and_then(|inner| self.member_bits(&inner, path))
            } else if found != name {
                None
            } else if let Some(rest) = rest {
                self.aggregate(member)
                    .and_then(|inner| self.member_bits(&inner, rest))
            } else {
                Some(0)
            };
            if let Some(inner) = inner {
                return Some(member.bit_offset() + inner);
            }
        }
        None
    }

    /// Returns the struct or union that is a member's type, behind qualifiers.
    fn aggregate(&self, member: &dyn BtfType) -> Option<Struct> {
        let mut found = self.btf.resolve_chained_type(member).ok()?;
        loop {
            found = match found {
                Type::Struct(found) | Type::Union(found) => return Some(found),
                Type::Const(ref inner) | Type::Volatile(ref inner) => {
                    self.btf.resolve_chained_type(inner).ok()?
                }
                Type::Typedef(ref inner) => self.btf.resolve_chained_type(inner).ok()?,
                _ => return None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::host::skip::skip;

    #[test]
    fn the_running_kernel_has_the_members_every_kernel_has() {
        if !Path::new(VMLINUX).exists() {
            skip(&format!(
                "{VMLINUX} is not there: the kernel lacks CONFIG_DEBUG_INFO_BTF"
            ));
            return;
        }
        let layout = Layout::new(read(None).unwrap()).unwrap();
        assert_eq!(layout.offset_bits("list_head", "next"), Some(0));
        assert_eq!(layout.offset_bits("list_head", "prev"), Some(usize::BITS));
        assert_eq!(layout.offset_bits("sock", "__sk_common"), Some(0));
        assert_eq!(layout.offset_bits("list_head", "nonsense"), None);
        assert_eq!(layout.offset_bits("no_such_structure", "next"), None);
        assert!(layout.has_name("TCP_ESTABLISHED"));
        assert!(!layout.has_name("TCP_NONSENSE"));
    }

    #[test]
    fn what_a_file_holds_instead_of_types_is_named() {
        let why = |bytes: &[u8]| format!("{:#}", extract(bytes.to_vec()).unwrap_err());
        let [first, second] = MAGIC;
        assert!(why(&[second, first, 1, 0]).contains("other byte order"));
        assert!(why(b"").contains("neither BTF nor an ELF file"));
        assert!(why(b"types").contains("neither BTF nor an ELF file"));
        assert!(why(b"\x7fELF").contains("broken ELF file"));
        let program = fs::read("/proc/self/exe").unwrap();
        assert!(why(&program).contains("no section .BTF"));
        assert_eq!(extract(MAGIC.to_vec()).unwrap(), MAGIC);
        let cut = plausible(MAGIC.to_vec()).unwrap_err();
        assert!(format!("{cut:#}").contains("broken"));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        for file in ["/dev/zero", "/sys"] {
            let why = format!("{:#}", read(Some(Path::new(file))).unwrap_err());
            assert!(why.contains("no regular file"), "{why}");
        }
    }

    #[test]
    fn a_file_must_hold_what_the_kernel_shows() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("types");
        let missing = check(Some(&file)).unwrap_err();
        assert!(format!("{missing:#}").contains("--btf"), "{missing:#}");
        let Ok(mut types) = fs::read(VMLINUX) else {
            skip(&format!("{VMLINUX} is not there"));
            return;
        };
        fs::write(&file, &types).unwrap();
        check(Some(&file)).unwrap();
        types.push(0);
        fs::write(&file, &types).unwrap();
        let other = check(Some(&file)).unwrap_err();
        assert!(
            format!("{other:#}").contains("leave --btf out"),
            "{other:#}"
        );
    }
}
