//! The tracepoint's memory of scheduling decisions.

use super::MAX_PATHS;

/// The state of the decision that the hook `mptcp_subflow_get_send` is
/// following. Index 0 is for ordinary candidates, index 1 for backups. `linger`
/// and `full` count only where there is a `path`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Least linger time of the candidates so far.
    pub linger: [u64; 2],
    /// 1 if the send queue of that candidate is full.
    pub full: [u32; 2],
    /// The path of that candidate, plus one; 0: none.
    pub path: [u32; 2],
    /// Ordinary candidates that are active.
    pub active: u32,
    /// Candidates so far.
    pub candidates: u32,
}

impl Decision {
    /// Begins another decision.
    #[inline(always)]
    pub fn begin(&mut self) {
        (self.path, self.active, self.candidates) = ([0; 2], 0, 0);
    }
}

/// The result of the last lookup of a candidate in `SUBFLOWS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Address of its `struct mptcp_subflow_context`; 0: none.
    pub context: u64,
    /// [`Connection::revision`](super::Connection::revision) at that time, modulo 2^32.
    pub revision: u32,
    /// Index in `PATHS`.
    pub path: u16,
    /// Its [`subflow_flag`](super::subflow_flag)s `BACKUP` and `STALE`.
    pub flags: u8,
    /// Keeps the size a multiple of eight.
    pub reserved: u8,
}

crate::layout::layout! {
    Decision { linger, full, path, active, candidates }
    Seen { context, revision, path, flags, reserved }
}

const _: () = assert!(size_of::<Decision>() == 40);
const _: () = assert!(size_of::<Seen>() == 16 && MAX_PATHS <= u16::MAX as usize);
