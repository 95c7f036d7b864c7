//! A pass of `iter/tcp` over the sockets: its task, in one-element array
//! `SWEEP`, and its records.

/// Bring the totals up to date, and adopt sockets that are not known.
pub const ACCOUNT: u32 = 0;
/// Do the same, and apply the policy to each subflow at once.
pub const APPLY: u32 = 1;
/// Lift every cap and option, and switch off the callbacks that the agent has
/// added.
pub const LIFT: u32 = 2;

/// A record that `iter/tcp` writes for each subflow, and for each listening
/// MPTCP socket, when it is read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(zerocopy::FromBytes, zerocopy::IntoBytes))]
pub struct Visit {
    /// Socket cookie.
    pub cookie: u64,
    /// 1 if the socket was not known and was adopted in this pass.
    /// [`Visit::CLOSING`] if it is known and closing, and the pass left it
    /// alone.
    pub adopted: u32,
    /// 1 if the socket could not be given callbacks (before Linux 6.12).
    pub refused: u32,
    /// 1 if the socket listens, and so is no subflow.
    pub listens: u32,
    /// 1 if the overflow policy lets paths of more than one weight in on its
    /// connection; only in a pass that applies the policy.
    pub let_in: u32,
}

impl Visit {
    /// Value of [`Visit::adopted`] for a known socket that is closing.
    pub const CLOSING: u32 = 2;
}

crate::layout::layout! {
    Visit { cookie, adopted, refused, listens, let_in }
}

const _: () = assert!(size_of::<Visit>() == 24);
