//! A rule: which connections have which policy.
//!
//! ```text
//!   [[rule]]                     the first rule that matches a connection
//!   name = "interactive"         gives it its policy; a connection that none
//!   policy = "fast"              matches has the default policy
//!   dport = [22, "8000-8099"]
//! ```
//!
//! `dst` and `dport` are always the far end, `src` and `lport` this host's,
//! whichever end opened the connection. Every key that is given has to match;
//! of a list, one element has to. The values here are as someone has written
//! them: the agent checks them.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

use crate::policy::Given;

/// The policies beside the default one, by name, and the rules that choose
/// between all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSet {
    /// The policies, by the name that rules call them by. (`name` in their
    /// settings is the kind of policy.)
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, Given>,
    /// The rules, the first of which that matches counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// One rule, as in `[[rule]]` of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// What the rule is called where it is shown; if none is given, its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The name of the policy that connections get which match: that of a
    /// `[policy.NAME]`, or `default`.
    pub policy: String,
    /// Prefixes or addresses, one of which holds the far end.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "list"
    )]
    #[cfg_attr(test, schemars(with = "ListSchema<String>"))]
    pub dst: Vec<String>,
    /// Prefixes or addresses, one of which holds this host's end of the first
    /// subflow.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "list"
    )]
    #[cfg_attr(test, schemars(with = "ListSchema<String>"))]
    pub src: Vec<String>,
    /// The far end's port: numbers, or ranges such as `"8000-8099"`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "list"
    )]
    #[cfg_attr(test, schemars(with = "ListSchema<Number>"))]
    pub dport: Vec<Number>,
    /// This host's port, likewise.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "list"
    )]
    #[cfg_attr(test, schemars(with = "ListSchema<Number>"))]
    pub lport: Vec<Number>,
    /// A cgroup, as a path from the root of cgroup2. Its children match, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The user who owns the socket: numbers, or ranges such as `"1000-1999"`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "list"
    )]
    #[cfg_attr(test, schemars(with = "ListSchema<Number>"))]
    pub uid: Vec<Number>,
    /// The socket's mark (`SO_MARK`), as `"0x10"` or, with a mask, `"0x10/0xff"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<Number>,
    /// The differentiated services code point that the socket sends: a number
    /// from 0 to 63, or a name such as `"ef"`, `"cs1"`, `"af41"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dscp: Option<Number>,
    /// The end that this host is: `client` (it opened the connection) or
    /// `server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<String>,
    /// The congestion control of the first subflow, such as `bbr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub congestion: Option<String>,
}

/// A number, or the text that stands for one or several: a range, a mask, a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Number {
    /// A number by itself.
    Of(u32),
    /// Anything else.
    Text(String),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<&str> for Number {
    /// Takes digits for a number.
    fn from(text: &str) -> Self {
        let number = text.parse().map(Self::Of);
        number.unwrap_or_else(|_| Self::Text(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, or a string")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
                let number = u32::try_from(number);
                number.map(Number::Of).map_err(|error| E::custom(error))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
                // TOML has signed numbers only.
                let number = u32::try_from(number);
                number
                    .map(Number::Of)
                    .map_err(|_| E::custom("the number is out of range: expected 0 to 4294967295"))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                Ok(Number::from(text))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

// The schema of one element, or a list of several. A doc comment would replace the
// descriptions of the keys.
#[cfg(test)]
#[derive(schemars::JsonSchema)]
#[schemars(inline)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is wanted")]
pub(crate) enum ListSchema<T> {
    One(T),
    Many(Vec<T>),
}

/// Reads a list, or one element without the brackets.
fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + for<'a> From<&'a str> + FromNumber,
{
    struct OneOrMany<T>(std::marker::PhantomData<T>);

    impl<'de, T> Visitor<'de> for OneOrMany<T>
    where
        T: Deserialize<'de> + for<'a> From<&'a str> + FromNumber,
    {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(T::EXPECTED)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<Vec<T>, E> {
            let number = u32::try_from(number).ok().and_then(T::from_number);
            let out = || {
                E::custom(format_args!(
                    "a number cannot stand here: expected {}",
                    T::EXPECTED
                ))
            };
            Ok(vec![number.ok_or_else(out)?])
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Vec<T>, E> {
            self.visit_u64(u64::try_from(number).unwrap_or(u64::MAX))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
            Ok(vec![T::from(text)])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Vec<T>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(seq))
        }
    }

    deserializer.deserialize_any(OneOrMany(std::marker::PhantomData))
}

/// An element of a list that a number can be.
trait FromNumber: Sized {
    /// The expected elements, in words.
    const EXPECTED: &'static str;

    /// Returns the element that a number stands for, if it can be a number.
    fn from_number(number: u32) -> Option<Self>;
}

impl FromNumber for String {
    const EXPECTED: &'static str = "a string, or a list of strings";

    fn from_number(_: u32) -> Option<Self> {
        None
    }
}

impl FromNumber for Number {
    const EXPECTED: &'static str =
        "a number from 0 to 4294967295, a range as a string, or a list of these";

    fn from_number(number: u32) -> Option<Self> {
        Some(Self::Of(number))
    }
}

#[cfg(test)]
mod tests;
