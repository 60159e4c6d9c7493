//! `unbound.conf`.

use crate::{
    draft::Draft,
    values::{Upstreams, label, listen, millis, record, reverse, seconds, size, truth},
};
use std::net::IpAddr;

/// Reason for keys of a recursive resolver.
const RECURSION: &str = "ringdns does not recurse: its upstreams do";
/// Reason for keys that the unit has.
const UNIT: &str = "the systemd unit of ringdnsd decides that";
/// Reason for keys of the log.
const LOG: &str = "ringdnsd logs to standard error: see RUST_LOG and `ringctl logging`";
/// Reason for sizes that ringdns finds out.
const SIZES: &str = "ringdns divides threads, sockets and memory by itself";

/// Keys of `server:` that ringdns has no counterpart of, by the beginning of their names.
const NOT_HERE: [(&str, &str); 34] = [
    ("harden-", RECURSION),
    ("qname-minimisation", RECURSION),
    ("root-hints", RECURSION),
    ("target-fetch-policy", RECURSION),
    ("infra-", RECURSION),
    ("caps-exempt", RECURSION),
    ("do-not-query", RECURSION),
    ("prefer-ip", RECURSION),
    ("delay-close", RECURSION),
    ("unwanted-reply", RECURSION),
    ("outgoing-", RECURSION),
    ("username", UNIT),
    ("chroot", UNIT),
    ("directory", UNIT),
    ("pidfile", UNIT),
    ("verbosity", LOG),
    ("logfile", LOG),
    ("use-syslog", LOG),
    ("log-", LOG),
    ("val-log", LOG),
    ("statistics-", "`ringctl stats` and /metrics have statistics"),
    ("extended-statistics", "`ringctl stats` and /metrics have statistics"),
    ("msg-cache-size", "it is part of cache.host_bytes"),
    ("key-cache", "it is part of cache.host_bytes"),
    ("msg-cache-slabs", SIZES),
    ("rrset-cache-slabs", SIZES),
    ("so-", SIZES),
    ("num-queries", SIZES),
    ("jostle", SIZES),
    ("edns-buffer-size", SIZES),
    ("tls-service", "ringdns answers over UDP and TCP"),
    ("tls-port", "ringdns answers over UDP and TCP"),
    ("https-port", "ringdns answers over UDP and TCP"),
    ("module-config", "ringdns has no modules: see [dnssec], [dns64], [redis] and [[blocklist]]"),
];

/// Keys of `server:` that say, with this value, what ringdns does anyway.
const DEFAULTS: [(&str, &str); 15] = [
    ("do-ip4", "yes"),
    ("do-ip6", "yes"),
    ("do-udp", "yes"),
    ("do-tcp", "yes"),
    ("hide-identity", "yes"),
    ("hide-version", "yes"),
    ("minimal-responses", "yes"),
    ("prefetch", "yes"),
    ("prefetch-key", "yes"),
    ("do-daemonize", "no"),
    ("cache-min-ttl", "0"),
    ("ip-ratelimit", "0"),
    ("deny-any", "no"),
    ("val-permissive-mode", "no"),
    ("rrset-roundrobin", "yes"),
];

/// Keys with times in seconds.
const TIMES: [(&str, &str); 5] = [
    ("cache-min-ttl", "min_ttl"),
    ("cache-max-ttl", "max_ttl"),
    ("cache-max-negative-ttl", "negative_max_ttl"),
    ("serve-expired-ttl", "stale_max"),
    ("serve-expired-reply-ttl", "stale_ttl"),
];

/// Clause that is open.
#[derive(Default)]
struct Clause {
    name: String,
    line: usize,
    /// Keys with their lines and values.
    keys: Vec<(String, usize, String)>,
}

impl Clause {
    fn get(&self, key: &str) -> Option<&str> {
        self.keys.iter().find(|(name, ..)| name == key).map(|(.., value)| value.as_str())
    }
}

/// Maps a file.
pub fn read(text: &str, draft: &mut Draft) {
    let mut clauses = vec![Clause::default()];
    for (at, line) in text.lines().enumerate() {
        let Some((key, value)) = pair(line) else { continue };
        let Some(clause) = clauses.last_mut() else { continue };
        match value {
            None => clauses.push(Clause { name: key.to_owned(), line: at + 1, keys: Vec::new() }),
            Some(value) => clause.keys.push((key.to_owned(), at + 1, value)),
        }
    }
    let mut state = State::default();
    for clause in &clauses {
        if clause.line > 0 {
            draft.is_default(clause.line);
        }
        match clause.name.as_str() {
            "server" | "" => {
                clause.keys.iter().for_each(|(key, line, value)| state.server(key, value, *line, draft))
            }
            _ => {}
        }
    }
    state.finish(draft);
    for clause in &clauses {
        match clause.name.as_str() {
            "server" | "" => {}
            "forward-zone" | "stub-zone" => state.forward(clause, draft),
            "rpz" => rpz(clause, draft),
            "auth-zone" => auth_zone(clause, draft),
            other => {
                let reason = match other {
                    "remote-control" => "`ringctl` uses control.socket".to_owned(),
                    "cachedb" => "see [redis]".to_owned(),
                    "view" => "see [[client_group]]".to_owned(),
                    other => format!("ringdns has no counterpart of the clause {other}:"),
                };
                clause
                    .keys
                    .iter()
                    .for_each(|(key, line, _)| draft.skip(*line, format!("{other}: {key}"), &reason));
            }
        }
    }
}

/// Returns key and value of a line, without comment and quotes. `None` as value: a clause begins.
fn pair(line: &str) -> Option<(&str, Option<String>)> {
    let mut quoted = false;
    let end = line.char_indices().find(|(_, c)| {
        quoted ^= *c == '"';
        *c == '#' && !quoted
    });
    // `tls-upstream: 9.9.9.9#name`: a comment has a space before it.
    let end = end.map(|(at, _)| at).filter(|at| line[..*at].ends_with([' ', '\t']) || *at == 0);
    let line = line[..end.unwrap_or(line.len())].trim();
    let (key, value) = line.split_once(':')?;
    let value = value.trim();
    let plain = value.strip_prefix(['"', '\'']).and_then(|value| value.strip_suffix(['"', '\'']));
    Some((key.trim(), (!value.is_empty()).then(|| plain.unwrap_or(value).to_owned())))
}

/// State of the clause `server:`.
#[derive(Default)]
struct State {
    port: Option<u16>,
    interfaces: Vec<(String, usize)>,
    redirects: Vec<String>,
    records: Vec<(String, String, String, usize)>,
    ca_file: Option<(String, usize)>,
    upstreams: Upstreams,
}

impl State {
    fn server(&mut self, key: &str, value: &str, line: usize, draft: &mut Draft) {
        let is_yes = truth(value) == Some(true);
        if DEFAULTS.contains(&(key, value)) {
            return draft.is_default(line);
        }
        if let Some((_, name)) = TIMES.iter().find(|(name, _)| *name == key) {
            return match seconds(value) {
                Some(time) => draft.set("cache", name, time, line),
                None => draft.skip(line, key, "it is no number of seconds"),
            };
        }
        match key {
            "interface" | "ip-address" => self.interfaces.push((value.to_owned(), line)),
            "port" => {
                self.port = value.parse().ok();
                draft.is_default(line);
            }
            "access-control" => access(value, line, draft),
            "num-threads" => number(draft, "server", "workers", value, line),
            "incoming-num-tcp" => number(draft, "tcp", "connections", value, line),
            "max-udp-size" => number(draft, "server", "udp_limit", value, line),
            "ip-ratelimit" => number(draft, "rate_limit", "per_second", value, line),
            "tcp-idle-timeout" => time(draft, ("tcp", "idle"), millis(value), line, key),
            "serve-expired-client-timeout" => {
                time(draft, ("cache", "stale_client_timeout"), millis(value), line, key);
            }
            "rrset-cache-size" => time(draft, ("cache", "host_bytes"), size(value), line, key),
            "prefetch" => draft.set("refresh", "ahead", 0, line),
            "serve-expired" => draft.set("cache", "serve_stale", is_yes, line),
            "use-caps-for-id" => draft.set("resolver", "randomize_case", is_yes, line),
            "aggressive-nsec" => draft.set("dnssec", "aggressive", is_yes, line),
            "answer-cookie" => draft.set("cookies", "enabled", is_yes, line),
            "log-queries" => draft.set("query_log", "enabled", is_yes, line),
            "identity" => draft.set("server", "identity", value, line),
            "nsid" if value.starts_with("ascii_") => draft.set("server", "nsid", &value[6..], line),
            "auto-trust-anchor-file" => {
                draft.set("dnssec", "validate", true, line);
                draft.set("dnssec", "managed_anchor_file", "/var/lib/ringdns/trust-anchors", line);
            }
            "trust-anchor-file" => {
                draft.set("dnssec", "validate", true, line);
                draft.set("dnssec", "trust_anchor_file", value, line);
            }
            "domain-insecure" => draft.push("dnssec", "insecure", value.trim_end_matches('.'), line),
            "private-address" => draft.set("rebinding", "enabled", true, line),
            "private-domain" => draft.push("rebinding", "allow", value.trim_end_matches('.'), line),
            "dns64-prefix" => draft.set("dns64", "prefix", value, line),
            "tls-cert-bundle" => self.ca_file = Some((value.to_owned(), line)),
            "local-zone" => self.local_zone(value, line, draft),
            "local-data" => self.local_data(value, line, draft),
            "local-data-ptr" => local_ptr(value, line, draft),
            "include" | "include-toplevel" => draft.skip(line, key, format!("import {value} too")),
            "cookie-secret" => draft.skip(line, key, "write it into a file for cookies.secret_file"),
            _ => {
                let known = NOT_HERE.iter().find(|(start, _)| key.starts_with(start));
                draft.skip(line, key, known.map_or("ringdns has no counterpart", |(_, reason)| reason));
            }
        }
    }

    fn local_zone(&mut self, value: &str, line: usize, draft: &mut Draft) {
        let (name, kind) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let (name, kind) = (name.trim_matches(['"', '.']), kind.trim());
        match kind {
            "static" => {
                let zone = draft.add("local_zone");
                draft.put(zone, "name", name, line);
            }
            "transparent" | "typetransparent" | "nodefault" => draft.is_default(line),
            "redirect" => {
                self.redirects.push(name.to_owned());
                draft.is_default(line);
            }
            _ => {
                let reason = "write the line into a file, and name it as source of a [[blocklist]] with format = \"unbound\"";
                draft.skip(line, format!("local-zone {kind}"), reason);
            }
        }
    }

    /// Keeps a record until all redirects are known.
    fn local_data(&mut self, value: &str, line: usize, draft: &mut Draft) {
        let mut words = value.split_whitespace();
        let name = words.next().unwrap_or_default().trim_end_matches('.');
        let mut words =
            words.skip_while(|word| word.bytes().all(|byte| byte.is_ascii_digit()) || *word == "IN");
        let Some(rtype) = words.next() else { return draft.skip(line, "local-data", "it is no record") };
        let data: Vec<_> = words.collect();
        self.records.push((name.to_owned(), rtype.to_owned(), data.join(" "), line));
    }

    /// Adds what is known once the clause has been read.
    fn finish(&mut self, draft: &mut Draft) {
        for (interface, line) in &self.interfaces {
            let (address, port) = match interface.split_once('@') {
                Some((address, port)) => (address, port.parse().ok()),
                None => (interface.as_str(), self.port),
            };
            match address.parse::<IpAddr>() {
                Ok(_) => draft.push("server", "listen", listen(address, port.unwrap_or(53)), *line),
                Err(_) => draft.skip(
                    *line,
                    "interface",
                    "write its addresses into server.listen; AF_XDP takes the name in server.interface",
                ),
            }
        }
        for (name, rtype, data, line) in &self.records {
            record(draft, name, rtype, data, *line);
            if self.redirects.contains(name) {
                record(draft, &format!("*.{name}"), rtype, data, *line);
            }
        }
    }

    fn forward(&mut self, clause: &Clause, draft: &mut Draft) {
        let zone = clause.get("name").unwrap_or(".").trim_matches('.').to_owned();
        let zones: Vec<&str> = if zone.is_empty() { Vec::new() } else { vec![&zone] };
        let over_tls = |key: &str| clause.get(key).and_then(truth) == Some(true);
        let over_tls = over_tls("forward-tls-upstream")
            || over_tls("forward-ssl-upstream")
            || over_tls("stub-tls-upstream");
        for (key, line, value) in &clause.keys {
            match key.as_str() {
                "name" | "forward-tls-upstream" | "forward-ssl-upstream" | "stub-tls-upstream" => {
                    draft.is_default(*line)
                }
                "forward-first" | "stub-first" if value == "no" => draft.is_default(*line),
                "forward-addr" | "stub-addr" => {
                    let (address, name) =
                        value.split_once('#').map_or((value.as_str(), ""), |(address, name)| (address, name));
                    let (ip, port) = address.split_once('@').unwrap_or((address, ""));
                    let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
                    let port = if port.is_empty() { String::new() } else { format!(":{port}") };
                    let name = if name.is_empty() || !over_tls { String::new() } else { format!("#{name}") };
                    let scheme = if over_tls { "tls://" } else { "" };
                    let address = format!("{scheme}{ip}{port}{name}");
                    let id = self.upstreams.add(draft, &address, &zones, *line, key);
                    if let (Some(id), Some((file, line)), true) = (id, &self.ca_file, over_tls) {
                        draft.put(id, "tls_ca_file", file.as_str(), *line);
                    }
                }
                "forward-host" | "stub-host" => {
                    draft.skip(
                        *line,
                        key,
                        "ringdns does not look up upstreams: add an [[upstream]] with the address",
                    );
                }
                "forward-first" => draft.skip(*line, key, RECURSION),
                _ => draft.skip(*line, key, "ringdns has no counterpart"),
            }
        }
    }
}

fn access(value: &str, line: usize, draft: &mut Draft) {
    let (prefix, action) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
    match action.trim() {
        "allow" | "allow_snoop" | "allow_setrd" | "allow_cookie" => {
            draft.push("access", "allow", prefix, line)
        }
        // All others are refused anyway.
        "refuse" | "deny" if matches!(prefix, "0.0.0.0/0" | "::/0" | "::0/0") => draft.is_default(line),
        "refuse" | "refuse_non_local" => draft.push("access", "deny", prefix, line),
        "deny" | "deny_non_local" => {
            draft.push("access", "deny", prefix, line);
            draft.set("access", "refused", "drop", line);
        }
        other => draft.skip(line, "access-control", format!("there is no action {other:?}")),
    }
}

fn local_ptr(value: &str, line: usize, draft: &mut Draft) {
    let mut words = value.split_whitespace().filter(|word| !word.bytes().all(|byte| byte.is_ascii_digit()));
    match (words.next().and_then(|ip| ip.parse().ok()), words.next()) {
        (Some(ip), Some(name)) => {
            let _ = record(draft, &reverse(ip), "PTR", name.trim_end_matches('.'), line);
        }
        _ => draft.skip(line, "local-data-ptr", "it is no address with a name"),
    }
}

fn rpz(clause: &Clause, draft: &mut Draft) {
    let name = clause.get("name").unwrap_or("rpz").trim_end_matches('.').to_owned();
    let source = ["zonefile", "url"].into_iter().find_map(|key| clause.get(key).map(str::to_owned));
    let source =
        source.or_else(|| Some(format!("axfr://{}/{name}", clause.get("primary").or(clause.get("master"))?)));
    let Some(source) = source else {
        return draft.skip(clause.line, "rpz", "it has neither zonefile, url nor primary");
    };
    let list = draft.add("blocklist");
    draft.put(list, "name", label(&name, "rpz"), clause.line);
    draft.put(list, "source", source, clause.line);
    draft.put(list, "format", "rpz", clause.line);
    for (key, line, value) in &clause.keys {
        match (key.as_str(), value.as_str()) {
            ("name" | "zonefile" | "url" | "primary" | "master", _) => draft.is_default(*line),
            ("rpz-action-override", action @ ("nxdomain" | "nodata" | "passthru" | "drop" | "disabled")) => {
                draft.put(list, "action", action, *line);
            }
            _ => draft.skip(*line, format!("rpz: {key}"), "see docs/policy.md on policy zones"),
        }
    }
}

fn auth_zone(clause: &Clause, draft: &mut Draft) {
    match (clause.get("name"), clause.get("zonefile")) {
        (Some(name), Some(file)) if name != "." => {
            let zone = draft.add("local_zone");
            for (key, line, value) in &clause.keys {
                match key.as_str() {
                    "name" => draft.put(zone, "name", value.trim_end_matches('.'), *line),
                    "zonefile" => draft.put(zone, "file", file, *line),
                    _ => {
                        draft.skip(*line, format!("auth-zone: {key}"), "a [[local_zone]] has its file alone")
                    }
                }
            }
        }
        _ => {
            let reason =
                "ringdns serves no transferred zones: add an [[upstream]] with zones for its servers";
            clause
                .keys
                .iter()
                .for_each(|(key, line, _)| draft.skip(*line, format!("auth-zone: {key}"), reason));
        }
    }
}

fn number(draft: &mut Draft, table: &'static str, key: &'static str, value: &str, line: usize) {
    match value.parse::<i64>() {
        Ok(number) => draft.set(table, key, number, line),
        Err(_) => draft.skip(line, key, "it is no number"),
    }
}

fn time(
    draft: &mut Draft,
    (table, name): (&'static str, &'static str),
    value: Option<String>,
    line: usize,
    key: &str,
) {
    match value {
        Some(value) => draft.set(table, name, value, line),
        None => draft.skip(line, key, "its value cannot be read"),
    }
}
