//! The finding of a check.

use serde::Serialize;

/// The result of a check, from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing is wrong.
    Ok,
    /// The check could not look.
    Unknown,
    /// Something may be wrong, or makes things worse than they could be.
    Warning,
    /// Something does not work.
    Problem,
}

impl Verdict {
    /// Returns the name that the JSON has.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// The finding of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The name of the check.
    pub name: &'static str,
    /// The result.
    pub result: Verdict,
    /// The observation, in one line; for an unknown result, the reason why there is none.
    pub seen: String,
    /// The commands that mend it, a line each. A line that begins with `#` says
    /// what no command does on this host.
    pub mend: Option<String>,
}

/// The state that a check needs to see, or the reason why it cannot see it.
pub type Look<T> = Result<T, String>;

/// Makes a finding of a check that found nothing wrong.
pub fn ok(name: &'static str, seen: impl Into<String>) -> Finding {
    Finding {
        name,
        result: Verdict::Ok,
        seen: seen.into(),
        mend: None,
    }
}

/// Makes a finding of a check that could not look.
pub fn unknown(name: &'static str, why: impl Into<String>) -> Finding {
    Finding {
        result: Verdict::Unknown,
        ..ok(name, why)
    }
}

/// Makes a finding of something that may be wrong.
pub fn warning(name: &'static str, seen: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding {
        result: Verdict::Warning,
        mend: Some(mend.into()),
        ..ok(name, seen)
    }
}

/// Makes a finding of something that does not work.
pub fn problem(name: &'static str, seen: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding {
        result: Verdict::Problem,
        ..warning(name, seen, mend)
    }
}

/// Collects what is wrong with several things of a kind, for one finding.
#[derive(Debug, Default)]
pub struct Faults {
    worst: Option<Verdict>,
    seen: Vec<String>,
    mend: Vec<String>,
}

impl Faults {
    /// Adds a fault.
    pub fn add(&mut self, verdict: Verdict, seen: impl Into<String>, mend: impl Into<String>) {
        self.worst = self.worst.max(Some(verdict));
        self.seen.push(seen.into());
        let mend = mend.into();
        // Several faults may have one cause.
        if !self.mend.contains(&mend) {
            self.mend.push(mend);
        }
    }

    /// Makes the finding; `fine` is what was seen if nothing is wrong.
    pub fn finish(self, name: &'static str, fine: impl Into<String>) -> Finding {
        match self.worst {
            None => ok(name, fine),
            Some(result) => Finding {
                name,
                result,
                seen: self.seen.join("; "),
                mend: Some(self.mend.join("\n")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_fault_decides_and_all_are_told() {
        let mut faults = Faults::default();
        faults.add(Verdict::Problem, "a", "mend a");
        faults.add(Verdict::Warning, "b", "mend b");
        faults.add(Verdict::Warning, "c", "mend b");
        let finding = faults.finish("check", "fine");
        assert_eq!(finding, problem("check", "a; b; c", "mend a\nmend b"));
        assert_eq!(
            Faults::default().finish("check", "fine"),
            ok("check", "fine")
        );
    }
}
