//! Checks of what the kernel offers. Each test makes a fault of the kernel by hiding
//! the file that shows it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context, Result};
use mptcp_lab::{Cgroup, Container, Lab};

use super::Patient;
use crate::support::require_agent;

#[test]
fn a_kernel_without_mptcp() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let mut patient = Patient::contained(&lab.host("alone")?, &binary)?;
    patient.is_well("mptcp-built-in")?;
    patient.does("mount -t tmpfs none /proc/sys/net/mptcp")?;
    patient.is_told(
        "mptcp-built-in",
        "problem",
        &["no Multipath TCP"],
        "CONFIG_MPTCP=y",
    )?;
    patient.until("mptcp-enabled", "unknown")?;
    patient.does("umount /proc/sys/net/mptcp")?;
    patient.is_well("mptcp-built-in")?;
    patient.is_well("mptcp-enabled")
}

#[test]
fn types_that_are_hidden_or_missing() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let mut patient = Patient::contained(&lab.host("alone")?, &binary)?;
    patient.is_well("btf")?;
    patient.does("umount --lazy --recursive /sys")?;
    patient.is_mended("btf", "problem", &["BTF"], "mount -t sysfs sysfs /sys")?;
    patient.does("mount -t tmpfs none /sys/kernel/btf")?;
    patient.is_told("btf", "problem", &["vmlinux"], "CONFIG_DEBUG_INFO_BTF=y")?;
    let file = tempfile::NamedTempFile::new()?;
    let without = patient.doctor.clone();
    patient.doctor += &format!(" --btf {}", file.path().display());
    patient.is_told("btf", "problem", &["neither BTF"], "a copy of")?;
    patient.does("umount /sys/kernel/btf")?;
    fs::copy("/sys/kernel/btf/vmlinux", &file)?;
    patient.does("mount -t tmpfs none /sys/kernel/btf")?;
    patient.is_well("btf")?;
    patient.doctor = without;
    patient.does("umount /sys/kernel/btf")?;
    patient.is_well("btf")
}

#[test]
fn lockdown_that_forbids_reads() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let mut patient = Patient::contained(&lab.host("alone")?, &binary)?;
    let before = patient.finding("lockdown")?;
    patient.does(
        "mount -t tmpfs none /sys/kernel/security\n\
         echo 'none integrity [confidentiality]' > /sys/kernel/security/lockdown",
    )?;
    patient.is_told("lockdown", "warning", &["confidentiality"], "boot without")?;
    patient.does("echo '[none] integrity confidentiality' > /sys/kernel/security/lockdown")?;
    patient.is_well("lockdown")?;
    patient.does("umount /sys/kernel/security")?;
    assert_eq!(patient.finding("lockdown")?, before);
    Ok(())
}

/// A script stands in for modprobe, since the kernel may have BBR built in. It
/// checks its argument, and shows the real list again.
#[test]
fn bbr_that_is_not_loaded() -> Result<()> {
    const AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    let binary = require_agent!();
    mptcp_lab::require!(
        fs::read_to_string(AVAILABLE)?.contains("bbr"),
        "needs the congestion control bbr"
    );
    let lab = Lab::new()?;
    let mut patient = Patient::contained(&lab.host("alone")?, &binary)?;
    patient.is_well("standby-bbr")?;
    let directory = tempfile::tempdir()?;
    let (list, modprobe) = (
        directory.path().join("list"),
        directory.path().join("modprobe"),
    );
    fs::write(&list, "reno cubic\n")?;
    fs::write(
        &modprobe,
        format!("#!/bin/sh\n[ \"$*\" = tcp_bbr ] && umount {AVAILABLE}\n"),
    )?;
    fs::set_permissions(&modprobe, Permissions::from_mode(0o755))?;
    patient.does(&format!("mount --bind {} {AVAILABLE}", list.display()))?;
    let check = patient.until("standby-bbr", "warning")?;
    assert_eq!(check.mend, "modprobe tcp_bbr");
    patient.does(&format!(
        "PATH={}:$PATH\n{}",
        directory.path().display(),
        check.mend
    ))?;
    patient.is_well("standby-bbr")
}

#[test]
fn no_cgroup2_to_be_had() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let mut patient = Patient::contained(&lab.host("alone")?, &binary)?;
    // With CAP_SYS_ADMIN, the agent would mount one for itself.
    patient.doctor = format!(
        "setpriv --bounding-set=-sys_admin --inh-caps=-all {}",
        patient.doctor
    );
    patient.is_well("cgroup2")?;
    patient.does("umount -a -t cgroup2")?;
    patient.is_mended(
        "cgroup2",
        "problem",
        &["no cgroup2 mount is visible"],
        "mkdir -p /run/cgroup2 && mount -t cgroup2 cgroup2 /run/cgroup2",
    )
}

#[test]
fn a_container_that_sees_its_own_cgroup_only() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let host = lab.host("alone")?;
    let cgroup = Cgroup::create()?;
    let inside = host.container(Container::default().cgroup(&cgroup)?);
    let mut patient = Patient::new(&inside, &binary)?;
    patient.is_told(
        "cgroup-root",
        "warning",
        &["this cgroup namespace"],
        "docker run --cgroupns=host, or -v /sys/fs/cgroup:/host/cgroup:ro",
    )?;
    // Follow the advice of the second one.
    let directory = tempfile::tempdir()?;
    let root = cgroup.path().parent().context("no mount")?;
    let inside = Container::default().bind(root, directory.path())?;
    let inside = host.container(inside.cgroup(&cgroup)?);
    Patient::new(&inside, &binary)?.is_well("cgroup-root")
}

#[test]
fn a_bpf_file_system_that_is_missing_or_open_to_all() -> Result<()> {
    let binary = require_agent!();
    let lab = Lab::new()?;
    let mut patient = Patient::contained(&lab.host("alone")?, &binary)?;
    patient.does("umount --lazy --all-targets /sys/fs/bpf 2>/dev/null; true")?;
    patient.is_mended(
        "bpffs",
        "warning",
        &["no BPF file system"],
        "mount -t bpf -o mode=0700 bpf /sys/fs/bpf",
    )?;
    patient.is_well("bpffs-mode")?;
    for (mode, result, seen) in [
        ("1777", "warning", "every user may pin"),
        ("0777", "problem", "the agent does not use it"),
    ] {
        patient.does(&format!("chmod {mode} /sys/fs/bpf"))?;
        patient.is_mended(
            "bpffs-mode",
            result,
            &[mode, seen],
            "chown 0:0 /sys/fs/bpf && chmod 0700 /sys/fs/bpf",
        )?;
    }
    patient.does("chown 65534 /sys/fs/bpf")?;
    patient.is_mended(
        "bpffs-mode",
        "problem",
        &["65534"],
        "chown 0:0 /sys/fs/bpf && chmod 0700 /sys/fs/bpf",
    )
}
