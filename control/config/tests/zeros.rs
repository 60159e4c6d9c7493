//! Tests that a written zero is obeyed or refused, and never taken for an absent key.

use ringdns_config::Config;
use std::path::Path;

const REFERENCE: &str = include_str!("../../../docs/configuration.md");

/// Parses the smallest file, with `line` in `table`.
fn parse(table: &str, line: &str) -> Result<String, String> {
    let mut text = String::new();
    for (header, needed) in [
        ("[server]", "listen = [\"127.0.0.1:5300\"]"),
        ("[[upstream]]", "address = \"127.0.0.1:5301\""),
        ("[[blocklist]]", "name = \"ads\"\nsource = \"/ads\""),
        ("[[client_group]]", "name = \"kids\"\nclients = [\"192.0.2.0/24\"]"),
        ("[[allowlist]]", "name = \"ours\"\nsource = \"/ours\""),
        ("[[local_record]]", "name = \"nas.example\"\ntype = \"A\"\ndata = \"192.0.2.1\""),
        ("[[local_zone]]", "name = \"corp.example\""),
        ("[[nftset]]", "suffixes = [\"corp.example\"]\ntable = \"inet fw\"\nset4 = \"a4\""),
        ("[rate_limit]", "per_second = 20"),
    ] {
        let is_there = header == table && line.split(' ').next() == needed.split(' ').next();
        let needed = if is_there { "" } else { needed };
        text += &format!("{header}\n{needed}\n{}\n", if header == table { line } else { "" });
    }
    if !text.contains(table) {
        text += &format!("{table}\n{line}\n");
    }
    let config = Config::parse(&text, Path::new("ringdns.toml"));
    config.map(|config| format!("{config:?}")).map_err(|error| error.to_string())
}

#[test]
fn no_zero_is_taken_for_an_absent_key() {
    let mut table = "";
    let (mut obeyed, mut refused) = (Vec::new(), Vec::new());
    for line in REFERENCE.lines() {
        if let Some(header) = line.strip_prefix("## `") {
            table = header.trim_end_matches('`');
        }
        let cells: Vec<&str> = line.split(" | ").map(|cell| cell.trim_matches(['|', '`', ' '])).collect();
        let &[key, kind, default, ..] = &cells[..] else { continue };
        let zero = match kind {
            "integer" | "bytes" => "0",
            "duration" => "\"0s\"",
            _ => continue,
        };
        match parse(table, &format!("{key} = {zero}")) {
            // The default is zero.
            Ok(config) if default.trim_matches('"').trim_end_matches('s') == "0" => {
                assert_eq!(Ok(config), parse(table, ""), "{table} {key}");
            }
            Ok(config) => {
                assert_ne!(Ok(config), parse(table, ""), "{table} {key}: 0 is taken for {default}");
                obeyed.push(key);
            }
            Err(error) => {
                assert!(error.contains(key), "{table} {key}: {error}");
                refused.push(key);
            }
        }
    }
    for key in ["spin", "negative_max_ttl", "ahead", "per_second"] {
        assert!(obeyed.contains(&key), "{key} is not obeyed: {obeyed:?}");
    }
    for key in ["workers", "udp_limit", "host_bytes", "failure_ttl", "timeout"] {
        assert!(refused.contains(&key), "{key} is not refused: {refused:?}");
    }
}
