//! Tests that need root fail without it, unless told not to.

/// Whether the test may run. Without root it panics, or returns `false` if `RINGDNS_UNPRIVILEGED=1`
/// says that this is intended.
pub fn granted() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var("RINGDNS_UNPRIVILEGED").is_ok_and(|value| value == "1"),
        "this test loads BPF programs and needs root; RINGDNS_UNPRIVILEGED=1 skips it",
    );
    false
}
