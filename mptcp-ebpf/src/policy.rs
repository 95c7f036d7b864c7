//! The part of each policy that acts in the kernel.

pub mod limit;
pub mod overflow;
pub mod redundant;
pub mod weighted;
