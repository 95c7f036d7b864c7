//! The agent's own health.

use super::Families;
use crate::state::events::KINDS;
use crate::state::snapshot::{Restored, Snapshot};
use crate::{COMMIT, VERSION};

pub(super) fn describe(snapshot: &Snapshot, families: &mut Families) {
    let totals = &snapshot.totals;
    families
        .gauge("mptcp_agent_build_info", "The agent's version.")
        .add(&[("version", VERSION), ("commit", COMMIT)], 1.0);
    programs(snapshot, families);

    let mut events = families.counter(
        "mptcp_agent_events_total",
        "Changes of state that the eBPF programs reported, by kind.",
    );
    for (kind, &count) in KINDS.iter().zip(&totals.events) {
        events.add_count(&[("event", kind)], count);
    }
    families
        .counter(
            "mptcp_agent_events_lost_total",
            "Events that found the ring buffer full.",
        )
        .add_count(&[], totals.events_lost);
    families
        .gauge(
            "mptcp_agent_event_streams",
            "Clients that follow the events over HTTP.",
        )
        .add(&[], snapshot.streams.open as f64);
    families
        .counter(
            "mptcp_agent_event_streams_dropped_total",
            "Such clients that were dropped because they took nothing for 20 seconds.",
        )
        .add_count(&[], snapshot.streams.dropped);
    families
        .gauge(
            "mptcp_agent_outlived",
            "1 if the programs outlive the agent and lift its limits if it is killed, else 0.",
        )
        .add(&[], f64::from(u8::from(snapshot.not_outlived.is_none())));
    families
        .gauge(
            "mptcp_agent_sees_all_cgroups",
            "1 if sockets of every cgroup are seen, 0 if only those of --cgroup or of a container.",
        )
        .add(&[], f64::from(u8::from(snapshot.sees_all_cgroups)));
    let mut restored = families.counter(
        "mptcp_agent_restored_total",
        "Times that the agent put back what somebody else had removed or detached.",
    );
    let Restored { pins, programs } = snapshot.restored;
    restored.add_count(&[("what", "pins")], pins);
    restored.add_count(&[("what", "programs")], programs);
    let mut full = families.counter(
        "mptcp_agent_map_full_total",
        "Connections and subflows that found no room (see --max-connections).",
    );
    full.add_count(&[("map", "connections")], totals.connections_full);
    full.add_count(&[("map", "subflows")], totals.subflows_full);
    families
        .counter(
            "mptcp_agent_unsteered_subflows_total",
            "Subflows beyond the eighth path of their connection: observed, not steered.",
        )
        .add_count(&[], totals.slots_full);
    families
        .counter(
            "mptcp_agent_left_alone_total",
            "Times that a connection was left to the default scheduler for a while, having \
             nothing for its lagging path.",
        )
        .add_count(&[], totals.left_alone);
    families
        .counter(
            "mptcp_agent_paths_spared_total",
            "Times that a connection was made to do without a path, so that the host keeps its \
             ratio.",
        )
        .add_count(&[], totals.spared);
    families
        .counter(
            "mptcp_agent_paths_readmitted_total",
            "Times that a connection was let in again on such a path.",
        )
        .add_count(&[], totals.readmitted);
    families
        .gauge(
            "mptcp_agent_wake_timers",
            "Subflows that are held out and have a timer that wakes them if the agent dies.",
        )
        .add(&[], totals.timers as f64);
    families
        .counter(
            "mptcp_agent_setsockopt_failures_total",
            "Limits on a socket that the kernel refused to set.",
        )
        .add_count(&[], totals.setsockopt_failed);
    families
        .counter(
            "mptcp_agent_rearmed_subflows_total",
            "Subflows whose callbacks another program had switched off, switched on again.",
        )
        .add_count(&[], snapshot.rearmed);
    families
        .counter(
            "mptcp_agent_reclaimed_subflows_total",
            "Subflows whose socket was gone without a callback, removed by a sweep.",
        )
        .add_count(&[], snapshot.reclaimed);
    families
        .gauge(
            "mptcp_agent_scrape_duration_seconds",
            "What it took to collect this scrape.",
        )
        .add(&[], snapshot.took.as_secs_f64());
}

fn programs(snapshot: &Snapshot, families: &mut Families) {
    let mut attached = families.gauge(
        "mptcp_agent_program_attached",
        "1 if the eBPF program is attached, else 0.",
    );
    for row in &snapshot.programs {
        attached.add(
            &[("program", row.name)],
            f64::from(u8::from(row.error.is_none())),
        );
    }
    let mut runs = families.counter(
        "mptcp_agent_program_runs_total",
        "How often the eBPF program ran.",
    );
    for row in &snapshot.programs {
        runs.add_count(&[("program", row.name)], row.runs);
    }
    let mut run_time = families.counter(
        "mptcp_agent_program_run_seconds_total",
        "CPU time that the eBPF program took, under --measure-programs.",
    );
    for row in &snapshot.programs {
        if let Some(time) = row.run_time {
            run_time.add(&[("program", row.name)], time.as_secs_f64());
        }
    }
}
