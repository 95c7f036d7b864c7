//! The file of data plans, which an agent leaves for the agents after it.
//!
//! ```text
//!   {"version":1,"checksum":"<32 hexadecimal digits>","saved":{"boot":...,"accounts":[...]}}
//! ```
//!
//! The checksum is the first half of the SHA-256 of what `saved` is when it is
//! encoded as JSON by this module. It tells a file that is torn or was edited; it
//! is no protection against somebody who wants to deceive.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// The version of the file.
pub const VERSION: u32 = 1;

/// The largest file that is read, bytes.
pub const LONGEST: usize = 1 << 20;

/// The most accounts in a file.
const MOST: usize = 1024;

/// The longest text in a file, bytes.
const LONGEST_TEXT: usize = 256;

/// Everything that is saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Names the time since the last boot (`/proc/sys/kernel/random/boot_id`);
    /// empty if the kernel does not tell.
    pub boot: String,
    /// One for each path that has a quota, or had one in this period.
    pub accounts: Vec<Account>,
}

/// The bytes that a path has carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The label of the path.
    pub path: String,
    /// The period: `day`, `week` or `month`, and when it begins, as in `--quota`.
    pub every: String,
    /// When the period began, in seconds since 1970.
    pub start: i64,
    /// When the next one begins.
    pub end: i64,
    /// The bytes that were carried in this period.
    pub used: Bytes,
    /// The period before, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
    /// The counters of the device as they were last seen; none while they do not
    /// count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// The totals of the path's connections as they were last seen; none while
    /// they do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Bytes>,
    /// Whether it was reported that the quota is spent.
    pub spent: bool,
}

/// Bytes in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bytes {
    /// Sent by this host.
    pub sent: u64,
    /// Received by this host.
    pub received: u64,
}

/// A period that is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    /// When it began, in seconds since 1970.
    pub start: i64,
    /// When it ended.
    pub end: i64,
    /// The bytes that were carried in it.
    pub used: Bytes,
}

/// The counters of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The boot in which they were seen, as in [`Saved::boot`].
    pub boot: String,
    /// The device's index. A device that is made anew has another one.
    pub ifindex: u32,
    /// The bytes that they counted.
    pub bytes: Bytes,
}

/// The whole file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File<T> {
    version: u32,
    checksum: String,
    saved: T,
}

/// Encodes a file.
///
/// # Errors
/// None that could happen: the types have a form in JSON.
pub fn encode(saved: &Saved) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(&File {
        version: VERSION,
        checksum: checksum(&serde_json::to_vec(saved)?),
        saved,
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Decodes a file.
///
/// # Errors
/// One short line, which says what the file is instead.
pub fn decode(bytes: &[u8]) -> Result<Saved, String> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    if bytes.len() > LONGEST {
        return Err(format!("it has more than {LONGEST} bytes"));
    }
    let head: Head = serde_json::from_slice(bytes)
        .map_err(|_| "it is torn, or no file of this agent".to_owned())?;
    if head.version != VERSION {
        return Err(format!(
            "it has version {} of the format, and this agent reads version {VERSION}",
            head.version
        ));
    }
    // Raw, so that the numbers in it are checked before anything is made of them.
    let file: File<Box<RawValue>> = serde_json::from_slice(bytes)
        .map_err(|_| "it is torn, or no file of this agent".to_owned())?;
    let saved: Saved = serde_json::from_str(file.saved.get())
        .map_err(|error| format!("what it holds makes no sense ({})", brief(&error)))?;
    let encoded = serde_json::to_vec(&saved).map_err(|error| error.to_string())?;
    if checksum(&encoded) != file.checksum {
        return Err("its checksum is wrong: it is torn, or was edited".to_owned());
    }
    check(&saved)?;
    Ok(saved)
}

/// Names where an error is. Its text may quote the file.
fn brief(error: &serde_json::Error) -> String {
    format!("column {}", error.column())
}

fn check(saved: &Saved) -> Result<(), String> {
    let accounts = &saved.accounts;
    let texts = accounts.iter().flat_map(|one| [&one.path, &one.every]);
    let fits = |text: &String| text.len() <= LONGEST_TEXT && !text.contains(char::is_control);
    if accounts.len() > MOST || !texts.chain([&saved.boot]).all(fits) {
        return Err("it has more in it than an agent writes".to_owned());
    }
    let mut paths: Vec<&str> = accounts.iter().map(|one| one.path.as_str()).collect();
    paths.sort_unstable();
    if paths.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("it has two accounts of the same path".to_owned());
    }
    if accounts.iter().any(|one| one.start >= one.end) {
        return Err("a period in it ends before it begins".to_owned());
    }
    Ok(())
}

fn checksum(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let half = hash.iter().take(16);
    half.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    fn example() -> Saved {
        let used = Bytes {
            sent: 7,
            received: u64::MAX,
        };
        Saved {
            boot: "b3b6".to_owned(),
            accounts: vec![
                Account {
                    path: "wwan0".to_owned(),
                    every: "month,reset:15".to_owned(),
                    start: 1000,
                    end: 2000,
                    used,
                    before: Some(Before {
                        start: 1,
                        end: 1000,
                        used,
                    }),
                    device: Some(Device {
                        boot: "b3b6".to_owned(),
                        ifindex: 3,
                        bytes: used,
                    }),
                    connections: None,
                    spent: true,
                },
                Account {
                    path: "id:2".to_owned(),
                    end: 1,
                    connections: Some(used),
                    ..Account::default()
                },
            ],
        }
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        let bytes = encode(&example()).unwrap();
        assert_eq!(decode(&bytes), Ok(example()));
        // The format, for other programs that read it.
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with(r#"{"version":1,"checksum":""#), "{text}");
        let end = concat!(
            r#""saved":{"boot":"b3b6","accounts":[{"path":"wwan0","every":"month,reset:15","#,
            r#""start":1000,"end":2000,"used":{"sent":7,"received":18446744073709551615},"#,
            r#""before":{"start":1,"end":1000,"used":{"sent":7,"received":18446744073709551615}},"#,
            r#""device":{"boot":"b3b6","ifindex":3,"bytes":{"sent":7,"#,
            r#""received":18446744073709551615}},"spent":true},{"path":"id:2","every":"","#,
            r#""start":0,"end":1,"used":{"sent":0,"received":0},"#,
            r#""connections":{"sent":7,"received":18446744073709551615},"spent":false}]}}"#,
            "\n"
        );
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn a_file_that_is_torn_anywhere_is_refused() {
        let bytes = encode(&example()).unwrap();
        for length in 0..bytes.len() - 1 {
            let error = decode(&bytes[..length]).unwrap_err();
            assert!(error.contains("torn"), "{length}: {error}");
            // A file system may leave zeros.
            let mut zeros = bytes[..length].to_vec();
            zeros.resize(bytes.len(), 0);
            assert!(decode(&zeros).is_err(), "{length}");
        }
        // Only the newline is missing.
        assert_eq!(decode(&bytes[..bytes.len() - 1]), Ok(example()));
    }

    #[test]
    fn a_file_that_was_edited_is_refused() {
        let text = String::from_utf8(encode(&example()).unwrap()).unwrap();
        for (from, to, why) in [
            ("\"sent\":7", "\"sent\":0", "its checksum is wrong"),
            ("wwan0", "wwan1", "its checksum is wrong"),
            ("\"spent\":true", "\"spent\":1", "makes no sense"),
            ("\"sent\":7", "\"sent\":-7", "makes no sense"),
            (
                "\"spent\":true",
                "\"spent\":true,\"new\":1",
                "makes no sense",
            ),
            ("\"version\":1", "\"version\":0", "version 0 of the format"),
            ("\"version\":1", "\"version\":2", "version 2 of the format"),
            ("\"version\":1", "\"version\":\"1\"", "torn, or no file"),
        ] {
            let edited = text.replacen(from, to, 1);
            assert_ne!(edited, text);
            let error = decode(edited.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{to}: {error}");
        }
    }

    #[test]
    fn what_an_agent_never_writes_is_refused() {
        let account = |path: &str, end| Account {
            path: path.to_owned(),
            end,
            ..Account::default()
        };
        let many = (0..=MOST).map(|n| account(&n.to_string(), 1)).collect();
        for (accounts, why) in [
            (vec![account("a", 1), account("a", 1)], "two accounts"),
            (vec![account("a", 0)], "ends before it begins"),
            (vec![account("a\n", 1)], "more in it"),
            (
                vec![account(&"a".repeat(LONGEST_TEXT + 1), 1)],
                "more in it",
            ),
            (many, "more in it"),
        ] {
            let boot = String::new();
            let bytes = encode(&Saved { boot, accounts }).unwrap();
            let error = decode(&bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        for (bytes, why) in [
            (&b""[..], "torn, or no file"),
            (b"[]", "torn, or no file"),
            (b"{\"version\":1}", "torn, or no file"),
            (b"\xff\xfe", "torn, or no file"),
            (&vec![b' '; LONGEST + 1], "more than 1048576 bytes"),
            (&vec![b'['; LONGEST], "torn, or no file"),
        ] {
            let error = decode(bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains(char::is_control));
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn one_flipped_bit_is_seen(bit in 0_usize..8 * 400) {
            let mut bytes = encode(&example()).unwrap();
            let place = bit / 8 % (bytes.len() - 1);
            bytes[place] ^= 1 << (bit % 8);
            prop_assert!(decode(&bytes).is_err(), "{}", place);
        }
    }
}
