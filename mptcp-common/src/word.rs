//! A word of a map value that several CPUs change at once.
//!
//! eBPF has atomic read-modify-write instructions (Linux 5.12), but rustc's BPF
//! targets do not say so, and `core` leaves the methods out there. So this
//! module writes the instructions itself.

use core::cell::UnsafeCell;
use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering::Relaxed;

/// Sixty-four bits, read and changed atomically, but in no order with other
/// memory.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Word(AtomicU64);

impl Word {
    /// Returns the value.
    #[inline(always)]
    pub fn get(&self) -> u64 {
        #[cfg(not(target_arch = "bpf"))]
        return self.0.load(Relaxed);
        // SAFETY: the pointer is valid and aligned. An eBPF load of 64 bits is
        // one access, and LLVM has no other for it before the fourth version of
        // eBPF.
        #[cfg(target_arch = "bpf")]
        unsafe {
            self.0.as_ptr().read_volatile()
        }
    }

    /// Replaces the value.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        #[cfg(not(target_arch = "bpf"))]
        self.0.store(value, Relaxed);
        // SAFETY: as in `get`.
        #[cfg(target_arch = "bpf")]
        unsafe {
            self.0.as_ptr().write_volatile(value);
        }
    }

    /// Adds, modulo 2^64, and returns what was there before.
    #[inline(always)]
    pub fn add(&self, value: u64) -> u64 {
        #[cfg(not(target_arch = "bpf"))]
        return self.0.fetch_add(value, Relaxed);
        #[cfg(target_arch = "bpf")]
        {
            let mut before = value;
            // SAFETY: the pointer is valid and aligned; BPF_ATOMIC | BPF_ADD |
            // BPF_FETCH touches nothing else.
            unsafe {
                core::arch::asm!(
                    "{value} = atomic_fetch_add((u64 *)({word} + 0), {value})",
                    word = in(reg) self.0.as_ptr(),
                    value = inout(reg) before,
                );
            }
            before
        }
    }

    /// Subtracts, modulo 2^64, and returns what was there before.
    #[inline(always)]
    pub fn sub(&self, value: u64) -> u64 {
        self.add(value.wrapping_neg())
    }

    /// Replaces `old` by `new`. Returns whether `old` was there.
    #[inline(always)]
    pub fn replace(&self, old: u64, new: u64) -> bool {
        #[cfg(not(target_arch = "bpf"))]
        return self.0.compare_exchange(old, new, Relaxed, Relaxed).is_ok();
        #[cfg(target_arch = "bpf")]
        {
            let mut found = old;
            // SAFETY: as in `add`. BPF_CMPXCHG compares with r0 and returns in
            // r0.
            unsafe {
                core::arch::asm!(
                    "r0 = cmpxchg_64({word} + 0, r0, {new})",
                    word = in(reg) self.0.as_ptr(),
                    new = in(reg) new,
                    inout("r0") found,
                );
            }
            found == old
        }
    }
}

/// A part of a map value that several CPUs can hold, but that only the holder of
/// a lock of the kernel uses.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Locked<T>(UnsafeCell<T>);

// SAFETY: only the holder of the lock gets at the value: see `get`.
unsafe impl<T: Send> Sync for Locked<T> {}

impl<T> Locked<T> {
    /// Returns the value.
    ///
    /// # Safety
    /// The caller holds the lock that the field's description names, and has no
    /// other reference to the value.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the lock makes it exclusive")]
    pub unsafe fn get(&self) -> &mut T {
        // SAFETY: the caller guarantees that nobody else uses it.
        unsafe { &mut *self.0.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::Word;

    #[test]
    fn a_word_adds_subtracts_and_replaces() {
        let word = Word::default();
        assert_eq!(word.add(3), 0);
        assert_eq!(word.sub(1), 3);
        assert!(!word.replace(3, 9));
        assert!(word.replace(2, 9));
        assert_eq!(word.get(), 9);
        word.set(1);
        assert_eq!(word.sub(2), 1);
        assert_eq!(word.get(), u64::MAX);
    }
}
