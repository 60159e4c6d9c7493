//! Folder of the project's sources: scripts and programs that these tools run are there.

use std::path::PathBuf;

/// Folder that the sources were built in, or the one that `RINGDNS_SOURCES` named at the build: packages
/// do not tell where they were built.
const BUILT: &str = match option_env!("RINGDNS_SOURCES") {
    Some(folder) => folder,
    None => concat!(env!("CARGO_MANIFEST_DIR"), "/.."),
};

/// Returns the path of a file of the sources. `RINGDNS_SOURCES` names their folder if it is another now.
pub fn source(file: &str) -> PathBuf {
    std::env::var_os("RINGDNS_SOURCES").map_or_else(|| BUILT.into(), PathBuf::from).join(file)
}
