//! Reads what the command line says about rules.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use mptcp_api::rule::{Number, RuleSet};

use super::{Rules, check};

/// The largest file with rules that is read, bytes. The agent takes no longer
/// request.
const LARGEST: u64 = 60_000;

/// Reads a mark.
///
/// # Errors
/// One line that says what is wrong.
pub fn mark(text: &str) -> Result<u32, String> {
    let (value, mask) = check::mark(&Number::from(text))?;
    match mask {
        u32::MAX => Ok(value),
        _ => Err("a socket's mark has no mask".to_owned()),
    }
}

/// Reads a code point.
///
/// # Errors
/// One line that says what is wrong.
pub fn dscp(text: &str) -> Result<u32, String> {
    check::code_point(&Number::from(text))
}

/// Reads and checks a file with rules.
///
/// # Errors
/// One line that says what is wrong and where.
pub fn file(path: &Path) -> Result<RuleSet, String> {
    let shown = path.display();
    let cannot = |error: std::io::Error| format!("cannot read {shown}: {error}");
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!(
            "{shown} is too large: {LARGEST} bytes are the most"
        ));
    }
    let set: RuleSet =
        serde_json::from_slice(&bytes).map_err(|error| format!("{shown}: {error}"))?;
    match Rules::new(set.clone(), &Rules::default()) {
        Ok(_) => Ok(set),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(text: &str) -> Result<RuleSet, String> {
        let mut named = tempfile::NamedTempFile::new().expect("a file");
        named.write_all(text.as_bytes()).expect("written");
        let read = file(named.path());
        read.map_err(|why| why.replace(&named.path().display().to_string(), "FILE"))
    }

    #[test]
    fn a_file_that_cannot_be_is_refused_with_its_place() {
        let long = "x".repeat(70_000);
        for (text, expected) in [
            ("", "FILE: EOF while parsing a value at line 1"),
            (
                "{\"rules\": [{\n  \"policy\": \"x\", \"port\": 1}]}",
                "FILE: unknown field `port`",
            ),
            (
                "{\"rules\": [{\"policy\": \"x\"}]}",
                "FILE: rule 1: policy: there is no policy `x`",
            ),
            (
                "{\"rule\": []}",
                "FILE: unknown field `rule`, expected `policies` or `rules`",
            ),
            (&long, "FILE is too large"),
        ] {
            let error = read(text).expect_err("it is refused");
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        assert!(file(Path::new("/nonexistent")).is_err());
        assert!(read("{\"rules\": [{\"policy\": \"default\", \"uid\": 0}]}").is_ok());
    }

    #[test]
    fn marks_and_code_points_are_numbers_or_names() {
        assert_eq!((mark("16"), mark("0x10")), (Ok(16), Ok(16)));
        assert_eq!((dscp("ef"), dscp("46")), (Ok(46), Ok(46)));
        assert!(mark("1/2").is_err() && mark("x").is_err() && dscp("64").is_err());
    }
}
