//! Results in files: text, JSON and plots.

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

/// Writes plots, each under its file name, into `folder`, if there is one.
pub fn plots(folder: Option<&Path>, plots: &[(impl AsRef<Path>, String)]) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    plots.iter().try_for_each(|(name, svg)| text(Some(&folder.join(name)), svg))
}
