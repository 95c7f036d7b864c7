//! Users and their passwords, of which the file has bcrypt hashes.
//!
//! A check takes a tenth of a second of CPU time or more: that is what bcrypt is
//! for. So one check runs at a time, on a thread of its own, and the outcome of the
//! last ones is kept under a keyed hash.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bcrypt::HashParts;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// How many outcomes are kept.
const KEPT: usize = 64;

/// The most bytes of a header that is looked at.
const LONGEST: usize = 4096;

/// The costs of a hash that are accepted. The largest takes some seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=16;

/// A hash that nobody's password has, for users that are not known, so that their
/// refusal takes as long.
const NOBODY: &str = "$2b$10$................................................BySuO";

/// The users. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Passwords(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    users: BTreeMap<String, String>,
    /// A random number, for the hashes of `outcomes`.
    salt: [u8; 16],
    outcomes: Mutex<Vec<([u8; 32], bool)>>,
    turn: Semaphore,
}

impl Passwords {
    /// Checks the form of a bcrypt hash.
    ///
    /// # Errors
    /// Says what was expected. The message does not quote the hash.
    pub(super) fn hash(text: &str) -> Result<String, String> {
        let parts = HashParts::from_str(text).map_err(|_| {
            "the password is no bcrypt hash: expected `$2b$10$...`, as `htpasswd -nBC 10 USER` \
             prints it"
                .to_owned()
        })?;
        match COSTS.contains(&parts.get_cost()) {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "the hash has the cost {}: expected {} to {}",
                parts.get_cost(),
                COSTS.start(),
                COSTS.end()
            )),
        }
    }

    /// Makes the users, with the hashes of their passwords.
    ///
    /// # Errors
    /// The kernel gives no random numbers.
    pub(super) fn new(users: BTreeMap<String, String>) -> Result<Self> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).context("cannot draw a random number")?;
        Ok(Self(Arc::new(Inner {
            users,
            salt,
            outcomes: Mutex::default(),
            turn: Semaphore::new(1),
        })))
    }

    /// Returns whether the value of a header `Authorization` names a user with the
    /// right password.
    pub async fn let_in(&self, header: &[u8]) -> bool {
        let Some((user, password)) = credentials(header) else {
            return false;
        };
        let key = self.0.key(&user, &password);
        if let Some(outcome) = self.0.outcome(&key) {
            return outcome;
        }
        // The semaphore is never closed, so this always gets a permit.
        let _turn = self.0.turn.acquire().await;
        if let Some(outcome) = self.0.outcome(&key) {
            return outcome;
        }
        let own = Arc::clone(&self.0);
        let checked = spawn_blocking(move || {
            let hash = own.users.get(&user);
            let right = bcrypt::verify(password, hash.map_or(NOBODY, String::as_str));
            hash.is_some() && right.unwrap_or(false)
        });
        let outcome = checked.await.unwrap_or(false);
        self.0.keep(key, outcome);
        outcome
    }
}

impl Inner {
    fn key(&self, user: &str, password: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.salt);
        hash.update(user.len().to_le_bytes());
        hash.update(user);
        hash.update(password);
        hash.finalize().into()
    }

    fn outcome(&self, key: &[u8; 32]) -> Option<bool> {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let found = outcomes.iter().find(|(known, _)| known == key);
        found.map(|(_, outcome)| *outcome)
    }

    fn keep(&self, key: [u8; 32], outcome: bool) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if outcomes.len() >= KEPT {
            // Passwords that are right are kept, whoever tries others.
            let wrong = outcomes.iter().position(|(_, outcome)| !outcome);
            outcomes.remove(wrong.unwrap_or(0));
        }
        outcomes.push((key, outcome));
    }
}

/// Returns user and password of `Basic BASE64`.
fn credentials(header: &[u8]) -> Option<(String, Vec<u8>)> {
    let header = header.get(..header.len().min(LONGEST))?;
    let (scheme, rest) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let text = BASE64_STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = text.iter().position(|byte| *byte == b':')?;
    let user = String::from_utf8(text[..colon].to_vec()).ok()?;
    Some((user, text[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn header(text: &str) -> Vec<u8> {
        format!("Basic {}", BASE64_STANDARD.encode(text)).into_bytes()
    }

    #[tokio::test]
    async fn only_the_right_password_lets_in() {
        let hash = Passwords::hash(&bcrypt::hash("se:cret", 4).unwrap()).unwrap();
        let passwords = Passwords::new(BTreeMap::from([("me".to_owned(), hash)])).unwrap();
        for (text, expected) in [
            ("me:se:cret", true),
            ("me:se:cret", true),
            ("me:secret", false),
            ("me:", false),
            ("you:se:cret", false),
            ("me", false),
        ] {
            assert_eq!(passwords.let_in(&header(text)).await, expected, "{text}");
        }
        for odd in [&b"Bearer x"[..], b"Basic !!", b"Basic", b""] {
            assert!(!passwords.let_in(odd).await);
        }
        // Many wrong ones do not drive the right one out.
        for number in 0..2 * KEPT {
            passwords
                .0
                .keep(passwords.0.key("me", &number.to_le_bytes()), false);
        }
        assert_eq!(passwords.0.outcomes.lock().unwrap().len(), KEPT);
        let key = passwords.0.key("me", b"se:cret");
        assert_eq!(passwords.0.outcome(&key), Some(true));
    }

    #[test]
    fn the_hash_of_nobody_takes_its_time() {
        assert!(!bcrypt::verify("", NOBODY).unwrap());
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_quoted() {
        for text in ["secret", "$2b$10$abc", "$1$a$b"] {
            let why = Passwords::hash(text).unwrap_err();
            assert!(
                why.contains("no bcrypt hash") && !why.contains(text),
                "{why}"
            );
        }
        let hash = bcrypt::hash("x", 4).unwrap();
        for kind in ["$2y$", "$2a$", "$2b$"] {
            Passwords::hash(&hash.replace("$2b$", kind)).unwrap();
        }
        let costly = hash.replace("$04$", "$20$");
        assert!(Passwords::hash(&costly).unwrap_err().contains("cost 20"));
    }
}
