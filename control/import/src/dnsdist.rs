//! dnsdist's `dnsdist.yml`.

use crate::{
    draft::{Draft, TableId},
    values::Upstreams,
    yaml::Node,
};
use std::collections::{BTreeSet, HashMap};

/// Top-level keys that ringdns has no counterpart of.
const NOT_HERE: [(&str, &str); 10] = [
    ("console", "`ringctl` uses control.socket"),
    ("key_value_stores", "see [[blocklist]] and [[client_group]]"),
    ("dynamic_rules", "see [rate_limit] and `ringctl policy bans`"),
    ("cache_hit_response_rules", "ringdns has no rules on answers"),
    ("cache_inserted_response_rules", "ringdns has no rules on answers"),
    ("cache_miss_rules", "ringdns has no rules on answers"),
    ("response_rules", "ringdns has no rules on answers"),
    ("edns_client_subnet", "ringdns sends no client subnet"),
    ("remote_logging", "see [query_log]"),
    ("xsk", "see server.interface"),
];

/// Maps a file.
pub fn read(root: &Node, draft: &mut Draft) {
    let mut zones: HashMap<String, Vec<String>> = HashMap::new();
    for rule in root.get("query_rules").map(Node::elements).unwrap_or_default() {
        query_rule(rule, &mut zones, draft);
    }
    for (key, line, value) in root.entries() {
        match key {
            "binds" => value.elements().into_iter().for_each(|bind| listen(bind, draft)),
            "backends" => {
                let mut upstreams = Upstreams::default();
                value.elements().into_iter().for_each(|one| backend(one, &zones, &mut upstreams, draft));
            }
            "acl" => value.elements().into_iter().for_each(|one| {
                draft.push("access", "allow", one.text().unwrap_or_default(), one.line);
            }),
            "packet_caches" => value.elements().into_iter().for_each(|one| cache(one, draft)),
            "pools" => pools(value, draft),
            "query_rules" => {}
            "webserver" => webserver(value, draft),
            "load_balancing_policies" => policies(value, draft),
            _ if value.is_empty() => draft.is_default(line),
            _ => {
                let known = NOT_HERE.iter().find(|(name, _)| *name == key);
                draft.skip(line, key, known.map_or("ringdns has no counterpart", |(_, reason)| reason));
            }
        }
    }
}

fn listen(bind: &Node, draft: &mut Draft) {
    let protocol = bind.text_of("protocol").unwrap_or("Do53");
    if !protocol.eq_ignore_ascii_case("do53") {
        return draft.skip(bind.line, format!("binds: {protocol}"), "ringdns answers over UDP and TCP");
    }
    for (key, line, value) in bind.entries() {
        match key {
            "listen_address" => {
                let text = value.text().unwrap_or_default();
                let has_port = text.parse::<std::net::SocketAddr>().is_ok();
                let address = if has_port { text.to_owned() } else { crate::values::listen(text, 53) };
                draft.push("server", "listen", address, line);
            }
            "protocol" | "name" | "reuseport" | "threads" => draft.is_default(line),
            "interface" => draft.skip(line, key, "see server.interface"),
            _ => draft.skip(line, format!("binds.{key}"), "ringdns has no counterpart"),
        }
    }
}

fn backend(
    backend: &Node,
    zones: &HashMap<String, Vec<String>>,
    upstreams: &mut Upstreams,
    draft: &mut Draft,
) {
    let Some(address) = backend.text_of("address") else {
        return draft.skip(backend.line, "backends", "it has no address");
    };
    let name = backend.get("tls").and_then(|tls| tls.text_of("subject_name"));
    let (host, _) = address
        .rsplit_once(':')
        .filter(|(host, _)| !host.contains(':') || host.ends_with(']'))
        .unwrap_or((address, ""));
    let address = match backend.text_of("protocol").unwrap_or("Do53").to_lowercase().as_str() {
        "do53" => address.to_owned(),
        "tcp" | "do53-tcp" => format!("tcp://{address}"),
        "dot" => format!("tls://{address}{}", name.map(|name| format!("#{name}")).unwrap_or_default()),
        "doh" => {
            let path = backend.get("doh").and_then(|doh| doh.text_of("path")).unwrap_or("/dns-query");
            format!("https://{}{path}", name.unwrap_or(host))
        }
        other => {
            return draft.skip(backend.line, "backends", format!("ringdns has no upstreams over {other}"));
        }
    };
    let pools = backend.get("pools").map(Node::elements).unwrap_or_default();
    let pools: Vec<&str> = pools.into_iter().filter_map(Node::text).filter(|pool| !pool.is_empty()).collect();
    let of: BTreeSet<&str> =
        pools.iter().filter_map(|pool| zones.get(*pool)).flatten().map(String::as_str).collect();
    let of: Vec<&str> = of.into_iter().collect();
    if !pools.is_empty() && of.is_empty() {
        return draft.skip(
            backend.line,
            "backends",
            "no rule sends names to its pool: see zones and groups of [[upstream]]",
        );
    }
    let Some(id) = upstreams.add(draft, &address, &of, backend.line, "backends") else { return };
    // The name of the certificate is in the address: its host has this one.
    if address.starts_with("https://") && name.is_some() {
        draft.append(id, "bootstrap", host.trim_matches(['[', ']']), backend.line);
    }
    backend_keys(backend, id, draft);
}

/// Maps the keys of a backend but for its address.
fn backend_keys(backend: &Node, id: TableId, draft: &mut Draft) {
    for (key, line, value) in backend.entries() {
        match key {
            "address" | "protocol" | "pools" | "name" | "id" => draft.is_default(line),
            "doh" => {
                for (key, line, _) in value.entries() {
                    match key {
                        "path" => draft.is_default(line),
                        _ => draft.skip(line, format!("doh.{key}"), "ringdns has no counterpart"),
                    }
                }
            }
            "tls" => {
                for (key, line, value) in value.entries() {
                    match key {
                        "subject_name" | "provider" => draft.is_default(line),
                        "ca_store" => draft.put(id, "tls_ca_file", value.text().unwrap_or_default(), line),
                        "validate_certificates" if value.text() == Some("true") => draft.is_default(line),
                        _ => draft.skip(
                            line,
                            format!("tls.{key}"),
                            "certificates of upstreams are always checked",
                        ),
                    }
                }
            }
            "order" | "weight" => {
                draft.skip(line, key, "the order of [[upstream]] and resolver.strategy decide")
            }
            "health_checks" => draft.skip(line, key, "ringdns sees from answers whether an upstream works"),
            _ => draft.skip(line, format!("backends.{key}"), "ringdns has no counterpart"),
        }
    }
}

fn cache(cache: &Node, draft: &mut Draft) {
    for (key, line, value) in cache.entries() {
        let seconds = value.text().and_then(crate::values::seconds);
        let name = match key {
            "name" => {
                draft.is_default(line);
                continue;
            }
            "max_ttl" => "max_ttl",
            "min_ttl" if value.text() == Some("0") => {
                draft.is_default(line);
                continue;
            }
            "min_ttl" => "min_ttl",
            "max_negative_ttl" => "negative_max_ttl",
            "temporary_failure_ttl" => "failure_ttl",
            "size" => {
                draft.skip(
                    line,
                    key,
                    "ringdns counts bytes: see cache.host_bytes and cache.bytes_per_worker",
                );
                continue;
            }
            _ => {
                draft.skip(line, format!("packet_caches.{key}"), "ringdns has no counterpart");
                continue;
            }
        };
        match seconds {
            Some(time) => draft.set("cache", name, time, line),
            None => draft.skip(line, key, "it is no number of seconds"),
        }
    }
}

fn pools(pools: &Node, draft: &mut Draft) {
    for pool in pools.elements() {
        for (key, line, value) in pool.entries() {
            match key {
                "name" | "packet_cache" => draft.is_default(line),
                "policy" => policy(value.text().unwrap_or_default(), line, draft),
                _ => draft.skip(line, format!("pools.{key}"), "ringdns has no counterpart"),
            }
        }
    }
}

fn policies(policies: &Node, draft: &mut Draft) {
    for (key, line, value) in policies.entries() {
        match key {
            "default_policy" => policy(value.text().unwrap_or_default(), line, draft),
            _ => draft.skip(line, format!("load_balancing_policies.{key}"), "see resolver.strategy"),
        }
    }
}

fn policy(policy: &str, line: usize, draft: &mut Draft) {
    let strategy = match policy {
        "firstAvailable" => "failover",
        "roundrobin" | "wrandom" | "whashed" | "chashed" => "round-robin",
        _ => "lowest-latency",
    };
    draft.set("resolver", "strategy", strategy, line);
}

fn webserver(webserver: &Node, draft: &mut Draft) {
    for (key, line, value) in webserver.entries() {
        match key {
            "listen_address" => draft.set("control", "http", value.text().unwrap_or_default(), line),
            "listen_addresses" => {
                for (nth, one) in value.elements().into_iter().enumerate() {
                    match nth {
                        0 => draft.set("control", "http", one.text().unwrap_or_default(), one.line),
                        _ => draft.skip(one.line, "webserver", "control.http is one address"),
                    }
                }
            }
            _ => draft.skip(
                line,
                format!("webserver.{key}"),
                "the HTTP endpoint shows neither names nor clients, and has no password",
            ),
        }
    }
}

/// Maps a rule that sends the names of zones to a pool, refuses clients, or limits them.
fn query_rule(rule: &Node, zones: &mut HashMap<String, Vec<String>>, draft: &mut Draft) {
    let name = rule.text_of("name").unwrap_or("rule").to_owned();
    let (Some(selector), Some(action)) = (rule.get("selector"), rule.get("action")) else {
        return draft.skip(rule.line, name, "it has no selector or no action");
    };
    let kind = |node: &Node| node.text_of("type").unwrap_or_default().to_lowercase();
    let mapped = match (kind(selector).as_str(), kind(action).as_str()) {
        ("qnamesuffix" | "qname" | "qnameset", "pool") => {
            let names = ["suffixes", "qnames", "qname"].into_iter().find_map(|key| selector.get(key));
            let names = names.map(Node::elements).unwrap_or_default().into_iter().filter_map(Node::text);
            let pool = action.text_of("pool_name").or(action.text_of("pool")).unwrap_or_default();
            let names: Vec<String> = names.map(|name| name.trim_matches('.').to_owned()).collect();
            let is_mapped = !names.is_empty() && !pool.is_empty();
            zones.entry(pool.to_owned()).or_default().extend(names);
            is_mapped
        }
        ("maxqpsip", "drop" | "truncate" | "refused" | "delay") => {
            match selector.text_of("qps").and_then(|qps| qps.parse::<i64>().ok()) {
                Some(qps) => {
                    draft.set("rate_limit", "per_second", qps, rule.line);
                    true
                }
                None => false,
            }
        }
        ("netmaskgroup", "drop" | "refused") => {
            let netmasks = selector.get("netmasks").map(Node::elements).unwrap_or_default();
            for netmask in &netmasks {
                draft.push("access", "deny", netmask.text().unwrap_or_default(), netmask.line);
            }
            !netmasks.is_empty()
        }
        _ => false,
    };
    if mapped {
        lines(rule, draft);
    } else {
        draft.skip(
            rule.line,
            name,
            "ringdns has no rules: see [[upstream]] with zones, [[blocklist]], [access], [rate_limit]",
        );
    }
}

/// Keys of rules that are mapped.
const RULE_KEYS: [&str; 10] =
    ["name", "uuid", "type", "suffixes", "qnames", "qname", "qps", "netmasks", "pool_name", "pool"];

/// Notes the lines of a rule that is mapped, and reports its other keys.
fn lines(node: &Node, draft: &mut Draft) {
    draft.is_default(node.line);
    for (key, line, value) in node.entries() {
        match key {
            "selector" | "action" => {
                draft.is_default(line);
                lines(value, draft);
            }
            _ if RULE_KEYS.contains(&key) => {
                draft.is_default(line);
                value.elements().into_iter().for_each(|one| draft.is_default(one.line));
            }
            _ => draft.skip(line, format!("query_rules.{key}"), "ringdns has no counterpart"),
        }
    }
}
