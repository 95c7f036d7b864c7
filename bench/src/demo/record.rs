//! `cargo xtask demo --record FILE`: runs the demo in a pseudo-terminal and writes
//! what it shows as FILE.cast (asciicast v2, for asciinema) and FILE.svg (for
//! pages, without a script).

mod svg;

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::json;

use super::screen::WIDTH;

/// The number of lines of the terminal.
const LINES: u16 = 30;

/// The output of a program, with the times at which it was printed.
struct Recording {
    /// Seconds after the start, and what was printed then.
    events: Vec<(f64, String)>,
}

/// Runs a command and writes both files beside `file`.
///
/// # Errors
/// There is no pseudo-terminal, the command fails, or a file cannot be written.
pub fn run(mut command: Command, file: &Path, title: &str) -> Result<()> {
    let recording = Recording::of(&mut command)?;
    let texts = [
        ("cast", recording.asciicast(title)),
        ("svg", svg::draw(&recording.events, LINES, title)),
    ];
    for (extension, text) in texts {
        let file = file.with_extension(extension);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{} is written", file.display());
    }
    Ok(())
}

impl Recording {
    /// Runs a command to its end in a terminal of its own.
    fn of(command: &mut Command) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).context("no pseudo-terminal is to be had")?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let theirs = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().context("a terminal without a name")?)?;
        let size = Winsize {
            ws_row: LINES,
            ws_col: WIDTH as u16,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(theirs.as_fd(), size)?;
        command
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .stdin(theirs.try_clone()?)
            .stdout(theirs.try_clone()?)
            .stderr(theirs);
        let mut child = command.spawn().context("cannot start the program")?;
        // The command holds its end of the terminal: as long as anybody does, the
        // other end does not see the end.
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let events = read(File::from(ours), Instant::now())?;
        let status = child.wait()?;
        if !status.success() {
            let printed: String = events.into_iter().map(|(_, text)| text).collect();
            bail!("the recorded program ended with {status}, and printed:\n{printed}");
        }
        Ok(Self { events })
    }

    /// Returns the recording in the format of asciinema.
    fn asciicast(&self, title: &str) -> String {
        let header = json!({
            "version": 2, "width": WIDTH, "height": LINES, "title": title,
            "env": { "TERM": "xterm-256color" },
        });
        let mut text = format!("{header}\n");
        for (seconds, printed) in &self.events {
            let seconds = (seconds * 1e3).round() / 1e3;
            text += &format!("{}\n", json!([seconds, "o", printed]));
        }
        text
    }
}

/// Reads what is printed until nobody has the terminal any more.
fn read(mut terminal: File, started: Instant) -> Result<Vec<(f64, String)>> {
    let (mut events, mut rest) = (Vec::new(), Vec::new());
    let mut buffer = [0; 8192];
    loop {
        let count = match terminal.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // This is how Linux says that the other end is closed.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
                break;
            }
            Err(error) => return Err(error).context("cannot read the terminal"),
        };
        rest.extend_from_slice(&buffer[..count]);
        let whole = whole_characters(&rest);
        let text: Vec<u8> = rest.drain(..whole).collect();
        if !text.is_empty() {
            let text = String::from_utf8_lossy(&text).into_owned();
            events.push((started.elapsed().as_secs_f64(), text));
        }
    }
    Ok(events)
}

/// Returns how many of these bytes end with a whole character.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => bytes.len(),
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_shows_is_recorded() -> Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", "stty size; printf 'a\\033[32m\\303\\244\\033[0m\\n'"]);
        let recording = Recording::of(&mut command)?;
        let all: String = recording
            .events
            .iter()
            .map(|(_, text)| text.as_str())
            .collect();
        assert_eq!(all, "30 80\r\na\x1b[32mä\x1b[0m\r\n");
        let cast = recording.asciicast("x");
        let mut lines = cast.lines();
        let header: serde_json::Value = serde_json::from_str(lines.next().unwrap_or_default())?;
        assert_eq!(
            (&header["version"], &header["width"]),
            (&json!(2), &json!(80))
        );
        for line in lines {
            let event: serde_json::Value = serde_json::from_str(line)?;
            assert_eq!(event[1], "o");
        }
        Ok(())
    }

    #[test]
    fn a_program_that_fails_is_an_error() {
        assert!(Recording::of(Command::new("sh").args(["-c", "exit 3"])).is_err());
        assert!(Recording::of(&mut Command::new("/nonexistent")).is_err());
    }

    #[test]
    fn characters_are_not_cut() {
        assert_eq!(whole_characters("aä".as_bytes()), 3);
        assert_eq!(whole_characters(&"aä".as_bytes()[..2]), 1);
        assert_eq!(whole_characters(b"a\xffb"), 3);
    }
}
