//! The configuration file: from its text to checked settings.
//!
//! ```text
//!   read      the file's text, bounded in size
//!   resolve   defaults < file < flags, setting by setting, with the place that
//!             each comes from
//!   paths     [path.NAME]: names, selectors, and what holds for the path
//!   policies  [policy.NAME]: the settings of a policy
//!   peering   what agents ask each other for
//!   on_paths  what holds for a path under a policy
//!   show      `config show`
//!   reload    reads the file anew while the agent runs
//!   save      writes a policy into the file: `policy set --save`
//! ```
//!
//! mptcp-api has the keys and the reader of the text ([`mptcp_api::config`]).
//! Every error names FILE:LINE:COLUMN, or the flag.

mod on_paths;
mod paths;
mod peering;
mod policies;
mod read;
mod reload;
mod resolve;
mod save;
mod show;
mod source;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use crate::cli::{ConfigJob, Flags};

pub use reload::{Fresh, NO_FILE, Reloader};
pub use resolve::Loaded;
pub use save::Edit;
pub use source::Wrong;

/// A commented file with every key.
pub const EXAMPLE: &str = include_str!("../../mptcp-api/src/config/example.toml");

/// Makes the settings of the flags, and of the file if they name one.
///
/// # Errors
/// The file cannot be read, or it or the flags are wrong.
pub fn load(flags: &Flags) -> Result<Loaded, Wrong> {
    let Some(path) = &flags.args.config else {
        return resolve::resolve(flags, "", "");
    };
    let text = read::read(path)?;
    resolve::resolve(flags, &path.display().to_string(), &text)
}

/// Runs `config`.
pub fn run(job: &ConfigJob) -> ExitCode {
    let text = match job {
        ConfigJob::Check(flags) => load(flags).map(|loaded| {
            let path = flags.args.config.as_deref().unwrap_or(Path::new(""));
            let warnings = loaded.warnings.iter();
            let warnings = warnings.map(|warning| format!("{warning} (a warning)\n"));
            let ok = format!("{}: ok\n", path.display());
            warnings.chain([ok]).collect()
        }),
        ConfigJob::Show(flags) => load(flags).map(|loaded| show::table(&loaded.rows)),
        ConfigJob::Example => Ok(EXAMPLE.to_owned()),
    };
    match text {
        Ok(text) => {
            // The reader of a pipe may be gone: nothing is left to be done.
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            let _ = writeln!(std::io::stderr(), "mptcp-agent: error: {wrong}");
            wrong.exit_code()
        }
    }
}

#[cfg(test)]
mod tests;
