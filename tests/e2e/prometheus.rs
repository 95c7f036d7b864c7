//! What `deploy/` gives a Prometheus holds on real series.

mod rules;
