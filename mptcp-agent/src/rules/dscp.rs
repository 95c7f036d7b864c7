//! The names of differentiated services code points (RFC 2474, 2597, 3246, 5865,
//! 8622).

/// Returns the code point of this name, in any case.
pub(super) fn named(text: &str) -> Option<u32> {
    let text = text.to_ascii_lowercase();
    match text.as_str() {
        "be" | "default" => return Some(0),
        "le" => return Some(1),
        "ef" => return Some(46),
        "va" | "voice-admit" => return Some(44),
        _ => {}
    }
    if let Some(class) = text.strip_prefix("cs").and_then(digit) {
        return (class < 8).then_some(class * 8);
    }
    let (class, drop) = text.strip_prefix("af")?.split_at_checked(1)?;
    let (class, drop) = (digit(class)?, digit(drop)?);
    ((1..=4).contains(&class) && (1..=3).contains(&drop)).then_some(8 * class + 2 * drop)
}

fn digit(text: &str) -> Option<u32> {
    let mut chars = text.chars();
    let digit = chars.next()?.to_digit(10)?;
    chars.next().is_none().then_some(digit)
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn names_are_those_of_the_rfcs() {
        for (name, code) in [
            ("be", 0),
            ("le", 1),
            ("cs1", 8),
            ("AF11", 10),
            ("af41", 34),
            ("af43", 38),
            ("EF", 46),
            ("cs7", 56),
        ] {
            assert_eq!(named(name), Some(code), "{name}");
        }
        for name in [
            "", "cs8", "cs", "af", "af4", "af51", "af14", "af411", "x", "é",
        ] {
            assert_eq!(named(name), None, "{name}");
        }
    }
}
