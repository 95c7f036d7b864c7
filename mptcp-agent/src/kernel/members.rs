//! The offsets that the programs get on this kernel, and the programs that lack
//! one that they need.

use mptcp_common::offsets::{ABSENT, MEMBERS};

use super::btf::Layout;

/// The globals of the eBPF object, and what is missing.
pub struct Members {
    /// Global and value: an offset in bytes, or in bits for flags; [`ABSENT`]
    /// if the kernel has no such member.
    pub globals: Vec<(&'static str, u32)>,
    /// `structure.member` and the programs that need it (`offsets::hook`).
    missing: Vec<(String, u8)>,
}

impl Members {
    /// Looks every member up.
    pub fn find(layout: &Layout) -> Self {
        let mut globals = Vec::with_capacity(MEMBERS.len());
        let mut missing = Vec::new();
        for member in MEMBERS {
            let bits = layout.offset_bits(member.structure, member.member);
            let value = match bits {
                Some(bits) if member.in_bits => flag_bits(bits),
                // Everything else is read by the byte.
                Some(bits) => bits / 8,
                None => {
                    missing.push((
                        format!("{}.{}", member.structure, member.member),
                        member.needed_by,
                    ));
                    ABSENT
                }
            };
            globals.push((member.global, value));
        }
        Self { globals, missing }
    }

    /// Returns why the programs in `hook` cannot run on this kernel, if they
    /// cannot.
    pub fn refusal(&self, hook: u8) -> Option<String> {
        let names: Vec<&str> = self
            .missing
            .iter()
            .filter(|(_, needed_by)| needed_by & hook != 0)
            .map(|(name, _)| name.as_str())
            .collect();
        (!names.is_empty()).then(|| format!("this kernel has no {}", names.join(", ")))
    }
}

/// Returns a flag's offset as the programs count it: they read bit `n % 8` of
/// byte `n / 8`. On little-endian hosts BTF counts bit-fields in the same way.
/// On big-endian ones it counts bits from the other end of the byte.
fn flag_bits(bits: u32) -> u32 {
    if cfg!(target_endian = "big") {
        bits ^ 7
    } else {
        bits
    }
}
