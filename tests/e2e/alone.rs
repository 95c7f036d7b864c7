//! Tests that need the machine for themselves. They check
//! timing within milliseconds, such as that of TCP's own repairs, or move the
//! whole test process to another cgroup. `cargo xtask test` runs them one at a time, after
//! all the others.

mod cgroup;
mod redundant_blackout;
mod redundant_burst;
mod redundant_copies;
mod redundant_family;
mod redundant_flood;
mod redundant_loss;
mod redundant_start;
mod redundant_stream;
mod redundant_three;
mod redundant_unequal;
mod rules_cgroup;
mod survive;
