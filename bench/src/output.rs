//! Results in files: text and JSON.

use anyhow::{Context, Result};
use serde::Serialize;
use std::{fs, path::Path};

/// Writes `text` to `path`, if there is one.
pub fn text(path: Option<&Path>, text: &str) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes `results` as JSON to `path`, if there is one.
pub fn json(path: Option<&Path>, results: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    text(Some(path), &(serde_json::to_string_pretty(results)? + "\n"))
}
