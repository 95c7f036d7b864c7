//! A wish: the weights that an agent asks the agent at the other end to use for
//! its connections; and the answer.
//!
//! Both are the block of a message of [`crate::hello`], whose tag proves who sent
//! it. A hello has:
//!
//! ```text
//!   0  what     0 nothing to ask about this connection, 1 the weights that
//!               follow, 2 nothing at all any more
//!   1  manner   bit 0: the weights may give way to a full path (spill), bit 1:
//!               they hold for each connection by itself
//!   2  count    of the weights, 1 to 8
//!   3  weights  each an address of the sender (IPv4 mapped), then 0 to 65535;
//!               zeros behind the last one
//! 147
//! ```
//!
//! An answer has:
//!
//! ```text
//!   0  what     0 nothing was asked, 1 not decided yet, 2 in force, 3 refused,
//!               4 nobody may ask here
//!   1  length   of the text, at most 145
//!   2  text     why it was refused (UTF-8); zeros behind it
//! 147
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::hello::BLOCK;
use crate::schema::one_line;

/// The most addresses that a wish names.
pub const MOST_WEIGHTS: usize = 8;

/// Where the weights begin, and the length of each, bytes.
const WEIGHTS: usize = 3;
const ONE: usize = 18;

/// Where the text of an answer begins.
const TEXT: usize = 2;

const _: () = assert!(WEIGHTS + MOST_WEIGHTS * ONE == BLOCK);

/// How the weights hold, beside their ratio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Whether a full path lets the others carry more than their parts.
    pub spill: bool,
    /// Whether they hold for each connection by itself.
    pub per_connection: bool,
}

/// The weights of the sender's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// How they hold.
    pub manner: Manner,
    /// 1 to [`MOST_WEIGHTS`] different addresses, IPv4 not mapped, at least one of
    /// them with a weight above 0.
    pub weights: Vec<(IpAddr, u16)>,
}

/// The wish in a hello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Nothing about this connection; what was asked about others stays.
    #[default]
    Nothing,
    /// These weights.
    Weights(Wish),
    /// No weights any more.
    NoMore,
}

/// The answer to a wish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Nothing was asked.
    #[default]
    Nothing,
    /// It is not decided yet.
    Waits,
    /// The weights are in force.
    InForce,
    /// It is refused, for this reason: one line.
    Refused(String),
    /// The agent takes no wishes.
    NotHere,
}

/// A fault of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is none that this version of the agent can read.
    Unreadable,
    /// It names more addresses than [`MOST_WEIGHTS`], or none.
    Count(u8),
    /// This address is not that of a host that can be routed to.
    NoHost(IpAddr),
    /// This address is there twice.
    Twice(IpAddr),
    /// All weights are 0.
    AllZero,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("the wish cannot be read: another version?"),
            Self::Count(count) => {
                write!(f, "{count} addresses: expected 1 to {MOST_WEIGHTS}")
            }
            Self::NoHost(address) => write!(f, "{address} is no address of a host"),
            Self::Twice(address) => write!(f, "{address} is there twice"),
            Self::AllZero => f.write_str("every weight is 0: one has to be above"),
        }
    }
}

impl Wish {
    /// Checks that this is a wish.
    ///
    /// # Errors
    /// The first fault of the wish.
    pub fn check(&self) -> Result<(), Fault> {
        let count = self.weights.len();
        if count == 0 || count > MOST_WEIGHTS {
            return Err(Fault::Count(count.try_into().unwrap_or(u8::MAX)));
        }
        let mut seen = BTreeSet::new();
        for (address, _) in &self.weights {
            if !is_host(*address) {
                return Err(Fault::NoHost(*address));
            }
            if !seen.insert(address) {
                return Err(Fault::Twice(*address));
            }
        }
        match self.weights.iter().any(|(_, weight)| *weight > 0) {
            true => Ok(()),
            false => Err(Fault::AllZero),
        }
    }
}

/// Returns whether a host can have this address, and others can send to it
/// without knowing a device.
fn is_host(address: IpAddr) -> bool {
    !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_loopback()
        && match address {
            IpAddr::V4(v4) => !v4.is_broadcast() && !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none(),
        }
}

impl Asked {
    /// Returns the block of a hello. A wish that is none becomes nothing.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        match self {
            Self::Weights(wish) if wish.check().is_ok() => {
                let Manner {
                    spill,
                    per_connection,
                } = wish.manner;
                block[0] = 1;
                block[1] = u8::from(spill) | u8::from(per_connection) << 1;
                let places = block[WEIGHTS..].chunks_exact_mut(ONE);
                let mut count = 0;
                for (place, (address, weight)) in places.zip(&wish.weights) {
                    place[..16].copy_from_slice(&mapped(*address).octets());
                    place[16..].copy_from_slice(&weight.to_be_bytes());
                    count += 1;
                }
                block[2] = count;
            }
            Self::NoMore => block[0] = 2,
            Self::Nothing | Self::Weights(_) => {}
        }
        block
    }

    /// Reads the block of a hello.
    ///
    /// # Errors
    /// The fault of the block, if it is not exactly what [`Asked::encode`] makes.
    pub fn decode(block: &[u8; BLOCK]) -> Result<Self, Fault> {
        match block[0] {
            0 | 2 if block[1..].iter().any(|byte| *byte != 0) => return Err(Fault::Unreadable),
            0 => return Ok(Self::Nothing),
            1 => {}
            2 => return Ok(Self::NoMore),
            _ => return Err(Fault::Unreadable),
        }
        let count = usize::from(block[2]);
        if count == 0 || count > MOST_WEIGHTS {
            return Err(Fault::Count(block[2]));
        }
        let (used, unused) = block[WEIGHTS..].split_at(count * ONE);
        if block[1] > 3 || unused.iter().any(|byte| *byte != 0) {
            return Err(Fault::Unreadable);
        }
        let weights = used.chunks_exact(ONE).map(|one| {
            let octets: [u8; 16] = std::array::from_fn(|at| one[at]);
            let address = IpAddr::from(octets).to_canonical();
            (address, u16::from_be_bytes([one[16], one[17]]))
        });
        let wish = Wish {
            manner: Manner {
                spill: block[1] & 1 != 0,
                per_connection: block[1] & 2 != 0,
            },
            weights: weights.collect(),
        };
        wish.check()?;
        Ok(Self::Weights(wish))
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

impl Answer {
    /// Returns the block of an answer. A text that is too long is cut.
    #[must_use]
    pub fn encode(&self) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[0] = match self {
            Self::Nothing => 0,
            Self::Waits => 1,
            Self::InForce => 2,
            Self::Refused(_) => 3,
            Self::NotHere => 4,
        };
        if let Self::Refused(why) = self {
            let why = one_line(why);
            let text = &why.as_bytes()[..why.floor_char_boundary(BLOCK - TEXT)];
            block[1] = u8::try_from(text.len()).unwrap_or_default();
            block[TEXT..TEXT + text.len()].copy_from_slice(text);
        }
        block
    }

    /// Reads the block of an answer; `None` if it is none.
    #[must_use]
    pub fn decode(block: &[u8; BLOCK]) -> Option<Self> {
        let text = block[TEXT..].get(..block[1].into())?;
        Some(match block[0] {
            0 => Self::Nothing,
            1 => Self::Waits,
            2 => Self::InForce,
            // The text goes to a terminal.
            3 => Self::Refused(one_line(&String::from_utf8_lossy(text))),
            4 => Self::NotHere,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
