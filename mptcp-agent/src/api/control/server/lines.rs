//! Reads lines of a bounded length.

use mptcp_api::line::LONGEST_REQUEST;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::unix::OwnedReadHalf;

/// The result of reading a line from a client.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line without its newline.
    Whole(&'a [u8]),
    /// More than [`LONGEST_REQUEST`] bytes without a newline.
    TooLong,
    /// The client closed, or the socket failed; an unfinished line is ignored.
    Ended,
}

/// Reads a client's lines.
#[derive(Debug)]
pub struct Lines {
    reader: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
}

impl Lines {
    /// Reads lines from `reader`.
    pub fn new(reader: OwnedReadHalf) -> Self {
        Self {
            reader: BufReader::new(reader),
            line: Vec::new(),
        }
    }

    /// Reads the next line. Not cancel safe: if the future is dropped half-way,
    /// the part of the line that was read is lost.
    pub async fn next(&mut self) -> Line<'_> {
        // A new vector frees the memory of a long line.
        self.line = Vec::new();
        let most = LONGEST_REQUEST as u64 + 1;
        let mut bounded = (&mut self.reader).take(most);
        if bounded.read_until(b'\n', &mut self.line).await.is_err() {
            return Line::Ended;
        }
        match self.line.split_last() {
            Some((b'\n', line)) => Line::Whole(line),
            _ if self.line.len() > LONGEST_REQUEST => Line::TooLong,
            _ => Line::Ended,
        }
    }

    /// Waits until the client closes, and ignores whatever it sends until then.
    /// Cancel safe.
    pub async fn ended(&mut self) {
        while let Ok(buffer) = self.reader.fill_buf().await {
            let length = buffer.len();
            if length == 0 {
                return;
            }
            self.reader.consume(length);
        }
    }
}
