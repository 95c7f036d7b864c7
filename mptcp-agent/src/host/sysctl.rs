//! Reads the kernel's settings, which `sysctl` shows.

use std::fs;
use std::io;

/// Reads a setting of this network namespace, by its path below /proc/sys:
/// `net/ipv4/conf/eth0.5/rp_filter`. A path, since a device's name may have dots.
///
/// # Errors
/// The kernel has no such setting (`NotFound`), or it cannot be read.
pub fn read(key: &str) -> io::Result<String> {
    let text = fs::read_to_string(format!("/proc/sys/{key}"))?;
    Ok(text.trim().to_owned())
}

/// Returns the command that sets it, which a shell takes as it is.
pub fn command(key: &str, value: &str) -> String {
    // sysctl reads dots as slashes, unless the name has slashes.
    let name = match key.contains('.') {
        true => key.to_owned(),
        false => key.replace('/', "."),
    };
    format!("sysctl -w {}", quoted(&format!("{name}={value}")))
}

/// Quotes a word for a shell, if it has to be.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:=%+,@-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_the_setting_and_is_quoted() {
        for (key, value, expected) in [
            ("net/mptcp/enabled", "1", "sysctl -w net.mptcp.enabled=1"),
            (
                "net/ipv4/conf/eth0.5/rp_filter",
                "2",
                "sysctl -w net/ipv4/conf/eth0.5/rp_filter=2",
            ),
            (
                "net/ipv4/tcp_wmem",
                "4096 16384 4194304",
                "sysctl -w 'net.ipv4.tcp_wmem=4096 16384 4194304'",
            ),
        ] {
            assert_eq!(command(key, value), expected);
        }
        assert_eq!(quoted("it's;rm"), r"'it'\''s;rm'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_setting_that_is_not_there_is_told_apart() {
        assert!(read("kernel/ostype").is_ok_and(|text| text == "Linux"));
        let kind = read("net/no/such/setting").map_err(|error| error.kind());
        assert_eq!(kind, Err(io::ErrorKind::NotFound));
    }
}
