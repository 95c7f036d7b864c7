//! What each policy does in the kernel.

pub mod redundant;
pub mod weighted;
