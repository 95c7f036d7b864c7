//! Code that the hooks and the policies share.

pub mod emit;
pub mod entry;
pub mod global;
pub mod maps;
pub mod member;
pub mod path;
pub mod rule;
pub mod skb;
pub mod socket;
