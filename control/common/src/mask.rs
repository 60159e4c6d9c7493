//! Masks addresses in the output of programs (logs of servers, messages) before it is
//! sent away.

use std::net::{IpAddr, Ipv4Addr};

/// Returns `text` with MAC and IP addresses replaced. Loopback, wildcard and the addresses that the
/// kit assigns itself stay: they reveal nothing about a network.
pub fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(start) = rest.find(is_of_address) {
        let (skipped, found) = rest.split_at(start);
        masked.push_str(skipped);
        before = skipped.chars().next_back().or(before);
        let end = found.find(|c| !is_of_address(c)).unwrap_or(found.len());
        let (token, after) = found.split_at(end);
        // Part of a word, as in `add::new`, or of a version, as in `v1.2.3.4`.
        let within_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        if before.is_some_and(within_word) || after.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            masked.push_str(token);
        } else {
            mask_token(token, &mut masked);
        }
        before = token.chars().next_back();
        rest = after;
    }
    masked.push_str(rest);
    masked
}

fn is_of_address(c: char) -> bool {
    c.is_ascii_hexdigit() || c == ':' || c == '.'
}

fn mask_token(token: &str, masked: &mut String) {
    // A full stop or a colon after an address belongs to the sentence, unless the colons end an
    // IPv6 prefix.
    let address = if token.ends_with("::") { token } else { token.trim_end_matches([':', '.']) };
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if host.parse::<Ipv4Addr>().is_ok() => (host, Some(port)),
        _ => (address, None),
    };
    let name = match host.parse::<IpAddr>() {
        Ok(ip) if is_known(ip) => None,
        Ok(IpAddr::V4(_)) => Some("IPV4"),
        Ok(IpAddr::V6(_)) => Some("IPV6"),
        Err(_) => is_mac(host).then_some("MAC"),
    };
    let Some(name) = name else { return masked.push_str(token) };
    masked.push_str(name);
    if let Some(port) = port {
        masked.push(':');
        masked.push_str(port);
    }
    masked.push_str(&token[address.len()..]);
}

fn is_known(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || matches!(ip, IpAddr::V4(v4) if v4.octets()[..2] == [198, 18])
}

fn is_mac(text: &str) -> bool {
    text.split(':').count() == 6
        && text.split(':').all(|byte| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_masked_and_their_ports_stay() {
        let text = "listen=[192.0.2.7:53, [2001:db8::7]:53] mac 02:00:5e:aa:bb:cc, gateway 192.0.2.1. via fe80::1%eth1";
        let expected = "listen=[IPV4:53, [IPV6]:53] mac MAC, gateway IPV4. via IPV6%eth1";
        assert_eq!(mask(text), expected);
        assert_eq!(mask("2001:db8::/32 and 10.1.2.0/24"), "IPV6/32 and IPV4/24");
    }

    #[test]
    fn what_only_looks_like_an_address_stays() {
        for text in [
            "2026-11-28T06:14:22.123456Z  INFO ringdns_xdp: ready",
            "feed::add::dead is a path",
            "bus 0000:3b:00.0, driver v6.1.0.13, kernel 6.12.57+deb13-amd64",
            "upstream 127.0.0.1:5301, [::1]:53, 0.0.0.0, 198.18.53.2:53",
        ] {
            assert_eq!(mask(text), text);
        }
    }
}
