//! A value that knows its place in the file.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A value, and where it starts in the text. Two that differ only in their
/// places are equal.
#[derive(Clone, Debug)]
pub struct At<T> {
    value: T,
    start: usize,
}

impl<T> At<T> {
    /// Puts `value` at the byte `start` of the text.
    pub fn new(value: T, start: usize) -> Self {
        Self { value, start }
    }

    /// Returns the byte of the text at which the value starts.
    pub fn start(&self) -> usize {
        self.start
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for At<T> {}

impl<T: PartialOrd> PartialOrd for At<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<T: Ord> Ord for At<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value.cmp(&other.value)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = toml::Spanned::<T>::deserialize(deserializer)?;
        let start = spanned.span().start;
        Ok(Self::new(spanned.into_inner(), start))
    }
}

/// Strings, each with its place, and the place of the whole.
pub type Texts = At<Vec<At<String>>>;

/// Reads a list of strings, or one string without the brackets, which has the
/// place of the whole.
pub(super) fn one_or_more<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Texts>, D::Error> {
    let At { value, start } = At::<OneOrMore>::deserialize(deserializer)?;
    let values = match value {
        OneOrMore::One(text) => vec![At::new(text, start)],
        OneOrMore::More(texts) => texts,
    };
    Ok(Some(At::new(values, start)))
}

/// A string, or a list of strings.
enum OneOrMore {
    One(String),
    More(Vec<At<String>>),
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = OneOrMore;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or a list of strings")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OneOrMore, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMore::More)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// The schema of the file has the value alone.
#[cfg(test)]
impl<T: schemars::JsonSchema> schemars::JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}
