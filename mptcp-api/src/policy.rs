//! The settings of each policy, as the control socket and `--json` have them.
//!
//! ```text
//!   flags, JSON, ...  ->  Given      a name, and settings of any policy
//!                         Settings   those of the policy of that name; whoever
//!                                    gave others is told so
//! ```
//!
//! A policy's settings and their names are in a file of their own. The only list
//! of policies is that of `policies!` below.

mod aggregate;
mod default;
mod invalid;
mod leave_out;
mod overflow;
mod redundant;
mod shared;
mod weighted;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

pub use aggregate::Aggregate;
pub use default::Observe;
pub use invalid::{Invalid, Problem};
pub use leave_out::LeaveOut;
pub use overflow::Overflow;
pub use redundant::Redundant;
pub use shared::Shared;
pub use weighted::Weighted;

/// Names one setting, whoever gives it. Errors carry this, and whoever shows an
/// error puts in the name that the user knows: a flag or a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Setting(&'static str);

impl Setting {
    /// The policy's name itself.
    pub const NAME: Self = Self("name");

    /// Returns the name of the field that JSON has for the setting.
    pub const fn field(self) -> &'static str {
        self.0
    }
}

/// The settings of one policy.
pub trait PolicySettings {
    /// Returns the policy's name.
    fn name(&self) -> &'static str;

    /// Returns the policy's name, as an error says that a setting has no effect
    /// under it.
    fn in_words(&self) -> &'static str {
        self.name()
    }

    /// Returns every setting in the order in which it is shown, and the texts of
    /// the values that were given, if any were.
    fn values(&self) -> Vec<(Setting, Vec<String>)> {
        Vec::new()
    }

    /// Returns whether the policy can leave out paths that pass a bound
    /// ([`LeaveOut`]).
    fn leaves_out(&self) -> bool {
        false
    }

    /// Returns whether a setting names a file on the agent's host, which not
    /// everyone may do.
    fn names_a_file(&self) -> bool {
        false
    }
}

/// Makes [`Given`] and [`Settings`] of the list of policies.
macro_rules! policies {
    ($($(#[$doc:meta])* $variant:ident($field:ident: $settings:ty),)+) => {
        /// A policy and settings as someone has written them. The name may be
        /// that of no policy, and the settings may belong to another policy;
        /// converting this to [`Settings`] checks both.
        #[derive(Clone, Debug, Default, PartialEq, Serialize)]
        pub struct Given {
            /// The policy's name.
            pub name: String,
            $($(#[$doc])* #[serde(flatten)] pub $field: $settings,)+
            /// The bounds beyond which paths are left out.
            #[serde(flatten)]
            pub leave_out: LeaveOut,
            /// The settings that hold under every policy.
            #[serde(flatten)]
            pub shared: Shared,
        }

        /// The settings of the policy that was chosen. Their values are not
        /// checked yet.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Settings {
            $($(#[$doc])* $variant($settings),)+
        }

        impl Given {
            /// Returns the settings of each policy.
            fn all(&self) -> Vec<&dyn PolicySettings> {
                vec![$(&self.$field),+]
            }

            /// Returns the settings of the policy that has the name.
            fn chosen(self) -> Option<Settings> {
                $(if self.name == self.$field.name() {
                    return Some(Settings::$variant(self.$field));
                })+
                None
            }

            /// Takes each policy's settings out of `fields`.
            fn take(name: String, fields: &mut Map<String, Value>) -> serde_json::Result<Self> {
                let mut given = Self::named(name);
                $(given.$field = take(given.$field.values(), fields)?;)+
                given.leave_out = take(vec![given.leave_out.values()], fields)?;
                given.shared = take(given.shared.values(), fields)?;
                Ok(given)
            }
        }

        impl Settings {
            /// Returns the settings, whatever the policy is.
            fn any(&self) -> &dyn PolicySettings {
                match self {
                    $(Self::$variant(settings) => settings,)+
                }
            }
        }

        impl From<Settings> for Given {
            fn from(settings: Settings) -> Self {
                let mut given = Self::named(settings.any().name());
                match settings {
                    $(Settings::$variant(settings) => given.$field = settings,)+
                }
                given
            }
        }
    };
}

policies! {
    /// Observe only.
    Default(default: Observe),
    /// Share bytes out by weights.
    Weighted(weighted: Weighted),
    /// Fill one path after the other.
    Overflow(overflow: Overflow),
    /// Use all that the paths give together.
    Aggregate(aggregate: Aggregate),
    /// Copy segments to other paths.
    Redundant(redundant: Redundant),
}

impl Given {
    /// Names a policy and gives it no settings.
    pub fn named(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            name,
            ..Self::default()
        }
    }

    /// Returns every setting of every policy, those of all policies last, and the
    /// texts of its values.
    pub fn values(&self) -> Vec<(Setting, Vec<String>)> {
        let all = self.all().into_iter();
        all.flat_map(PolicySettings::values)
            .chain([self.leave_out.values()])
            .chain(self.shared.values())
            .collect()
    }

    /// Returns whether the policy of this name has the setting.
    pub fn takes(&self, setting: Setting) -> bool {
        let mut named = self.all().into_iter().filter(|own| own.name() == self.name);
        named.any(|own| match setting {
            LeaveOut::BOUNDS => own.leaves_out(),
            _ => own.values().iter().any(|(one, _)| *one == setting),
        })
    }

    /// Returns whether a setting names a file on the agent's host.
    pub fn names_a_file(&self) -> bool {
        self.all().into_iter().any(PolicySettings::names_a_file)
    }
}

impl Settings {
    /// Returns the policy's name.
    pub fn name(&self) -> &'static str {
        self.any().name()
    }
}

impl TryFrom<Given> for Settings {
    type Error = Invalid;

    /// Chooses the policy. The bounds of [`Given::leave_out`] are not among its
    /// settings.
    ///
    /// # Errors
    /// There is no policy of that name, or a setting belongs to another one.
    fn try_from(given: Given) -> Result<Self, Invalid> {
        let all = given.all();
        let not_known = || Invalid {
            setting: Setting::NAME,
            problem: Problem::NotOneOf {
                given: given.name.clone(),
                expected: all.iter().map(|policy| policy.name()).collect(),
            },
        };
        let chosen = all.iter().find(|policy| policy.name() == given.name);
        let chosen = chosen.ok_or_else(not_known)?;
        let others = all.iter().filter(|other| other.name() != chosen.name());
        for other in others {
            let values = other.values().into_iter();
            let mut useless = values.filter(|(_, values)| !values.is_empty());
            if let Some((setting, _)) = useless.next() {
                return Err(Invalid {
                    setting,
                    problem: Problem::NoEffect {
                        under: chosen.in_words(),
                        of: other.name(),
                    },
                });
            }
        }
        if !given.leave_out.leave_out.is_empty() && !chosen.leaves_out() {
            return Err(Invalid {
                setting: LeaveOut::BOUNDS,
                problem: Problem::NoEffect {
                    under: chosen.in_words(),
                    of: LeaveOut::OF,
                },
            });
        }
        let not_known = not_known();
        given.chosen().ok_or(not_known)
    }
}

impl<'de> Deserialize<'de> for Given {
    /// Reads a flat object: the policy's name and the settings beside it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let name = Setting::NAME.field();
        let name = fields
            .remove(name)
            .ok_or_else(|| D::Error::missing_field(name))?;
        let name = serde_json::from_value(name).map_err(D::Error::custom)?;
        let given = Self::take(name, &mut fields).map_err(D::Error::custom)?;
        let Some(unknown) = fields.keys().next() else {
            return Ok(given);
        };
        let values = given.values();
        let known = values.iter().map(|(setting, _)| setting.field());
        let known: Vec<_> = [Setting::NAME.field()].into_iter().chain(known).collect();
        Err(D::Error::custom(format!(
            "unknown field `{unknown}`, expected one of `{}`",
            known.join("`, `")
        )))
    }
}

/// Takes the settings that `values` names, with any values, out of `fields`.
fn take<T: DeserializeOwned>(
    values: Vec<(Setting, Vec<String>)>,
    fields: &mut Map<String, Value>,
) -> serde_json::Result<T> {
    let names = values.into_iter().map(|(setting, _)| setting);
    let own = names.filter_map(|setting| fields.remove_entry(setting.field()));
    serde_json::from_value(Value::Object(own.collect()))
}

#[cfg(test)]
mod tests;
