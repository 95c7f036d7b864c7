//! Hook: tc egress of every device that may carry a path (tcx since Linux 6.6,
//! clsact before).
//!
//! ```text
//!   an original  ->  offer()  makes a marked clone for each channel to take a copy
//!   a clone      ->  wrap()   wraps it into UDP and sends it by the channel's device
//! ```
//!
//! Relies on the socket of an skb that TCP sends (bpf_get_socket_cookie,
//! `skb->sk`), and on `skb->cb` staying unchanged from bpf_clone_redirect to
//! this hook.
//!
//! The original goes on unchanged and never waits. A segment that gets no copy
//! is counted, by reason. Without this hook nothing is copied.
//!
//! A copy leaves by another device than its original if it can, because trouble
//! on a device hits everything that the device carries. Among channels that
//! share equally many devices with the original, the hook prefers the one over
//! which copies arrive, and arrive soonest. `mptcp_common::spare` judges at
//! once whether a path has room for a copy; in the longer run the agents'
//! messages over the channel tell (`Channel::rate`).

use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_clone_redirect, bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_skc_to_tcp_sock},
    macros::classifier,
    programs::TcContext,
};
use mptcp_common::{
    abi::redundant::{
        Carrier, Carriers, Channel, MAX_CARRIERS, MAX_COPIES, MAX_COST, Redundant, not_sent,
    },
    packet::flag,
    spare,
};

use crate::policy::redundant::familiar;
use crate::policy::redundant::headers::{self, Headers};
use crate::policy::redundant::wrap::{Copy, overhead, wrap};
use crate::shared::entry::Entry;
use crate::shared::global::any;
use crate::shared::maps::{
    BUDGETS, CARRIERS, CHANNEL_BUDGETS, CHANNELS, add, connection, copy_stats, redundant,
};
use crate::shared::member::{load, offset};
use crate::shared::skb::{PASS, Skb};

/// The cost of a carrier that cannot take the copy.
const NEVER: u32 = u32::MAX;

/// Added to a carrier's cost for each device that its copies share with the
/// original: this host's and the peer's.
const SHARED_DEVICE: u32 = MAX_COST;

#[classifier]
#[inline(always)]
pub fn redundant_egress(ctx: TcContext) -> i32 {
    crate::shared::maps::ran(crate::shared::maps::program::REDUNDANT_EGRESS);
    let skb = Skb::new(&ctx);
    let (marked, mark) = skb.take_mark();
    if marked {
        return wrap(skb, &Copy::from(mark));
    }
    if let Some(settings) = redundant() {
        let _ = offer(skb, settings);
    }
    PASS
}

/// A packet that may get copies. It has no padding, because global functions
/// get it on their caller's stack.
#[repr(C)]
struct Original {
    cookie: u64,
    now_ns: u64,
    /// [`Redundant::budget_bytes_per_sec`].
    budget: u64,
    /// Length of its IP packet, bytes.
    length: u32,
    /// Length of the longest IP packet that it becomes on the wire, bytes.
    segment: u32,
    /// The device that it leaves by.
    ifindex: u32,
    /// The peer's device that it arrives by, as the peer numbers it; 0: not
    /// known.
    peer_ifindex: u32,
    /// Index in `CHANNELS` of its own channel, over which a copy would share
    /// its fate; 0: not known.
    own: u32,
    /// 1 if the peer knows the subflow by other addresses or ports.
    translated: u32,
    /// 1 if its subflow has hardly anything under way: see [`spare::is_thin`].
    thin: u32,
    /// How many copies it gets at most.
    copies: u32,
}

/// Clones a packet of a subflow whose peer can take copies, once for each copy.
/// Returns `None` if the packet gets no copies.
#[inline(always)]
fn offer(skb: Skb, settings: &Redundant) -> Option<()> {
    // SAFETY: the helper takes this program type's context.
    let cookie = unsafe { bpf_get_socket_cookie(skb.0.cast()) };
    let subflow = Entry::of(cookie)?;
    let (key, path, home) = (subflow.connection(), subflow.path(), subflow.ifindex());
    // A macvlan's packet also leaves by the parent device. The macvlan's own
    // hook has already copied it.
    if skb.is_carried_for(home) {
        return None;
    }
    let device = skb.device()?;
    // SAFETY: a value that user space replaces as a whole.
    let mut carriers = unsafe { CARRIERS.get(key) };
    if carriers.is_none() && familiar::greet(cookie) {
        // SAFETY: as above.
        carriers = unsafe { CARRIERS.get(key) };
    }
    let Some(carriers) = carriers else {
        if connection(key).is_some_and(|known| known.subflows.get() > 1) {
            skip(path, not_sent::NO_PEER);
        }
        return None;
    };
    let at = device.header;
    let length = skb.len().wrapping_sub(at);
    let gso_size = skb.gso_size();
    let mut read = Headers::default();
    headers::tcp(skb, at, length, &mut read).ok()?;
    let (ip, segment) = (read.ip(), read.segment());
    if segment.flags & (flag::SYN | flag::RST) != 0 {
        return None;
    }
    if segment.tsval.is_none() {
        skip(path, not_sent::NO_TIMESTAMPS);
        return None;
    }
    let own = own(carriers, cookie);
    let (own, translated) = (own as u32, (own >> 32) as u32);
    let original = Original {
        cookie,
        // SAFETY: the helper has no preconditions.
        now_ns: unsafe { bpf_ktime_get_ns() },
        budget: settings.budget_bytes_per_sec,
        length,
        segment: if gso_size == 0 {
            length
        } else {
            ip.header + segment.header + gso_size
        },
        // SAFETY: a field of the context.
        ifindex: unsafe { (*skb.0).ifindex },
        peer_ifindex: CHANNELS.get(own).map_or(0, |channel| channel.peer_ifindex),
        own,
        translated,
        thin: u32::from(spare::is_thin(outstanding(skb))),
        copies: settings.copies - 1,
    };

    // Find the cost of each carrier, then take the cheapest ones, one after the
    // other.
    let mut costs = [NEVER; MAX_CARRIERS];
    let alone = judge(carriers, &original, &mut costs) == 0;
    // A connection without a second path borrows another channel to its peer.
    // The first place in `costs` stands for that channel.
    let mut borrowed = 0;
    if alone && translated == 0 {
        borrowed = familiar::stand_in(carriers.peer, own, original.ifindex, original.segment);
        if borrowed != 0 {
            costs[0] = 0;
        }
    }
    let mut wanted = original.copies;
    for _ in 1..MAX_COPIES {
        if wanted == 0 {
            break;
        }
        let best = any(take_cheapest(&mut costs)) as usize;
        if best >= MAX_CARRIERS {
            break;
        }
        let channel = if borrowed != 0 {
            borrowed
        } else {
            carriers.carriers[best & (MAX_CARRIERS - 1)].channel
        };
        wanted -= copy(skb.0, &original, channel);
    }
    Some(())
}

/// Returns the index in `CHANNELS` of the original's own channel, and in the
/// upper half whether the peer knows the subflow by other addresses or ports. A
/// global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn own(carriers: *const Carriers, cookie: u64) -> u64 {
    // SAFETY: null, or a value that user space replaces as a whole.
    let Some(carriers) = (unsafe { carriers.as_ref() }) else {
        return 0;
    };
    let mut own = 0;
    for carrier in &carriers.carriers {
        if carrier.cookie == cookie {
            own = u64::from(carrier.channel) | u64::from(carrier.translated) << 32;
        }
    }
    own
}

/// Finds the cost of a copy over each carrier: see [`cost`]. Returns 0 if the
/// connection has no carrier but the original's own. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge(
    carriers: *const Carriers,
    original: *const Original,
    costs: *mut [u32; MAX_CARRIERS],
) -> u32 {
    // SAFETY: null, or a value that user space replaces as a whole, and values
    // on the caller's stack.
    let (Some(carriers), Some(original), Some(costs)) =
        (unsafe { (carriers.as_ref(), original.as_ref(), costs.as_mut()) })
    else {
        return 0;
    };
    let mut others = 0;
    for (at, carrier) in costs.iter_mut().zip(&carriers.carriers) {
        if carrier.cookie != 0 && carrier.channel != original.own {
            others += 1;
            *at = cost(carrier, original);
        }
    }
    others
}

/// Returns the index of the least cost and replaces it by [`NEVER`]. Returns
/// [`MAX_CARRIERS`] if no carrier can take a copy. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn take_cheapest(costs: *mut [u32; MAX_CARRIERS]) -> u32 {
    // SAFETY: null, or a value on the caller's stack.
    let Some(costs) = (unsafe { costs.as_mut() }) else {
        return MAX_CARRIERS as u32;
    };
    let mut best = 0;
    for index in 1..MAX_CARRIERS {
        if costs[index & (MAX_CARRIERS - 1)] < costs[best & (MAX_CARRIERS - 1)] {
            best = index;
        }
    }
    let best = best & (MAX_CARRIERS - 1);
    if costs[best] == NEVER {
        return MAX_CARRIERS as u32;
    }
    costs[best] = NEVER;
    best as u32
}

/// Returns how many bytes the skb's socket has not sent, or has not seen acked;
/// `u32::MAX` if that is not known.
#[inline(always)]
fn outstanding(skb: Skb) -> u32 {
    // SAFETY: a field of the context, which the verifier types. The helper
    // takes any socket but null, and returns null for one that is not TCP's.
    unsafe {
        let sk = (*skb.0).__bindgen_anon_2.sk;
        if sk.is_null() {
            return u32::MAX;
        }
        let tcp = bpf_skc_to_tcp_sock(sk.cast()) as *const u8;
        if tcp.is_null() {
            return u32::MAX;
        }
        let written: u32 = load(tcp, &offset::TCP_WRITE_SEQ);
        written.wrapping_sub(load(tcp, &offset::TCP_SND_UNA))
    }
}

/// Returns the cost of a copy over this carrier: its channel's cost, plus
/// [`SHARED_DEVICE`] for each shared device. Returns [`NEVER`] if the carrier
/// cannot take a copy, and counts the reason if its subflow still exists.
#[inline(always)]
fn cost(carrier: &Carrier, original: &Original) -> u32 {
    let Some(subflow) = Entry::of(carrier.cookie) else {
        return NEVER;
    };
    let Some(channel) = CHANNELS.get(carrier.channel) else {
        return NEVER;
    };
    if channel.peer == 0 || channel.expires_ns <= original.now_ns {
        skip(channel.path, not_sent::NO_PEER);
        return NEVER;
    }
    if original.segment > channel.mtu {
        skip(channel.path, not_sent::MTU);
        return NEVER;
    }
    if original.budget == 0
        && original.thin == 0
        && spare::is_bulk(subflow.bulk_ns(), original.now_ns)
    {
        skip(channel.path, not_sent::BUSY);
        return NEVER;
    }
    shared_devices(channel, original) * SHARED_DEVICE + (channel.cost & (MAX_COST - 1))
}

/// Returns how many devices a copy over this channel would share with its
/// original: at most one of this host, and one of the peer.
#[inline(always)]
fn shared_devices(channel: &Channel, original: &Original) -> u32 {
    let here = u32::from(channel.ifindex == original.ifindex);
    let known = u32::from(channel.peer_ifindex != 0);
    here + known * u32::from(channel.peer_ifindex == original.peer_ifindex)
}

/// Clones the original for the channel at `index`. Returns 1 if that worked,
/// else 0, and counts the reason then. A global function.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn copy(skb: *mut __sk_buff, original: *const Original, index: u32) -> u32 {
    // SAFETY: null, or a value on the caller's stack.
    let Some(original) = (unsafe { original.as_ref() }) else {
        return 0;
    };
    u32::from(try_copy(Skb(skb), original, index))
}

#[inline(always)]
fn try_copy(skb: Skb, original: &Original, index: u32) -> bool {
    let Some(channel) = CHANNELS.get(index) else {
        return false;
    };
    let overhead = overhead(channel);
    let fits = original.segment + overhead <= channel.mtu;
    if !fits && original.segment == original.length {
        skip(channel.path, not_sent::MTU);
        return false;
    }
    let rate = original.budget;
    let bytes = wire_bytes(original, overhead);
    if rate != 0 {
        if let Some(bucket) = BUDGETS.get(channel.path)
            && !bucket.take(bytes, rate, original.now_ns)
        {
            skip(channel.path, not_sent::BUDGET);
            return false;
        }
    } else if original.thin == 0
        && let Some(bucket) = CHANNEL_BUDGETS.get(index)
        && !bucket.take(bytes, u64::from(channel.rate), original.now_ns)
    {
        skip(channel.path, not_sent::BUSY);
        return false;
    }
    skb.mark(
        Copy {
            channel: index,
            shrink: !fits,
            translated: original.translated != 0,
            cookie: original.cookie,
        }
        .mark(),
    );
    // The clone goes to this device again, whose link-layer header it carries.
    // SAFETY: the helper takes this program type's context.
    let error = unsafe { bpf_clone_redirect(skb.0, original.ifindex, 0) };
    skb.unmark();
    if error < 0 {
        skip(channel.path, not_sent::KERNEL);
        return false;
    }
    if shared_devices(channel, original) != 0 {
        copy_stats(channel.path, |stats| add(&stats.shared_device, 1));
    }
    if let Some(subflow) = Entry::of(original.cookie) {
        add(subflow.copies(), 1);
    }
    true
}

/// Returns how many bytes a copy takes on the wire. Each of its segments has
/// its own headers.
#[inline(always)]
fn wire_bytes(original: &Original, overhead: u32) -> u64 {
    let segments = original.length / original.segment.max(1) + 1;
    u64::from(original.length) + u64::from(segments) * u64::from(overhead + 60)
}

/// Counts a segment that got no copy over a path.
#[inline(always)]
fn skip(path: u32, reason: u8) {
    copy_stats(path, |stats| {
        if let Some(count) = stats.not_sent.get(usize::from(reason)) {
            add(count, 1);
        }
    });
}
