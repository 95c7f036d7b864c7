//! What the tracepoint keeps of scheduling decisions.

use super::MAX_PATHS;

/// What `mptcp_subflow_get_send` has found so far in the decision at hand;
/// index 0 for ordinary candidates, 1 for backups. What of it counts only where
/// there is a path comes first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Least linger time of a candidate.
    pub linger: [u64; 2],
    /// 1 if its send queue is full.
    pub full: [u32; 2],
    /// Its path, plus one; 0: none.
    pub path: [u32; 2],
    /// Ordinary candidates that are active.
    pub active: u32,
    /// Candidates so far.
    pub candidates: u32,
}

impl Decision {
    /// Another decision begins.
    #[inline(always)]
    pub fn begin(&mut self) {
        (self.path, self.active, self.candidates) = ([0; 2], 0, 0);
    }
}

/// What was found out about a candidate when it was last looked up in
/// `SUBFLOWS`.
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
