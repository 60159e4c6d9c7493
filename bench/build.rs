//! Tells the program what it was built with: figures depend on it.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version =
        Command::new(rustc).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    println!("cargo::rustc-env=RINGBENCH_COMPILER={}", String::from_utf8_lossy(&version).trim());
    // The profile's own name is nowhere but in the path: .../<profile>/build/<package>/out.
    let out = env::var("OUT_DIR").unwrap_or_default();
    let profile =
        std::path::Path::new(&out).iter().nth_back(3).map(|name| name.to_string_lossy().into_owned());
    println!("cargo::rustc-env=RINGBENCH_PROFILE={}", profile.unwrap_or_default());
}
