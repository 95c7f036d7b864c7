//! Lists the types that user space may read from a map as they are.

use zerocopy::{FromBytes, IntoBytes};

use crate::abi::{
    Config, ConnectionImage, Event, PathConfig, PathStats, Policy, Subflow, Totals,
    redundant::{
        Carriers, Channel, ChannelKey, CopyStats, Device, Listener, PeerChannels, PeerView,
        Redundant, Stacked, Traffic,
    },
    rule::{Rule, RuleStats},
    runs::Runs,
};

macro_rules! pod {
    ($($type:ty)*) => {$(
        // SAFETY: no padding, and valid for every bit pattern: zerocopy has
        // derived that, and without it this does not compile.
        unsafe impl aya::Pod for $type where $type: FromBytes + IntoBytes {}
    )*};
}

/// Lists totals, which are of `u64` alone. (zerocopy does not derive
/// `IntoBytes` for a type that is generic, as theirs are.)
macro_rules! totals {
    ($($type:ty)*) => {$(
        const _: () = assert!(align_of::<$type>() == align_of::<u64>());
        // SAFETY: members of one size leave no padding, and zerocopy has
        // derived that every bit pattern is valid.
        unsafe impl aya::Pod for $type where $type: FromBytes {}
    )*};
}

pod! { Config ConnectionImage Event PathConfig Policy Rule Subflow }
pod! { Carriers Device Channel ChannelKey Listener PeerChannels PeerView Redundant Stacked }
totals! { CopyStats PathStats RuleStats Runs Totals Traffic }
