//! The agent's log, which goes to stderr in text or JSON.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

pub mod report;

/// The level that is logged if `RUST_LOG` is not set.
const DEFAULT: &str = "info";

/// Keeps aya at info. At debug it logs every relocation: hundreds of lines at
/// each start.
const QUIET: &str = "aya=info,aya_obj=info";

/// Starts logging. `RUST_LOG` selects what is logged. A value that makes no
/// sense is reported and ignored.
pub fn init(format: LogFormat) {
    let given = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let chosen = EnvFilter::try_new(directives(&given));
    let fault = chosen.as_ref().err().map(ToString::to_string);
    let filter = chosen.unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        // Without this, a closed stderr turns a log line into a panic.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => log
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .init(),
    }
    if let Some(fault) = fault {
        tracing::warn!("RUST_LOG={given} is ignored: {fault}");
    }
}

fn directives(given: &str) -> String {
    match given.trim() {
        "" => DEFAULT.to_owned(),
        // A user who names aya wants to read its log.
        given if given.contains("aya") => given.to_owned(),
        given if given.contains("debug") || given.contains("trace") => format!("{given},{QUIET}"),
        given => given.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aya_speaks_only_if_it_is_asked() {
        assert_eq!(directives(""), "info");
        assert_eq!(directives("debug"), "debug,aya=info,aya_obj=info");
        assert_eq!(directives("off"), "off");
        assert_eq!(directives("info,aya=trace"), "info,aya=trace");
        assert!(EnvFilter::try_new(directives("warn")).is_ok());
        assert!(EnvFilter::try_new(directives("x=y=z")).is_err());
    }
}
