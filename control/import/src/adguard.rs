//! `AdGuardHome.yaml`.

use crate::{
    draft::Draft,
    values::{PRIVATE_REVERSE, Upstreams, address_type, label, listen, record, seconds, span, truth},
    yaml::Node,
};
use std::net::IpAddr;

/// Top-level keys that ringdns has no counterpart of.
const NOT_HERE: [(&str, &str); 10] = [
    ("http", "see control.http; there are no accounts"),
    ("users", "ringdns has no accounts: the Unix socket belongs to its owner"),
    ("auth_attempts", "ringdns has no accounts"),
    ("block_auth_min", "ringdns has no accounts"),
    ("http_proxy", "see lists.proxy"),
    ("language", "ringdns has no web pages"),
    ("theme", "ringdns has no web pages"),
    ("tls", "ringdns answers over UDP and TCP"),
    ("dhcp", "ringdns is no DHCP server: client_names.lease_files reads its leases"),
    ("statistics", "`ringctl stats` and /metrics have statistics"),
];

/// Answer, TTL and refresh interval of all lists, with their lines.
#[derive(Default)]
struct ListOptions {
    answer: Option<(String, usize)>,
    ttl: Option<(String, usize)>,
    refresh: Option<(String, usize)>,
}

/// Maps a file.
pub fn read(root: &Node, draft: &mut Draft) {
    let mut lists = ListOptions::default();
    for (key, line, value) in root.entries() {
        match key {
            "dns" => dns(value, &mut lists, draft),
            "filtering" => filtering(value, &mut lists, draft),
            "querylog" => querylog(value, draft),
            "clients" => clients(value, draft),
            "filters" | "whitelist_filters" | "user_rules" => {}
            "schema_version" => draft.is_default(line),
            _ if value.is_empty() => draft.is_default(line),
            _ => {
                let known = NOT_HERE.iter().find(|(name, _)| *name == key);
                draft.skip(line, key, known.map_or("ringdns has no counterpart", |(_, reason)| reason));
            }
        }
    }
    for (key, table) in [("filters", "blocklist"), ("whitelist_filters", "allowlist")] {
        for filter in root.get(key).map(Node::elements).unwrap_or_default() {
            list(filter, table, &lists, draft);
        }
    }
    for rule in root.get("user_rules").map(Node::elements).unwrap_or_default() {
        user_rule(rule, draft);
    }
}

fn dns(dns: &Node, lists: &mut ListOptions, draft: &mut Draft) {
    let port = dns.text_of("port").and_then(|port| port.parse().ok()).unwrap_or(53);
    let mut upstreams = Upstreams::default();
    let cache_on = dns.text_of("cache_enabled").and_then(truth) != Some(false);
    for (key, line, value) in dns.entries() {
        let text = value.text().unwrap_or_default();
        match key {
            "port" => draft.is_default(line),
            "bind_hosts" | "bind_host" => {
                for host in value.elements() {
                    draft.push("server", "listen", listen(host.text().unwrap_or_default(), port), host.line);
                }
            }
            "upstream_dns" | "fallback_dns" => {
                for one in value.elements() {
                    upstream(one.text().unwrap_or_default(), &mut upstreams, one.line, key, draft);
                }
            }
            "local_ptr_upstreams" => {
                for one in value.elements() {
                    let address = one.text().unwrap_or_default();
                    upstreams.add(draft, address, &PRIVATE_REVERSE, one.line, key);
                }
            }
            "upstream_mode" => match text {
                "load_balance" | "parallel" | "fastest_addr" => {
                    draft.set("resolver", "strategy", "lowest-latency", line);
                }
                _ => draft.is_default(line),
            },
            "upstream_timeout" => match span(text) {
                Some(_) => draft.skip(line, key, "see timeout of each [[upstream]]"),
                None => draft.skip(line, key, "it is no length of time"),
            },
            "ratelimit" if text == "0" => draft.is_default(line),
            "ratelimit" => match text.parse::<i64>() {
                Ok(limit) => draft.set("rate_limit", "per_second", limit, line),
                Err(_) => draft.skip(line, key, "it is no number"),
            },
            "ratelimit_whitelist" => {
                each(value, draft, |draft, text, line| draft.push("rate_limit", "exempt", text, line))
            }
            "allowed_clients" => clients_of(value, "allow", draft),
            "disallowed_clients" => clients_of(value, "deny", draft),
            _ if key.starts_with("cache_") => cache(key, text, cache_on, line, draft),
            "enable_dnssec" => draft.set("dnssec", "validate", truth(text) == Some(true), line),
            "blocking_mode" | "blocking_ipv4" | "blocked_response_ttl" => {
                list_option(key, text, line, lists, draft)
            }
            "bootstrap_dns" => each(value, draft, |draft, _, line| {
                draft.skip(
                    line,
                    "bootstrap_dns",
                    "ringdns looks up no upstream: bootstrap has the addresses",
                );
            }),
            _ if value.is_empty() || truth(text) == Some(false) => draft.is_default(line),
            "refuse_any" | "use_private_ptr_resolvers" | "upstream_dns_file" | "edns_client_subnet" => {
                draft.skip(line, key, "ringdns has no counterpart; see docs/limits.md");
            }
            _ => draft.skip(line, key, "ringdns has no counterpart"),
        }
    }
}

fn cache(key: &str, text: &str, is_on: bool, line: usize, draft: &mut Draft) {
    match key {
        "cache_enabled" => draft.is_default(line),
        "cache_size" if !is_on || text == "0" => draft.set("cache", "enabled", false, line),
        "cache_size" => match text.parse::<i64>() {
            Ok(bytes) => draft.set("cache", "host_bytes", bytes, line),
            Err(_) => draft.skip(line, key, "it is no number"),
        },
        "cache_ttl_min" | "cache_ttl_max" if text == "0" => draft.is_default(line),
        "cache_ttl_min" => time(draft, "min_ttl", seconds(text), line, key),
        "cache_ttl_max" => time(draft, "max_ttl", seconds(text), line, key),
        "cache_optimistic" => draft.set("cache", "serve_stale", truth(text) == Some(true), line),
        _ => draft.skip(line, key, "ringdns has no counterpart"),
    }
}

/// Maps `address` and `[/zone/zone/]address address`.
fn upstream(text: &str, upstreams: &mut Upstreams, line: usize, key: &str, draft: &mut Draft) {
    if text.starts_with('#') || text.is_empty() {
        return draft.is_default(line);
    }
    match text.strip_prefix("[/").and_then(|text| text.split_once("/]")) {
        Some((zones, addresses)) => {
            let zones: Vec<&str> = zones.split('/').filter(|zone| !zone.is_empty()).collect();
            for address in addresses.split_whitespace() {
                if address == "#" {
                    draft.skip(line, key, "names in no zone of an [[upstream]] go to the others anyway");
                } else {
                    upstreams.add(draft, address, &zones, line, key);
                }
            }
        }
        None => {
            upstreams.add(draft, text, &[], line, key);
        }
    }
}

fn list_option(key: &str, text: &str, line: usize, lists: &mut ListOptions, draft: &mut Draft) {
    let answer = match (key, text) {
        ("blocked_response_ttl", _) => {
            lists.ttl = seconds(text).map(|ttl| (ttl, line));
            return draft.is_default(line);
        }
        ("blocking_ipv4", "") => return draft.is_default(line),
        ("blocking_ipv4", address) => address,
        (_, "default" | "null_ip") => "null",
        (_, "nxdomain") => "nxdomain",
        (_, "refused") => "refused",
        // `blocking_ipv4` has the address.
        (_, "custom_ip") => return draft.is_default(line),
        _ => return draft.skip(line, key, "there is no such blocking mode"),
    };
    lists.answer = Some((answer.to_owned(), line));
    draft.is_default(line);
}

fn filtering(filtering: &Node, lists: &mut ListOptions, draft: &mut Draft) {
    for (key, line, value) in filtering.entries() {
        let text = value.text().unwrap_or_default();
        match key {
            "blocking_mode" | "blocking_ipv4" | "blocked_response_ttl" => {
                list_option(key, text, line, lists, draft)
            }
            "rewrites" => value.elements().into_iter().for_each(|one| rewrite(one, draft)),
            "safe_search" => safe_search(value, draft),
            "filters_update_interval" => {
                lists.refresh = text
                    .parse::<u64>()
                    .ok()
                    .filter(|hours| *hours > 0)
                    .map(|hours| (format!("{hours}h"), line));
                draft.is_default(line);
            }
            "filtering_enabled" | "protection_enabled" | "rewrites_enabled" if truth(text) == Some(true) => {
                draft.is_default(line);
            }
            "filtering_enabled" | "protection_enabled" => {
                draft.skip(
                    line,
                    key,
                    "lists decide as soon as they are there: remove them, or use `ringctl pause`",
                );
            }
            "blocked_services" => {
                let services = value.get("ids").map(Node::elements).unwrap_or_default();
                for service in services {
                    draft.skip(
                        service.line,
                        "blocked_services",
                        "add a [[blocklist]] with the names of the service",
                    );
                }
                draft.is_default(line);
            }
            _ if value.is_empty() || truth(text) == Some(false) => draft.is_default(line),
            _ => draft.skip(line, format!("filtering.{key}"), "ringdns has no counterpart"),
        }
    }
}

fn rewrite(rewrite: &Node, draft: &mut Draft) {
    let (Some(domain), Some(answer)) = (rewrite.text_of("domain"), rewrite.text_of("answer")) else {
        return draft.skip(rewrite.line, "rewrites", "it has no domain or no answer");
    };
    if rewrite.text_of("enabled").and_then(truth) == Some(false) {
        return draft.skip(rewrite.line, "rewrites", "it is disabled");
    }
    let rtype = match (answer.parse::<IpAddr>(), answer) {
        (Ok(ip), _) => address_type(ip),
        (_, "A" | "AAAA") => {
            return draft.skip(
                rewrite.line,
                "rewrites",
                "local data of one type does not pass on the others",
            );
        }
        _ => "CNAME",
    };
    record(draft, domain, rtype, answer, rewrite.line);
    for (key, line, _) in rewrite.entries() {
        match key {
            "domain" | "answer" | "enabled" => draft.is_default(line),
            _ => draft.skip(line, format!("rewrites.{key}"), "ringdns has no counterpart"),
        }
    }
}

fn safe_search(engines: &Node, draft: &mut Draft) {
    let is_on = engines.text_of("enabled").and_then(truth) == Some(true);
    for (key, line, value) in engines.entries() {
        let is_wanted = is_on && value.text().and_then(truth) == Some(true);
        match key {
            "enabled" => draft.is_default(line),
            _ if !is_on || value.text().and_then(truth) == Some(false) => draft.is_default(line),
            "google" | "bing" | "duckduckgo" | "youtube" if !is_wanted => {
                draft.skip(line, format!("safe_search.{key}"), "it is neither true nor false");
            }
            "google" => draft.set("safe_search", "google", true, line),
            "bing" => draft.set("safe_search", "bing", true, line),
            "duckduckgo" => draft.set("safe_search", "duckduckgo", true, line),
            "youtube" => draft.set("safe_search", "youtube", "strict", line),
            _ => draft.skip(line, format!("safe_search.{key}"), "ringdns does not know this engine"),
        }
    }
}

fn list(filter: &Node, table: &'static str, options: &ListOptions, draft: &mut Draft) {
    let name = filter.text_of("name").unwrap_or("list");
    if filter.text_of("enabled").and_then(truth) == Some(false) {
        return draft.skip(filter.line, name, "it is disabled");
    }
    let id = draft.add(table);
    draft.put(id, "name", label(name, "list"), filter.line);
    for (key, line, value) in filter.entries() {
        let text = value.text().unwrap_or_default();
        match key {
            "url" => draft.put(id, "source", text, line),
            "name" | "id" | "enabled" => draft.is_default(line),
            _ => draft.skip(line, format!("filters.{key}"), "ringdns has no counterpart"),
        }
    }
    let is_url = filter.text_of("url").is_some_and(|url| url.contains("://"));
    if let Some((refresh, line)) = options.refresh.as_ref().filter(|_| is_url) {
        draft.put(id, "refresh", refresh.as_str(), *line);
    }
    if table == "blocklist" {
        for (key, option) in [("answer", &options.answer), ("ttl", &options.ttl)] {
            if let Some((value, line)) = option {
                draft.put(id, key, value.as_str(), *line);
            }
        }
    }
}

/// Maps `@@||name^`.
fn user_rule(rule: &Node, draft: &mut Draft) {
    let text = rule.text().unwrap_or_default().trim();
    let allowed = text
        .strip_prefix("@@||")
        .and_then(|rest| rest.strip_suffix('^').or(rest.strip_suffix("^$important")));
    match allowed {
        _ if text.is_empty() || text.starts_with(['!', '#']) => draft.is_default(rule.line),
        Some(name) => {
            if !draft.has("allowlist", "names") {
                let id = draft.add("allowlist");
                draft.put(id, "name", "user-rules", rule.line);
                draft.append(id, "names", name, rule.line);
            } else if let Some(id) = draft.with("allowlist", "names") {
                draft.append(id, "names", name, rule.line);
            }
        }
        None => {
            draft.skip(
                rule.line,
                text,
                "write it into a file, and name it as source of a [[blocklist]], or use `ringctl block`",
            );
        }
    }
}

fn querylog(log: &Node, draft: &mut Draft) {
    for (key, line, value) in log.entries() {
        let text = value.text().unwrap_or_default();
        match key {
            "enabled" => draft.set("query_log", "enabled", truth(text) == Some(true), line),
            "ignored" => {
                each(value, draft, |draft, text, line| draft.push("query_log", "exclude_names", text, line))
            }
            _ if value.is_empty() => draft.is_default(line),
            "interval" | "size_memory" | "file_enabled" | "dir_path" => {
                draft.skip(line, format!("querylog.{key}"), "see query_log.spool_dir and spool_bytes");
            }
            _ => draft.skip(line, format!("querylog.{key}"), "ringdns has no counterpart"),
        }
    }
}

fn clients(clients: &Node, draft: &mut Draft) {
    for client in clients.get("persistent").map(Node::elements).unwrap_or_default() {
        let name = client.text_of("name").unwrap_or("client");
        let id = draft.add("client_group");
        draft.put(id, "name", label(name, "client"), client.line);
        for (key, line, value) in client.entries() {
            let text = value.text().unwrap_or_default();
            match key {
                "name" => draft.is_default(line),
                "ids" => each(value, draft, |draft, text, line| draft.append(id, "clients", text, line)),
                "ignore_querylog" if truth(text) == Some(true) => draft.put(id, "log", false, line),
                "filtering_enabled"
                    if truth(text) == Some(false)
                        && client.text_of("use_global_settings").and_then(truth) == Some(false) =>
                {
                    draft.put(id, "blocklists", Vec::<String>::new(), line);
                }
                "use_global_settings" | "use_global_blocked_services" | "uid" => draft.is_default(line),
                _ if value.is_empty() || truth(text) == Some(false) => draft.is_default(line),
                "upstreams" => draft.skip(line, "clients.upstreams", "add [[upstream]] tables with groups"),
                _ => draft.skip(
                    line,
                    format!("clients.{key}"),
                    "groups have lists, limits and upstreams of their own alone",
                ),
            }
        }
    }
    for (key, line, _) in clients.entries().filter(|(key, ..)| *key != "persistent") {
        draft.skip(line, format!("clients.{key}"), "see [client_names]");
    }
}

/// Adds clients by address to the access list.
fn clients_of(list: &Node, key: &'static str, draft: &mut Draft) {
    for client in list.elements() {
        let text = client.text().unwrap_or_default();
        if text.split('/').next().is_some_and(|ip| ip.parse::<IpAddr>().is_ok()) {
            draft.push("access", key, text, client.line);
        } else {
            draft.skip(client.line, text, "the access list knows addresses alone");
        }
    }
}

fn each(list: &Node, draft: &mut Draft, mut take: impl FnMut(&mut Draft, &str, usize)) {
    for one in list.elements() {
        take(draft, one.text().unwrap_or_default(), one.line);
    }
}

fn time(draft: &mut Draft, name: &'static str, value: Option<String>, line: usize, key: &str) {
    match value {
        Some(value) => draft.set("cache", name, value, line),
        None => draft.skip(line, key, "it is no number of seconds"),
    }
}
