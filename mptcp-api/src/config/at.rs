//! A value that knows its place in the file.

use std::cmp::Ordering;
use std::ops::Deref;

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
