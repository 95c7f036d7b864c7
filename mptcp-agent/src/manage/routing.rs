//! Looks at the routes of the addresses of named paths.

use std::collections::BTreeSet;

use anyhow::Result;

use super::record::Made;
use super::routes::{Action, Plan, Without, plan};
use super::wanted::{Address, Wanted};
use crate::net::devices::Present;
use crate::net::source_routes::{self, SourceRoute};
use crate::net::{endpoints, routes};

/// Decides what has to be done to routes.
///
/// # Errors
/// The kernel cannot be asked.
pub fn look(present: &Present, wanted: &Wanted, made: &Made) -> Result<Plan> {
    let (all, rules) = (routes::all()?, source_routes::rules()?);
    Ok(plan(&all, &rules, present, wanted, made))
}

/// Returns whether a default route leads out by the device of an address, for a
/// socket that is bound to both.
pub fn leads_out(address: &Address) -> bool {
    let source = address.source.address;
    let (far, _) = routes::far(source);
    routes::device_for(far, source, Some(address.device)).is_ok_and(|by| by == address.device)
}

/// Says of which addresses packets do not leave by their own device, though they
/// leave this host. A subflow of an endpoint that names its device is bound to
/// it.
///
/// # Errors
/// The kernel cannot be asked for its endpoints.
pub fn missing(present: &Present, wanted: &Wanted) -> Result<BTreeSet<String>> {
    let addresses = wanted.addresses(present);
    if addresses.is_empty() {
        return Ok(BTreeSet::new());
    }
    let manager = endpoints::read_all()?.unwrap_or_default();
    let mut remarks = BTreeSet::new();
    for address in addresses.iter().filter(|one| one.carrier) {
        let source = address.source.address;
        let endpoint = manager.endpoints.iter().find(|one| one.address == source);
        let bound_to = endpoint.and_then(|endpoint| endpoint.device);
        let (far, any) = routes::far(source);
        let by = routes::device_for(far, source, bound_to).ok();
        if by != Some(address.device) && routes::device_for(far, any, None).is_ok() {
            let device = present.get(&address.device);
            let name = device.map_or("its device", |device| &device.name);
            remarks.insert(format!(
                "packets from {source} do not leave by {name}: there is no route by source \
                 (--manage-routes adds it, and mptcp-agent doctor says how to)"
            ));
        }
    }
    Ok(remarks)
}

/// Says why an address gets no routes.
pub fn without(reason: &Without) -> String {
    match reason {
        Without::Foreign(address) => format!(
            "{address} has a rule that this agent has not made; its routes are left as they are"
        ),
        Without::NoRouter(address, device) => format!(
            "{address} gets no routes: no default route by {device} tells its router, in any table"
        ),
    }
}

/// Says what was done.
pub fn words(action: &Action, present: &Present) -> String {
    let way = |own: &SourceRoute| {
        let device = present.get(&own.device);
        let name = device.map_or("a device that is gone", |device| &device.name);
        let via = own.gateway.map(|gateway| format!("via {gateway} "));
        format!(
            "{}: {}dev {name}, table {}",
            own.address,
            via.unwrap_or_default(),
            own.table
        )
    };
    match action {
        Action::Remove(own) => format!("removed the routes of {}", way(own)),
        Action::Add(own) => format!("added routes of {}", way(own)),
        Action::Repair(own) => {
            format!("added again what was missing of the routes of {}", way(own))
        }
    }
}
