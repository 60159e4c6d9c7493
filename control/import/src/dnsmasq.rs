//! `dnsmasq.conf`.

use crate::{
    draft::Draft,
    values::{Upstreams, address_type, listen, record, reverse_zone, seconds},
};
use std::net::IpAddr;

/// Reason for keys of DHCP and its relatives.
const DHCP: &str = "ringdns is no DHCP, TFTP or router advertisement server";
/// Reason for keys that the unit has.
const UNIT: &str = "the systemd unit of ringdnsd decides that";

/// Keys that ringdns has no counterpart of, by the beginning of their names.
const NOT_HERE: [(&str, &str); 27] = [
    ("dhcp-", DHCP),
    ("dhcp", DHCP),
    ("tftp", DHCP),
    ("enable-tftp", DHCP),
    ("enable-ra", DHCP),
    ("pxe-", DHCP),
    ("ra-", DHCP),
    ("read-ethers", DHCP),
    ("user", UNIT),
    ("group", UNIT),
    ("pid-file", UNIT),
    ("keep-in-foreground", UNIT),
    ("log-facility", "ringdnsd logs to standard error"),
    ("log-async", "a thread of its own writes the log"),
    ("log-dhcp", DHCP),
    ("conf-file", "import that file too"),
    ("conf-dir", "import those files too"),
    ("servers-file", "import that file too"),
    ("addn-hosts-dir", "name each file in local.hosts_files"),
    ("hostsdir", "name each file in local.hosts_files"),
    ("interface", "write its addresses into server.listen; AF_XDP takes the name in server.interface"),
    ("except-interface", "ringdns answers at the addresses of server.listen"),
    ("cache-size", "ringdns counts bytes: see cache.host_bytes and cache.bytes_per_worker"),
    ("expand-hosts", "write complete names into the hosts files"),
    ("domain", "write complete names into the hosts files"),
    ("ipset", "ringdns fills sets of nftables: see [[nftset]]"),
    ("trust-anchor", "ringdns has the root's keys; others go into dnssec.trust_anchor_file"),
];

/// Keys that say what ringdns does anyway.
const DEFAULTS: [&str; 12] = [
    "bind-interfaces",
    "bind-dynamic",
    "bogus-priv",
    "domain-needed",
    "dnssec-check-unsigned",
    "local-service",
    "no-hosts",
    "no-poll",
    "no-resolv",
    "strict-order",
    "no-negcache-never",
    "localise-queries",
];

/// Maps a file.
pub fn read(text: &str, draft: &mut Draft) {
    let mut state = State::default();
    for (at, line) in text.lines().enumerate() {
        let end = line.find('#').filter(|end| *end == 0 || line[..*end].ends_with([' ', '\t']));
        let line = line[..end.unwrap_or(line.len())].trim();
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if !key.is_empty() {
            state.line(key.trim(), value.trim(), at + 1, draft);
        }
    }
    for (address, line) in std::mem::take(&mut state.listen) {
        draft.push("server", "listen", listen(&address, state.port), line);
    }
    if state.has_hosts {
        draft.push("local", "hosts_files", "/etc/hosts", 0);
    }
}

struct State {
    port: u16,
    listen: Vec<(String, usize)>,
    has_hosts: bool,
    upstreams: Upstreams,
}

impl Default for State {
    fn default() -> Self {
        State { port: 53, listen: Vec::new(), has_hosts: true, upstreams: Upstreams::default() }
    }
}

impl State {
    fn line(&mut self, key: &str, value: &str, line: usize, draft: &mut Draft) {
        match key {
            "no-hosts" => {
                self.has_hosts = false;
                draft.is_default(line);
            }
            "port" => match value.parse() {
                Ok(port) if port > 0 => {
                    self.port = port;
                    draft.is_default(line);
                }
                _ => draft.skip(line, key, "there is no such port to answer at"),
            },
            "listen-address" => {
                self.listen.extend(value.split(',').map(|address| (address.trim().to_owned(), line)));
                draft.is_default(line);
            }
            "server" | "local" => self.server(key, value, line, draft),
            "rev-server" => self.rev_server(value, line, draft),
            "address" => address(value, line, draft),
            "host-record" => host_record(value, line, draft),
            "cname" | "txt-record" | "mx-host" | "srv-host" | "ptr-record" | "caa-record" => {
                other_record(key, value, line, draft);
            }
            "addn-hosts" => draft.push("local", "hosts_files", value, line),
            "dhcp-leasefile" | "dhcp-lease-file" => draft.push("client_names", "lease_files", value, line),
            "min-cache-ttl" => time(draft, ("cache", "min_ttl"), value, line, key),
            "max-cache-ttl" => time(draft, ("cache", "max_ttl"), value, line, key),
            "neg-ttl" => time(draft, ("cache", "negative_max_ttl"), value, line, key),
            "local-ttl" => time(draft, ("local", "ttl"), value, line, key),
            "use-stale-cache" => draft.set("cache", "serve_stale", true, line),
            "stop-dns-rebind" => draft.set("rebinding", "enabled", true, line),
            "rebind-domain-ok" => {
                for name in value.split('/').filter(|name| !name.is_empty()) {
                    draft.push("rebinding", "allow", name, line);
                }
            }
            "dnssec" => draft.set("dnssec", "validate", true, line),
            "log-queries" => draft.set("query_log", "enabled", true, line),
            "all-servers" => draft.set("resolver", "strategy", "lowest-latency", line),
            "nftset" => nftset(value, line, draft),
            _ if DEFAULTS.contains(&key) => draft.is_default(line),
            _ => {
                let known = NOT_HERE.iter().find(|(start, _)| key.starts_with(start));
                draft.skip(line, key, known.map_or("ringdns has no counterpart", |(_, reason)| reason));
            }
        }
    }

    /// Maps `/name/name/address#port@interface`.
    fn server(&mut self, key: &str, value: &str, line: usize, draft: &mut Draft) {
        let mut parts: Vec<&str> = value.split('/').collect();
        let address = parts.pop().unwrap_or_default();
        let zones: Vec<&str> = parts.into_iter().filter(|zone| !zone.is_empty()).collect();
        if address.is_empty() {
            for zone in &zones {
                let id = draft.add("local_zone");
                draft.put(id, "name", *zone, line);
            }
            return;
        }
        if address == "#" {
            return draft.skip(line, key, "names in no zone of an [[upstream]] go to the others anyway");
        }
        let address = address.split('@').next().unwrap_or_default();
        let (ip, port) = address.split_once('#').unwrap_or((address, "53"));
        let ip = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        self.upstreams.add(draft, &format!("{ip}:{port}"), &zones, line, key);
    }

    fn rev_server(&mut self, value: &str, line: usize, draft: &mut Draft) {
        let zone = value.split_once(',').and_then(|(prefix, server)| Some((reverse_zone(prefix)?, server)));
        match zone {
            Some((zone, server)) => self.server("rev-server", &format!("/{zone}/{server}"), line, draft),
            None => {
                draft.skip(line, "rev-server", "write the reverse zone into the zones of an [[upstream]]")
            }
        }
    }
}

/// Maps `/name/name/address`.
fn address(value: &str, line: usize, draft: &mut Draft) {
    let mut parts: Vec<&str> = value.split('/').collect();
    let address = parts.pop().unwrap_or_default();
    let names: Vec<&str> = parts.into_iter().filter(|name| !name.is_empty()).collect();
    let Ok(ip) = address.parse::<IpAddr>() else {
        let reason =
            "write the line into a file, and name it as source of a [[blocklist]] with format = \"dnsmasq\"";
        return draft.skip(line, "address", reason);
    };
    if names.is_empty() || names.contains(&"#") {
        return draft.skip(line, "address", "ringdns answers no name of any kind with one address");
    }
    for name in names {
        let name = name.trim_start_matches("*.").trim_start_matches('.');
        record(draft, name, address_type(ip), address, line);
        record(draft, &format!("*.{name}"), address_type(ip), address, line);
    }
}

/// Maps `name,name,address,address,ttl`.
fn host_record(value: &str, line: usize, draft: &mut Draft) {
    let words: Vec<&str> = value.split(',').map(str::trim).collect();
    let addresses: Vec<IpAddr> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let ttl = words.last().filter(|word| is_number(word));
    let names = words.iter().filter(|word| word.parse::<IpAddr>().is_err() && !is_number(word));
    for name in names {
        for ip in &addresses {
            let id = record(draft, name, address_type(*ip), &ip.to_string(), line);
            if let Some(ttl) = ttl {
                draft.put(id, "ttl", format!("{ttl}s"), line);
            }
        }
    }
    if addresses.is_empty() {
        draft.skip(line, "host-record", "it has no address");
    }
}

fn other_record(key: &str, value: &str, line: usize, draft: &mut Draft) {
    let words: Vec<&str> = value.split(',').map(|word| word.trim().trim_matches('"')).collect();
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let number = |at: usize| words.get(at).copied().unwrap_or("0");
    let (rtype, data) = match key {
        "cname" => {
            let [names @ .., target] = &words[..] else { return draft.skip(line, key, "it has no target") };
            for name in names {
                record(draft, name, "CNAME", target, line);
            }
            if names.is_empty() {
                draft.skip(line, key, "it has no target");
            }
            return;
        }
        "txt-record" => {
            ("TXT", words.iter().skip(1).map(|text| format!("{text:?}")).collect::<Vec<_>>().join(" "))
        }
        "mx-host" => ("MX", format!("{} {}", if words.len() > 2 { word(2) } else { "1" }, word(1))),
        "srv-host" => ("SRV", format!("{} {} {} {}", number(3), number(4), number(2), word(1))),
        "ptr-record" => ("PTR", word(1).to_owned()),
        _ => ("CAA", format!("{} {} {:?}", word(1), word(2), word(3))),
    };
    if words.len() < 2 {
        return draft.skip(line, key, "it has no data");
    }
    record(draft, word(0), rtype, &data, line);
}

/// Maps `/name/name/4#family#table#set`.
fn nftset(value: &str, line: usize, draft: &mut Draft) {
    let mut parts: Vec<&str> = value.split('/').collect();
    let sets = parts.pop().unwrap_or_default();
    let names: Vec<&str> = parts.into_iter().filter(|name| !name.is_empty()).collect();
    for set in sets.split(',') {
        let words: Vec<&str> = set.split('#').collect();
        let (keys, words) = match &words[..] {
            ["4", rest @ ..] => (&["set4"][..], rest),
            ["6", rest @ ..] => (&["set6"][..], rest),
            rest => (&["set4", "set6"][..], rest),
        };
        let [family, table, set] = words else {
            return draft.skip(line, "nftset", "write the family, the table and the set");
        };
        let id = draft.add("nftset");
        for name in &names {
            draft.append(id, "suffixes", *name, line);
        }
        draft.put(id, "table", format!("{family} {table}"), line);
        for key in keys {
            draft.put(id, key, *set, line);
        }
    }
}

fn time(draft: &mut Draft, (table, name): (&'static str, &'static str), value: &str, line: usize, key: &str) {
    match seconds(value) {
        Some(time) => draft.set(table, name, time, line),
        None => draft.skip(line, key, "it is no number of seconds"),
    }
}
