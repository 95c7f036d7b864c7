//! Builds the variables that are added to the program's environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The setting that makes Go's own package `net` use MPTCP, since Go 1.21.
const GO_SETTING: &str = "multipathtcp=1";

/// Replaces a variable by what `change` makes of its value, or adds it.
pub fn set(
    environment: &mut Vec<(OsString, OsString)>,
    name: &str,
    change: impl FnOnce(Option<&OsStr>) -> OsString,
) {
    match environment.iter_mut().find(|(known, _)| known == name) {
        Some((_, value)) => *value = change(Some(value)),
        None => environment.push((name.into(), change(None))),
    }
}

/// Returns a value of `LD_PRELOAD` with the library behind those that are there.
/// A library in front of it gets to see the sockets that the program asks for.
pub fn preload(old: Option<&OsStr>, library: &Path) -> OsString {
    let library = library.as_os_str();
    let is_separator = |byte: &u8| matches!(byte, b':' | b' ');
    match old {
        Some(old)
            if old
                .as_bytes()
                .split(is_separator)
                .any(|one| one == library.as_bytes()) =>
        {
            old.to_owned()
        }
        old => joined(old, ":", library),
    }
}

/// Returns a value of `GODEBUG` with MPTCP switched on, unless it says what to do
/// about MPTCP already.
pub fn godebug(old: Option<&OsStr>) -> OsString {
    match old {
        Some(old)
            if old
                .as_bytes()
                .split(|&byte| byte == b',')
                .any(|one| one.starts_with(b"multipathtcp=")) =>
        {
            old.to_owned()
        }
        old => joined(old, ",", OsStr::new(GO_SETTING)),
    }
}

fn joined(old: Option<&OsStr>, separator: &str, more: &OsStr) -> OsString {
    let mut value = old.unwrap_or_default().to_owned();
    if !value.is_empty() {
        value.push(separator);
    }
    value.push(more);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_kept() {
        let library = Path::new("/lib/ours.so");
        let preload = |old: Option<&str>| preload(old.map(OsStr::new), library);
        assert_eq!(preload(None), "/lib/ours.so");
        assert_eq!(preload(Some("")), "/lib/ours.so");
        assert_eq!(preload(Some("a.so b.so")), "a.so b.so:/lib/ours.so");
        let twice = Some("/lib/ours.so:a.so");
        assert_eq!(preload(twice), "/lib/ours.so:a.so");

        let godebug = |old: Option<&str>| godebug(old.map(OsStr::new));
        assert_eq!(godebug(None), "multipathtcp=1");
        assert_eq!(godebug(Some("gctrace=1")), "gctrace=1,multipathtcp=1");
        assert_eq!(godebug(Some("multipathtcp=0")), "multipathtcp=0");
        let other = Some("xmultipathtcp=1");
        assert_eq!(godebug(other), "xmultipathtcp=1,multipathtcp=1");
    }

    #[test]
    fn a_variable_is_changed_or_added() {
        let mut environment = vec![("A".into(), "1".into()), ("B".into(), "2".into())];
        let add = |old: Option<&OsStr>| joined(old, "+", OsStr::new("x"));
        set(&mut environment, "B", add);
        set(&mut environment, "C", add);
        let of = |index: usize| environment.get(index).map(|(name, value)| (name, value));
        assert_eq!(of(1), Some((&"B".into(), &"2+x".into())));
        assert_eq!(of(2), Some((&"C".into(), &"x".into())));
    }
}
