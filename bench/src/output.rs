//! Results in files: JSON and plots.

use anyhow::{Context, Result};
use serde::Serialize;
use std::{fs, path::Path};

/// Writes `results` as JSON to `path`, if there is one.
pub fn json(path: Option<&Path>, results: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(results)? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes plots, each under its file name, into `folder`, if there is one.
pub fn plots(folder: Option<&Path>, plots: &[(&str, String)]) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    for (name, svg) in plots {
        let path = folder.join(name);
        fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
