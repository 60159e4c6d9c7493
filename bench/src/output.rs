//! Results in files: JSON and plots.

use anyhow::{Context, Result};
use serde::{Serialize, de::DeserializeOwned};
use std::{fs, path::Path};

/// Writes `results` as JSON to `path`, if there is one.
pub fn json(path: Option<&Path>, results: &impl Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(results)? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a file that [`json`] wrote.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} was written by another version or command", path.display()))
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
