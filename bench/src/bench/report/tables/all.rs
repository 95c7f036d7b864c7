//! The tables, in the order of the page.

use super::Cell::{Largest, Name, Number, Shares, Text, Verdict};
use super::{Column, Table};

const fn number(title: &'static str, figure: &'static str, decimals: usize) -> Column {
    Column(title, Number(figure, 1.0, decimals))
}

const MEGA: f64 = 1e-6;
const MILLI: f64 = 1e3;

/// All tables.
pub const ALL: &[Table] = &[
    Table {
        name: "weighted",
        group: "weighted",
        rows: |name| !name.ends_with(" thin"),
        columns: &[
            Column("paths", Text("links")),
            Column("weights", Text("weights")),
            Column("load", Text("load")),
            Column("congestion control", Text("congestion")),
            Column("share", Shares("share")),
            number("worst window", "worst_deviation", 4),
            number("goodput", "goodput_ratio", 3),
            Column("default: share", Shares("default_share")),
            number("default: goodput", "default_goodput_ratio", 3),
            Column("", Verdict),
        ],
    },
    Table {
        name: "thin",
        group: "weighted",
        rows: |name| name.ends_with(" thin"),
        columns: &[
            Column("paths", Text("links")),
            Column("weights", Text("weights")),
            number("p50", "agent.p50_ms", 3),
            number("p99", "agent.p99_ms", 3),
            number("first", "agent.first_p50_ms", 3),
            number("default: p50", "default.p50_ms", 3),
            number("default: p99", "default.p99_ms", 3),
            number("default: first", "default.first_p50_ms", 3),
            number("p99 / default", "p99_ratio", 2),
            number("standard error", "p99_ratio_error", 2),
            Column("", Verdict),
        ],
    },
    Table {
        name: "live",
        group: "live",
        rows: |name| !name.starts_with("live series"),
        columns: &[
            Column("weights", Text("weights")),
            number("asked", "target", 3),
            number("share", "share", 3),
            number("off", "deviation", 4),
            number("goodput / bound", "goodput_ratio", 3),
            number("default: share", "default_share", 3),
            Column("", Verdict),
        ],
    },
    Table {
        name: "blackout",
        group: "redundant",
        rows: |name| name.starts_with("blackout "),
        columns: REQUESTS,
    },
    Table {
        name: "loss",
        group: "redundant",
        rows: |name| name.starts_with("loss "),
        columns: &[
            Column("round trip, path, loss", Name(1)),
            number("p50", "agent.p50_ms", 2),
            number("p99", "agent.p99_ms", 2),
            number("p99.9", "agent.p999_ms", 2),
            number("p99.9 / without loss", "p999_ratio", 2),
            number("default: p99", "default.p99_ms", 1),
            number("default: p99.9", "default.p999_ms", 1),
            Column("", Verdict),
        ],
    },
    Table {
        name: "field",
        group: "redundant",
        rows: |name| name.starts_with("field ") || name.starts_with("opening "),
        columns: REQUESTS,
    },
    Table {
        name: "stream",
        group: "redundant",
        rows: |name| name.starts_with("stream "),
        columns: &[
            Column("round trip, path", Name(1)),
            number("Mbit/s", "agent.goodput_mbit", 2),
            number("segments sent again", "agent.retransmitted_segments", 0),
            number("TCP timeouts", "agent.timeouts", 0),
            number("default: Mbit/s", "default.goodput_mbit", 2),
            number("sent again", "default.retransmitted_segments", 0),
            number("TCP timeouts", "default.timeouts", 0),
            Column("", Verdict),
        ],
    },
    Table {
        name: "bulk",
        group: "redundant",
        rows: |name| name.starts_with("bulk "),
        columns: &[
            Column("round trip, paths", Name(1)),
            number("Mbit/s", "agent.goodput_mbit", 1),
            number("default: Mbit/s", "default.goodput_mbit", 1),
            number("first path alone", "alone.goodput_mbit", 1),
            Column("", Verdict),
        ],
    },
    Table {
        name: "copies",
        group: "redundant",
        rows: |name| name == "wire" || name.starts_with("cost "),
        columns: &[
            Column("what", Name(0)),
            number("bytes on the wire for each", "agent.wire_bytes_per_byte", 2),
            number("single copies", "default.wire_bytes_per_byte", 2),
            number("CPU seconds a GB", "agent.cpu_seconds_per_gigabyte", 2),
            number("single copies", "default.cpu_seconds_per_gigabyte", 2),
            Column("", Verdict),
        ],
    },
    Table {
        name: "many",
        group: "traffic",
        rows: |name| name.starts_with("many "),
        columns: &[
            Column("connections, policy, congestion control", Name(1)),
            number("share", "share", 3),
            number("worst window", "window", 4),
            number("Mbit/s", "Mbit/s", 1),
            number("/ bound", "by bound", 3),
            number("slowest / mean", "slowest", 2),
            Column("", Verdict),
        ],
    },
    Table {
        name: "mixed",
        group: "traffic",
        rows: |name| name.starts_with("mixed "),
        columns: &[
            Column("policy, congestion control", Name(1)),
            number("share", "share", 3),
            number("worst window", "window", 4),
            number("p50", "p50", 2),
            number("p99", "p99", 2),
            number("p99 / default", "p99 by default", 2),
            Column("", Verdict),
        ],
    },
    Table {
        name: "objects",
        group: "traffic",
        rows: |name| name.starts_with("objects "),
        columns: &[
            Column("paths, objects, policy, congestion control", Name(1)),
            number("p50", "p50", 1),
            number("p95", "p95", 1),
            number("p50 / default", "p50 by default", 2),
            number("p95 / default", "p95 by default", 2),
            number("share", "share", 3),
            Column("", Verdict),
        ],
    },
    Table {
        name: "rough",
        group: "traffic",
        rows: |name| name.starts_with("rough "),
        columns: &[
            Column("paths, policy, congestion control", Name(1)),
            number("Mbit/s", "Mbit/s", 1),
            number("/ default", "by default", 2),
            number("/ single", "by single", 2),
            number("/ bound", "by bound", 2),
            number("share", "share", 3),
            Column("", Verdict),
        ],
    },
    Table {
        name: "frames",
        group: "traffic",
        rows: |name| name.starts_with("frames "),
        columns: &[
            Column("policy, congestion control", Name(1)),
            number("p50", "p50", 1),
            number("p99", "p99", 1),
            number("worst", "worst", 1),
            number("p99 / default", "p99 by default", 2),
            Column("", Verdict),
        ],
    },
    Table {
        name: "overflow",
        group: "traffic",
        rows: |name| name.starts_with("overflow "),
        columns: &[
            Column("paths, load, policy, congestion control", Name(1)),
            number("share of the second path", "second", 4),
            number("Mbit/s", "Mbit/s", 1),
            number("/ best", "by best", 3),
            Column("", Verdict),
        ],
    },
    Table {
        name: "kills",
        group: "reliability",
        rows: |name| name.starts_with("kills "),
        columns: &[
            Column("paths", Name(1)),
            number("kills", "kills", 0),
            Column("longest time with limits", Largest("free_after_s", 1.0, 2)),
            number("resets", "resets", 0),
            Column("", Verdict),
        ],
    },
    Table {
        name: "events",
        group: "reliability",
        rows: |name| name.starts_with("upgrade ") || name == "churn",
        columns: &[
            Column("what", Name(0)),
            number("times", "upgrades", 0),
            number("connections", "connections", 0),
            number("served", "served", 0),
            number("resets", "resets", 0),
            number("events lost", "events_lost", 0),
            Column("", Verdict),
        ],
    },
    Table {
        name: "switches",
        group: "reliability",
        rows: |name| name == "switches",
        columns: &[
            number("changes", "switches", 0),
            number("worst share, off by", "worst", 4),
            number("resets", "resets", 0),
            Column("longest command, ms", Largest("command_ms", 1.0, 0)),
            Column("", Verdict),
        ],
    },
    Table {
        name: "beats",
        group: "reliability",
        rows: |name| name == "beats",
        columns: &[
            number("simulated subflows", "subflows", 0),
            Column(
                "longest time without a heartbeat, ms",
                Largest("longest_seconds", MILLI, 0),
            ),
            Column("longest answer, ms", Largest("answers_seconds", MILLI, 0)),
            Column("", Verdict),
        ],
    },
    Table {
        name: "scrape",
        group: "scrape",
        rows: |_| true,
        columns: &[
            Column("what is there", Name(0)),
            number("series", "series", 0),
            number("bytes", "bytes", 0),
            Column("time, median, ms", Number("median_seconds", MILLI, 1)),
            Column("longest of 9, ms", Number("longest_seconds", MILLI, 1)),
            Column("resident memory, MB", Number("resident_bytes", MEGA, 1)),
        ],
    },
    Table {
        name: "hooks",
        group: "hooks",
        rows: |_| true,
        columns: &[
            Column("policy", Text("policy")),
            Column("program", Text("program")),
            number("ns a run", "ns_per_run", 0),
            number("runs a second", "runs_per_second", 0),
            number("% of a CPU", "cpu_percent", 3),
        ],
    },
];

/// The columns of requests while something is wrong with a path.
const REQUESTS: &[Column] = &[
    Column("what", Name(1)),
    number("requests", "agent.requests", 0),
    number("p50", "agent.p50_ms", 2),
    number("worst", "agent.max_ms", 2),
    number("late", "agent.late", 0),
    number("TCP timeouts", "agent.timeouts", 0),
    number("default: worst", "default.max_ms", 1),
    number("late", "default.late", 0),
    number("TCP timeouts", "default.timeouts", 0),
    Column("", Verdict),
];
