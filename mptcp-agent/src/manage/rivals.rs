//! Finds who else manages endpoints. Two that do it undo each other's work.

use std::fs;
use std::path::{Path, PathBuf};

use crate::host::processes::{self, Process};
use crate::host::sysctl;

const MPTCPD: &str = "mptcpd";
const NETWORK_MANAGER: &str = "NetworkManager";

/// Where NetworkManager reads its settings, the later ones over the earlier.
const SETTINGS: [&str; 4] = [
    "/usr/lib/NetworkManager/conf.d",
    "/run/NetworkManager/conf.d",
    "/etc/NetworkManager/NetworkManager.conf",
    "/etc/NetworkManager/conf.d",
];

/// Says in one line who else manages endpoints in this network namespace, and
/// what to do about it; `None` if nobody is seen.
pub fn find() -> Option<String> {
    if let Ok(kind) = sysctl::read("net/mptcp/pm_type")
        && kind != "0"
    {
        return Some(format!(
            "net.mptcp.pm_type is {kind}, so the kernel ignores endpoints and leaves paths to a \
             daemon: {}",
            sysctl::command("net/mptcp/pm_type", "0")
        ));
    }
    let found = processes::named(&[MPTCPD, NETWORK_MANAGER]);
    judge(&found, || is_disabled(&settings()))
}

/// `disabled` says whether NetworkManager's settings tell it to leave endpoints
/// alone.
fn judge(found: &[Process], disabled: impl FnOnce() -> bool) -> Option<String> {
    let named = |name| found.iter().find(|process| process.name == name);
    if let Some(process) = named(MPTCPD) {
        return Some(format!(
            "mptcpd (process {}) manages endpoints in this network namespace: stop it ({}), or \
             leave endpoints to it",
            process.id,
            process.stop()
        ));
    }
    let process = named(NETWORK_MANAGER).filter(|_| !disabled())?;
    Some(format!(
        "NetworkManager (process {}) manages endpoints in this network namespace: write \
         connection.mptcp-flags=1 below [connection] into a file of \
         /etc/NetworkManager/conf.d and restart it, or leave endpoints to it",
        process.id
    ))
}

/// Returns the texts of NetworkManager's settings, in the order in which they
/// count.
fn settings() -> Vec<String> {
    let files = SETTINGS.iter().flat_map(|place| files(Path::new(place)));
    files
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect()
}

fn files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let is_conf = |path: &PathBuf| path.extension().is_some_and(|end| end == "conf");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_conf).collect();
    found.sort();
    found
}

/// Returns whether the settings disable MPTCP for every connection: bit 0 of
/// `connection.mptcp-flags`, in a section `[connection]` without a match.
fn is_disabled(texts: &[String]) -> bool {
    let mut disabled = false;
    for text in texts {
        let mut in_section = false;
        for line in text.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('[') {
                in_section = section.trim_end_matches(']').trim() == "connection";
            } else if in_section
                && let Some((key, value)) = line.split_once('=')
                && key.trim() == "connection.mptcp-flags"
            {
                disabled = is_disabling(value.trim());
            }
        }
    }
    disabled
}

/// Reads a number, decimal or hexadecimal, or names.
fn is_disabling(value: &str) -> bool {
    let number = match value.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    };
    match number {
        Some(number) => number & 1 != 0,
        None => value.split(',').any(|name| name.trim() == "disabled"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn process(name: &str) -> Process {
        Process {
            name: name.to_owned(),
            id: 7,
            unit: None,
        }
    }

    #[test]
    fn daemons_are_named_with_what_to_do() {
        assert_eq!(judge(&[], || false), None);
        let text = judge(&[process(MPTCPD)], || true).unwrap();
        assert!(text.contains("mptcpd (process 7)"), "{text}");
        assert!(text.contains("kill 7"), "{text}");
        let both = [process(NETWORK_MANAGER)];
        let text = judge(&both, || false).unwrap();
        assert!(text.contains("connection.mptcp-flags=1"), "{text}");
        assert_eq!(judge(&both, || true), None);
    }

    #[test]
    fn settings_that_switch_mptcp_off() {
        let disabled = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            is_disabled(&texts)
        };
        let off = "[main]\nplugins=keyfile\n[connection]\nconnection.mptcp-flags = 0x1\n";
        let on = "[connection]\nconnection.mptcp-flags=0x22\n";
        assert!(!disabled(&[]));
        assert!(disabled(&[off]));
        assert!(disabled(&[
            "[connection]\nconnection.mptcp-flags=disabled\n"
        ]));
        assert!(disabled(&[on, off]));
        assert!(!disabled(&[off, on]));
        assert!(!disabled(&[
            "[connection-wifi]\nconnection.mptcp-flags=1\n"
        ]));
        assert!(!disabled(&["[connection]\n#connection.mptcp-flags=1\n"]));
    }
}
