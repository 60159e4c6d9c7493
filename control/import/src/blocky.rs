//! blocky's `config.yml`.

use crate::{
    draft::{Draft, TableId},
    values::{Upstreams, address_type, label, listen, record, span, truth},
    yaml::Node,
};
use std::{collections::HashMap, net::IpAddr};

/// Top-level keys that ringdns has no counterpart of.
const NOT_HERE: [(&str, &str); 9] = [
    ("certFile", "ringdns answers over UDP and TCP"),
    ("keyFile", "ringdns answers over UDP and TCP"),
    ("minTlsServeVersion", "ringdns answers over UDP and TCP"),
    ("prometheus", "see control.http: /metrics"),
    ("log", "ringdnsd logs to standard error: see --log-format and `ringctl logging`"),
    ("bootstrapDns", "ringdns looks up no upstream: bootstrap has the addresses"),
    ("connectIPVersion", "each [[upstream]] has an address"),
    ("ecs", "ringdns sends no client subnet"),
    ("clientLookup", "see [client_names]"),
];

/// Maps a file.
pub fn read(root: &Node, draft: &mut Draft) {
    let mut groups = HashMap::new();
    for (key, line, value) in root.entries() {
        match key {
            "upstreams" => upstreams(value, root.get("conditional"), &mut groups, draft),
            "conditional" if root.get("upstreams").is_some() => {}
            "customDNS" => custom(value, draft),
            "ports" => ports(value, draft),
            "caching" => caching(value, draft),
            "blocking" => blocking(value, &mut groups, draft),
            "redis" => redis(value, draft),
            "hostsFile" => hosts(value, draft),
            "queryLog" => query_log(value, draft),
            "filtering" => skip_all(value, "filtering", "ringdns refuses no types of records", draft),
            "specialUseDomains" => {
                for (key, line, value) in value.entries() {
                    match key {
                        "enable" => {
                            draft.set(
                                "local",
                                "special_names",
                                value.text().and_then(truth) != Some(false),
                                line,
                            );
                        }
                        _ => draft.skip(line, format!("specialUseDomains.{key}"), "see local.special_names"),
                    }
                }
            }
            "dnssec" => {
                for (key, line, value) in value.entries() {
                    match key {
                        "validate" => {
                            draft.set("dnssec", "validate", value.text().and_then(truth) == Some(true), line)
                        }
                        _ => draft.skip(line, format!("dnssec.{key}"), "ringdns has no counterpart"),
                    }
                }
            }
            "ede" | "fqdnOnly" | "rebindingProtection" => switch(key, value, draft),
            _ if value.is_empty() => draft.is_default(line),
            _ => {
                let known = NOT_HERE.iter().find(|(name, _)| *name == key);
                draft.skip(line, key, known.map_or("ringdns has no counterpart", |(_, reason)| reason));
            }
        }
    }
}

/// Maps a feature that is on or off.
fn switch(feature: &str, node: &Node, draft: &mut Draft) {
    for (key, line, value) in node.entries() {
        match (feature, key, value.text().and_then(truth)) {
            (_, "enable", Some(false)) | ("ede", "enable", _) => draft.is_default(line),
            ("rebindingProtection", "enable", _) => draft.set("rebinding", "enabled", true, line),
            ("fqdnOnly", "enable", _) => draft.skip(line, feature, "ringdns passes single labels on"),
            _ => draft.skip(line, format!("{feature}.{key}"), "ringdns has no counterpart"),
        }
    }
}

/// Maps the upstreams of all names and of groups, and those of zones.
fn upstreams(
    node: &Node,
    conditional: Option<&Node>,
    groups: &mut HashMap<String, TableId>,
    draft: &mut Draft,
) {
    let mut known = Upstreams::default();
    let timeout = node.get("timeout").filter(|node| node.text().and_then(span).is_some());
    let mut ids = Vec::new();
    for (key, line, value) in node.entries() {
        match key {
            "groups" => {
                for (group, line, addresses) in value.entries() {
                    draft.is_default(line);
                    for one in addresses.elements() {
                        let id = known.add(draft, one.text().unwrap_or_default(), &[], one.line, group);
                        ids.extend(id);
                        if let (Some(id), true) = (id, group != "default") {
                            match group_of(group, line, groups, draft) {
                                Some(name) => draft.append(id, "groups", name, one.line),
                                None => {
                                    draft.skip(one.line, group, "groups of ringdns have clients by address")
                                }
                            }
                        }
                    }
                }
            }
            "strategy" => {
                let strategy = match value.text() {
                    Some("parallel_best") => "lowest-latency",
                    Some("random") => "round-robin",
                    _ => "failover",
                };
                draft.set("resolver", "strategy", strategy, line);
            }
            "timeout" | "init" => draft.is_default(line),
            _ => draft.skip(line, format!("upstreams.{key}"), "ringdns has no counterpart"),
        }
    }
    for (key, line, value) in conditional.into_iter().flat_map(Node::entries) {
        match key {
            "mapping" => {
                for (zone, line, addresses) in value.entries() {
                    if zone == "." {
                        draft.skip(line, zone, "upstreams without zones are asked for all other names");
                        continue;
                    }
                    for address in addresses.text().unwrap_or_default().split(',') {
                        ids.extend(known.add(draft, address, &[zone], line, zone));
                    }
                }
            }
            _ if value.text().and_then(truth) == Some(false) => draft.is_default(line),
            _ => draft.skip(line, format!("conditional.{key}"), "ringdns rewrites no names"),
        }
    }
    if let Some(timeout) = timeout {
        let text = timeout.text().and_then(span).unwrap_or_default();
        ids.into_iter().for_each(|id| draft.put(id, "timeout", text.as_str(), timeout.line));
    }
}

/// Returns the name of the group of clients that a key stands for: an address, a prefix.
fn group_of(
    clients: &str,
    line: usize,
    groups: &mut HashMap<String, TableId>,
    draft: &mut Draft,
) -> Option<String> {
    if clients == "default" {
        return Some("default".to_owned());
    }
    clients.split('/').next()?.parse::<IpAddr>().ok()?;
    let name = label(&clients.replace([':', '/'], "-"), "clients");
    if !groups.contains_key(&name) {
        let id = draft.add("client_group");
        draft.put(id, "name", name.as_str(), line);
        draft.append(id, "clients", clients, line);
        groups.insert(name.clone(), id);
    }
    Some(name)
}

fn custom(node: &Node, draft: &mut Draft) {
    let ttl = node.text_of("customTTL").and_then(span);
    for (key, line, value) in node.entries() {
        match key {
            "customTTL" => draft.is_default(line),
            "mapping" => {
                for (name, line, addresses) in value.entries() {
                    for address in addresses.text().unwrap_or_default().split(',') {
                        let Ok(ip) = address.trim().parse::<IpAddr>() else {
                            draft.skip(line, name, format!("{address:?} is no address"));
                            continue;
                        };
                        for name in [name.to_owned(), format!("*.{name}")] {
                            let id = record(draft, &name, address_type(ip), address.trim(), line);
                            if let Some(ttl) = &ttl {
                                draft.put(id, "ttl", ttl.as_str(), line);
                            }
                        }
                    }
                }
            }
            "zone" => draft.skip(line, "customDNS.zone", "write it into a file, for [[local_zone]]"),
            _ if value.is_empty() => draft.is_default(line),
            "filterUnmappedTypes" => draft.is_default(line),
            _ => draft.skip(line, format!("customDNS.{key}"), "ringdns rewrites no names"),
        }
    }
}

fn ports(node: &Node, draft: &mut Draft) {
    for (key, line, value) in node.entries() {
        for one in value.elements().iter().flat_map(|one| one.text().unwrap_or_default().split(',')) {
            let one = one.trim();
            let address = match one.parse::<u16>() {
                Ok(port) => listen("0.0.0.0", port),
                Err(_) => one.strip_prefix(':').map_or(one.to_owned(), |port| format!("0.0.0.0:{port}")),
            };
            match key {
                "dns" => draft.push("server", "listen", address, line),
                "http" => draft.set("control", "http", address, line),
                _ => draft.skip(line, format!("ports.{key}"), "ringdns answers over UDP and TCP"),
            }
        }
    }
}

fn caching(node: &Node, draft: &mut Draft) {
    for (key, line, value) in node.entries() {
        let text = value.text().unwrap_or_default();
        let time = |name, draft: &mut Draft| match span(text) {
            Some(time) if time == "0s" => draft.is_default(line),
            Some(time) => draft.set("cache", name, time, line),
            None => draft.skip(line, key, "it is no length of time"),
        };
        match key {
            "minTime" => time("min_ttl", draft),
            "maxTime" => time("max_ttl", draft),
            "cacheTimeNegative" => time("negative_max_ttl", draft),
            "prefetching" if truth(text) == Some(true) => draft.set("refresh", "sweep_window", "30s", line),
            "prefetching" => draft.is_default(line),
            "maxItemsCount" => draft.skip(line, key, "ringdns counts bytes: see cache.host_bytes"),
            "exclude" => draft.skip(line, key, "ringdns caches all names"),
            _ if key.starts_with("prefetch") => draft.skip(line, key, "see [refresh]"),
            _ => draft.skip(line, key, "ringdns has no counterpart"),
        }
    }
}

/// Names of the lists of each group of lists, by whether they block.
type GroupedLists = HashMap<(bool, String), Vec<String>>;

fn blocking(node: &Node, groups: &mut HashMap<String, TableId>, draft: &mut Draft) {
    let lists = lists(node, draft);
    client_groups(node, &lists, groups, draft);
    for (key, line, value) in node.entries() {
        match key {
            "denylists" | "blackLists" | "allowlists" | "whiteLists" | "clientGroupsBlock" | "blockType"
            | "blockTTL" => {
                draft.is_default(line);
            }
            "loading" => {
                for (key, line, _) in value.entries() {
                    match key {
                        "refreshPeriod" => draft.is_default(line),
                        _ => draft.skip(line, format!("loading.{key}"), "see [lists]"),
                    }
                }
            }
            _ => draft.skip(line, format!("blocking.{key}"), "ringdns has no counterpart"),
        }
    }
}

/// Maps lists. Returns the names of those of each group of lists.
fn lists(node: &Node, draft: &mut Draft) -> GroupedLists {
    let (answer, ttl) = (node.text_of("blockType"), node.text_of("blockTTL").and_then(span));
    let answer = answer.map(|answer| match answer {
        "zeroIp" | "zeroIP" => "null",
        "nxDomain" => "nxdomain",
        addresses => addresses.split(',').next().unwrap_or_default().trim(),
    });
    let refresh = node.get("loading").and_then(|node| node.text_of("refreshPeriod")).and_then(span);
    let mut lists = GroupedLists::new();
    for (key, table) in [
        ("denylists", "blocklist"),
        ("blackLists", "blocklist"),
        ("allowlists", "allowlist"),
        ("whiteLists", "allowlist"),
    ] {
        for (group, line, sources) in node.get(key).into_iter().flat_map(Node::entries) {
            draft.is_default(line);
            for (nth, source) in sources.elements().into_iter().enumerate() {
                let text = source.text().unwrap_or_default().trim();
                let is_url = text.contains("://");
                if !is_url && !text.starts_with('/') {
                    draft.skip(source.line, group, "write the names into a file, and name it as source");
                    continue;
                }
                let name = label(&format!("{group}-{}", nth + 1), "list");
                let id = draft.add(table);
                draft.put(id, "name", name.as_str(), line);
                draft.put(id, "source", text, source.line);
                let options = [("answer", answer), ("ttl", ttl.as_deref())];
                for (key, option) in options.into_iter().filter(|_| table == "blocklist") {
                    if let Some(option) = option {
                        draft.put(id, key, option, line);
                    }
                }
                if let Some(refresh) = refresh.as_deref().filter(|_| is_url) {
                    draft.put(id, "refresh", refresh, line);
                }
                lists.entry((table == "blocklist", group.to_owned())).or_default().push(name);
            }
        }
    }
    lists
}

/// Maps the groups of lists that decide for clients.
fn client_groups(
    node: &Node,
    lists: &GroupedLists,
    groups: &mut HashMap<String, TableId>,
    draft: &mut Draft,
) {
    for (clients, line, names) in node.get("clientGroupsBlock").into_iter().flat_map(Node::entries) {
        let id = match group_of(clients, line, groups, draft) {
            Some(name) if name == "default" => {
                let id = draft.add("client_group");
                draft.put(id, "name", "default", line);
                Some(id)
            }
            Some(name) => groups.get(&name).copied(),
            None => None,
        };
        let Some(id) = id else {
            draft.skip(line, clients, "groups of ringdns have clients by address");
            continue;
        };
        for (is_block, key) in [(true, "blocklists"), (false, "allowlists")] {
            let of = names.elements().into_iter().filter_map(Node::text);
            let of: Vec<String> = of
                .flat_map(|name| lists.get(&(is_block, name.to_owned())).cloned().unwrap_or_default())
                .collect();
            draft.put(id, key, of, line);
        }
    }
}

fn redis(node: &Node, draft: &mut Draft) {
    let Some(address) = node.get("address") else { return };
    for (key, line, value) in node.entries() {
        match key {
            "address" => {
                draft.set("redis", "url", format!("redis://{}", address.text().unwrap_or_default()), line);
            }
            "database" if value.text() == Some("0") => draft.is_default(line),
            "password" => draft.skip(line, "redis.password", "write it into a file for redis.password_file"),
            _ if value.is_empty() => draft.is_default(line),
            _ => draft.skip(line, format!("redis.{key}"), "see [redis]"),
        }
    }
}

fn hosts(node: &Node, draft: &mut Draft) {
    for (key, line, value) in node.entries() {
        match key {
            "sources" | "filePath" => {
                for one in value.elements() {
                    let text = one.text().unwrap_or_default();
                    match text.starts_with('/') {
                        true => draft.push("local", "hosts_files", text, one.line),
                        false => draft.skip(one.line, "hostsFile", "ringdns reads hosts files from disk"),
                    }
                }
            }
            "hostsTTL" => match value.text().and_then(span) {
                Some(ttl) => draft.set("local", "ttl", ttl, line),
                None => draft.skip(line, key, "it is no length of time"),
            },
            _ => draft.skip(line, format!("hostsFile.{key}"), "hosts files are read again when they change"),
        }
    }
}

fn query_log(node: &Node, draft: &mut Draft) {
    for (key, line, value) in node.entries() {
        match (key, value.text()) {
            ("type", Some("none") | None) => draft.is_default(line),
            ("type", Some(_)) => draft.set("query_log", "enabled", true, line),
            ("target", Some(folder)) if folder.starts_with('/') => {
                draft.set("query_log", "spool_dir", folder, line)
            }
            _ => draft.skip(line, format!("queryLog.{key}"), "see [query_log] and [clickhouse]"),
        }
    }
}

fn skip_all(node: &Node, path: &str, reason: &str, draft: &mut Draft) {
    node.entries().for_each(|(key, line, _)| draft.skip(line, format!("{path}.{key}"), reason));
}
