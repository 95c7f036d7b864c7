//! Encodes and decodes lines of the control protocol, for both ends.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::schema::{ErrorCode, Refusal, Reply, ReplyLine, Request, RequestLine, VERSION};

/// Largest length of a request line, bytes, without its newline.
pub const LONGEST_REQUEST: usize = 64 * 1024;

/// Largest length of a reply line, bytes.
pub const LONGEST_REPLY: usize = 16 * 1024 * 1024;

/// Decodes a request. The version is checked first, since a request of another
/// version need not make sense here.
///
/// # Errors
/// The refusal to answer with.
pub fn decode(line: &[u8]) -> Result<Request, Refusal> {
    if line.len() > LONGEST_REQUEST {
        return Err(too_long());
    }
    let malformed = |why: &str| Refusal::new(ErrorCode::Malformed, why);
    let mut fields: Map<String, Value> = serde_json::from_slice(line)
        .map_err(|error| malformed(&format!("expected a line with one JSON object: {error}")))?;
    let version = fields.remove("version");
    match version.as_ref().map(Value::as_u64) {
        None => {
            let why = format!("`version` is missing: this agent speaks version {VERSION}");
            return Err(malformed(&why));
        }
        Some(Some(version)) if version == u64::from(VERSION) => {}
        Some(version) => {
            let theirs = version.map_or_else(|| "another".to_owned(), |it| it.to_string());
            let why = format!(
                "this agent speaks version {VERSION} of the protocol, the request is of version \
                 {theirs}"
            );
            return Err(Refusal::new(ErrorCode::Version, &why));
        }
    }
    serde_json::from_value(Value::Object(fields))
        .map_err(|error| malformed(&format!("cannot make sense of the request: {error}")))
}

/// Returns the refusal of a line that is too long to be read to its end.
pub fn too_long() -> Refusal {
    let why = format!("the request is too long: a line has at most {LONGEST_REQUEST} bytes");
    Refusal::new(ErrorCode::TooLong, &why)
}

/// Encodes a request as a line, with its newline.
///
/// # Errors
/// A path in it is not UTF-8, which JSON requires.
pub fn request(request: &Request) -> serde_json::Result<Vec<u8>> {
    with_newline(&RequestLine {
        version: VERSION,
        request: request.clone(),
    })
}

/// A [`ReplyLine`] that borrows its reply.
#[derive(Serialize)]
struct ReplyView<'a> {
    version: u32,
    #[serde(flatten)]
    reply: &'a Reply,
}

/// Encodes a reply as a line, with its newline.
///
/// # Errors
/// A path in it is not UTF-8, which JSON requires.
pub fn reply(reply: &Reply) -> serde_json::Result<Vec<u8>> {
    with_newline(&ReplyView {
        version: VERSION,
        reply,
    })
}

fn with_newline(line: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Decodes a reply.
///
/// # Errors
/// A description of how the line differs from this protocol.
pub fn decode_reply(line: &[u8]) -> Result<Reply, String> {
    #[derive(serde::Deserialize)]
    struct Head {
        version: u32,
    }
    let head: Head = serde_json::from_slice(line)
        .map_err(|error| format!("it does not speak this protocol ({error})"))?;
    if head.version != VERSION {
        return Err(format!(
            "it speaks version {} of the protocol, this mptcp-agent version {VERSION}: use the \
             one that belongs to the agent",
            head.version
        ));
    }
    serde_json::from_slice(line)
        .map(|line: ReplyLine| line.reply)
        .map_err(|error| format!("its answer makes no sense ({error})"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_asked_comes_through() {
        let set: Value = serde_json::json!({
            "version": 1, "request": "policy-set", "for_seconds": 600,
            "policy": {"name": "weighted", "weights": ["eth0=4"]},
        });
        let asked = decode(set.to_string().as_bytes()).unwrap();
        let Request::PolicySet {
            policy,
            for_seconds,
            save: false,
        } = &asked
        else {
            panic!("{asked:?}")
        };
        assert_eq!(
            (
                policy.weighted.weights.len(),
                *for_seconds,
                policy.name.as_str()
            ),
            (1, Some(600), "weighted")
        );
        assert_eq!(decode(&request(&asked).unwrap()).unwrap(), asked);
        for (name, expected) in [
            ("policy-show", Request::PolicyShow),
            ("reload", Request::Reload),
            ("status", Request::Status),
            ("connections", Request::Connections),
            ("events", Request::Events),
            ("hand-over", Request::HandOver),
        ] {
            let line = format!("{{\"request\":\"{name}\", \"version\":1}}\r\n");
            assert_eq!(decode(line.as_bytes()).unwrap(), expected);
            assert_eq!(decode(&request(&expected).unwrap()).unwrap(), expected);
        }
    }

    #[test]
    fn refused_with_a_reason() {
        use ErrorCode::{Malformed, Version};
        for (line, code, reason) in [
            ("", Malformed, "one JSON object"),
            ("status", Malformed, "one JSON object"),
            ("[]", Malformed, "one JSON object"),
            ("{}", Malformed, "`version` is missing"),
            (r#"{"version":1}"#, Malformed, "`request`"),
            (
                r#"{"version":2,"request":"of the future"}"#,
                Version,
                "version 1 of the protocol, the request is of version 2",
            ),
            (r#"{"version":"1"}"#, Version, "another"),
            (r#"{"version":-1}"#, Version, "another"),
            (
                r#"{"version":1,"request":"reboot\n\u001b[2J"}"#,
                Malformed,
                "expected one of `policy-show`",
            ),
            (
                r#"{"version":1,"request":"policy-set"}"#,
                Malformed,
                "missing field `policy`",
            ),
            (
                r#"{"version":1,"request":"policy-set","policy":{"name":"default"},"for_second":1}"#,
                Malformed,
                "unknown field `for_second`",
            ),
            (
                r#"{"version":1,"request":"policy-set","policy":{"name":"default","mode":"x"}}"#,
                Malformed,
                "unknown field `mode`",
            ),
            (
                r#"{"version":1,"request":"policy-set","policy":{"name":1}}"#,
                Malformed,
                "expected a string",
            ),
        ] {
            let refusal = decode(line.as_bytes()).unwrap_err();
            assert_eq!(refusal.code, code, "{line}");
            assert!(refusal.message.contains(reason), "{line}: {refusal:?}");
            assert!(!refusal.message.contains(char::is_control), "{refusal:?}");
        }
        let long = [b' '; LONGEST_REQUEST + 1];
        assert_eq!(decode(&long).unwrap_err().code, ErrorCode::TooLong);
    }

    proptest! {
        // The fuzz target checks the same.
        #[test]
        fn whatever_comes_is_read_or_refused_in_a_line(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                "\\{\"version\":1,\"request\":\"[a-z-]{0,12}\"(,\"[a-z_]{0,9}\":[0-9\\[\\]{}\"]{0,5})?\\}"
                    .prop_map(String::into_bytes),
            ],
        ) {
            match decode(&bytes) {
                Ok(asked) => prop_assert_eq!(decode(&request(&asked).unwrap()), Ok(asked)),
                Err(refusal) => {
                    prop_assert!(refusal.message.len() < 500);
                    prop_assert!(!refusal.message.contains(char::is_control));
                }
            }
        }
    }

    #[test]
    fn a_message_stays_short_whatever_it_quotes() {
        let name = "ü".repeat(20_000);
        let line = format!(r#"{{"version":1,"request":"{name}"}}"#);
        let refusal = decode(line.as_bytes()).unwrap_err();
        assert!(refusal.message.len() < 500, "{}", refusal.message.len());
    }

    #[test]
    fn replies_are_read_if_they_are_of_this_version() {
        let line = reply(&Reply::HandedOver).unwrap();
        assert_eq!(line, b"{\"version\":1,\"reply\":\"handed-over\"}\n");
        assert_eq!(decode_reply(&line), Ok(Reply::HandedOver));
        for (line, reason) in [
            ("HTTP/1.1 400 Bad Request", "does not speak"),
            ("{}", "does not speak"),
            (
                r#"{"version":7,"reply":"of the future"}"#,
                "version 7 of the protocol, this mptcp-agent version 1",
            ),
            (r#"{"version":1,"reply":"hello"}"#, "makes no sense"),
        ] {
            let error = decode_reply(line.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
