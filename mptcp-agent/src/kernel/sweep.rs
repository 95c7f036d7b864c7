//! A pass over every TCP socket of this network namespace, through `iter/tcp`.

use std::collections::HashSet;
use std::io::{self, Read};

use anyhow::{Context as _, Result};
use aya::programs::Iter;
use mptcp_common::abi::Visit;
use zerocopy::FromBytes as _;

/// How many subflows a pass found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// MPTCP subflows that were visited.
    pub visited: u64,
    /// Those of them that were not known before, and were taken over.
    pub adopted: u64,
    /// Those of them that were not known before, and cannot be taken over: the
    /// kernel (before 6.12) gives a socket callbacks only when it is
    /// established, lockdown (`confidentiality`) hides the connection, or the
    /// agent's cgroup is not the root of the hierarchy.
    pub refused: u64,
    /// Those on whose connection the overflow policy lets more paths in than
    /// the preferred ones.
    pub let_in: u64,
}

/// Everything that one pass has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pass {
    /// How many sockets there were, by outcome.
    pub sweep: Sweep,
    /// Cookies of the subflows that have a socket.
    pub sockets: HashSet<u64>,
    /// Cookies of the MPTCP sockets that listen.
    pub listening: HashSet<u64>,
}

/// The number of records that are read at a time. The kernel visits sockets
/// until it has this many, so a read takes about a millisecond.
const PIECE: usize = 1024;

/// Runs one pass, which takes about a microsecond per socket. Calls `between`
/// after each piece of it.
///
/// # Errors
/// The kernel refused the iterator, or refused to let it be read; or `between`
/// failed.
pub(super) fn run(program: &mut Iter, between: &mut dyn FnMut() -> Result<()>) -> Result<Pass> {
    let id = program.attach().context("cannot attach iter/tcp")?;
    let mut file = program
        .take_link(id)?
        .into_file()
        .context("cannot open iter/tcp")?;
    read(&mut file, between)
}

/// Reads the records of a pass, in pieces.
fn read(source: &mut impl Read, between: &mut dyn FnMut() -> Result<()>) -> Result<Pass> {
    const RECORD: usize = size_of::<Visit>();
    let mut pass = Pass::default();
    let mut bytes = vec![0; PIECE * RECORD];
    // Bytes of a record whose end has not been read yet.
    let mut rest = 0;
    loop {
        match source.read(&mut bytes[rest..]) {
            Ok(0) => return Ok(pass),
            Ok(read) => {
                let filled = rest + read;
                let whole = filled - filled % RECORD;
                pass.add(&bytes[..whole]);
                bytes.copy_within(whole..filled, 0);
                rest = filled - whole;
            }
            // The kernel has visited a million sockets without a record, and
            // wants to be asked again.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(error).context("cannot read iter/tcp"),
        }
        between()?;
    }
}

impl Pass {
    /// Counts whole records.
    fn add(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Ok((visit, after)) = Visit::read_from_prefix(rest) {
            rest = after;
            if visit.listens != 0 {
                self.listening.insert(visit.cookie);
                continue;
            }
            self.sockets.insert(visit.cookie);
            if visit.adopted != Visit::CLOSING {
                self.sweep.visited += 1;
                self.sweep.adopted += u64::from(visit.adopted);
                self.sweep.refused += u64::from(visit.refused);
                self.sweep.let_in += u64::from(visit.let_in);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Gives at most so many bytes at a time, and asks for patience before each
    /// piece.
    struct Slow<'a> {
        bytes: &'a [u8],
        most: usize,
        patient: bool,
    }

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.patient = !self.patient;
            if self.patient {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let most = self.most.min(buffer.len());
            self.bytes.read(&mut buffer[..most])
        }
    }

    fn count(bytes: &[u8]) -> Pass {
        read(&mut &*bytes, &mut || Ok(())).unwrap()
    }

    #[test]
    fn a_heartbeat_is_offered_after_each_piece() {
        const COUNT: usize = 100_000;
        let records: Vec<u8> = (0..COUNT as u64)
            .flat_map(|cookie| [cookie, 0, 0].map(u64::to_ne_bytes))
            .flatten()
            .collect();
        let offers = |source: &mut dyn Read| {
            let mut offers = 0;
            let mut source = source;
            let pass = read(&mut source, &mut || {
                offers += 1;
                Ok(())
            });
            (pass.unwrap().sockets.len(), offers)
        };
        let pieces = COUNT.div_ceil(PIECE);
        assert_eq!(offers(&mut &*records), (COUNT, pieces));
        // Pieces that end within a record.
        let mut slow = Slow {
            bytes: &records,
            most: 1000,
            patient: false,
        };
        let (visited, offered) = offers(&mut slow);
        assert_eq!(visited, COUNT);
        assert!(offered >= 2 * records.len() / 1000, "{offered}");
    }

    #[test]
    fn records_are_counted_by_outcome() {
        let record = |cookie: u64, adopted: u32, refused: u32, listens: u32| {
            let mut bytes = cookie.to_ne_bytes().to_vec();
            for word in [adopted, refused, listens, 0] {
                bytes.extend(word.to_ne_bytes());
            }
            bytes
        };
        let bytes = [
            record(7, 1, 0, 0),
            record(8, 0, 1, 0),
            record(9, 0, 0, 0),
            record(10, Visit::CLOSING, 0, 0),
            record(11, 0, 0, 1),
        ];
        let found = Pass {
            sweep: Sweep {
                visited: 3,
                adopted: 1,
                refused: 1,
                let_in: 0,
            },
            sockets: HashSet::from([7, 8, 9, 10]),
            listening: HashSet::from([11]),
        };
        assert_eq!(count(&bytes.concat()), found);
        assert_eq!(count(&[]), Pass::default());
    }
}
