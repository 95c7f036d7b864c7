//! A connection as user space reads it.

use core::mem::offset_of;

use super::Connection;
use crate::controller::{Controller, MAX_SLOTS, Slot};

/// A [`Connection`] as user space reads it: plain words, because atomics cannot
/// be copied.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct ConnectionImage([u64; size_of::<Connection>() / 8]);

impl ConnectionImage {
    /// Returns whether the path of slot `index` makes no progress
    /// ([`Slot::dead`]).
    #[must_use]
    pub fn is_dead(&self, index: usize) -> bool {
        let slots = offset_of!(Connection, controller) + offset_of!(Controller, slots);
        let slot = slots + index.min(MAX_SLOTS - 1) * size_of::<Slot>();
        self.0[(slot + offset_of!(Slot, dead)) / 8] != 0
    }

    /// Returns [`Connection::token`].
    #[must_use]
    pub fn token(&self) -> u32 {
        self.0[offset_of!(Connection, token) / 8] as u32
    }

    /// Returns [`Connection::policy`].
    #[must_use]
    pub fn policy(&self) -> u32 {
        self.0[offset_of!(Connection, policy) / 8] as u32
    }

    /// Returns [`Connection::rule`].
    #[must_use]
    pub fn rule(&self) -> u32 {
        self.0[offset_of!(Connection, rule) / 8] as u32
    }

    /// Returns [`Connection::local_key`].
    #[must_use]
    pub fn local_key(&self) -> u64 {
        self.0[offset_of!(Connection, local_key) / 8]
    }

    /// Returns [`Connection::remote_key`].
    #[must_use]
    pub fn remote_key(&self) -> u64 {
        self.0[offset_of!(Connection, remote_key) / 8]
    }
}

const _: () = assert!(size_of::<ConnectionImage>() == size_of::<Connection>());
