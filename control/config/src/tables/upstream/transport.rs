//! Transports and addresses of upstreams, as the keys `address` and `bootstrap` say.

use super::{RawUpstream, UpstreamKeys, address::UpstreamAddress};
use crate::error::Problem;
use http::Uri;
use rustls::pki_types::{DnsName, ServerName};
use std::path::PathBuf;

const DNS: u16 = 53;
const DNS_OVER_TLS: u16 = 853;
const HTTPS: u16 = 443;

/// Transport of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP, and TCP for answers that do not fit.
    Udp,
    /// TCP alone.
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls(TlsConfig),
    /// DNS over HTTPS (RFC 8484), at this URL.
    Https(TlsConfig, Uri),
}

impl Transport {
    /// Returns the transport's name in addresses and statistics.
    pub fn label(&self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls(_) => "tls",
            Transport::Https(..) => "https",
        }
    }

    /// Returns the TLS options, if TLS is used.
    pub fn tls(&self) -> Option<&TlsConfig> {
        match self {
            Transport::Udp | Transport::Tcp => None,
            Transport::Tls(tls) | Transport::Https(tls, _) => Some(tls),
        }
    }
}

/// TLS options of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Name or address that its certificate must be valid for.
    pub name: ServerName<'static>,
    /// File with the trusted CAs; `None`: the system's CAs.
    pub ca_file: Option<PathBuf>,
}

/// Addresses, name and transport of an upstream, as its `address` and `bootstrap` say.
pub struct Reached {
    pub addresses: Vec<UpstreamAddress>,
    pub host: Option<String>,
    pub transport: Transport,
}

impl RawUpstream {
    /// Parses `address` and `bootstrap`.
    pub(super) fn reached(&self, keys: &UpstreamKeys) -> Result<Reached, Problem> {
        let Some(text) = &self.address else {
            let remedy = "Add address = \"9.9.9.9:53\" or the like";
            return Err(keys.address("an upstream needs an address", remedy));
        };
        let reached = match text.split_once("://") {
            None => plain(keys, text, self, Transport::Udp)?,
            Some(("udp", rest)) => plain(keys, rest, self, Transport::Udp)?,
            Some(("tcp", rest)) => plain(keys, rest, self, Transport::Tcp)?,
            Some(("tls", rest)) => over_tls(keys, rest, self)?,
            Some(("https", _)) => over_https(keys, text, self)?,
            Some((scheme @ ("quic" | "h3"), _)) => {
                let remedy = "Use tls:// or https://, or the plain udp:// or tcp://";
                return Err(keys.address(format!("{scheme}:// is not supported"), remedy));
            }
            Some((scheme, _)) => {
                let remedy = "Use udp://, tcp://, tls:// or https://, or a plain \"ip:port\"";
                return Err(keys.address(format!("{scheme}:// is not a transport"), remedy));
            }
        };
        for address in &reached.addresses {
            if let Some((reason, remedy)) = address.unusable() {
                return Err(keys.address(reason, &remedy));
            }
        }
        Ok(reached)
    }
}

/// Parses an upstream over UDP or TCP: an address or a name with a port, and no TLS options.
fn plain(
    keys: &UpstreamKeys,
    text: &str,
    raw: &RawUpstream,
    transport: Transport,
) -> Result<Reached, Problem> {
    let label = transport.label();
    if text.contains('#') {
        let remedy = "Remove \"#...\", or ask over tls://";
        return Err(keys.address(format!("{label}:// has no certificate to find a name in"), remedy));
    }
    if raw.tls_ca_file.is_some() {
        let remedy = "Remove the key, or use tls:// or https://";
        return Err(keys.of("tls_ca_file", format!("there are no certificates over {label}://"), remedy));
    }
    let remedy = "Write \"9.9.9.9:53\", \"[2620:fe::fe]:53\" or \"[fe80::1%eth0]:53\"; or a host name, with its \
                  addresses in bootstrap";
    let (host, own, port) = host_and_port(text, DNS)
        .filter(|(host, own, _)| own.is_some() || DnsName::try_from(&**host).is_ok())
        .ok_or_else(|| keys.address(format!("{text:?} is no IP address or host name with a port"), remedy))?;
    let named = own.is_none().then(|| host.clone());
    Ok(Reached { addresses: addresses(keys, &host, own, port, raw)?, host: named, transport })
}

/// Parses `tls://9.9.9.9:853#dns.quad9.net`: an address or a name with a port, and the name in the
/// certificate if it differs.
fn over_tls(keys: &UpstreamKeys, rest: &str, raw: &RawUpstream) -> Result<Reached, Problem> {
    let (place, pinned) = match rest.split_once('#') {
        Some((place, pinned)) => (place, Some(pinned)),
        None => (rest, None),
    };
    if place.contains('/') {
        let remedy = "Write \"tls://9.9.9.9#dns.quad9.net\"; paths are for https://";
        return Err(keys.address(format!("there is a path in {place:?}"), remedy));
    }
    let (host, own, port) = host_and_port(place, DNS_OVER_TLS).ok_or_else(|| bad_host(keys, place))?;
    let name = server_name(keys, pinned.unwrap_or(&host))?;
    let tls = TlsConfig { name, ca_file: raw.tls_ca_file.clone().map(Into::into) };
    Ok(Reached {
        addresses: addresses(keys, &host, own, port, raw)?,
        host: None,
        transport: Transport::Tls(tls),
    })
}

/// Parses `https://dns.quad9.net/dns-query`: a URL (RFC 8484) whose host is the name in the
/// certificate.
fn over_https(keys: &UpstreamKeys, text: &str, raw: &RawUpstream) -> Result<Reached, Problem> {
    let example = "Write it as \"https://dns.quad9.net/dns-query\"";
    // RFC 8484 ends its URI templates in `{?dns}`, which is for GET; queries are sent by POST.
    let url = text.strip_suffix("{?dns}").unwrap_or(text);
    if url.contains('#') {
        let remedy = "Put the name into the URL, and its addresses into bootstrap";
        return Err(keys.address("the name in the certificate is the URL's host", remedy));
    }
    let (url, zone) = without_zone(url);
    let uri: Uri =
        url.parse().map_err(|error| keys.address(format!("{url:?} is no URL: {error}"), example))?;
    let Some(authority) = uri.authority().filter(|authority| !authority.as_str().contains('@')) else {
        return Err(keys.address(format!("{url:?} is not a URL with a host alone"), example));
    };
    if uri.path() == "/" && !url.ends_with('/') {
        return Err(keys.address(format!("{url:?} has no path"), example));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(HTTPS);
    let own = match &zone {
        Some(zone) => UpstreamAddress::at(&format!("{host}%{zone}"), port),
        None => UpstreamAddress::at(host, port),
    };
    let name = server_name(keys, host)?;
    let tls = TlsConfig { name, ca_file: raw.tls_ca_file.clone().map(Into::into) };
    Ok(Reached {
        addresses: addresses(keys, host, own, port, raw)?,
        host: None,
        transport: Transport::Https(tls, uri),
    })
}

/// Takes the zone out of a URL's IPv6 address, `%25eth0` (RFC 6874) or `%eth0`: it means something
/// on this host alone, and the server must not see it.
fn without_zone(url: &str) -> (String, Option<String>) {
    let zone = url.split_once("://[").and_then(|(_, rest)| rest.split_once(']')?.0.split_once('%'));
    let Some((_, zone)) = zone else { return (url.to_owned(), None) };
    let bare = url.replacen(&format!("%{zone}]"), "]", 1);
    (bare, Some(zone.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(zone).to_owned()))
}

/// Returns an upstream's addresses: its own, or those of `bootstrap`.
fn addresses(
    keys: &UpstreamKeys,
    host: &str,
    own: Option<UpstreamAddress>,
    port: u16,
    raw: &RawUpstream,
) -> Result<Vec<UpstreamAddress>, Problem> {
    let mut addresses = Vec::new();
    for (at, text) in raw.bootstrap.iter().enumerate() {
        addresses.push(UpstreamAddress::at(text, port).ok_or_else(|| {
            let remedy =
                "Write \"9.9.9.9\", \"2620:fe::fe\" or \"fe80::1%eth0\"; the port is that of the address";
            keys.of(&format!("bootstrap[{at}]"), format!("{text:?} is no IP address"), remedy)
        })?);
    }
    match own {
        Some(own) if addresses.is_empty() => Ok(vec![own]),
        Some(_) => {
            let remedy = "Remove the key, or write the name in place of the address";
            Err(keys.of("bootstrap", format!("{host} is an address already"), remedy))
        }
        None if addresses.is_empty() => {
            let remedy = "Add bootstrap with its addresses, such as bootstrap = [\"9.9.9.9\"]: names cannot be looked up before \
                 there is a resolver";
            Err(keys.address(format!("the address of {host} is not known"), remedy))
        }
        None => Ok(addresses),
    }
}

fn server_name(keys: &UpstreamKeys, name: &str) -> Result<ServerName<'static>, Problem> {
    ServerName::try_from(name.to_owned()).map_err(|_| bad_host(keys, name))
}

fn bad_host(keys: &UpstreamKeys, name: &str) -> Problem {
    let remedy = "Write \"tls://9.9.9.9:853#dns.quad9.net\" or \"https://dns.quad9.net/dns-query\"";
    keys.address(format!("{name:?} is neither an IP address nor a host name"), remedy)
}

/// Splits a host from its port; `port` is the default. Returns the host's name or IP address, its
/// whole address if it is one, and the port.
fn host_and_port(text: &str, port: u16) -> Option<(String, Option<UpstreamAddress>, u16)> {
    if let Some(address) = UpstreamAddress::parse(text, port) {
        return Some((address.ip.to_string(), Some(address.clone()), address.port));
    }
    match text.split_once(':') {
        Some((host, port)) => Some((host.to_owned(), None, port.parse().ok()?)),
        None => Some((text.to_owned(), None, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, parse, refused};

    const HEAD: &str = "[server]\nlisten = [\"127.0.0.1:5300\"]\n[[upstream]]\n";

    #[test]
    fn upstream_addresses() {
        for (text, address, transport) in [
            ("9.9.9.9", "9.9.9.9:53", Transport::Udp),
            ("9.9.9.9:5353", "9.9.9.9:5353", Transport::Udp),
            ("udp://9.9.9.9", "9.9.9.9:53", Transport::Udp),
            ("tcp://[2620:fe::fe]:53", "[2620:fe::fe]:53", Transport::Tcp),
            ("2620:fe::fe", "[2620:fe::fe]:53", Transport::Udp),
            ("[fe80::1%eth0]:5353", "[fe80::1%eth0]:5353", Transport::Udp),
            ("tcp://fe80::1%br-lan.7", "[fe80::1%br-lan.7]:53", Transport::Tcp),
            ("udp://[fe80::1%2]", "[fe80::1%2]:53", Transport::Udp),
        ] {
            let config = parse(&MINIMAL.replace("127.0.0.1:5301", text)).unwrap();
            let upstream = &config.upstreams[0];
            let reached: Vec<_> = upstream.addresses.iter().map(ToString::to_string).collect();
            assert_eq!(
                (&reached[..], &upstream.transport),
                (&[address.to_owned()][..], &transport),
                "{text}"
            );
        }
    }

    #[test]
    fn upstreams_over_tls_are_reached_at_addresses_and_known_by_names() {
        for (text, addresses, name, label) in [
            ("\"tls://9.9.9.9\"", &["9.9.9.9:853"][..], "9.9.9.9", "tls://9.9.9.9:853"),
            (
                "\"tls://9.9.9.9#dns.quad9.net\"",
                &["9.9.9.9:853"],
                "dns.quad9.net",
                "tls://9.9.9.9:853#dns.quad9.net",
            ),
            (
                "\"tls://[2620:fe::fe]:8853#a.b\"",
                &["[2620:fe::fe]:8853"],
                "a.b",
                "tls://[2620:fe::fe]:8853#a.b",
            ),
            (
                "\"tls://dns.quad9.net\"\nbootstrap = [\"9.9.9.9\", \"2620:fe::fe\"]",
                &["9.9.9.9:853", "[2620:fe::fe]:853"],
                "dns.quad9.net",
                "tls://9.9.9.9:853#dns.quad9.net",
            ),
            (
                "\"https://dns.quad9.net/dns-query{?dns}\"\nbootstrap = [\"9.9.9.9\"]",
                &["9.9.9.9:443"],
                "dns.quad9.net",
                "https://dns.quad9.net/dns-query",
            ),
            ("\"https://9.9.9.9:8443/q\"", &["9.9.9.9:8443"], "9.9.9.9", "https://9.9.9.9:8443/q"),
            ("\"tls://[fe80::1%eth0]#a.b\"", &["[fe80::1%eth0]:853"], "a.b", "tls://[fe80::1%eth0]:853#a.b"),
            (
                "\"https://[fe80::1%25eth0]:8443/q\"",
                &["[fe80::1%eth0]:8443"],
                "fe80::1",
                "https://[fe80::1]:8443/q",
            ),
            ("\"https://[fe80::1%eth0]/q\"", &["[fe80::1%eth0]:443"], "fe80::1", "https://[fe80::1]/q"),
            (
                "\"https://dns.lan/q\"\nbootstrap = [\"fe80::1%eth0\"]",
                &["[fe80::1%eth0]:443"],
                "dns.lan",
                "https://dns.lan/q",
            ),
            ("\"https://[2620:fe::fe]/\"", &["[2620:fe::fe]:443"], "2620:fe::fe", "https://[2620:fe::fe]/"),
        ] {
            let config = parse(&MINIMAL.replace("\"127.0.0.1:5301\"", text)).unwrap();
            let upstream = &config.upstreams[0];
            let tls = upstream.transport.tls().unwrap();
            let reached: Vec<_> = upstream.addresses.iter().map(ToString::to_string).collect();
            assert_eq!(
                (reached, &*tls.name.to_str(), &*upstream.label()),
                (addresses.iter().map(ToString::to_string).collect(), name, label)
            );
        }
    }

    #[test]
    fn upstreams_over_udp_and_tcp_may_have_names() {
        for (text, addresses, label) in [
            (
                "\"resolver.lan\"\nbootstrap = [\"192.0.2.1\", \"fe80::1%eth0\"]",
                &["192.0.2.1:53", "[fe80::1%eth0]:53"][..],
                "udp://resolver.lan:53",
            ),
            (
                "\"tcp://resolver.lan:5353\"\nbootstrap = [\"2620:fe::fe\"]",
                &["[2620:fe::fe]:5353"],
                "tcp://resolver.lan:5353",
            ),
        ] {
            let config = parse(&MINIMAL.replace("\"127.0.0.1:5301\"", text)).unwrap();
            let upstream = &config.upstreams[0];
            let reached: Vec<_> = upstream.addresses.iter().map(ToString::to_string).collect();
            assert_eq!(
                (&reached[..], &*upstream.label()),
                (&addresses.iter().map(ToString::to_string).collect::<Vec<_>>()[..], label)
            );
        }
    }

    #[test]
    fn wrong_addresses_are_refused() {
        let host = "neither an IP address";
        for [address, reason, remedy] in [
            ["quic://9.9.9.9", "quic:// is not supported", "tls://"],
            ["ftp://9.9.9.9", "not a transport", "tls://"],
            ["dns.quad9.net", "not known", "Add bootstrap"],
            ["resolver.lan", "not known", "Add bootstrap"],
            ["0.0.0.0:53", "cannot be asked", "one resolver"],
            ["9.9.9.9:0", "cannot be asked", "one resolver"],
            ["fe80::1", "any interface", "[fe80::1%eth0]:53"],
            ["[2620:fe::fe%eth0]:53", "needs no interface", "Remove"],
            ["[fe80::1%]:53", "no IP address or host name", "%eth0"],
            ["udp://9.9.9.9#dns.quad9.net", "no certificate to find a name in", "tls://"],
            ["tls://9.9.9.9/dns-query", "a path", "https://"],
            ["tls://dns.quad9.net", "not known", "Add bootstrap"],
            ["tls://9.9.9.9#", host, "#dns.quad9.net"],
            ["tls://a:b", host, "#dns.quad9.net"],
            ["tls://0.0.0.0", "cannot be asked", "one resolver"],
            ["https://dns.quad9.net/dns-query", "not known", "Add bootstrap"],
            ["https://9.9.9.9", "no path", "/dns-query"],
            ["https://me@9.9.9.9/", "host alone", "/dns-query"],
            ["https://9.9.9.9/#x", "the URL's host", "bootstrap"],
        ] {
            refused(HEAD, &[[&format!("address = {address:?}"), "4", "upstream[0].address", reason, remedy]]);
        }
    }

    #[test]
    fn keys_that_do_not_fit_the_address_are_refused() {
        for [address, line, at, key, reason, remedy] in [
            ["a.lan", "bootstrap = [\"fe80::1\"]", "4", "address", "any interface", "%eth0"],
            ["tls://9.9.9.9", "bootstrap = [\"1.1.1.1\"]", "5", "bootstrap", "already", "Remove"],
            ["tls://a.b", "bootstrap = [\"c\"]", "5", "bootstrap[0]", "no IP", "the port is"],
            ["9.9.9.9", "bootstrap = [\"1.1.1.1\"]", "5", "bootstrap", "already", "Remove"],
            ["9.9.9.9", "tls_ca_file = \"ca.pem\"", "5", "tls_ca_file", "no certificates", "tls://"],
        ] {
            let lines = format!("address = {address:?}\n{line}");
            refused(HEAD, &[[&lines, at, &format!("upstream[0].{key}"), reason, remedy]]);
        }
    }
}
