//! A fingerprint of the types that the eBPF programs and user space share.
//!
//! It covers each type's name and size, and each member's name and offset. So a
//! map that another build has pinned, or an eBPF object of another build, is
//! recognised even if nobody raised a version.

/// The hash of no bytes: the offset basis of 64-bit FNV-1a.
pub const SEED: u64 = 0xcbf2_9ce4_8422_2325;

const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Adds bytes to a hash.
#[must_use]
pub const fn bytes(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(PRIME);
        index += 1;
    }
    hash
}

/// Adds a number to a hash.
#[must_use]
pub const fn number(hash: u64, number: u64) -> u64 {
    bytes(hash, &number.to_le_bytes())
}

/// Defines `FINGERPRINT`, the hash of a module's types:
///
/// ```ignore
/// layout! {
///     Seen { context, revision, path, flags, reserved }
/// }
/// ```
///
/// A type with a member that is not listed does not compile.
macro_rules! layout {
    ($($name:ident { $($member:ident),* $(,)? })*) => {
        /// The layout of this module's shared types: see [`crate::layout`].
        pub(crate) const FINGERPRINT: u64 = {
            let hash = $crate::layout::SEED;
            $(
                let hash = $crate::layout::bytes(hash, stringify!($name).as_bytes());
                let hash = $crate::layout::number(hash, size_of::<$name>() as u64);
                $(
                    let hash = $crate::layout::bytes(hash, stringify!($member).as_bytes());
                    let hash = $crate::layout::number(
                        hash,
                        core::mem::offset_of!($name, $member) as u64,
                    );
                )*
            )*
            hash
        };
        $(
            const _: fn(&$name) = |value| {
                let $name { $($member: _),* } = value;
            };
        )*
    };
}

pub(crate) use layout;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_1a_by_its_test_vectors() {
        assert_eq!(bytes(SEED, b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(bytes(SEED, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(bytes(SEED, b"foobar"), 0x8594_4171_f739_67e8);
    }

    mod one {
        #[repr(C)]
        pub struct Thing {
            pub a: u32,
            pub b: u32,
        }
        crate::layout::layout! { Thing { a, b } }
    }

    mod renamed {
        #[repr(C)]
        pub struct Thing {
            pub a: u32,
            pub c: u32,
        }
        crate::layout::layout! { Thing { a, c } }
    }

    mod moved {
        #[repr(C)]
        pub struct Thing {
            pub a: u32,
            pub b: u64,
        }
        crate::layout::layout! { Thing { a, b } }
    }

    mod swapped {
        #[repr(C)]
        pub struct Thing {
            pub b: u32,
            pub a: u32,
        }
        crate::layout::layout! { Thing { a, b } }
    }

    #[test]
    fn a_name_an_offset_and_a_size_count() {
        let all = [
            one::FINGERPRINT,
            renamed::FINGERPRINT,
            moved::FINGERPRINT,
            swapped::FINGERPRINT,
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at} is like one before");
        }
    }
}
