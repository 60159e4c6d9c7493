//! Values that several formats share: upstreams, times, sizes, names.

use crate::draft::{Draft, TableId};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

/// Addresses of well-known resolvers, by host name: ringdns looks up no name of an upstream.
const RESOLVERS: [(&str, [&str; 2]); 9] = [
    ("dns.quad9.net", ["9.9.9.9", "149.112.112.112"]),
    ("dns10.quad9.net", ["9.9.9.10", "149.112.112.10"]),
    ("dns.google", ["8.8.8.8", "8.8.4.4"]),
    ("cloudflare-dns.com", ["1.1.1.1", "1.0.0.1"]),
    ("one.one.one.one", ["1.1.1.1", "1.0.0.1"]),
    ("security.cloudflare-dns.com", ["1.1.1.2", "1.0.0.2"]),
    ("family.cloudflare-dns.com", ["1.1.1.3", "1.0.0.3"]),
    ("dns.adguard-dns.com", ["94.140.14.14", "94.140.15.15"]),
    ("dns.mullvad.net", ["194.242.2.2", "194.242.2.3"]),
];

/// Reverse zones of private addresses (RFC 6303), for upstreams that are asked for them.
pub const PRIVATE_REVERSE: [&str; 5] =
    ["10.in-addr.arpa", "168.192.in-addr.arpa", "d.f.ip6.arpa", "8.e.f.ip6.arpa", "254.169.in-addr.arpa"];

/// Upstreams of a draft. Each address is listed once, with all its zones.
#[derive(Default)]
pub struct Upstreams {
    known: HashMap<String, (TableId, bool)>,
}

impl Upstreams {
    /// Adds an upstream for zones; without zones, for all names. Returns its table; `None`: it is
    /// reported.
    pub fn add(
        &mut self,
        draft: &mut Draft,
        address: &str,
        zones: &[&str],
        line: usize,
        key: &str,
    ) -> Option<TableId> {
        let (address, bootstrap) = match upstream(address) {
            Ok(found) => found,
            Err(reason) => {
                draft.skip(line, key, reason);
                return None;
            }
        };
        let id = match self.known.get(&address) {
            Some((_, false)) if zones.is_empty() => {
                draft.skip(
                    line,
                    key,
                    format!("{address} is asked for some zones already; ringdns lists each address once"),
                );
                return None;
            }
            Some((_, true)) if !zones.is_empty() => {
                draft.skip(line, key, format!("{address} is asked for all names already"));
                return None;
            }
            Some((id, _)) => *id,
            None => {
                let id = draft.add("upstream");
                draft.put(id, "address", address.clone(), line);
                for ip in bootstrap {
                    draft.append(id, "bootstrap", *ip, line);
                }
                self.known.insert(address, (id, zones.is_empty()));
                id
            }
        };
        for zone in zones {
            draft.append(id, "zones", zone.trim_matches('.'), line);
        }
        draft.is_default(line);
        Some(id)
    }
}

/// Returns an upstream as ringdns writes it, and the addresses of its host.
fn upstream(text: &str) -> Result<(String, &'static [&'static str]), String> {
    let text = text.trim();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (scheme.to_lowercase(), rest),
        None => match text.split_once(':') {
            // blocky: `tcp-tls:9.9.9.9:853#name`, `tcp+udp:9.9.9.9`.
            Some((scheme @ ("tcp-tls" | "tcp+udp" | "https"), rest)) => {
                (scheme.to_owned(), rest.trim_start_matches('/'))
            }
            _ => ("udp".to_owned(), text),
        },
    };
    let scheme = match scheme.as_str() {
        "udp" | "tcp+udp" => "udp",
        "tcp" => "tcp",
        "tls" | "tcp-tls" => "tls",
        "https" => "https",
        other => return Err(format!("ringdns has no upstreams over {other}: use udp, tcp, tls or https")),
    };
    let host = match scheme {
        "https" => rest.split(['/', '?']).next().unwrap_or_default(),
        _ => rest.split('#').next().unwrap_or_default(),
    };
    let host = match host.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && !host.contains(':') => host,
        _ => host,
    };
    let is_address = host.parse::<IpAddr>().is_ok()
        || host.parse::<SocketAddr>().is_ok()
        || (host.starts_with('[') && host.contains(']'))
        || host.contains('%');
    let whole = format!("{scheme}://{}", bracketed(rest));
    if is_address {
        return Ok((whole, &[]));
    }
    match RESOLVERS.iter().find(|(name, _)| *name == host) {
        Some((_, addresses)) => Ok((whole, addresses)),
        None if host.is_empty() => Err("there is no address in it".to_owned()),
        None => Err(format!(
            "ringdns does not look up {host:?}: add an [[upstream]] with bootstrap = [its IP addresses]"
        )),
    }
}

/// Returns an address with a name behind it, an IPv6 address in brackets.
fn bracketed(rest: &str) -> String {
    let (address, name) = rest.split_once('#').map_or((rest, None), |(address, name)| (address, Some(name)));
    let plain = address.split('%').next().unwrap_or_default();
    let address = match plain.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{address}]"),
        _ => address.to_owned(),
    };
    name.map_or(address.clone(), |name| format!("{address}#{name}"))
}

/// Returns an address to listen on.
pub fn listen(address: &str, port: u16) -> String {
    match address.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => address.to_owned(),
    }
}

/// Returns a time as ringdns writes it, from seconds.
pub fn seconds(text: &str) -> Option<String> {
    Some(format!("{}s", text.trim().parse::<u64>().ok()?))
}

/// Returns a time as ringdns writes it, from milliseconds.
pub fn millis(text: &str) -> Option<String> {
    Some(format!("{}ms", text.trim().parse::<u64>().ok()?))
}

/// Returns a time as ringdns writes it, from one such as `1h30m` (Go).
pub fn span(text: &str) -> Option<String> {
    let (mut total, mut digits, mut rest) = (0_u64, String::new(), text.trim());
    if rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return seconds(rest);
    }
    while let Some(c) = rest.chars().next() {
        if c.is_ascii_digit() {
            digits.push(c);
            rest = &rest[1..];
            continue;
        }
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        let (unit, size) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        total = total.checked_add(digits.parse::<u64>().ok()?.checked_mul(size)?)?;
        digits.clear();
        rest = &rest[unit.len()..];
    }
    if !digits.is_empty() {
        return None;
    }
    Some(if total % 1_000 == 0 { format!("{}s", total / 1_000) } else { format!("{total}ms") })
}

/// Returns a size as ringdns writes it, from one such as `64m` (Unbound).
pub fn size(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let text = text.trim_end_matches('b');
    let (digits, unit) = match text.chars().last()? {
        'k' => (&text[..text.len() - 1], "KiB"),
        'm' => (&text[..text.len() - 1], "MiB"),
        'g' => (&text[..text.len() - 1], "GiB"),
        _ => (text, "B"),
    };
    Some(format!("{}{unit}", digits.parse::<u64>().ok()?))
}

/// Returns a truth as formats write it.
pub fn truth(text: &str) -> Option<bool> {
    match text.trim().to_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Some(true),
        "no" | "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Returns the type of an address record.
pub fn address_type(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "A" } else { "AAAA" }
}

/// Returns the reverse name of an address.
pub fn reverse(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// Returns the reverse zone of a prefix whose length is a whole number of labels.
pub fn reverse_zone(prefix: &str) -> Option<String> {
    let (ip, length) = prefix.split_once('/')?;
    let (ip, length): (IpAddr, usize) = (ip.parse().ok()?, length.parse().ok()?);
    let bits = if ip.is_ipv4() { 8 } else { 4 };
    let all = if ip.is_ipv4() { 32 } else { 128 };
    if length == 0 || length > all || length % bits != 0 {
        return None;
    }
    let name = reverse(ip);
    let skipped = (all - length) / bits;
    Some(name.splitn(skipped + 1, '.').last()?.to_owned())
}

/// Adds a local record.
pub fn record(draft: &mut Draft, name: &str, rtype: &str, data: &str, line: usize) -> TableId {
    let id = draft.add("local_record");
    draft.put(id, "name", name.trim_end_matches('.'), line);
    draft.put(id, "type", rtype.to_uppercase(), line);
    draft.put(id, "data", data, line);
    id
}

/// Returns a name of a list or a group that ringdns takes, made of any text.
pub fn label(text: &str, fallback: &str) -> String {
    let word: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
        .take(60)
        .collect();
    let word = word.trim_matches('-').to_owned();
    if word.is_empty() { fallback.to_owned() } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_written_as_ringdns_does() {
        for (text, written) in [
            ("9.9.9.9", "udp://9.9.9.9"),
            ("9.9.9.9:5353", "udp://9.9.9.9:5353"),
            ("tls://9.9.9.9#dns.quad9.net", "tls://9.9.9.9#dns.quad9.net"),
            ("tcp-tls:9.9.9.9:853#dns.quad9.net", "tls://9.9.9.9:853#dns.quad9.net"),
            ("tcp+udp:2620:fe::fe", "udp://[2620:fe::fe]"),
            ("https://dns.quad9.net/dns-query", "https://dns.quad9.net/dns-query"),
            ("[2620:fe::fe]:53", "udp://[2620:fe::fe]:53"),
        ] {
            assert_eq!(upstream(text).map(|found| found.0), Ok(written.to_owned()), "{text}");
        }
        for wrong in
            ["quic://9.9.9.9", "sdns://AQcA", "tls://resolver.example", "", "h3://dns.google/dns-query"]
        {
            assert!(upstream(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_sizes_and_reverse_zones_are_read() {
        assert_eq!(span("1h30m"), Some("5400s".into()));
        assert_eq!(span("250ms"), Some("250ms".into()));
        assert_eq!(span("90"), Some("90s".into()));
        assert_eq!((span("soon"), span("5x"), span("5h3")), (None, None, None));
        assert_eq!(size("64m"), Some("64MiB".into()));
        assert_eq!(size("4194304"), Some("4194304B".into()));
        assert_eq!(reverse_zone("192.168.3.0/24"), Some("3.168.192.in-addr.arpa".into()));
        assert_eq!(reverse_zone("10.0.0.0/8"), Some("10.in-addr.arpa".into()));
        assert_eq!(reverse_zone("2001:db8::/32"), Some("8.b.d.0.1.0.0.2.ip6.arpa".into()));
        assert_eq!((reverse_zone("10.0.0.0/9"), reverse_zone("10.0.0.0/0")), (None, None));
    }
}
