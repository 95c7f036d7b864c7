//! Reads what is below `deploy/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Returns a file or folder below `deploy/`.
pub(crate) fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(name)
}

/// Reads a file.
pub(crate) fn text(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("read {}", file.display()))
}

/// Reads a YAML file with one document.
pub(crate) fn yaml(file: &Path) -> Result<Value> {
    serde_saphyr::from_str(&text(file)?).with_context(|| format!("parse {}", file.display()))
}

/// Reads a YAML file with several documents.
pub(crate) fn documents(file: &Path) -> Result<Vec<Value>> {
    serde_saphyr::from_multiple(&text(file)?).with_context(|| format!("parse {}", file.display()))
}

/// Returns the elements of a list; none if `value` is something else.
pub(crate) fn each(value: &Value) -> impl Iterator<Item = &Value> + Clone {
    value.as_array().into_iter().flatten()
}
