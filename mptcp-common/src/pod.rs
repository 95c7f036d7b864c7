//! Lists the types that user space may read from a map as they are.

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
        // SAFETY: repr(C), no implicit padding (asserted in `abi`), and valid
        // for every bit pattern: integers only.
        unsafe impl aya::Pod for $type {}
    )*};
}

pod! { Config ConnectionImage Event PathConfig PathStats Policy Subflow Totals }
pod! { Carriers CopyStats Device Link LinkKey Listener PeerLinks PeerView Redundant Stacked Traffic Runs }
