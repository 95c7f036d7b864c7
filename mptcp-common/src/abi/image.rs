//! What user space reads of a connection.

use core::mem::offset_of;

use super::Connection;

/// A [`Connection`] as user space reads it: words, since atomics cannot be
/// copied.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct ConnectionImage([u64; size_of::<Connection>() / 8]);

impl ConnectionImage {
    /// [`Connection::token`].
    #[must_use]
    pub fn token(&self) -> u32 {
        self.0[offset_of!(Connection, token) / 8] as u32
    }

    /// [`Connection::local_key`].
    #[must_use]
    pub fn local_key(&self) -> u64 {
        self.0[offset_of!(Connection, local_key) / 8]
    }

    /// [`Connection::remote_key`].
    #[must_use]
    pub fn remote_key(&self) -> u64 {
        self.0[offset_of!(Connection, remote_key) / 8]
    }
}

const _: () = assert!(size_of::<ConnectionImage>() == size_of::<Connection>());
