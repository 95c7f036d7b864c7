//! What each policy does in the kernel.

pub mod overflow;
pub mod redundant;
pub mod weighted;
