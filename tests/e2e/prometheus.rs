//! What `deploy/` gives a Prometheus and a Grafana holds on real series.

mod dashboard;
mod live;
mod rules;
mod server;
