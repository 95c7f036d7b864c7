//! Lists the types that user space may read from a map as they are.

use zerocopy::{FromBytes, IntoBytes};

use crate::abi::{
    Config, ConnectionImage, Event, PathConfig, PathStats, Policy, Subflow, Totals,
    redundant::{
        Carriers, CopyStats, Device, Link, LinkKey, Listener, PeerLinks, PeerView, Redundant,
        Stacked, Traffic,
    },
    runs::Runs,
};

macro_rules! pod {
    ($($type:ty)*) => {$(
        // SAFETY: no padding, and valid for every bit pattern: zerocopy has
        // derived that, and without it this does not compile.
        unsafe impl aya::Pod for $type where $type: FromBytes + IntoBytes {}
    )*};
}

pod! { Config ConnectionImage Event PathConfig PathStats Policy Subflow Totals }
pod! { Carriers CopyStats Device Link LinkKey Listener PeerLinks PeerView Redundant Stacked Traffic Runs }
