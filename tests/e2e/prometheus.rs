//! The files of `deploy/` for Prometheus and Grafana hold on real series.

mod dashboard;
mod live;
mod rules;
mod server;
