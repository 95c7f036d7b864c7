//! What each policy does in the kernel.

pub mod limit;
pub mod overflow;
pub mod redundant;
pub mod weighted;
