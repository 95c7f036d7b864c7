//! The offsets that the programs get on this kernel, and the programs that lack
//! one that they need.

use mptcp_common::offsets::{ABSENT, MEMBERS, hook};

use crate::host::types::Layout;

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
        self.lack(|needed_by| needed_by & hook != 0)
    }

    /// Names the members that this kernel lacks and every program can do
    /// without, if there are any. What they would tell is not shown.
    pub fn not_shown(&self) -> Option<String> {
        self.lack(|needed_by| needed_by == hook::NONE)
    }

    fn lack(&self, counts: impl Fn(u8) -> bool) -> Option<String> {
        let names: Vec<&str> = self
            .missing
            .iter()
            .filter(|(_, needed_by)| counts(*needed_by))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_member_is_named_to_whom_it_concerns() {
        let missing = [
            ("a.needed", hook::SOCKETS),
            ("b.spared", hook::NONE),
            ("c.spared", hook::NONE),
        ];
        let members = Members {
            globals: Vec::new(),
            missing: missing.map(|(name, by)| (name.to_owned(), by)).to_vec(),
        };
        let refusal = members.refusal(hook::SOCKOPS);
        assert_eq!(refusal.as_deref(), Some("this kernel has no a.needed"));
        assert_eq!(members.refusal(hook::INGRESS), None);
        let spared = members.not_shown();
        let expected = "this kernel has no b.spared, c.spared";
        assert_eq!(spared.as_deref(), Some(expected));
    }
}
