//! One file per hook of the kernel, and a subflow's life as the hooks see it.
//! Each hook's file opens with the kernel's prototype that it relies on.

mod ending;
mod iter_tcp;
mod mptcp_subflow_get_send;
mod redundant_egress;
mod redundant_ingress;
mod sockops;
mod subflow;
