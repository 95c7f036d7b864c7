//! The agent's output at its start: the attach table and the ready line.
//!
//! People (and shells that wait for the line) read them on stdout; under
//! `--log-format json` they are log lines.

use std::io::Write as _;

use mptcp_api::listen::Listen;

use crate::cli::LogFormat;
use crate::kernel::Attachment;
use crate::policy::Policy;

/// Says which hooks are attached, and why others are not.
pub fn attachments(format: LogFormat, attachments: &[Attachment]) {
    if format == LogFormat::Text {
        print(&table(attachments));
        return;
    }
    for Attachment {
        program,
        purpose,
        error,
    } in attachments
    {
        match error {
            None => tracing::info!(program, attached = true, purpose, "hook"),
            Some(reason) => {
                tracing::warn!(program, attached = false, purpose, reason, "hook");
            }
        }
    }
}

/// Says that everything is in place. `tls` says whether the addresses of `places`
/// have TLS.
pub fn ready(format: LogFormat, policy: &Policy, places: &[Listen], tls: bool) {
    let urls = places.iter().map(|place| place.url(tls, "metrics"));
    let metrics = urls.collect::<Vec<_>>().join(", ");
    match format {
        LogFormat::Text => {
            print(&format!(
                "mptcp-agent ready: policy {policy}, metrics on {metrics}\n"
            ));
        }
        LogFormat::Json => tracing::info!(%policy, metrics, "ready"),
    }
}

/// Says in one line why the agent ends with an error: what was tried, and why
/// it failed.
pub fn failure(format: LogFormat, error: &anyhow::Error) {
    match format {
        // Writing may fail too, and then there is nobody to tell.
        LogFormat::Text => {
            let _ = writeln!(std::io::stderr(), "mptcp-agent: error: {error:#}");
        }
        LogFormat::Json => tracing::error!("{error:#}"),
    }
}

/// Prints to stdout, which may be a closed pipe. That is no reason to stop.
fn print(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

fn table(attachments: &[Attachment]) -> String {
    let program = attachments
        .iter()
        .map(|row| row.program.len())
        .max()
        .unwrap_or(0)
        .max(4);
    let mut text = format!("{:program$}  {:12}  purpose\n", "hook", "state");
    for row in attachments {
        let (state, reason) = match &row.error {
            None => ("attached", String::new()),
            Some(error) => ("not attached", format!(": {error}")),
        };
        text += &format!(
            "{:program$}  {state:12}  {}{reason}\n",
            row.program, row.purpose
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_a_hook() {
        let rows = [
            Attachment {
                program: "sockops",
                purpose: "subflows",
                error: None,
            },
            Attachment {
                program: "iter_tcp",
                purpose: "older connections",
                error: Some("no such hook".to_owned()),
            },
        ];
        assert_eq!(
            table(&rows),
            "hook      state         purpose\n\
             sockops   attached      subflows\n\
             iter_tcp  not attached  older connections: no such hook\n"
        );
    }
}
