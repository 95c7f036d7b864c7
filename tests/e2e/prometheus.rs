//! What `deploy/` gives a Prometheus and a Grafana holds on real series.

mod live;
mod rules;
mod server;
