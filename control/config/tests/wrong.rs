//! Tests that wrong configurations are refused, each with file, line, key, reason and remedy.

#[path = "wrong/mod.rs"]
mod wrong;

use ringdns_config::Config;
use std::path::Path;

#[test]
fn each_is_refused_with_line_key_and_reason() {
    let all = wrong::all();
    assert!(all.len() >= 60, "{}", all.len());
    for wrong in all {
        let refusal = Config::parse(&wrong.text, Path::new("ringdns.toml")).expect_err(wrong.title);
        wrong.check("ringdns.toml", &refusal.lines());
    }
}
