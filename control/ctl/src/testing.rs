//! Recorded screens that tests compare with.

use std::{fs, path::Path};

/// Compares a screen with a recorded one, by its path in this crate. RINGDNS_RECORD_SCREENS=1 records it
/// anew: look at it.
#[track_caller]
pub fn assert_screen(shown: &str, path: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("RINGDNS_RECORD_SCREENS").is_some() {
        fs::write(&path, shown).unwrap();
    }
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    assert!(shown == recorded, "{} differs:\n{shown}", path.display());
}
