//! Decides what has to be done to the kernel's endpoints.
//!
//! ```text
//!   an address of a named path, its device has a carrier    no endpoint: add one
//!                                                          the kernel's own: replace it
//!                                                          somebody else's: leave it
//!   an own endpoint                          its address is gone: remove it
//!                                            it has another role: remove and add it
//!                                            its path became (no) standby: change it
//! ```
//!
//! A device without a carrier gets no new endpoint, because the kernel tries
//! each endpoint once for each connection. Endpoints that exist stay: the
//! subflows of a device that comes back within minutes go on.
//!
//! Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::record::Made;
use super::settings::Role;
use super::wanted::{Address, Wanted};
use crate::net::devices::Present;
use crate::net::endpoints::{Endpoint, Manager, flag};
use crate::net::pm;

/// The greatest id that is given to an endpoint. The kernel itself never uses 255.
const LAST_ID: u8 = 254;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Forget an endpoint that somebody else has removed.
    Forget(Endpoint),
    /// Remove an endpoint.
    Remove(Endpoint),
    /// Raise the number of subflows beside the first to this.
    Raise(u32),
    /// Give an endpoint these flags.
    Flags(Endpoint),
    /// Add an endpoint.
    Add(Endpoint),
    /// Add an endpoint in the place of the implicit one that has its address
    /// and id.
    Replace(Endpoint),
}

/// Why an address gets no endpoint of the agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Without {
    /// Somebody else has made one.
    Foreign(IpAddr),
    /// The kernel takes no more endpoints.
    NoRoom(IpAddr),
}

/// The steps to take, in this order, and what is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub actions: Vec<Action>,
    /// Addresses that get no endpoint of the agent's.
    pub without: Vec<Without>,
}

/// Decides what has to be done. Addresses in `young` get no endpoint yet.
pub fn plan(
    kernel: &Manager,
    present: &Present,
    wanted: &Wanted,
    role: Role,
    made: &Made,
    young: &BTreeSet<IpAddr>,
) -> Plan {
    let mut plan = Plan::default();
    let addresses = wanted.addresses(present);
    let is_own = |endpoint: &Endpoint| made.endpoints.iter().any(|own| own.is(endpoint));
    let forgotten = made.endpoints.iter().map(|own| own.endpoint());
    let forgotten = forgotten.filter(|own| {
        let same = |one: &Endpoint| (one.id, one.address) == (own.id, own.address);
        !kernel.endpoints.iter().any(same)
    });
    plan.actions.extend(forgotten.map(Action::Forget));

    let mut kept: Vec<&Endpoint> = Vec::new();
    for endpoint in &kernel.endpoints {
        if !is_own(endpoint) {
            kept.push(endpoint);
            continue;
        }
        match keep(endpoint, present, wanted, &addresses, role) {
            None => plan.actions.push(Action::Remove(endpoint.clone())),
            Some(flags) => {
                kept.push(endpoint);
                if flags != endpoint.bits {
                    plan.actions.push(Action::Flags(Endpoint {
                        bits: flags,
                        ..endpoint.clone()
                    }));
                }
            }
        }
    }

    let mut added = Vec::new();
    let mut room = (pm::MOST as usize).saturating_sub(kept.len());
    // The id of an endpoint that is removed is not used again so soon: the
    // other end might hear of the removal after it has seen the new subflow.
    let mut taken: BTreeSet<u8> = kernel.endpoints.iter().map(|one| one.id).collect();
    let mut last = made.last_id;
    for address in &addresses {
        let wanted = Endpoint {
            id: 0,
            address: address.source.address,
            port: None,
            bits: role.bits() | if address.standby { flag::BACKUP } else { 0 },
            device: Some(address.device),
        };
        let has_it = |one: &&&Endpoint| one.address == wanted.address && one.port.is_none();
        match kept.iter().find(has_it) {
            Some(endpoint) if endpoint.is_implicit() => {
                let id = endpoint.id;
                added.push(Action::Replace(Endpoint { id, ..wanted }));
            }
            Some(endpoint) if is_own(endpoint) => {}
            Some(_) => plan.without.push(Without::Foreign(wanted.address)),
            None if !address.carrier || young.contains(&wanted.address) => {}
            None if room == 0 => plan.without.push(Without::NoRoom(wanted.address)),
            None => {
                let id = next_id(last, &taken);
                (last, room) = (id, room - 1);
                taken.insert(id);
                added.push(Action::Add(Endpoint { id, ..wanted }));
            }
        }
    }

    let opening = kept.iter().filter(|one| !one.is_implicit()).count() + added.len();
    let needed = match role {
        // How many addresses the other end has is not known.
        Role::Fullmesh => pm::MOST,
        Role::Subflow | Role::Signal => u32::try_from(opening).unwrap_or(pm::MOST).min(pm::MOST),
    };
    if kernel.subflows < needed && (!added.is_empty() || kept.iter().any(|one| is_own(one))) {
        plan.actions.push(Action::Raise(needed));
    }
    plan.actions.extend(added);
    plan
}

/// Returns the flags that an own endpoint has to have; `None` if it has to go.
fn keep(
    endpoint: &Endpoint,
    present: &Present,
    wanted: &Wanted,
    addresses: &[Address],
    role: Role,
) -> Option<u32> {
    let device = present.get(&endpoint.device?)?;
    if !device.addresses.contains(&endpoint.address) {
        return None;
    }
    let now = endpoint.bits & !flag::BACKUP;
    // An endpoint whose path is named no longer stays as it is.
    let named = addresses
        .iter()
        .any(|one| one.source.address == endpoint.address);
    if named && now != role.bits() {
        return None;
    }
    let backup = match wanted.is_standby(device, endpoint.address) {
        true => flag::BACKUP,
        false => 0,
    };
    Some(now | backup)
}

/// Returns the first id after `last` that is not taken.
fn next_id(last: u8, taken: &BTreeSet<u8>) -> u8 {
    let after = (last.saturating_add(1)..=LAST_ID).chain(1..=LAST_ID);
    let mut free = after.filter(|id| !taken.contains(id));
    free.next().unwrap_or(1)
}

#[cfg(test)]
mod tests;
