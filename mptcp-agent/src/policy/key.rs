//! The secret that the agents of two hosts share.

use std::fmt;

/// The secret in the file that `--redundant-key` names; empty without one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// Wraps the secret.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the secret itself.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Shows the length only, so that no log can show the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}
