//! What this program was built with.

use anyhow::{Result, ensure};

/// The compiler, as `rustc --version` prints it.
pub const COMPILER: &str = env!("RINGBENCH_COMPILER");

/// Cargo's profile.
pub const PROFILE: &str = env!("RINGBENCH_PROFILE");

/// The profile that ships.
const SHIPPED: &str = "release-lto";

/// Fails if this is not the build that ships: with another, other things are inlined.
pub fn ensure_shipped() -> Result<()> {
    ensure!(
        PROFILE == SHIPPED,
        "this program was built with the profile \"{PROFILE}\": figures want \"{SHIPPED}\" (cargo build --profile {SHIPPED} \
         --package ringdns-bench --package ringdns-control), or --any-build"
    );
    Ok(())
}
