//! Shows the agent's state: each child renders [`crate::state`] in a form of
//! its own.
//!
//! | file | what it is |
//! |---|---|
//! | `control` | the control socket, on which the agent's commands ask |
//! | `metrics` | the metrics in Prometheus' text format |
//! | `http` | the server that Prometheus scrapes |

pub mod control;
pub mod http;
pub mod metrics;
