//! Hook: `tp_btf/mptcp_subflow_get_send(struct mptcp_subflow_context *subflow)`.
//!
//! Exists since Linux 5.13. Fires once per candidate at every scheduling
//! decision, in the order of `msk->conn_list`, under the connection's lock and
//! before the kernel judges the candidate. The program repeats the kernel's
//! judgement (net/mptcp/protocol.c, mptcp_subflow_get_send): the candidate with
//! the least `sk_wmem_queued / avg_pacing_rate` wins, backups compete only
//! where no other candidate is active, and nothing is sent if the winner's send
//! queue is full.
//!
//! Without this hook decisions and candidates are not counted, and changes of
//! priority and stale subflows are seen only when the metrics are read.

use aya_ebpf::{
    cty::c_void, helpers::bpf_get_socket_cookie, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};
use mptcp_common::{
    abi::{Connection, Decision, Seen, candidate, event_kind, subflow_flag},
    controller::{DEAD_TIMEOUTS, MAX_SLOTS},
};

use crate::policy::weighted::{count_backup, slot};
use crate::shared::emit::subflow_event;
use crate::shared::entry::Entry;
use crate::shared::maps::{add, connection, is_in_charge, path_stats};
use crate::shared::member::{global, load, load_bit, offset, probe};
use crate::shared::socket::Ids;

const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE_WAIT: u8 = 8;

/// A candidate: the subflow's context and its socket, both BTF-typed.
#[derive(Clone, Copy)]
struct Candidate {
    context: *const u8,
    ssk: *const u8,
}

#[btf_tracepoint(function = "mptcp_subflow_get_send")]
pub fn mptcp_subflow_get_send(ctx: BtfTracePointContext) -> i32 {
    crate::shared::maps::ran(crate::shared::maps::program::GET_SEND);
    if !is_in_charge() {
        return 0;
    }
    let context: *const u8 = ctx.arg(0);
    // SAFETY: the tracepoint's argument, typed by BTF, and its members.
    let (conn, ssk) = unsafe {
        let conn: *const u8 = load(context, &offset::SUBFLOW_CONN);
        let ssk: *const u8 = load(context, &offset::SUBFLOW_TCP_SOCK);
        (conn, ssk)
    };
    if ssk.is_null() {
        return 0;
    }
    // Only connections of the agent's own network namespace are known.
    let Some(connection) = connection(conn as u64) else {
        return 0;
    };
    // SAFETY: the kernel calls this function under the msk's lock.
    let (decision, seen) = unsafe { (connection.decision.get(), connection.seen.get()) };

    let this = Candidate { context, ssk };
    let list = (conn as u64).wrapping_add(u64::from(global(&offset::MSK_CONN_LIST)));
    let (prev, next) = this.neighbours();
    if prev == list {
        decision.begin();
    }
    let flags = this.flags();
    let place = decision.candidates;
    decision.candidates = place.wrapping_add(1);
    let Some(seen) = seen.get_mut(place as usize & (MAX_SLOTS - 1)) else {
        return 0;
    };
    let Some(path) = this.path(connection, seen, flags) else {
        return 0;
    };
    let verdict = this.judge(path, flags, decision);
    path_stats(path, |stats| {
        if let Some(count) = stats.candidates.get(usize::from(verdict)) {
            add(count, 1);
        }
    });
    if next == list {
        conclude(decision);
    }
    0
}

impl Candidate {
    /// Returns the addresses of the list heads before and after `node`.
    #[inline(always)]
    fn neighbours(self) -> (u64, u64) {
        // SAFETY: `node` is a member of the typed context.
        unsafe {
            let node = self.context.add(global(&offset::SUBFLOW_NODE) as usize);
            let prev: *const u8 = load(node, &offset::LIST_PREV);
            let next: *const u8 = load(node, &offset::LIST_NEXT);
            (prev as u64, next as u64)
        }
    }

    #[inline(always)]
    fn bit(self, offset: &'static u32) -> bool {
        // SAFETY: the context is typed.
        unsafe { load_bit(self.context, offset) }
    }

    /// Returns the candidate's path; `None` if the subflow is not known. Looks
    /// it up anew only if something about it may have changed: a hash lookup
    /// for each candidate would be most of what a decision costs.
    #[inline(always)]
    fn path(self, connection: &Connection, seen: &mut Seen, flags: u8) -> Option<u32> {
        // Read the revision before the lookup, so that a change in between
        // causes another lookup.
        let revision = connection.revision.get() as u32;
        let context = self.context as u64;
        if (seen.context, seen.revision, seen.flags) == (context, revision, flags) {
            return Some(u32::from(seen.path));
        }
        // SAFETY: a typed socket pointer, as the helper wants it.
        let cookie = unsafe { bpf_get_socket_cookie(self.ssk as *mut c_void) };
        let subflow = Entry::of(cookie)?;
        self.note_changes(connection, subflow, cookie, flags);
        let path = subflow.path();
        *seen = Seen {
            context,
            revision,
            path: path as u16,
            flags,
            reserved: 0,
        };
        Some(path)
    }

    /// Returns the flags `BACKUP` and `STALE` as they are now.
    #[inline(always)]
    fn flags(self) -> u8 {
        let backup = self.bit(&offset::SUBFLOW_BACKUP) || self.bit(&offset::SUBFLOW_REQUEST_BKUP);
        let backup = u8::from(backup) * subflow_flag::BACKUP;
        let stale = u8::from(self.bit(&offset::SUBFLOW_STALE)) * subflow_flag::STALE;
        backup | stale
    }

    /// Notes the ids where only this hook can read them, and emits events for
    /// `flags` that changed.
    #[inline(always)]
    fn note_changes(self, connection: &Connection, subflow: Entry, cookie: u64, flags: u8) {
        let token = connection.token.get() as u32;
        if subflow.flags() & subflow_flag::IDS == 0 {
            // SAFETY: the context is typed.
            let (local, remote) = unsafe {
                (
                    load(self.context, &offset::SUBFLOW_LOCAL_ID),
                    load(self.context, &offset::SUBFLOW_REMOTE_ID),
                )
            };
            subflow.set_ids(Ids {
                local,
                remote,
                flags: subflow.flags() | subflow_flag::IDS,
            });
            // A selector may name the path by an id, so let the next look find
            // it again.
            subflow.set_generation(subflow.generation().wrapping_sub(1));
        }
        let known = subflow.flags();
        let flags = known & !(subflow_flag::BACKUP | subflow_flag::STALE) | flags;
        let moved = flags ^ known;
        if moved == 0 {
            return;
        }
        subflow.set_flags(flags);
        if moved & subflow_flag::BACKUP != 0 {
            count_backup(connection, subflow);
            subflow.set_resting(0);
            subflow_event(event_kind::PRIORITY, 0, cookie, token, subflow);
        }
        if moved & subflow_flag::STALE != 0 {
            if let Some(slot) = slot(connection, subflow)
                && flags & subflow_flag::STALE != 0
            {
                // The kernel has already given the path up.
                slot.timeouts.set(DEAD_TIMEOUTS);
                subflow.set_resting(0);
            }
            subflow_event(event_kind::STALE, 0, cookie, token, subflow);
        }
    }

    /// Judges the candidate as the kernel is about to. Notes the result in
    /// `decision`, and returns it as one of [`candidate`].
    #[inline(always)]
    fn judge(self, path: u32, flags: u8, decision: &mut Decision) -> u8 {
        if flags & subflow_flag::STALE != 0 {
            return candidate::STALE;
        }
        // SAFETY: the socket is typed.
        let state: u8 = unsafe { load(self.ssk, &offset::SK_STATE) };
        let joining = self.bit(&offset::SUBFLOW_REQUEST_JOIN)
            && !self.bit(&offset::SUBFLOW_FULLY_ESTABLISHED);
        if joining || (state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT) {
            return candidate::INACTIVE;
        }
        let backup = flags & subflow_flag::BACKUP != 0;
        decision.active += u32::from(!backup);
        let pace = self.pace();
        if pace == 0 {
            return candidate::STANDBY;
        }
        // SAFETY: the socket is typed.
        let queued: u32 = unsafe { load(self.ssk, &offset::SK_WMEM_QUEUED) };
        let linger = (u64::from(queued) << 32) / u64::from(pace);
        // Written without an index, because Linux 6.1 does not see that it
        // would be 0 or 1.
        let (taken, least) = if backup {
            (decision.path[1], decision.linger[1])
        } else {
            (decision.path[0], decision.linger[0])
        };
        if taken == 0 || linger < least {
            let full = u32::from(self.queue_is_full(queued));
            if backup {
                (decision.path[1], decision.linger[1], decision.full[1]) = (path + 1, linger, full);
            } else {
                (decision.path[0], decision.linger[0], decision.full[0]) = (path + 1, linger, full);
            }
        }
        if backup {
            candidate::BACKUP
        } else {
            candidate::ELIGIBLE
        }
    }

    /// Returns the candidate's pacing rate, bytes per second, which the kernel
    /// keeps in 32 bits: the average, or the socket's own if that is 0.
    #[inline(always)]
    fn pace(self) -> u32 {
        // SAFETY: context and socket are typed.
        unsafe {
            let average: u64 = load(self.context, &offset::SUBFLOW_AVG_PACING_RATE);
            if average as u32 != 0 {
                return average as u32;
            }
            load::<u64>(self.ssk, &offset::SK_PACING_RATE) as u32
        }
    }

    /// Returns the kernel's `!sk_stream_memory_free(ssk)`.
    #[inline(always)]
    fn queue_is_full(self, wmem_queued: u32) -> bool {
        // SAFETY: the socket is typed.
        let sndbuf: u32 = unsafe { load(self.ssk, &offset::SK_SNDBUF) };
        let buffer_full = wmem_queued >= sndbuf;
        // If nothing is queued, nothing is left to send. Thin connections
        // usually end here.
        if buffer_full || wmem_queued == 0 {
            return buffer_full;
        }
        // BTF types the pointer as `struct sock`, so the members beyond that
        // have to be probed.
        let ssk = self.ssk as u64;
        let (Some(written), Some(sent), Some(lowat)) = (
            probe::<u32>(ssk, &offset::TCP_WRITE_SEQ),
            probe::<u32>(ssk, &offset::TCP_SND_NXT),
            probe::<u32>(ssk, &offset::TCP_NOTSENT_LOWAT),
        ) else {
            return false;
        };
        lowat != 0 && written.wrapping_sub(sent) >= lowat
    }
}

/// Counts the decision, which is known once the last candidate is judged.
#[inline(always)]
fn conclude(decision: &Decision) {
    let (path, full) = if decision.active != 0 {
        (decision.path[0], decision.full[0])
    } else {
        (decision.path[1], decision.full[1])
    };
    if path == 0 {
        return;
    }
    path_stats(path - 1, |stats| {
        if full == 0 {
            add(&stats.decisions, 1);
        } else {
            add(&stats.blocked, 1);
        }
    });
}
