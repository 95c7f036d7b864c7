//! CPU time of the programs that take part in a measurement.

use anyhow::Result;
use mptcp_lab::Agent;

/// Returns the CPU seconds of this process: client, server, and the kernel's work
/// for them while it sends. On veth links that includes all that happens to a
/// packet on its way. (/proc/stat samples at ticks, and misses most of it.)
pub fn own_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Returns the CPU seconds of an agent's process.
///
/// # Errors
/// The agent has ended, or the kernel keeps no account of its threads
/// (`CONFIG_SCHED_INFO`).
pub fn agent_seconds(agent: &Agent) -> Result<f64> {
    let tasks = format!("/proc/{}/task", agent.process().pid());
    let mut nanos = 0;
    for task in std::fs::read_dir(tasks)? {
        // The first number in schedstat is nanoseconds on a CPU.
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += stat.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(nanos as f64 * 1e-9)
}
