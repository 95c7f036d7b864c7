//! Reads lines of a bounded length.

use mptcp_api::line::LONGEST_REQUEST;
use tokio_util::bytes::{Bytes, BytesMut};
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, Decoder};

/// Splits what a client sends into lines. It leaves it to the decoder of
/// requests to refuse what is not UTF-8, because that is no reason to close.
#[derive(Debug)]
pub struct Lines(AnyDelimiterCodec);

impl Default for Lines {
    fn default() -> Self {
        let newline = || b"\n".to_vec();
        Self(AnyDelimiterCodec::new_with_max_length(
            newline(),
            newline(),
            LONGEST_REQUEST,
        ))
    }
}

/// A last line without a newline is an error, since `decode_eof` is that of the
/// trait and not that of the codec, which takes it for a whole one.
impl Decoder for Lines {
    type Item = Bytes;
    type Error = AnyDelimiterCodecError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Bytes>, Self::Error> {
        self.0.decode(buffer)
    }
}
