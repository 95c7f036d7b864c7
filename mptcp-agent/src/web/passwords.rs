//! Users and their passwords, of which the file has bcrypt hashes.
//!
//! A check takes a tenth of a second of CPU time or more: that is what bcrypt is
//! for. So one check runs at a time, on a thread of its own, and the outcome of the
//! last ones is kept under a keyed hash. Few checks of each name may wait, so that
//! somebody who tries passwords, or names, keeps the other users waiting for a moment
//! at most.

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

/// How many checks may wait for each user, and for all names that no user has.
const WAITING: usize = 4;

/// The most bytes of a header that is looked at.
const LONGEST: usize = 4096;

/// The costs of a hash that are accepted. The largest takes some seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=16;

/// A hash that nobody's password has, for users that are not known, so that their
/// refusal takes as long.
const NOBODY: &str = "$2b$10$................................................BySuO";

/// The users. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Passwords {
    users: Arc<BTreeMap<String, User>>,
    /// The places of checks for names that no user has.
    strangers: Arc<Semaphore>,
    checks: Arc<Checks>,
}

#[derive(Debug)]
struct User {
    hash: String,
    /// The places of checks for this user.
    places: Semaphore,
}

/// The checks that were made, and the one that is being made.
#[derive(Debug)]
struct Checks {
    /// A random number, for the hashes of `outcomes`.
    salt: [u8; 16],
    outcomes: Mutex<Vec<([u8; 32], bool)>>,
    turn: Semaphore,
}

/// Whether a request is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It names a user with the right password.
    LetIn,
    /// It does not.
    Refused,
    /// Too many checks of this name are waiting, so this one was not made.
    Busy,
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
        let places = || Semaphore::new(WAITING);
        let users = users.into_iter().map(|(name, hash)| {
            let places = places();
            (name, User { hash, places })
        });
        Ok(Self {
            users: Arc::new(users.collect()),
            strangers: Arc::new(places()),
            checks: Arc::new(Checks {
                salt,
                outcomes: Mutex::default(),
                turn: Semaphore::new(1),
            }),
        })
    }

    /// Takes over the checks that `earlier` has made. They hold for each user whose
    /// hash is still the same.
    pub(super) fn remember(&mut self, earlier: &Self) {
        self.checks = Arc::clone(&earlier.checks);
    }

    /// Judges the value of a header `Authorization`.
    pub async fn judge(&self, header: &[u8]) -> Verdict {
        let Some((name, password)) = credentials(header) else {
            return Verdict::Refused;
        };
        let user = self.users.get(&name);
        let hash = user.map_or(NOBODY, |user| &user.hash);
        let key = self.checks.key(hash, &name, &password);
        if let Some(outcome) = self.checks.outcome(&key) {
            return outcome.into();
        }
        let places = user.map_or(&*self.strangers, |user| &user.places);
        let Ok(_place) = places.try_acquire() else {
            return Verdict::Busy;
        };
        // The semaphore is never closed, so this always gets a permit.
        let _turn = self.checks.turn.acquire().await;
        if let Some(outcome) = self.checks.outcome(&key) {
            return outcome.into();
        }
        let hash = hash.to_owned();
        let checked = spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false));
        let outcome = checked.await.unwrap_or(false) && user.is_some();
        self.checks.keep(key, outcome);
        outcome.into()
    }
}

impl From<bool> for Verdict {
    fn from(right: bool) -> Self {
        match right {
            true => Self::LetIn,
            false => Self::Refused,
        }
    }
}

impl Checks {
    /// Returns the key of an outcome: it holds for this hash of the user alone.
    fn key(&self, hash: &str, user: &str, password: &[u8]) -> [u8; 32] {
        let mut key = Sha256::new();
        key.update(self.salt);
        for part in [hash, user] {
            key.update(part.len().to_le_bytes());
            key.update(part);
        }
        key.update(password);
        key.finalize().into()
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

    fn users(users: &[(&str, &str)]) -> Passwords {
        let hashed = users.iter().map(|(name, password)| {
            let hash = Passwords::hash(&bcrypt::hash(password, 4).unwrap()).unwrap();
            ((*name).to_owned(), hash)
        });
        Passwords::new(hashed.collect()).unwrap()
    }

    #[tokio::test]
    async fn only_the_right_password_lets_in() {
        let passwords = users(&[("me", "se:cret")]);
        for (text, expected) in [
            ("me:se:cret", Verdict::LetIn),
            ("me:se:cret", Verdict::LetIn),
            ("me:secret", Verdict::Refused),
            ("me:", Verdict::Refused),
            ("you:se:cret", Verdict::Refused),
            ("me", Verdict::Refused),
        ] {
            assert_eq!(passwords.judge(&header(text)).await, expected, "{text}");
        }
        for odd in [&b"Bearer x"[..], b"Basic !!", b"Basic", b""] {
            assert_eq!(passwords.judge(odd).await, Verdict::Refused);
        }
        // Many wrong ones do not drive the right one out.
        let hash = &passwords.users["me"].hash;
        let key = |password: &[u8]| passwords.checks.key(hash, "me", password);
        for number in 0..2 * KEPT {
            passwords.checks.keep(key(&number.to_le_bytes()), false);
        }
        assert_eq!(passwords.checks.outcomes.lock().unwrap().len(), KEPT);
        assert_eq!(passwords.checks.outcome(&key(b"se:cret")), Some(true));
    }

    #[tokio::test]
    async fn who_tries_many_passwords_keeps_no_other_user_waiting() {
        let passwords = users(&[("me", "secret"), ("you", "other")]);
        // No check ends while this test has the turn.
        let turn = passwords.checks.turn.acquire().await.unwrap();
        for name in ["me", "nobody"] {
            let tried = (0..2 * WAITING).map(|number| {
                // Strangers share their places, whatever names they try.
                let text = match name {
                    "me" => header(&format!("me:{number}")),
                    _ => header(&format!("{name}{number}:x")),
                };
                let passwords = passwords.clone();
                tokio::spawn(async move { passwords.judge(&text).await })
            });
            let tried: Vec<_> = tried.collect();
            tokio::task::yield_now().await;
            for (number, task) in tried.into_iter().enumerate() {
                match number < WAITING {
                    true => assert!(!task.is_finished(), "{name}: {number} waits"),
                    false => assert_eq!(task.await.unwrap(), Verdict::Busy, "{name}: {number}"),
                }
            }
        }
        drop(turn);
        assert_eq!(passwords.judge(&header("you:other")).await, Verdict::LetIn);
        assert_eq!(passwords.judge(&header("me:secret")).await, Verdict::LetIn);
    }

    #[tokio::test]
    async fn outcomes_outlive_a_reload_for_users_whose_hash_is_the_same() {
        let earlier = users(&[("me", "secret"), ("you", "other")]);
        for text in ["me:secret", "you:other", "me:wrong"] {
            earlier.judge(&header(text)).await;
        }
        let kept = earlier.users["me"].hash.clone();
        let changed = bcrypt::hash("new", 4).unwrap();
        let hashes = [("me".to_owned(), kept), ("you".to_owned(), changed)];
        let mut fresh = Passwords::new(hashes.into()).unwrap();
        fresh.remember(&earlier);
        // With the turn taken, only what is known already is answered at once.
        let turn = fresh.checks.turn.acquire().await.unwrap();
        assert_eq!(fresh.judge(&header("me:secret")).await, Verdict::LetIn);
        assert_eq!(fresh.judge(&header("me:wrong")).await, Verdict::Refused);
        drop(turn);
        assert_eq!(fresh.judge(&header("you:other")).await, Verdict::Refused);
        assert_eq!(fresh.judge(&header("you:new")).await, Verdict::LetIn);
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
