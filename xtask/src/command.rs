//! Child processes: the user sees their output, and errors name the command.

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

/// Runs a command whose output the user sees. The error carries the command,
/// its environment changes included, in a form that a shell accepts.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", shell_form(command)))?;
    if !status.success() {
        bail!("{status} from `{}`", shell_form(command));
    }
    Ok(())
}

/// Runs a command whose complaints the user sees, and returns what it prints.
pub fn printed(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", shell_form(command)))?;
    if !output.status.success() {
        bail!("{} from `{}`", output.status, shell_form(command));
    }
    Ok(output.stdout)
}

/// Returns what a command prints, or `None` if it cannot be started or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}

fn shell_form(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| {
        // The unit separator in encoded flags is invisible in a terminal.
        let value = value?.to_string_lossy().replace('\x1f', " ");
        Some(format!("{}={}", name.to_string_lossy(), quote(&value)))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| quote(&word.to_string_lossy()));
    set.chain(words).collect::<Vec<_>>().join(" ")
}

/// Quotes a word for a POSIX shell if needed.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Numbered progress lines: `[2/4] bpf-linker: ...`.
pub struct Steps {
    current: u32,
    total: u32,
    started: Instant,
}

impl Steps {
    /// Makes a counter for this many steps.
    pub fn new(total: u32) -> Self {
        Self {
            current: 0,
            total,
            started: Instant::now(),
        }
    }

    /// Begins the next step.
    pub fn next(&mut self, text: impl std::fmt::Display) {
        self.current += 1;
        self.started = Instant::now();
        eprintln!("[{}/{}] {text}", self.current, self.total);
    }

    /// Reports the end of a step, if that is worth a second line.
    pub fn done(&self, text: impl std::fmt::Display) {
        let seconds = self.started.elapsed().as_secs_f32();
        eprintln!("[{}/{}] {seconds:.1} s: {text}", self.current, self.total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_what_a_shell_would_split() {
        assert_eq!(quote("--features=llvm-22"), "--features=llvm-22");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn a_failure_names_the_command() {
        let error =
            run(Command::new("false").arg("a b").env("X", "1\x1f2")).expect_err("false fails");
        assert_eq!(
            error.to_string(),
            "exit status: 1 from `X='1 2' false 'a b'`"
        );
    }
}
