//! Tests of imports: each line is mapped or reported, and the result is accepted.

use ringdns_config::Config;
use ringdns_import::{Format, ImportError, Imported, Unmapped, import};
use std::path::Path;
use toml::Table;

const FILES: [(&str, Format, &str); 5] = [
    ("unbound.conf", Format::Unbound, include_str!("files/unbound.conf")),
    ("dnsmasq.conf", Format::Dnsmasq, include_str!("files/dnsmasq.conf")),
    ("AdGuardHome.yaml", Format::AdGuardHome, include_str!("files/AdGuardHome.yaml")),
    ("blocky.yml", Format::Blocky, include_str!("files/blocky.yml")),
    ("dnsdist.yml", Format::Dnsdist, include_str!("files/dnsdist.yml")),
];

fn imported(name: &str) -> (Imported, Table) {
    let (name, format, text) = FILES.into_iter().find(|file| file.0 == name).unwrap();
    let imported = import(format, text, name).unwrap();
    Config::parse(&imported.toml, Path::new(name))
        .unwrap_or_else(|error| panic!("{error}\n{}", imported.toml));
    let table = toml::from_str(&imported.toml).unwrap();
    (imported, table)
}

/// Checks values by their paths, as `[path, TOML]`.
#[track_caller]
fn has(table: &Table, expected: &[[&str; 2]]) {
    for [path, value] in expected {
        let mut found: toml::Value = table.clone().into();
        for part in path.split('.') {
            let inner = match part.parse::<usize>() {
                Ok(number) => found.get(number),
                Err(_) => found.get(part),
            };
            found = inner.unwrap_or_else(|| panic!("no {path} in\n{table}")).clone();
        }
        let value: Table = toml::from_str(&format!("value = {value}")).unwrap();
        assert_eq!(found, value["value"], "{path}");
    }
}

/// Checks that lines are reported with these keys and parts of the reason.
#[track_caller]
fn reports(imported: &Imported, expected: &[[&str; 2]]) {
    for [key, reason] in expected {
        let is_it = |one: &Unmapped| one.key.contains(key) && one.reason.contains(reason) && one.line > 0;
        assert!(imported.unmapped.iter().any(is_it), "no {key}: {reason} in {:#?}", imported.unmapped);
    }
}

#[test]
fn the_format_is_detected_by_name_and_by_text() {
    for (name, format, text) in FILES {
        assert_eq!(Format::detect(name, ""), Some(format));
        assert_eq!(Format::detect("/etc/x", text), Some(format), "{name}");
    }
    assert_eq!(Format::detect("/etc/x", "hello"), None);
}

/// Returns the lines that are no comments.
fn lines(text: &str) -> Vec<usize> {
    let says = |line: &str| {
        let line = line.trim();
        !(line.is_empty() || line.starts_with('#'))
    };
    text.lines().enumerate().filter(|(_, line)| says(line)).map(|(at, _)| at + 1).collect()
}

/// In files of lines, each one is in a comment of the result, or reported, or says what ringdns does
/// anyway.
#[test]
fn each_line_is_mapped_or_reported() {
    for (name, _, text) in &FILES[..2] {
        let (imported, _) = imported(name);
        let lines = lines(text).len();
        let reported: std::collections::BTreeSet<_> = imported.unmapped.iter().map(|one| one.line).collect();
        assert_eq!(
            imported.mapped + reported.len(),
            lines,
            "{name}: {:#?}\n{}",
            imported.unmapped,
            imported.toml
        );
    }
    // An unknown key of any depth is reported with its line.
    for (format, text, line) in [
        (Format::AdGuardHome, "dns:\n  port: 53\n  odd: here\n", 3),
        (Format::AdGuardHome, "odd: 5\n", 1),
        (Format::Blocky, "caching:\n  odd: 5\n", 2),
        (Format::Blocky, "blocking:\n  odd: 5\n", 2),
        (Format::Blocky, "odd: 5\n", 1),
        (Format::Dnsdist, "binds:\n  - listen_address: 127.0.0.1:53\n    odd: 5\n", 3),
        (Format::Dnsdist, "odd: 5\n", 1),
    ] {
        let imported = import(format, text, "x").unwrap();
        assert!(imported.unmapped.iter().any(|one| one.line == line), "{text}: {:?}", imported.unmapped);
    }
}

/// At any depth, a key that ringdns does not know is reported with its line or that of a key above it.
#[test]
fn no_key_of_yaml_is_passed_over() {
    let indent = |line: &str| line.len() - line.trim_start_matches([' ', '-']).len();
    let (mut tried, mut passed_over) = (0, Vec::new());
    for (name, format, text) in &FILES[2..] {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            // A key with a value that is no list and no table.
            if !line.contains(": ")
                || line.trim_start_matches([' ', '-']).starts_with(['\'', '#'])
                || line.ends_with('|')
            {
                continue;
            }
            for value in ["5", "true", "odd"] {
                let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
                changed.insert(at + 1, format!("{}zzz: {value}", " ".repeat(indent(line))));
                let imported = import(*format, &changed.join("\n"), name).unwrap();
                let mut above = vec![at + 2];
                let mut depth = indent(line);
                for (up, line) in lines[..=at].iter().enumerate().rev() {
                    if !line.trim().is_empty()
                        && (indent(line) < depth
                            || line.trim_start().starts_with('-') && indent(line) == depth)
                    {
                        above.push(up + 1);
                        depth = depth.min(indent(line));
                    }
                }
                let is_told = imported.unmapped.iter().any(|one| above.contains(&one.line));
                if !is_told {
                    passed_over.push(format!("{name}:{}: zzz: {value} below {line:?}", at + 2));
                }
                tried += 1;
            }
        }
    }
    assert!(passed_over.is_empty(), "{passed_over:#?}");
    assert!(tried > 400, "{tried}");
}

#[test]
fn unbound_is_mapped() {
    let (imported, table) = imported("unbound.conf");
    has(
        &table,
        &[
            ["server.listen", "[\"192.0.2.53:53\", \"[2001:db8::53]:5353\"]"],
            ["server.workers", "4"],
            ["access.allow", "[\"127.0.0.0/8\", \"198.51.100.0/24\"]"],
            ["access.deny", "[\"203.0.113.0/24\"]"],
            ["cache.host_bytes", "\"128MiB\""],
            ["cache.min_ttl", "\"60s\""],
            ["cache.stale_client_timeout", "\"1800ms\""],
            ["resolver.randomize_case", "false"],
            ["dnssec.validate", "true"],
            ["dnssec.insecure", "[\"corp.example\"]"],
            ["rebinding.allow", "[\"corp.example\"]"],
            ["upstream.0.address", "\"tls://9.9.9.9:853#dns.quad9.net\""],
            ["upstream.0.tls_ca_file", "\"/etc/ssl/certs/ca-certificates.crt\""],
            ["upstream.1.address", "\"tls://[2620:fe::fe]:853#dns.quad9.net\""],
            ["upstream.2.zones", "[\"corp.example\", \"10.in-addr.arpa\"]"],
            ["upstream.3.address", "\"udp://10.1.2.4:5353\""],
            ["local_zone.0.name", "\"office.example\""],
            ["local_record.0.data", "\"printer.office.example\""],
            ["local_record.1.data", "\"192.0.2.20\""],
            ["local_record.3.data", "\"\\\"two words\\\"\""],
            ["blocklist.0.format", "\"rpz\""],
            ["blocklist.0.action", "\"nxdomain\""],
        ],
    );
    let wildcard = "name = \"*.dev.example\"";
    assert!(imported.toml.contains(wildcard), "{}", imported.toml);
    reports(
        &imported,
        &[
            ["interface", "server.interface"],
            ["outgoing-range", "does not recurse"],
            ["local-zone always_nxdomain", "[[blocklist]]"],
            ["include", "import /etc/unbound"],
            ["username", "unit"],
            ["remote-control: control-enable", "ringctl"],
            ["rpz: rpz-log", "policy"],
            ["frobnicate", "no counterpart"],
        ],
    );
    assert!(imported.toml.contains("# line 4\n") || imported.toml.contains("# line 4,"), "{}", imported.toml);
}

#[test]
fn dnsmasq_is_mapped() {
    let (imported, table) = imported("dnsmasq.conf");
    has(
        &table,
        &[
            ["server.listen", "[\"127.0.0.1:53\", \"192.168.1.1:53\"]"],
            ["upstream.0.address", "\"udp://9.9.9.9:53\""],
            ["upstream.2.zones", "[\"corp.example\", \"1.168.192.in-addr.arpa\"]"],
            ["upstream.3.zones", "[\"other.example\", \"lab.example\"]"],
            ["local_zone.0.name", "\"lan\""],
            ["local_record.0.name", "\"nas.lan\""],
            ["local_record.1.name", "\"*.nas.lan\""],
            ["local_record.2.ttl", "\"300s\""],
            ["local_record.4.type", "\"CNAME\""],
            ["local_record.6.data", "\"10 mail.lan\""],
            ["local_record.7.data", "\"0 5 5060 phone.lan\""],
            ["local.hosts_files", "[\"/etc/hosts.lan\", \"/etc/hosts\"]"],
            ["cache.min_ttl", "\"60s\""],
            ["rebinding.allow", "[\"corp.example\", \"plex.direct\"]"],
            ["dnssec.validate", "true"],
            ["client_names.lease_files", "[\"/var/lib/misc/dnsmasq.leases\"]"],
            ["nftset.0.table", "\"inet fw\""],
        ],
    );
    reports(
        &imported,
        &[
            ["interface", "server.interface"],
            ["address", "[[blocklist]]"],
            ["cache-size", "bytes"],
            ["dhcp-range", "no DHCP"],
            ["conf-dir", "import those files"],
            ["frobnicate", "no counterpart"],
        ],
    );
}

#[test]
fn adguard_home_is_mapped() {
    let (imported, table) = imported("AdGuardHome.yaml");
    has(
        &table,
        &[
            ["server.listen", "[\"192.168.1.2:53\", \"[fd00::2]:53\"]"],
            ["upstream.0.bootstrap", "[\"9.9.9.9\", \"149.112.112.112\"]"],
            ["upstream.2.zones", "[\"corp.example\", \"lan\"]"],
            ["resolver.strategy", "\"lowest-latency\""],
            ["rate_limit.per_second", "20"],
            ["access.deny", "[\"192.168.1.66\"]"],
            ["cache.host_bytes", "67108864"],
            ["dnssec.validate", "true"],
            ["blocklist.0.name", "\"AdGuard-DNS-filter\""],
            ["blocklist.0.answer", "\"nxdomain\""],
            ["blocklist.0.refresh", "\"24h\""],
            ["allowlist.0.source", "\"https://lists.example/allow.txt\""],
            ["allowlist.1.names", "[\"good.example\", \"fine.example\"]"],
            ["local_record.1.type", "\"CNAME\""],
            ["safe_search.google", "true"],
            ["safe_search.youtube", "\"strict\""],
            ["client_group.0.clients", "[\"192.168.1.50\", \"02:00:00:00:00:0a\"]"],
            ["client_group.1.log", "false"],
            ["client_group.1.blocklists", "[]"],
            ["query_log.exclude_names", "[\"metrics.example\"]"],
        ],
    );
    reports(
        &imported,
        &[
            ["users", "accounts"],
            ["upstream_dns", "quic"],
            ["upstream_dns", "bootstrap"],
            ["my-tv", "addresses alone"],
            ["AdAway", "disabled"],
            ["||bad.example^", "ringctl block"],
            ["rewrites", "one type"],
            ["safe_search.yandex", "engine"],
            ["blocked_services", "[[blocklist]]"],
        ],
    );
    assert!(!imported.toml.contains("notreallyahash"));
}

#[test]
fn blocky_is_mapped() {
    let (imported, table) = imported("blocky.yml");
    has(
        &table,
        &[
            ["server.listen", "[\"192.168.1.2:53\"]"],
            ["control.http", "\"127.0.0.1:4000\""],
            ["upstream.1.address", "\"tls://149.112.112.112:853#dns.quad9.net\""],
            ["upstream.1.timeout", "\"2s\""],
            ["client_group.0.clients", "[\"192.168.2.0/24\"]"],
            ["client_group.0.blocklists", "[\"ads-1\", \"ads-2\", \"special-1\"]"],
            ["local_record.0.ttl", "\"3600s\""],
            ["blocklist.0.answer", "\"null\""],
            ["blocklist.0.refresh", "\"86400s\""],
            ["cache.max_ttl", "\"1800s\""],
            ["redis.url", "\"redis://redis.example:6379\""],
            ["query_log.spool_dir", "\"/var/log/blocky\""],
            ["local.hosts_files", "[\"/etc/hosts\"]"],
        ],
    );
    reports(
        &imported,
        &[
            ["laptop*", "by address"],
            ["tablet*", "by address"],
            ["ads", "write the names into a file"],
            ["redis.password", "password_file"],
            ["customDNS.rewrite", "rewrites no names"],
            ["hostsFile", "from disk"],
            ["ports.tls", "UDP and TCP"],
        ],
    );
    assert!(!imported.toml.contains("hush"));
}

#[test]
fn dnsdist_is_mapped() {
    let (imported, table) = imported("dnsdist.yml");
    has(
        &table,
        &[
            ["server.listen", "[\"192.0.2.53:53\"]"],
            ["access.allow", "[\"127.0.0.0/8\", \"198.51.100.0/24\"]"],
            ["access.deny", "[\"203.0.113.0/24\"]"],
            ["upstream.1.address", "\"tls://9.9.9.9:853#dns.quad9.net\""],
            ["upstream.2.address", "\"https://dns.quad9.net/dns-query\""],
            ["upstream.3.zones", "[\"10.in-addr.arpa\", \"corp.example\"]"],
            ["cache.max_ttl", "\"3600s\""],
            ["resolver.strategy", "\"failover\""],
            ["rate_limit.per_second", "50"],
            ["control.http", "\"127.0.0.1:8083\""],
        ],
    );
    reports(
        &imported,
        &[
            ["binds: DoH", "UDP and TCP"],
            ["backends", "no rule"],
            ["size", "bytes"],
            ["odd", "no rules"],
            ["webserver.password", "no password"],
            ["console", "ringctl"],
        ],
    );
    assert!(!imported.toml.contains("hush"));
}

/// A lone carriage return ends a line of YAML, but none for an operator who looks one up.
#[test]
fn lines_are_numbered_as_other_tools_number_them() {
    for format in [Format::AdGuardHome, Format::Blocky, Format::Dnsdist] {
        let imported = import(format, "first:\r\r\r  - 1\nsecond: 2\r\nthird: 3", "name").unwrap();
        let lines = ["first", "second", "third"].map(|key| {
            let unmapped = imported.unmapped.iter().find(|unmapped| unmapped.key.starts_with(key));
            unmapped.map(|unmapped| unmapped.line)
        });
        assert_eq!(lines, [Some(1), Some(2), Some(3)], "{format:?}: {:?}", imported.unmapped);
        for (text, expected) in [("\r\r\na: [1", 2), ("a:\n\r\r- [1", 2), ("a: \"\n", 1)] {
            let refused = import(format, text, "name").map(|imported| imported.toml);
            assert!(
                matches!(refused, Err(ImportError::Yaml { line, .. }) if line == expected),
                "{text:?}: {refused:?}"
            );
        }
    }
}

/// Values that ringdns refuses are reported, and the rest is a configuration.
#[test]
fn what_ringdns_refuses_is_reported() {
    let text = "server:\n interface: 192.0.2.1\n interface: 192.0.2.1\n access-control: 10.0.0.1/8 allow\n \
                cache-max-ttl: 99999999999\n local-data: \"x. A nowhere\"\n max-udp-size: 5\n";
    let imported = import(Format::Unbound, text, "unbound.conf").unwrap();
    Config::parse(&imported.toml, Path::new("x"))
        .unwrap_or_else(|error| panic!("{error}\n{}", imported.toml));
    reports(
        &imported,
        &[["access.allow", "10.0.0.1/8"], ["cache.max_ttl", "refuses"], ["server.udp_limit", "512"]],
    );
    assert!(imported.toml.contains("127.0.0.1:5335"), "a recursive resolver is an upstream of its own");
    for format in [Format::Unbound, Format::Dnsmasq] {
        let imported = import(format, "", "x").unwrap();
        Config::parse(&imported.toml, Path::new("x")).unwrap();
    }
}

#[test]
fn hostile_files_are_bounded() {
    let (deep, deeper) = ("[".repeat(100), "[".repeat(100_000));
    let bomb: String = (0..40)
        .map(|n| match n {
            0 => "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(),
            n => {
                let alias = format!("*a{}, ", n - 1);
                format!("a{n}: &a{n} [{}]\n", alias.repeat(10).trim_end_matches(", "))
            }
        })
        .collect();
    let wide: String = (0..600_000).map(|_| "- 1\n").collect();
    for (text, reason) in [
        (deep.as_str(), "nested too deeply"),
        (deeper.as_str(), "recursion"),
        (bomb.as_str(), "too many values"),
        (wide.as_str(), "too many values"),
        ("a: *nobody\n", ""),
        ("a: [\n", ""),
        ("", "nothing"),
    ] {
        let error = import(Format::Blocky, text, "x").unwrap_err();
        assert!(matches!(error, ImportError::Yaml { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error} {reason}");
    }
    let many: String = (0..30_000).map(|n| format!("server=/a{n}.example/192.0.2.1\n")).collect();
    assert!(matches!(import(Format::Dnsmasq, &many, "x"), Err(ImportError::Values(_))));
    let wrong: String = (0..600).map(|n| format!("server:\n access-control: 10.0.0.{n}/8 allow\n")).collect();
    assert!(matches!(import(Format::Unbound, &wrong, "x"), Err(ImportError::Refused(_))));
    let named = import(Format::Unbound, "", "x\n[server]\nodd = 5").unwrap();
    assert!(named.toml.starts_with("# Imported from x[server]odd = 5\n"), "{}", named.toml);
    let large = " ".repeat((8 << 20) + 1);
    assert!(matches!(import(Format::Unbound, &large, "x"), Err(ImportError::Size(_))));
    // Any text is reported or mapped, and the result is accepted.
    for text in [
        "\u{0}\u{1}",
        "server:\n interface: \"\n local-data: \"\"\"\n",
        "address=////\nserver=/\nsrv-host=\nnftset=/x\n",
    ] {
        for format in [Format::Unbound, Format::Dnsmasq] {
            let imported = import(format, text, "x").unwrap();
            Config::parse(&imported.toml, Path::new("x"))
                .unwrap_or_else(|error| panic!("{error}\n{}", imported.toml));
        }
    }
}
