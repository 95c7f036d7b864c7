//! A pass of `iter/tcp` over the sockets: what it is to do, in one-element array
//! `SWEEP`, and what it says.

/// Bring the totals up to date; adopt what is not known.
pub const ACCOUNT: u32 = 0;
/// And look each subflow's cap up again.
pub const APPLY: u32 = 1;
/// Lift every cap and option, and forget the callbacks.
pub const LIFT: u32 = 2;

/// What `iter/tcp` writes for each subflow, and each listening MPTCP socket, when
/// it is read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visit {
    /// Socket cookie.
    pub cookie: u64,
    /// 1 if the socket was not known: adopted in this pass. [`Visit::CLOSING`]:
    /// known and closing, and nothing else was done.
    pub adopted: u32,
    /// 1 if the socket could not be given callbacks (before Linux 6.12).
    pub refused: u32,
    /// 1 if the socket listens: it is no subflow.
    pub listens: u32,
    /// Keeps the size a multiple of eight.
    pub reserved: u32,
}

impl Visit {
    /// A value of [`Visit::adopted`].
    pub const CLOSING: u32 = 2;
}

crate::layout::layout! {
    Visit { cookie, adopted, refused, listens, reserved }
}

const _: () = assert!(size_of::<Visit>() == 24);
