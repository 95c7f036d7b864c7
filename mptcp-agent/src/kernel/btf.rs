//! Offsets of kernel members, from the running kernel's BTF.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use btf_rs::{Btf, BtfType, Struct, Type};

/// The layout of the running kernel's structures.
pub struct Layout {
    btf: Btf,
    /// The file, which holds all names.
    bytes: Vec<u8>,
}

impl Layout {
    /// Reads the BTF file at `path`.
    ///
    /// # Errors
    /// The file is missing or is not BTF.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = || format!("cannot read the kernel's types from {}", path.display());
        let bytes = fs::read(path).with_context(failed)?;
        let btf = Btf::from_bytes(&bytes).with_context(failed)?;
        Ok(Self { btf, bytes })
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
    use super::*;
    use crate::host::VMLINUX;
    use crate::host::skip::skip;

    #[test]
    fn the_running_kernel_has_the_members_every_kernel_has() {
        if !Path::new(VMLINUX).exists() {
            skip(&format!(
                "{VMLINUX} is not there: the kernel lacks CONFIG_DEBUG_INFO_BTF"
            ));
            return;
        }
        let layout = Layout::read(Path::new(VMLINUX)).expect("BTF");
        assert_eq!(layout.offset_bits("list_head", "next"), Some(0));
        assert_eq!(layout.offset_bits("list_head", "prev"), Some(usize::BITS));
        assert_eq!(layout.offset_bits("sock", "__sk_common"), Some(0));
        assert_eq!(layout.offset_bits("list_head", "nonsense"), None);
        assert_eq!(layout.offset_bits("no_such_structure", "next"), None);
        assert!(layout.has_name("TCP_ESTABLISHED"));
        assert!(!layout.has_name("TCP_NONSENSE"));
    }
}
