//! `run --take-over`: asks the agent that runs to leave everything in place.

use std::path::Path;

use super::connection::Connection;
use super::{Failure, Fault};
use crate::control::schema::{Reply, Request};

/// Whether there was an agent; it ends within moments then.
pub(super) fn ask(control: Option<&Path>) -> Result<bool, Failure> {
    let mut agent = match Connection::open(control) {
        Err(failure) if failure.fault == Fault::NoAgent => return Ok(false),
        agent => agent?,
    };
    agent.ask(&Request::HandOver)?;
    match agent.next()? {
        // It may have ended before the answer was out.
        Some(Reply::HandedOver) | None => Ok(true),
        Some(_) => Err(Failure::unexpected()),
    }
}
