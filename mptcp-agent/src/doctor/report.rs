//! Prints the findings, for people and as JSON.

use mptcp_api::schema::one_line;
use serde::Serialize;

use super::finding::{Finding, Verdict};
use crate::client::terminal::{Style, Terminal};

/// All findings.
#[derive(Debug, Serialize)]
pub struct Report {
    checks: Vec<Finding>,
    problems: usize,
    warnings: usize,
}

impl Report {
    /// Counts the findings.
    pub fn new(checks: Vec<Finding>) -> Self {
        let count = |verdict| checks.iter().filter(|one| one.result == verdict).count();
        Self {
            problems: count(Verdict::Problem),
            warnings: count(Verdict::Warning),
            checks,
        }
    }

    /// Returns 2 if there are problems, else 1 if there are warnings, else 0.
    pub fn exit_code(&self) -> u8 {
        match (self.problems, self.warnings) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        }
    }

    /// Returns the report as one line of JSON.
    pub fn json(&self) -> String {
        // Strings, numbers and lists of these always make JSON.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// Returns the report for people: a line for each check, with the commands
    /// that mend it below, and a sum.
    pub fn text(&self, terminal: Terminal) -> String {
        let width = self.checks.iter().map(|one| one.name.len()).max();
        let width = width.unwrap_or(0);
        let mut text = String::new();
        for finding in &self.checks {
            let style = match finding.result {
                Verdict::Ok => Style::Good,
                Verdict::Unknown => Style::Plain,
                Verdict::Warning => Style::Notable,
                Verdict::Problem => Style::Bad,
            };
            let result = terminal.paint(style, &format!("{:8}", finding.result.name()));
            let (name, seen) = (finding.name, one_line(&finding.seen));
            text += &format!("{result} {name:width$}  {seen}\n");
            for line in finding.mend.iter().flat_map(|mend| mend.lines()) {
                text += &format!(
                    "{:9}mend: {}\n",
                    "",
                    terminal.paint(Style::Bold, &one_line(line))
                );
            }
        }
        let unknown = self.checks.iter();
        let unknown = unknown.filter(|one| one.result == Verdict::Unknown).count();
        text += &format!(
            "{} checks: {}, {}, {unknown} unknown\n",
            self.checks.len(),
            number(self.problems, "problem"),
            number(self.warnings, "warning"),
        );
        text
    }
}

fn number(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::super::finding::{ok, problem, unknown, warning};
    use super::*;

    #[test]
    fn text_and_json_say_the_same() {
        let report = Report::new(vec![
            ok("a", "fine"),
            warning("bcd", "odd", "one\ntwo"),
            unknown("e", "no \x1b rights"),
        ]);
        assert_eq!(
            report.text(Terminal::default()),
            "ok       a    fine\n\
             warning  bcd  odd\n\
             \u{20}        mend: one\n\
             \u{20}        mend: two\n\
             unknown  e    no \u{fffd} rights\n\
             3 checks: 0 problems, 1 warning, 1 unknown\n"
        );
        assert_eq!(
            report.json(),
            "{\"checks\":[{\"name\":\"a\",\"result\":\"ok\",\"seen\":\"fine\",\"mend\":null},\
             {\"name\":\"bcd\",\"result\":\"warning\",\"seen\":\"odd\",\"mend\":\"one\\ntwo\"},\
             {\"name\":\"e\",\"result\":\"unknown\",\"seen\":\"no \\u001b rights\",\"mend\":null}],\
             \"problems\":0,\"warnings\":1}\n"
        );
    }

    #[test]
    fn the_worst_finding_decides_the_exit_code() {
        let code = |findings| Report::new(findings).exit_code();
        assert_eq!(code(vec![ok("a", ""), unknown("b", "")]), 0);
        assert_eq!(code(vec![ok("a", ""), warning("b", "", "")]), 1);
        assert_eq!(code(vec![problem("a", "", ""), warning("b", "", "")]), 2);
    }
}
