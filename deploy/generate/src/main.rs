//! `mptcp-generate DIRECTORY` writes the files of a package that follow from the
//! agent itself, so that none of them can differ from it:
//!
//! ```text
//!   man/mptcp-agent*.8         a page for the agent and for each of its commands
//!   completions/               for bash, zsh and fish
//!   config.toml                every key, commented out
//!   libmptcp-preload.so        the library of `mptcp-agent exec`
//! ```
//!
//! `cargo xtask dist` runs it. It is a program of its own, so that the agent
//! carries nothing of this.

mod config;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap_complete::Shell;

const NAME: &str = "mptcp-agent";

fn main() -> Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.context("usage: mptcp-generate DIRECTORY")?;
    generate(&directory)
}

fn generate(directory: &Path) -> Result<()> {
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    for directory in [&man, &completions] {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    pages(&man).with_context(|| format!("cannot write man pages to {}", man.display()))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut mptcp_agent::command_line(), NAME, &completions)
            .with_context(|| format!("cannot write the completions for {shell}"))?;
    }
    let file = directory.join("config.toml");
    fs::write(&file, config::commented(mptcp_agent::CONFIG_EXAMPLE))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let (name, library) = mptcp_agent::PRELOAD_LIBRARY;
    ensure!(
        !library.is_empty(),
        "the agent was built without its preload library"
    );
    let file = directory.join(name);
    fs::write(&file, library).with_context(|| format!("cannot write {}", file.display()))
}

/// Writes a page for the agent and one for each of its commands.
fn pages(directory: &Path) -> std::io::Result<()> {
    let mut command = mptcp_agent::command_line().disable_help_subcommand(true);
    command.build();
    let source = command.get_version().unwrap_or_default().to_owned();
    let source = source.split(' ').next().unwrap_or_default();
    let mut waiting = vec![command];
    while let Some(command) = waiting.pop() {
        waiting.extend(command.get_subcommands().cloned());
        clap_mangen::Man::new(command)
            .section("8")
            .source(format!("{NAME} {source}"))
            .manual("System administration")
            .generate_to(directory)?;
    }
    Ok(())
}
