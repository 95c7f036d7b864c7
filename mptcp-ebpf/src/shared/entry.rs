//! A subflow in its map.
//!
//! A socket's callbacks, the tracepoint and tc may use the same entry at once,
//! on several CPUs. So no program makes a reference to an entry: it reads and
//! writes one member at a time. What several of them add to or replace is a
//! [`Word`].

use aya_ebpf::bindings::BPF_ANY;
use mptcp_common::{
    abi::{Subflow, Tuple},
    word::Word,
};

use crate::shared::maps::{SUBFLOWS, blank_subflow};
use crate::shared::socket::Ids;

/// An entry of `SUBFLOWS`. A program may use it until it returns, even if the
/// entry is removed meanwhile.
#[derive(Clone, Copy)]
pub struct Entry(*mut Subflow);

macro_rules! members {
    ($($member:ident $set:ident: $type:ty;)*) => {
        #[allow(dead_code, reason = "one macro makes them all; not every member is needed")]
        impl Entry {
            $(
                #[inline(always)]
                pub fn $member(self) -> $type {
                    // SAFETY: a map value. The read is volatile, because another
                    // CPU may write meanwhile.
                    unsafe { (&raw const (*self.0).$member).read_volatile() }
                }

                #[inline(always)]
                pub fn $set(self, value: $type) {
                    // SAFETY: as above.
                    unsafe { (&raw mut (*self.0).$member).write_volatile(value) }
                }
            )*
        }
    };
}

members! {
    path set_path: u32;
    generation set_generation: u32;
    resting set_resting: u32;
    cwnd set_cwnd: u32;
    seen_ns set_seen_ns: u64;
    quiet_ns set_quiet_ns: u64;
    quiet_bytes set_quiet_bytes: u64;
    connection set_connection: u64;
    heard_ns set_heard_ns: u64;
    opened_ns set_opened_ns: u64;
    sent_bytes set_sent_bytes: u64;
    acked_bytes set_acked_bytes: u64;
    received_bytes set_received_bytes: u64;
    backlog_ns set_backlog_ns: u64;
    bulk_ns set_bulk_ns: u64;
    retransmitted_segments set_retransmitted_segments: u32;
    sent_segments set_sent_segments: u32;
    prior_keepidle set_prior_keepidle: u32;
    slot set_slot: u16;
    prior_cb_flags set_prior_cb_flags: u16;
    cap set_cap: u32;
    lowat set_lowat: u32;
    prior_cap set_prior_cap: u32;
    prior_lowat set_prior_lowat: u32;
    wanted_cap set_wanted_cap: u32;
    wanted_lowat set_wanted_lowat: u32;
    ifindex set_ifindex: u32;
    srtt_us set_srtt_us: u32;
    min_rtt_us set_min_rtt_us: u32;
    queued set_queued: u32;
}

impl Entry {
    /// Returns the entry of this socket cookie, if the subflow is known.
    #[inline(always)]
    pub fn of(cookie: u64) -> Option<Self> {
        SUBFLOWS.get_ptr_mut(cookie).map(Self)
    }

    /// Inserts an entry at `cookie`, all members of which are 0, for the caller
    /// to fill in; `None` if the map is full.
    #[inline(always)]
    pub fn insert(cookie: u64) -> Option<Self> {
        SUBFLOWS
            .insert(cookie, blank_subflow()?, u64::from(BPF_ANY))
            .ok()?;
        Self::of(cookie)
    }

    /// Returns the entry at this address, as a global function got it; `None` for
    /// null.
    #[inline(always)]
    pub fn at(subflow: *mut Subflow) -> Option<Self> {
        if subflow.is_null() {
            None
        } else {
            Some(Self(subflow))
        }
    }

    /// Returns the address of the map value, for global functions and for
    /// members that are passed on.
    #[inline(always)]
    pub fn as_ptr(self) -> *mut Subflow {
        self.0
    }

    /// Returns the address of its addresses, ids and flags.
    #[inline(always)]
    pub fn tuple_ptr(self) -> *mut Tuple {
        // SAFETY: a map value; makes no reference.
        unsafe { &raw mut (*self.0).tuple }
    }

    /// Returns a copy of its addresses, ids and flags. Addresses and ports do
    /// not change.
    #[inline(always)]
    pub fn tuple(self) -> Tuple {
        // SAFETY: a map value.
        unsafe { self.tuple_ptr().read() }
    }

    #[inline(always)]
    pub fn set_tuple(self, tuple: Tuple) {
        // SAFETY: a map value.
        unsafe { self.tuple_ptr().write(tuple) }
    }

    /// Returns its ids and flags.
    #[inline(always)]
    pub fn ids(self) -> Ids {
        // SAFETY: a map value.
        unsafe {
            Ids {
                local: (&raw const (*self.0).tuple.local_id).read_volatile(),
                remote: (&raw const (*self.0).tuple.remote_id).read_volatile(),
                flags: self.flags(),
            }
        }
    }

    #[inline(always)]
    pub fn set_ids(self, ids: Ids) {
        // SAFETY: a map value.
        unsafe {
            (&raw mut (*self.0).tuple.local_id).write_volatile(ids.local);
            (&raw mut (*self.0).tuple.remote_id).write_volatile(ids.remote);
        }
        self.set_flags(ids.flags);
    }

    /// Returns its flags: bits of `abi::subflow_flag`.
    #[inline(always)]
    pub fn flags(self) -> u8 {
        // SAFETY: a map value.
        unsafe { (&raw const (*self.0).tuple.flags).read_volatile() }
    }

    #[inline(always)]
    pub fn set_flags(self, flags: u8) {
        // SAFETY: a map value.
        unsafe { (&raw mut (*self.0).tuple.flags).write_volatile(flags) }
    }

    /// Returns the number of copies of its segments.
    #[inline(always)]
    pub fn copies(&self) -> &Word {
        // SAFETY: a map value; a word that the programs only use as such.
        unsafe { &*(&raw const (*self.0).copies).cast() }
    }

    /// Returns the number of the slot among whose backups it counts.
    #[inline(always)]
    pub fn backup_of(&self) -> &Word {
        // SAFETY: as above.
        unsafe { &*(&raw const (*self.0).backup_of).cast() }
    }
}
