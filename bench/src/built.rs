//! Compiler and profile that this program was built with.

use anyhow::{Result, ensure};

/// Compiler of this build, as `rustc --version` prints it.
pub const COMPILER: &str = env!("RINGBENCH_COMPILER");

/// Cargo profile of this build.
pub const PROFILE: &str = env!("RINGBENCH_PROFILE");

/// Profile of the release builds.
const SHIPPED: &str = "release-lto";

/// Whether this build has the profile of the release builds.
pub fn is_shipped() -> bool {
    PROFILE == SHIPPED
}

/// Fails if this build has another profile than the release builds: inlining differs between
/// profiles.
pub fn ensure_shipped() -> Result<()> {
    ensure!(
        is_shipped(),
        "this program was built with the profile \"{PROFILE}\", figures need \"{SHIPPED}\" (cargo build --profile {SHIPPED} \
         --package ringdns-bench --package ringdns-daemon --package ringdns-ctl), or --any-build"
    );
    Ok(())
}
