//! Metric families, built at scrape time from values that live elsewhere.

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

/// A label's name and value.
pub type Label<'a> = (&'a str, &'a str);

/// The families of one scrape, in order.
#[derive(Default)]
pub struct Families(Vec<MetricFamily>);

impl Families {
    /// Starts a family of counters.
    pub fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, MetricType::COUNTER)
    }

    /// Starts a family of gauges.
    pub fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, MetricType::GAUGE)
    }

    /// Starts a family of histograms.
    pub fn histogram(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, MetricType::HISTOGRAM)
    }

    /// Renders the text format. Families without a series are left out.
    pub fn encode(mut self) -> prometheus::Result<String> {
        self.0.retain(|family| !family.get_metric().is_empty());
        TextEncoder::new().encode_to_string(&self.0)
    }

    fn family(&mut self, name: &str, help: &str, kind: MetricType) -> Family<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        let position = self.0.len();
        self.0.push(family);
        Family(&mut self.0[position])
    }
}

/// One family, to which series are added.
pub struct Family<'a>(&'a mut MetricFamily);

impl Family<'_> {
    /// Adds a series with this value to a counter or gauge.
    pub fn add(&mut self, labels: &[Label<'_>], value: f64) {
        let mut metric = metric(labels);
        if self.0.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.0.mut_metric().push(metric);
    }

    /// Adds a series to a counter or gauge. The value is exact up to 2^53.
    pub fn add_count(&mut self, labels: &[Label<'_>], value: u64) {
        self.add(labels, value as f64);
    }

    /// Adds a series to a histogram. `counts` has one more element than
    /// `bounds`, for values above the last bound.
    pub fn add_histogram(
        &mut self,
        labels: &[Label<'_>],
        bounds: impl Iterator<Item = f64>,
        counts: &[u64],
        sum: f64,
    ) {
        let mut cumulative = 0;
        let buckets = bounds.zip(counts).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(sum);
        let mut metric = metric(labels);
        metric.set_histogram(histogram);
        self.0.mut_metric().push(metric);
    }
}

fn metric(labels: &[Label<'_>]) -> Metric {
    let pairs = labels.iter().map(|&(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}
