//! BPF programs of others. The reports name bpftool; where it is not installed,
//! the tests detach the programs themselves.

use anyhow::Result;
use mptcp_lab::kernel::Foreign;
use mptcp_lab::{Cgroup, Lab};

use super::{Patient, bpftool};
use crate::redundant_order::pass_ahead;
use crate::support::{require_agent, two_paths};

#[test]
fn sockops_programs_that_interfere() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let mut patient = Patient::new(&lab.host("alone")?, &binary)?;
    let cgroup = Cgroup::create()?;
    let path = cgroup.path().display();
    patient.doctor += &format!(" --cgroup {path}");
    for (name, result) in [
        ("sockops-exclusive", "problem"),
        ("sockops-beside", "warning"),
    ] {
        patient.is_well(name)?;
        let other = match result {
            "problem" => Foreign::exclusive(cgroup.path())?,
            _ => Foreign::silencer(cgroup.path())?,
        };
        let check = patient.until(name, result)?;
        assert!(check.seen.contains(Foreign::NAME), "{check:?}");
        let begin = format!("bpftool cgroup detach {path} sock_ops id ");
        assert!(check.mend.starts_with(&begin), "{check:?}");
        match bpftool() {
            true => patient.does(&check.mend)?,
            false => drop(other),
        }
        patient.is_well(name)?;
    }
    Ok(())
}

#[test]
fn a_tc_program_that_comes_first() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let net = two_paths(&lab)?;
    let mut patient = Patient::new(&net.client, &binary)?;
    let before = patient.finding("tc-order")?;
    mptcp_lab::require!(before.result == "ok", "needs a kernel with tcx");
    let other = pass_ahead(&net.client, "p2")?;
    let check = patient.until("tc-order", "warning")?;
    assert!(check.seen.contains("on p2, ingress"), "{check:?}");
    assert!(
        check.mend.starts_with("bpftool link detach id "),
        "{check:?}"
    );
    match bpftool() {
        true => patient.does(&check.mend)?,
        false => drop(other),
    }
    patient.is_well("tc-order")
}
