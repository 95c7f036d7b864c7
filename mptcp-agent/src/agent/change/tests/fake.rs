//! A kernel side in which any step can fail, policies, and what was logged.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, Once};

use anyhow::ensure;
use mptcp_common::abi::MAX_PATHS;
use serde_json::json;

use super::super::*;
use crate::rules::Provided as ProvidedRules;

/// A kernel side in which some steps fail, and the memory of an agent.
pub struct Fake {
    pub policy: Policy,
    pub key: Key,
    pub table: PathTable,
    pub rules: ProvidedRules,
    pub accounts: Accounts,
    pub revert: Option<Revert>,
    pub unpublished: bool,
    /// `None` while the maps hold parts of two policies.
    pub obeyed: Option<Policies>,
    pub generation: u32,
    /// Whether the tc programs may attach.
    pub programs: bool,
    /// The settings and key of the user-space side of copies.
    pub copies: Option<(Redundant, Key)>,
    /// Whether they copy, and are not for wishes only.
    pub copying: bool,
    pub peering: Option<Peering>,
    pub followed: bool,
    /// Open subflows of each path.
    pub live: u64,
    pub recycled: Vec<u32>,
    /// The steps that were taken.
    pub steps: RefCell<Vec<&'static str>>,
    /// The numbers of the steps that fail.
    pub fails: Vec<usize>,
    /// Whether a failing `publish` cannot be taken back.
    pub sticks: bool,
}

impl Fake {
    /// Starts with `policy` in force.
    pub fn new(policy: &Provided) -> Self {
        let mut fake = Self {
            policy: Policy::default(),
            key: Key::default(),
            table: PathTable::new(&Policy::default().weights()),
            rules: ProvidedRules::default(),
            accounts: Accounts::default(),
            revert: None,
            unpublished: false,
            obeyed: None,
            generation: 0,
            programs: false,
            copies: None,
            copying: false,
            peering: None,
            followed: false,
            live: 0,
            recycled: Vec::new(),
            steps: RefCell::default(),
            fails: Vec::new(),
            sticks: false,
        };
        set(&mut fake, policy.clone(), None).unwrap();
        fake.steps.take();
        fake.followed = false;
        fake
    }

    fn step(&self, name: &'static str) -> Result<()> {
        let mut steps = self.steps.borrow_mut();
        steps.push(name);
        let number = steps.len();
        ensure!(!self.fails.contains(&number), "step {name} fails");
        Ok(())
    }

    /// Returns what the programs should obey under the policy that the agent
    /// believes to be in force.
    pub fn believed(&self) -> Policies {
        encode(self, &self.policy, &self.rules.rules, &self.table)
    }

    pub fn provided(&self) -> Provided {
        Provided {
            policy: self.policy.clone(),
            key: self.key.clone(),
        }
    }

    /// Fails unless what the agent remembers is so, and fits together.
    #[track_caller]
    pub fn assert_true(&self) {
        assert_eq!(self.obeyed, Some(self.believed()));
        assert_eq!(self.table.weights(), {
            let mut table = self.table.clone();
            let weights = self.rules.rules.name_paths(self.policy.weights());
            let _ = table.set_weights(&weights, |_| true).unwrap();
            table.weights()
        });
        assert_eq!(self.table.limits(), {
            let mut table = self.table.clone();
            table.set_limits(self.policy.limits().clone());
            table.limits()
        });
        // Whatever is published from here on has a newer generation.
        assert!(self.table.generation() >= self.generation);
        let copies = self.copies.as_ref().map(|(settings, key)| (settings, key));
        let held = self.held();
        let channel = channel(held.copying(), held.peering);
        assert_eq!(copies, channel.map(|(settings, key, _)| (settings, key)));
        let copying = channel.is_some_and(|(_, _, copies)| copies);
        assert_eq!(copies.is_some() && self.copying, copying);
    }
}

impl Side for Fake {
    type Copies = (Redundant, Key, bool);

    fn held(&self) -> Held<'_> {
        Held {
            policy: &self.policy,
            key: &self.key,
            table: &self.table,
            rules: &self.rules,
            accounts: &self.accounts,
            revert: self.revert.as_ref(),
            peering: self.peering.as_ref(),
        }
    }

    fn path_stats(&self) -> Result<Vec<PathStats>> {
        self.step("stats")?;
        let stats = PathStats {
            live: self.live,
            ..PathStats::default()
        };
        Ok(vec![stats; MAX_PATHS])
    }

    fn has_copies(&self) -> bool {
        self.copies.is_some()
    }

    fn prepare_copies(
        &self,
        settings: &Redundant,
        key: &Key,
        copies: bool,
    ) -> Result<Self::Copies> {
        self.step("copies")?;
        Ok((settings.clone(), key.clone(), copies))
    }

    fn start_programs(&mut self) -> Result<()> {
        self.step("start")?;
        self.programs = true;
        Ok(())
    }

    fn stop_programs(&mut self) -> Result<()> {
        // The programs are gone, whatever is left in the maps.
        self.programs = false;
        self.step("stop")
    }

    fn encode(&self, rules: &Rules) -> Vec<abi::rule::Rule> {
        rules.to_kernel(&BTreeMap::new())
    }

    fn publish(
        &mut self,
        table: &PathTable,
        policies: &Policies,
        recycled: &[u32],
    ) -> Result<(), PublishError> {
        assert_ne!(table.generation(), self.generation);
        if let Err(error) = self.step("publish") {
            self.generation = table.generation() + 1;
            if self.sticks {
                self.obeyed = None;
                let then = anyhow!("stuck");
                return Err(PublishError::Mixed { error, then });
            }
            return Err(PublishError::TakenBack(error));
        }
        self.generation = table.generation();
        self.recycled = recycled.to_vec();
        self.obeyed = Some(policies.clone());
        Ok(())
    }

    fn generation(&self) -> u32 {
        self.generation
    }

    fn visit(&mut self) -> Result<()> {
        self.step("visit")
    }

    fn set_copies(&mut self, copies: Copies<Self::Copies>) {
        match copies {
            Copies::None => self.copies = None,
            Copies::Keep(settings) => self.copies.as_mut().unwrap().0 = settings,
            Copies::Start((settings, key, copies)) => {
                self.copies = Some((settings, key));
                self.copying = copies;
            }
        }
    }

    fn follow(&mut self) {
        self.followed = true;
    }

    fn warn(&self) {}

    fn hold(&mut self, wanted: Wanted, table: PathTable, recycled: &[u32]) {
        (self.policy, self.key) = (wanted.default.policy, wanted.default.key);
        self.rules = wanted.rules;
        self.table = table;
        assert_eq!(self.recycled, recycled);
    }

    fn supersede(&mut self, generation: u32) {
        self.table.supersede(generation);
    }

    fn set_revert(&mut self, revert: Option<Revert>) {
        self.revert = revert;
    }

    fn set_unpublished(&mut self, unpublished: bool) {
        self.unpublished = unpublished;
    }
}

pub fn provided(settings: serde_json::Value, key: &str) -> Provided {
    Provided {
        policy: Policy::new(serde_json::from_value(settings).unwrap()).unwrap(),
        key: Key::new(key.into()),
    }
}

pub fn observe() -> Provided {
    provided(json!({"name": "default"}), "")
}

pub fn weighted(weight: u16) -> Provided {
    let weights = json!([format!("id:1={weight}"), "default=3"]);
    provided(json!({"name": "weighted", "weights": weights}), "")
}

/// Returns a policy that limits a path to so many Mbit/s.
pub fn limited(mbit: u32) -> Provided {
    let limits = json!([format!("id:1={mbit}mbit")]);
    provided(json!({"name": "default", "limits": limits}), "")
}

pub fn redundant(copies: u32, port: u16, key: &str) -> Provided {
    provided(
        json!({"name": "redundant", "redundant_copies": copies, "redundant_port": port}),
        key,
    )
}

/// Does `work` and returns what it has logged, a line for each record.
pub fn logged<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    // A test without a subscriber that reaches a line first would switch that line
    // off for all. A default that takes every line, and drops it, keeps them on.
    static DEFAULT: Once = Once::new();
    DEFAULT.call_once(|| {
        let all = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG);
        // Another default, if there is one, does as well.
        let _ = all.with_writer(std::io::sink).try_init();
    });
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .finish();
    let done = tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let lines = text.lines().map(|line| line.trim().to_owned()).collect();
    (done, lines)
}

/// Returns an agent whose temporary policy has expired.
pub fn expired(before: &Provided, after: &Provided) -> Fake {
    let mut fake = Fake::new(before);
    set(&mut fake, after.clone(), Some(Duration::ZERO)).unwrap();
    fake.steps.take();
    fake.followed = false;
    fake
}
