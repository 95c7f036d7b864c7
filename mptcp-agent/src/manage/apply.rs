//! Does what was decided, and takes it back.

use anyhow::Result;

use super::plan::Action;
use super::record::{Limit, Made, OwnEndpoint, Record};
use super::routes;
use crate::net::{endpoints, pm};

/// Takes one step. The record knows of it before the kernel does, unless
/// something is removed.
///
/// # Errors
/// The kernel refuses it, or the record cannot be written.
pub fn apply(action: &Action, now: &endpoints::Manager, record: &mut Record) -> Result<()> {
    match action {
        Action::Forget(endpoint) => forget(record, endpoint.id),
        Action::Remove(endpoint) => {
            pm::remove(endpoint)?;
            forget(record, endpoint.id)
        }
        Action::Raise(limit) => {
            record.change(|made| raise(made, now.subflows, *limit))?;
            pm::set_limits(*limit, now.accepted)
        }
        Action::Flags(endpoint) => pm::set_flags(endpoint),
        Action::Add(endpoint) | Action::Replace(endpoint) => {
            let own = OwnEndpoint::of(endpoint);
            record.change(|made| {
                made.last_id = endpoint.id;
                made.endpoints.retain(|one| one.id != endpoint.id);
                made.endpoints.push(own);
            })?;
            // The kernel chooses the id of the endpoint that it replaces, if it
            // is not told one.
            let id = match action {
                Action::Replace(_) => 0,
                _ => endpoint.id,
            };
            let added = pm::add(&endpoints::Endpoint {
                id,
                ..endpoint.clone()
            });
            if added.is_err() {
                forget(record, endpoint.id)?;
            }
            added
        }
    }
}

/// Removes an endpoint and adds it again, so that the kernel opens the subflows
/// from it that connections lack.
///
/// # Errors
/// Those of [`apply`].
pub fn reopen(endpoint: &endpoints::Endpoint, record: &mut Record) -> Result<()> {
    pm::remove(endpoint)?;
    let added = pm::add(endpoint);
    if added.is_err() {
        forget(record, endpoint.id)?;
    }
    added
}

/// Takes one step with routes, in the same way.
///
/// # Errors
/// Those of [`apply`].
pub fn apply_route(action: &routes::Action, record: &mut Record) -> Result<()> {
    match action {
        routes::Action::Repair(own) => own.add(),
        routes::Action::Add(own) => {
            record.change(|made| made.routes.push(own.clone()))?;
            own.add()
        }
        routes::Action::Remove(own) => {
            own.remove()?;
            record.change(|made| made.routes.retain(|one| one != own))
        }
    }
}

fn forget(record: &mut Record, id: u8) -> Result<()> {
    record.change(|made| made.endpoints.retain(|own| own.id != id))
}

/// Takes note that the limit goes from `before` to `raised`.
fn raise(made: &mut Made, before: u32, raised: u32) {
    // A value that the agent has set itself is not the one from before it.
    let before = match made.limit {
        Some(limit) if limit.raised == before => limit.before,
        _ => before,
    };
    made.limit = Some(Limit { before, raised });
}

/// Everything that was taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Endpoints that were removed.
    pub endpoints: usize,
    /// Addresses whose routes were removed.
    pub routes: usize,
    /// The limit that was set back to what it was.
    pub limit: Option<u32>,
}

impl Undone {
    /// Says in lines what was taken back; nothing if nothing was.
    pub fn words(&self) -> String {
        let mut text = String::new();
        if self.endpoints > 0 {
            text += &format!("removed {} endpoints\n", self.endpoints);
        }
        if self.routes > 0 {
            text += &format!("removed the routes of {} addresses\n", self.routes);
        }
        if let Some(limit) = self.limit {
            text += &format!("set the limit of subflows back to {limit}\n");
        }
        text
    }
}

/// Takes back everything that the agents of the network namespace with this
/// cookie have recorded and that is still as they made it. Subflows of the
/// endpoints close.
///
/// # Errors
/// The record cannot be read, or the kernel refuses a step; all the others were
/// taken.
pub fn undo(cookie: u64) -> Result<Undone> {
    let mut undone = Undone::default();
    let Some(mut record) = Record::find(cookie)? else {
        return Ok(undone);
    };
    let made = record.made().clone();
    let mut failure = Ok(());
    if let Some(now) = endpoints::read_all()? {
        for own in &made.endpoints {
            let Some(endpoint) = now.endpoints.iter().find(|one| own.is(one)) else {
                continue;
            };
            match pm::remove(endpoint) {
                Ok(()) => undone.endpoints += 1,
                Err(error) => failure = Err(error),
            }
        }
        if let Some(limit) = made.limit.filter(|limit| limit.raised == now.subflows) {
            match pm::set_limits(limit.before, now.accepted) {
                Ok(()) => undone.limit = Some(limit.before),
                Err(error) => failure = Err(error),
            }
        }
    }
    for own in &made.routes {
        match own.remove() {
            Ok(()) => undone.routes += 1,
            Err(error) => failure = Err(error),
        }
    }
    failure?;
    record.change(|made| *made = Made::default())?;
    Ok(undone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_before_the_first_raise_is_kept() {
        let mut made = Made::default();
        let limit = |made: &Made| made.limit.map(|limit| (limit.before, limit.raised));
        raise(&mut made, 2, 3);
        raise(&mut made, 3, 4);
        assert_eq!(limit(&made), Some((2, 4)));
        // Somebody else has lowered it since.
        raise(&mut made, 1, 4);
        assert_eq!(limit(&made), Some((1, 4)));
    }
}
