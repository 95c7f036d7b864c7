//! The results of rows, compared with the targets, and their lines in the tables.

use serde_json::{Value, json};

use super::requests::{LATE, RequestResults, milliseconds};
use super::streams::{STREAM_MBIT, TransferResults};
use crate::bench::rows::Outcome;
use crate::bench::table::verdict;

/// The largest allowed ratio of the 99.9th percentiles with and without loss.
const LOSS_RATIO_MAX: f64 = 2.0;
/// One request in this many may be late where copies could be missing.
const FIELD_LATE: usize = 1_000;
/// The allowed part of late requests at the start of connections, relative to
/// that of the default scheduler.
const OPENING_LATE: f64 = 0.1;
/// The least allowed goodput of a stream during a cut, as a part of its rate.
const STREAM_MIN: f64 = 0.99;
/// The least allowed goodput of bulk, as a part of the better path's alone.
const BULK_MIN: f64 = 0.9;
/// The largest allowed number of bytes on the wire, as a multiple of that of
/// single copies.
const WIRE_MAX: f64 = 2.1;

/// Returns the header of the table of cuts.
pub fn blackout_header() -> String {
    format!(
        "\nblackouts: requests and responses of 200 bytes every 20 ms while a path is repeatedly \
         cut; milliseconds\n(target: none later than {} ms over the median, no timeout)\n\
         {:27} {:>7} {:>8} {:>5} {:>8} {:>9}   {:>8} {:>5} {:>8}  verdict",
        LATE.as_millis(),
        "rtt, path, what is lost",
        "p50",
        "worst",
        "late",
        "timeouts",
        "rescued B",
        "def. max",
        "late",
        "timeouts",
    )
}

/// Makes the outcome of a row that consists of its two sides alone.
fn compared(row: &str, line: String, agent: &Value, default: &Value, ok: bool) -> Outcome {
    Outcome {
        line,
        ok: Some(ok),
        json: json!({ "row": row, "agent": agent, "default": default, "ok": ok }),
    }
}

/// Returns a row of the table of cuts.
pub fn blackout(row: &str, agent: &RequestResults, default: &RequestResults) -> Outcome {
    let ok = agent.late() == 0 && agent.recovery.timeouts == 0;
    let line = format!(
        "{row:27} {:7.2} {:8.2} {:5} {:8} {:9.0}   {:8.1} {:5} {:8}  {}",
        milliseconds(agent.latencies.p50()),
        milliseconds(agent.latencies.max()),
        agent.late(),
        agent.recovery.timeouts,
        agent.rescued,
        milliseconds(default.latencies.max()),
        default.late(),
        default.recovery.timeouts,
        verdict(ok),
    );
    compared(row, line, &agent.json(), &default.json(), ok)
}

/// Returns the header of the table of loss.
pub fn loss_header() -> String {
    format!(
        "\nloss: the same requests while the first path loses packets both ways; milliseconds\n\
         (target: p99.9 at most {LOSS_RATIO_MAX} times that without loss)\n\
         {:20} {:>7} {:>7} {:>8} {:>8} {:>7} {:>8}   {:>9} {:>10} {:>8}  verdict",
        "rtt, path, loss",
        "p50",
        "p99",
        "p99.9",
        "worst",
        "/ none",
        "timeouts",
        "def. p99",
        "def. p99.9",
        "timeouts",
    )
}

/// Returns a row of the table of loss. `lossless` is the row under the agents
/// without loss, unless this is that row.
pub fn loss(
    row: &str,
    agent: &RequestResults,
    default: &RequestResults,
    lossless: Option<&RequestResults>,
) -> Outcome {
    let all = &agent.latencies;
    let ratio = lossless.map(|one| all.p999().div_duration_f64(one.latencies.p999()));
    let ok = ratio.map(|ratio| ratio <= LOSS_RATIO_MAX);
    let line = format!(
        "{row:20} {:7.2} {:7.2} {:8.2} {:8.2} {:>7} {:8}   {:9.2} {:10.2} {:8}  {}",
        milliseconds(all.p50()),
        milliseconds(all.p99()),
        milliseconds(all.p999()),
        milliseconds(all.max()),
        ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
        agent.recovery.timeouts,
        milliseconds(default.latencies.p99()),
        milliseconds(default.latencies.p999()),
        default.recovery.timeouts,
        ok.map_or("", verdict),
    );
    let json = json!({
        "row": row, "agent": agent.json(), "default": default.json(), "p999_ratio": ratio, "ok": ok
    });
    Outcome { line, ok, json }
}

/// Returns the header of the table of requests where copies could be missing.
pub fn field_header() -> String {
    format!(
        "\nfield: requests in situations where copies that yield wrongly would be missing; \
         milliseconds\n(target: at most one of {FIELD_LATE} later than {} ms over the median)\n\
         {:24} {:>7} {:>8} {:>8} {:>9} {:>8}   {:>8} {:>9} {:>8}  verdict",
        LATE.as_millis(),
        "what",
        "p50",
        "worst",
        "late",
        "requests",
        "timeouts",
        "def. max",
        "late",
        "timeouts",
    )
}

/// Returns a row of that table.
pub fn field(row: &str, agent: &RequestResults, default: &RequestResults) -> Outcome {
    let requests = agent.latencies.samples.len();
    let ok = agent.late() * FIELD_LATE <= requests;
    let line = format!(
        "{row:24} {:7.2} {:8.2} {:8} {requests:9} {:8}   {:8.1} {:9} {:8}  {}",
        milliseconds(agent.latencies.p50()),
        milliseconds(agent.latencies.max()),
        agent.late(),
        agent.recovery.timeouts,
        milliseconds(default.latencies.max()),
        default.late(),
        default.recovery.timeouts,
        verdict(ok),
    );
    compared(row, line, &agent.json(), &default.json(), ok)
}

/// Returns the row of the first requests of connections.
pub fn opening(agent: &RequestResults, default: &RequestResults) -> Outcome {
    let part =
        |results: &RequestResults| results.late() as f64 / results.latencies.samples.len() as f64;
    let ratio = part(agent) / part(default);
    let ok = ratio <= OPENING_LATE;
    let line = format!(
        "\nopening: the first ten requests of connections between agents that know each other, 20 % \
         loss on the first path\n(target: at most {OPENING_LATE} times the part that is late under \
         the default scheduler)\n\
         {} of {} late; {} of {} under the default scheduler; {ratio:.2} times  {}",
        agent.late(),
        agent.latencies.samples.len(),
        default.late(),
        default.latencies.samples.len(),
        verdict(ok),
    );
    let json = json!({
        "row": "opening", "agent": agent.json(), "default": default.json(), "late_ratio": ratio,
        "ok": ok
    });
    Outcome {
        line,
        ok: Some(ok),
        json,
    }
}

/// Returns the header of the table of streams.
pub fn stream_header() -> String {
    format!(
        "\nstreams: {STREAM_MBIT} Mbit/s over two paths of 50, --redundant-budget 40mbit, one path \
         cut\n(target: nothing sent again, goodput at least {STREAM_MIN} of the rate)\n\
         {:20} {:>7} {:>10} {:>8} {:>10}   {:>9} {:>10} {:>8}  verdict",
        "rtt, path",
        "goodput",
        "sent again",
        "timeouts",
        "rescued MB",
        "def. good",
        "sent again",
        "timeouts",
    )
}

/// Returns a row of the table of streams.
pub fn stream(row: &str, agent: &TransferResults, default: &TransferResults) -> Outcome {
    let part = |results: &TransferResults| results.mbit() / STREAM_MBIT;
    let ok = agent.recovery.retransmitted == 0 && part(agent) >= STREAM_MIN;
    let line = format!(
        "{row:20} {:7.3} {:10} {:8} {:10.2}   {:9.3} {:10} {:8}  {}",
        part(agent),
        agent.recovery.retransmitted,
        agent.recovery.timeouts,
        agent.rescued / 1e6,
        part(default),
        default.recovery.retransmitted,
        default.recovery.timeouts,
        verdict(ok),
    );
    compared(row, line, &agent.json(), &default.json(), ok)
}

/// Returns the header of the table of bulk transfers.
pub fn bulk_header() -> String {
    format!(
        "\nbulk: as fast as possible, so that copies yield; Mbit/s\n\
         (target: at least {BULK_MIN} of the better path alone)\n\
         {:24} {:>7} {:>7} {:>10} {:>9}   {:>7} {:>10}  verdict",
        "rtt, paths", "goodput", "/ alone", "sent again", "copies", "default", "p1 alone",
    )
}

/// Returns a row of the table of bulk transfers.
pub fn bulk(row: &str, [agent, default, alone]: &[TransferResults; 3]) -> Outcome {
    let part = agent.mbit() / alone.mbit();
    let ok = part >= BULK_MIN;
    let line = format!(
        "{row:24} {:7.1} {part:7.2} {:10} {:9.0}   {:7.1} {:10.1}  {}",
        agent.mbit(),
        agent.recovery.retransmitted,
        agent.copies,
        default.mbit(),
        alone.mbit(),
        verdict(ok),
    );
    let json = json!({
        "row": row, "agent": agent.json(), "default": default.json(), "alone": alone.json(),
        "ok": ok
    });
    Outcome {
        line,
        ok: Some(ok),
        json,
    }
}

/// Returns the row of the bytes that a stream takes on the wire.
pub fn wire(agent: &TransferResults, default: &TransferResults) -> Outcome {
    let ratio = agent.wire_ratio() / default.wire_ratio();
    let dsacks = agent.recovery.dsacks_sent;
    let ok = ratio <= WIRE_MAX && dsacks == 0;
    let line = format!(
        "\nwire: {STREAM_MBIT} Mbit/s, copied in full (target: at most {WIRE_MAX} times the bytes \
         of single copies, no DSACK)\n\
         {ratio:.3} times; {:.3} bytes on the wire for each that arrived, {:.3} with single copies; \
         {dsacks} DSACKs  {}",
        agent.wire_ratio(),
        default.wire_ratio(),
        verdict(ok),
    );
    let json = json!({
        "row": "wire", "agent": agent.json(), "default": default.json(), "ratio": ratio, "ok": ok
    });
    Outcome {
        line,
        ok: Some(ok),
        json,
    }
}

/// Returns the header of the table of costs.
pub fn cost_header() -> String {
    format!(
        "\ncost: CPU time of both ends with their kernel and agents, for a stream copied in full\n\
         {:24} {:>12} {:>12} {:>7} {:>16} {:>15}",
        "", "s a gigabyte", "single", "ratio", "of it, programs", "copies a second",
    )
}

/// Returns a row of the table of costs.
pub fn cost(row: &str, [agent, default]: &[TransferResults; 2]) -> Outcome {
    let [copied, single] = [agent, default].map(TransferResults::cpu_per_gigabyte);
    let ratio = copied / single;
    let line = format!(
        "{row:24} {:12.2} {:12.2} {ratio:7.2} {:16.2} {:15.0}",
        copied,
        single,
        agent.program_seconds * 1e9 / agent.bytes as f64,
        agent.copies / agent.seconds,
    );
    let json = json!({
        "row": row, "agent": agent.json(), "default": default.json(), "cpu_ratio": ratio
    });
    Outcome {
        line,
        ok: None,
        json,
    }
}
