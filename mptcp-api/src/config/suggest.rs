//! Suggests the known name that is nearest to an unknown one.

/// Returns the name that someone may have meant by `unknown`: the flag's name
/// for a key (`weighted-mode` for `mode`), or one that differs in a third of its
/// letters at most.
pub fn nearest<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = unknown.to_lowercase().replace('_', "-");
    let distance = |name: &str| match written.rsplit_once('-') {
        Some((_, end)) if end == name => 0,
        _ => strsim::damerau_levenshtein(&written, name),
    };
    let near = known.into_iter().map(|name| (distance(name), name));
    let near = near.filter(|(distance, name)| *distance <= (name.len() / 3).max(1));
    near.min().map(|(_, name)| name)
}

/// Puts an error of the TOML reader into the file's words. Other errors are
/// returned as they are.
pub fn improve(message: &str) -> String {
    if let Some((unknown, rest)) = quoted(message.strip_prefix("unknown field ")) {
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        let hint = match nearest(unknown, known.iter().copied()) {
            Some(name) => format!(" (did you mean \"{name}\"?)"),
            None => format!(": expected one of {}", known.join(", ")),
        };
        return format!("unknown key \"{unknown}\"{hint}");
    }
    if let Some((missing, _)) = quoted(message.strip_prefix("missing field ")) {
        return format!("the key \"{missing}\" is missing");
    }
    if let Some(rest) = message.strip_prefix("invalid type: ") {
        return format!(
            "wrong kind of value: {}",
            rest.replace("i64", "a whole number")
        );
    }
    message.to_owned()
}

/// Splits a text that starts with a name in backticks behind the name. The name
/// itself may have backticks.
fn quoted(text: Option<&str>) -> Option<(&str, &str)> {
    let text = text?.strip_prefix('`')?;
    let end = text.find("`, expected").or_else(|| text.rfind('`'))?;
    Some((&text[..end], &text[end + 1..]))
}
