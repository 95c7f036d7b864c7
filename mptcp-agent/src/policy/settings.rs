//! Converts policies between the protocol's form and the agent's.
//!
//! Names, values and checks are those of the command line. Only the name of an
//! argument differs: here it is a field.

use std::time::Duration;

use mptcp_api::schema::PolicySettings;
use mptcp_common::abi::redundant::MAX_COPIES;

use super::{
    Choice, MAX_SELECTORS, Policy, PolicyName, Redundant, RedundantGiven, UNLISTED_WEIGHT,
    WeightedMode,
};

/// The longest time that a policy may be set for, in seconds: a year.
const LONGEST: u64 = 365 * 24 * 60 * 60;

/// Command-line arguments, and the fields that stand for them.
const FIELDS: [(&str, &str); 6] = [
    ("--weighted-mode", "`weighted_mode`"),
    ("--weight", "`weights`"),
    ("--redundant-copies", "`redundant_copies`"),
    ("--redundant-port", "`redundant_port`"),
    ("--redundant-key", "`redundant_key`"),
    ("--redundant-budget", "`redundant_budget`"),
];

/// Returns the settings of `policy`, in full, without relying on defaults.
pub fn of(policy: &Policy) -> PolicySettings {
    let mut settings = PolicySettings {
        name: policy.name().to_owned(),
        weighted_mode: None,
        weights: Vec::new(),
        redundant_copies: None,
        redundant_port: None,
        redundant_key: None,
        redundant_budget: None,
    };
    match policy {
        Policy::Default => {}
        Policy::Weighted(mode, weights) => {
            settings.weighted_mode = Some(mode.name().to_owned());
            let listed = weights.listed.iter();
            settings.weights = listed
                .map(|listed| format!("{}={}", listed.selector, listed.weight))
                .collect();
            if weights.unlisted != UNLISTED_WEIGHT {
                settings
                    .weights
                    .push(format!("default={}", weights.unlisted));
            }
        }
        Policy::Redundant(Redundant {
            copies,
            port,
            key,
            budget,
        }) => {
            settings.redundant_copies = Some(*copies);
            settings.redundant_port = Some(*port);
            // JSON text is always UTF-8.
            settings.redundant_key = key
                .as_ref()
                .map(|key| key.to_string_lossy().as_ref().into());
            settings.redundant_budget = budget.map(|budget| budget.to_string());
        }
    }
    settings
}

/// Returns the policy that `settings` ask for.
///
/// # Errors
/// One line that says which field is wrong, and what is expected.
pub fn policy(settings: &PolicySettings) -> Result<Policy, String> {
    let name: PolicyName = choice("name", &settings.name)?;
    let mode = settings.weighted_mode.as_deref();
    let mode: Option<WeightedMode> = mode.map(|mode| choice("weighted_mode", mode)).transpose()?;
    let given = settings.weights.len();
    // One more than the selectors, since `default` takes no index.
    if given > MAX_SELECTORS + 1 {
        return Err(format!(
            "`weights`: {given} are too many: {MAX_SELECTORS} selectors and `default` fit"
        ));
    }
    let weights = settings.weights.iter().map(|weight| weight.parse());
    let weights: Vec<_> = weights
        .collect::<Result<_, String>>()
        .map_err(|error| format!("`weights`: {error}"))?;
    let redundant = redundant(settings)?;
    Policy::new(name, mode, &weights, &redundant).map_err(|error| in_fields(&error))
}

fn redundant(settings: &PolicySettings) -> Result<RedundantGiven, String> {
    if let Some(copies) = settings.redundant_copies
        && !(2..=MAX_COPIES).contains(&copies)
    {
        return Err(format!(
            "`redundant_copies` is {copies}: expected 2 to {MAX_COPIES}"
        ));
    }
    if settings.redundant_port == Some(0) {
        return Err("`redundant_port` is 0: expected 1 to 65535".to_owned());
    }
    let key = settings.redundant_key.as_ref();
    if let Some(key) = key.filter(|key| !key.is_absolute()) {
        return Err(format!(
            "`redundant_key` {} is relative: expected an absolute path",
            key.display()
        ));
    }
    let budget = settings.redundant_budget.as_deref();
    Ok(RedundantGiven {
        copies: settings.redundant_copies,
        port: settings.redundant_port,
        key: key.cloned(),
        budget: budget
            .map(str::parse)
            .transpose()
            .map_err(|error| format!("`redundant_budget`: {error}"))?,
    })
}

fn choice<T: Choice>(field: &str, text: &str) -> Result<T, String> {
    T::named(text).ok_or_else(|| {
        let names: Vec<_> = T::ALL.iter().map(|value| value.name()).collect();
        format!(
            "`{field}` is `{text}`: expected one of {}",
            names.join(", ")
        )
    })
}

fn in_fields(message: &str) -> String {
    let replace = |message: String, (argument, field)| message.replace(argument, field);
    FIELDS.into_iter().fold(message.to_owned(), replace)
}

/// Returns the time after which the previous policy comes back.
///
/// # Errors
/// The time is 0, or longer than a year.
pub fn lasting(seconds: Option<u64>) -> Result<Option<Duration>, String> {
    match seconds {
        None => Ok(None),
        Some(seconds @ 1..=LONGEST) => Ok(Some(Duration::from_secs(seconds))),
        Some(seconds) => Err(format!(
            "{seconds} seconds is no time for a policy to last: expected 1 to {LONGEST} (a year)"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::path::PathBuf;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(settings: serde_json::Value) -> Result<Policy, String> {
        policy(&serde_json::from_value(settings).unwrap())
    }

    #[test]
    fn settings_come_back_in_full() {
        for (given, full) in [
            (json!({"name": "default"}), json!({"name": "default"})),
            (
                json!({"name": "weighted", "weights": ["default=2", "10.0.0.1/32=4", "id:01=0"]}),
                json!({"name": "weighted", "weighted_mode": "strict",
                       "weights": ["10.0.0.1=4", "id:1=0", "default=2"]}),
            ),
            (
                json!({"name": "weighted", "weighted_mode": "spill", "weights": ["default=1"]}),
                json!({"name": "weighted", "weighted_mode": "spill"}),
            ),
            (
                json!({"name": "redundant"}),
                json!({"name": "redundant", "redundant_copies": 2, "redundant_port": 8684}),
            ),
            (
                json!({"name": "redundant", "redundant_key": "/etc/key",
                       "redundant_budget": "40000kbit"}),
                json!({"name": "redundant", "redundant_copies": 2, "redundant_port": 8684,
                       "redundant_key": "/etc/key", "redundant_budget": "40mbit"}),
            ),
        ] {
            let back = of(&read(given).unwrap());
            assert_eq!(serde_json::to_value(back).unwrap(), full);
        }
    }

    #[test]
    fn refused_in_the_words_of_the_protocol() {
        let many: Vec<_> = (0..=64).map(|id| format!("id:{id}=1")).collect();
        for (given, reason) in [
            (
                json!({"name": "fast"}),
                "`name` is `fast`: expected one of default, weighted, redundant",
            ),
            (
                json!({"name": "weighted", "weighted_mode": "Strict"}),
                "expected one of strict, spill",
            ),
            (
                json!({"name": "default", "weights": ["eth0=1"]}),
                "`weights` has no effect under policy default",
            ),
            (
                json!({"name": "weighted", "redundant_port": 1}),
                "`redundant_port` has no effect under policy weighted",
            ),
            (
                json!({"name": "weighted", "weights": ["eth0"]}),
                "`weights`: `eth0` has no weight",
            ),
            (
                json!({"name": "weighted", "weights": ["eth0=1", "eth0=2"]}),
                "two `weights` name the same path",
            ),
            (json!({"name": "weighted", "weights": many}), "too many"),
            (
                json!({"name": "redundant", "redundant_copies": 5}),
                "`redundant_copies` is 5: expected 2 to 4",
            ),
            (
                json!({"name": "redundant", "redundant_port": 0}),
                "expected 1 to 65535",
            ),
            (
                json!({"name": "redundant", "redundant_key": "key"}),
                "absolute",
            ),
            (
                json!({"name": "redundant", "redundant_budget": "fast"}),
                "`redundant_budget`: `fast` is not a rate",
            ),
        ] {
            let error = read(given).unwrap_err();
            assert!(error.contains(reason), "{error}");
            assert!(!error.contains("--"), "{error}");
        }
    }

    #[test]
    fn a_policy_lasts_from_a_second_to_a_year() {
        assert_eq!(lasting(None), Ok(None));
        assert_eq!(lasting(Some(1)), Ok(Some(Duration::from_secs(1))));
        assert!(lasting(Some(LONGEST)).is_ok());
        assert!(lasting(Some(0)).is_err());
        assert!(lasting(Some(u64::MAX)).is_err());
    }

    fn any_policy() -> impl Strategy<Value = PolicySettings> {
        let weight = (0_u8..40, 0_u16..).prop_map(|(id, weight)| match id {
            0..20 => format!("id:{id}={weight}"),
            20..30 => format!("10.{id}.0.0/16={weight}"),
            30..39 => format!("eth{id}={weight}"),
            _ => format!("default={weight}"),
        });
        (
            prop::sample::select(vec!["default", "weighted", "redundant"]),
            prop::option::of(prop::sample::select(vec!["strict", "spill"])),
            prop::collection::vec(weight, 0..6),
            prop::option::of(2_u32..=4),
            prop::option::of(1_u16..),
            prop::option::of("/[a-z]{1,9}"),
            prop::option::of((8_u64..1_000_000, prop::sample::select(vec!["kbit", "mbit"]))),
        )
            .prop_map(|(name, mode, weights, copies, port, key, budget)| {
                let (weighted, redundant) = (name == "weighted", name == "redundant");
                PolicySettings {
                    name: name.to_owned(),
                    weighted_mode: mode.filter(|_| weighted).map(str::to_owned),
                    weights: if weighted { weights } else { Vec::new() },
                    redundant_copies: copies.filter(|_| redundant),
                    redundant_port: port.filter(|_| redundant),
                    redundant_key: key.filter(|_| redundant).map(PathBuf::from),
                    redundant_budget: budget
                        .filter(|_| redundant)
                        .map(|(number, unit)| format!("{number}{unit}")),
                }
            })
    }

    proptest! {
        #[test]
        fn there_and_back(settings in any_policy()) {
            if let Ok(there) = policy(&settings) {
                let back = of(&there);
                prop_assert_eq!(policy(&back), Ok(there.clone()));
                prop_assert_eq!(of(&there), back);
            }
        }
    }
}
