//! The messages from the guest to the host, and how the host shows them.
//!
//! A line of the console that begins with [`MARK`] carries JSON. All other lines
//! come from the kernel and the agent.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

const MARK: &str = "@vm ";

/// The most instructions that the verifier may walk through for one program. The
/// kernel gives up after a million, and another version, or an option that adds
/// a branch, can make it several times as many. Loading takes as long, too.
const MOST_INSTRUCTIONS: u64 = 60_000;

/// Reports a hook: whether it is attached, how many instructions the verifier
/// walked through (0: unknown), and why it is not attached.
pub fn send_hook(name: &str, attached: bool, instructions: u64, why: &str) {
    send(&json!({ "hook": name, "attached": attached, "insns": instructions, "seen": why }));
}

/// Reports a check, and what it saw.
pub fn send_check(name: &str, ok: bool, seen: &str) {
    send(&json!({ "check": name, "ok": ok, "seen": seen }));
}

/// Reports that all checks were made.
pub fn send_done() {
    send(&json!({ "done": true }));
}

fn send(message: &Value) {
    // Start a new line: the kernel may have left one unfinished.
    println!("\n{MARK}{message}");
}

/// The results on one kernel.
pub struct Report {
    /// The kernel's release.
    pub kernel: String,
    /// The file with all output of the guest.
    pub console: PathBuf,
    rows: Vec<Row>,
    done: bool,
    started: Instant,
    seconds: f32,
}

struct Row {
    hook: bool,
    name: String,
    /// Whether it is attached, if it is a hook; else whether the check went well.
    good: bool,
    instructions: u64,
    seen: String,
}

impl Report {
    /// Makes an empty report of this kernel.
    pub fn new(kernel: &str, dir: &Path) -> Self {
        Self {
            kernel: kernel.to_owned(),
            console: dir.join(format!("{kernel}.log")),
            rows: Vec::new(),
            done: false,
            started: Instant::now(),
            seconds: 0.0,
        }
    }

    /// Takes a line of the console.
    pub fn line(&mut self, line: &str) {
        self.seconds = self.started.elapsed().as_secs_f32();
        let Some(message) = line.strip_prefix(MARK) else {
            return;
        };
        // A line that was mixed with another is not JSON; its check will be
        // missing in the end.
        let message: Value = serde_json::from_str(message).unwrap_or_default();
        self.done |= message["done"] == true;
        let hook = message["hook"].is_string();
        let name = if hook {
            &message["hook"]
        } else {
            &message["check"]
        };
        if let Some(name) = name.as_str() {
            let row = Row {
                hook,
                name: name.to_owned(),
                good: message[if hook { "attached" } else { "ok" }] == true,
                instructions: message["insns"].as_u64().unwrap_or(0),
                seen: message["seen"].as_str().unwrap_or_default().to_owned(),
            };
            eprintln!("      {}", row.line());
            self.rows.push(row);
        }
    }

    /// Records that the virtual machine itself failed.
    pub fn broke(&mut self, error: &anyhow::Error) {
        self.rows.push(Row {
            hook: false,
            name: "virtual machine".to_owned(),
            good: false,
            instructions: 0,
            seen: format!("{error:#}"),
        });
    }

    /// Returns whether every hook is attached, none is too large, and every check
    /// went well.
    pub fn ok(&self) -> bool {
        self.done && self.rows.iter().all(Row::ok)
    }

    /// Returns the results in a few words.
    pub fn summary(&self) -> String {
        let count = |hook| {
            let rows = self.rows.iter().filter(move |row| row.hook == hook);
            (rows.clone().filter(|row| row.good).count(), rows.count())
        };
        let ((attached, hooks), (good, checks)) = (count(true), count(false));
        let end = if self.done {
            ""
        } else {
            ", and then it broke off"
        };
        let large = match self.rows.iter().filter(|row| row.is_too_large()).count() {
            0 => String::new(),
            large => format!(" ({large} beyond {MOST_INSTRUCTIONS} instructions)"),
        };
        format!("{attached} of {hooks} hooks attached{large}, {good} of {checks} checks ok{end}")
    }
}

impl Row {
    fn ok(&self) -> bool {
        self.good && !self.is_too_large()
    }

    /// Returns whether the verifier walks through too many instructions. Every
    /// kernel that is checked tells the number, so an unknown one counts as too
    /// large.
    fn is_too_large(&self) -> bool {
        self.hook && self.good && !(1..=MOST_INSTRUCTIONS).contains(&self.instructions)
    }

    fn line(&self) -> String {
        let verdict = match (self.hook, self.good) {
            (true, true) if self.is_too_large() => "TOO LARGE",
            (true, true) => "attached",
            (true, false) => "NOT ATTACHED",
            (false, true) => "ok",
            (false, false) => "FAILED",
        };
        let mut line = format!("{:24} {verdict:12}", self.name);
        if self.instructions > 0 {
            let _ = write!(line, " {:>7} instructions verified", self.instructions);
        }
        if !self.seen.is_empty() {
            let _ = write!(line, " {}", self.seen);
        }
        line.trim_end().to_owned()
    }
}

/// Returns the results on all these kernels as text.
pub fn table(reports: &[Report]) -> String {
    let mut text = String::new();
    for report in reports {
        let (kernel, seconds) = (&report.kernel, report.seconds);
        let _ = writeln!(text, "{kernel}: {} ({seconds:.0} s)", report.summary());
        for row in &report.rows {
            let _ = writeln!(text, "  {}", row.line());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_a_table() {
        let mut report = Report::new("6.1.0", Path::new("vm"));
        report.line("[    1.0] something else");
        report.line(r#"@vm {"hook":"sockops","attached":true,"insns":4711,"seen":""}"#);
        report.line(r#"@vm {"check":"bytes","ok":true,"seen":"12 34"}"#);
        assert!(!report.ok(), "it is not done yet");
        report.line(r#"@vm {"done":true}"#);
        assert!(report.ok());
        for insns in [0, MOST_INSTRUCTIONS + 1] {
            let mut report = Report::new("6.1.0", Path::new("vm"));
            report.line(r#"@vm {"done":true}"#);
            let hook = format!(r#"{{"hook":"sockops","attached":true,"insns":{insns},"seen":""}}"#);
            report.line(&format!("@vm {hook}"));
            assert!(!report.ok(), "{insns} instructions");
            assert_eq!(
                report.summary(),
                "1 of 1 hooks attached (1 beyond 60000 instructions), 0 of 0 checks ok"
            );
        }
        report.line(r#"@vm {"hook":"iter_tcp","attached":false,"seen":"too large"}"#);
        assert!(!report.ok());
        assert_eq!(
            table(&[report]),
            "6.1.0: 1 of 2 hooks attached, 1 of 1 checks ok (0 s)\n\
             \x20 sockops                  attached        4711 instructions verified\n\
             \x20 bytes                    ok           12 34\n\
             \x20 iter_tcp                 NOT ATTACHED too large\n"
        );
    }
}
