//! A pass over every TCP socket of this network namespace, through `iter/tcp`.

use std::collections::HashSet;
use std::io::Read as _;

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

/// Runs one pass, which takes about a microsecond per socket.
///
/// # Errors
/// The kernel refused the iterator, or refused to let it be read.
pub(super) fn run(program: &mut Iter) -> Result<Pass> {
    let id = program.attach().context("cannot attach iter/tcp")?;
    let mut file = program
        .take_link(id)?
        .into_file()
        .context("cannot open iter/tcp")?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .context("cannot read iter/tcp")?;
    Ok(count(&bytes))
}

fn count(bytes: &[u8]) -> Pass {
    let mut pass = Pass::default();
    let mut rest = bytes;
    while let Ok((visit, after)) = Visit::read_from_prefix(rest) {
        rest = after;
        if visit.listens != 0 {
            pass.listening.insert(visit.cookie);
            continue;
        }
        pass.sockets.insert(visit.cookie);
        if visit.adopted != Visit::CLOSING {
            pass.sweep.visited += 1;
            pass.sweep.adopted += u64::from(visit.adopted);
            pass.sweep.refused += u64::from(visit.refused);
        }
    }
    pass
}

#[cfg(test)]
mod tests {
    use super::*;

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
            },
            sockets: HashSet::from([7, 8, 9, 10]),
            listening: HashSet::from([11]),
        };
        assert_eq!(count(&bytes.concat()), found);
        assert_eq!(count(&[]), Pass::default());
    }
}
