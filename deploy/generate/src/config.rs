//! The configuration file of a fresh install: the example, switched off.

/// Returns the example with a `#` before each line that sets something, so that
/// the file has every key and changes nothing. Prose stays as `# text`; what
/// has no space after its `#` is a setting.
pub fn commented(example: &str) -> String {
    let mut text = String::from(
        "# The agent that this file belongs to only observes, until a line below is\n\
         # uncommented: lines that begin with a `#` and no space after it are settings.\n#\n",
    );
    for line in example.lines() {
        match line.strip_prefix("# ") {
            Some(rest) if is_setting(rest) => text.extend(["#", rest]),
            None if is_setting(line) => text.extend(["#", line]),
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// Returns whether a line is a table's head or sets a key.
fn is_setting(line: &str) -> bool {
    if line.starts_with('[') {
        return line.ends_with(']');
    }
    let key = |c: char| c.is_ascii_lowercase() || c == '-';
    let (name, _) = line.split_once(" = ").unwrap_or_default();
    !name.is_empty() && name.chars().all(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mptcp_api::config::parse;

    #[test]
    fn the_file_sets_nothing() {
        let text = commented(mptcp_agent::CONFIG_EXAMPLE);
        let empty = parse("").map(|file| format!("{file:?}"));
        let file = parse(&text).map(|file| format!("{file:?}"));
        assert_eq!(file.expect("the file is valid"), empty.expect("so is none"));
        assert!(
            text.lines()
                .all(|line| line.is_empty() || line.starts_with('#'))
        );
    }

    #[test]
    fn uncommenting_brings_the_example_back() {
        let text = commented(mptcp_agent::CONFIG_EXAMPLE);
        let lines = text.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if is_setting(rest) => rest,
            _ => line,
        });
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        parse(&text).expect("every line that a reader can uncomment is valid");
        for key in ["control", "cgroup", "[path.fibre]", "[[rule]]", "listen"] {
            assert!(
                text.lines().any(|line| line.starts_with(key)),
                "{key}: {text}"
            );
        }
    }

    #[test]
    fn prose_is_no_setting() {
        for line in [
            "listen = 1",
            "[path.fibre]",
            "[[rule]]",
            "max-connections = 3",
        ] {
            assert!(is_setting(line), "{line}");
        }
        for line in [
            "",
            "A flag of `run` = x",
            "remote or remote-port.",
            "[see there",
        ] {
            assert!(!is_setting(line), "{line}");
        }
    }
}
