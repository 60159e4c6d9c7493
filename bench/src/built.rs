//! What this program was built with.

use anyhow::{Result, ensure};

/// The compiler, as `rustc --version` prints it.
pub const COMPILER: &str = env!("RINGBENCH_COMPILER");

/// Cargo's profile.
pub const PROFILE: &str = env!("RINGBENCH_PROFILE");

/// The profile that ships.
const SHIPPED: &str = "release-lto";

/// Whether this is the build that ships.
pub fn is_shipped() -> bool {
    PROFILE == SHIPPED
}

/// Fails if this is not the build that ships: with another, other things are inlined.
pub fn ensure_shipped() -> Result<()> {
    ensure!(
        is_shipped(),
        "this program was built with the profile \"{PROFILE}\": figures want \"{SHIPPED}\" (cargo build --profile {SHIPPED} \
         --package ringdns-bench --package ringdns-daemon --package ringdns-ctl), or --any-build"
    );
    Ok(())
}
