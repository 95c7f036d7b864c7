//! The outcome of a world's run.

/// The figures that a run of a world has shown.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Bytes of all connections that were acked, for each link.
    pub acked: Vec<u64>,
    /// Bytes that were acked on all links, for each connection.
    pub carried: Vec<u64>,
    /// Bytes that all links together carry at most if each keeps its share,
    /// with the rates as they were.
    pub bound: f64,
    /// Bytes that the links carry at most.
    pub capacity: f64,
    /// For each connection, how long each of the messages took that were
    /// completed, ms.
    pub times_ms: Vec<Vec<u64>>,
}

impl Outcome {
    /// Returns the bytes that were acked on all links.
    pub fn bytes(&self) -> u64 {
        self.acked.iter().sum()
    }

    /// Returns the part of the bound that was reached.
    pub fn of_bound(&self) -> f64 {
        self.bytes() as f64 / self.bound
    }

    /// Returns the part of the links' rates that was used.
    pub fn of_capacity(&self) -> f64 {
        self.bytes() as f64 / self.capacity
    }

    /// Returns the time in which this part (0 to 1) of all messages arrived, ms.
    pub fn time_ms(&self, part: f64) -> u64 {
        percentile(&self.times_ms.concat(), part)
    }
}

/// Returns the value below which `part` (0 to 1) of the values are.
///
/// # Panics
///
/// Panics if there are no values.
fn percentile(values: &[u64], part: f64) -> u64 {
    assert!(!values.is_empty(), "nothing was completed");
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}
