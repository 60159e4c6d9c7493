//! Checks of `[[upstream]]`: address, transport, and the name in the certificate.

use super::{
    TlsConfig, Transport, UpstreamAddress, UpstreamConfig, asking, bounds::within, error::Problem,
    raw::RawUpstream,
};
use http::Uri;
use ringdns_common::units::TimeSpan;
use rustls::pki_types::{DnsName, ServerName};

const DNS: u16 = 53;
const DNS_OVER_TLS: u16 = 853;
const HTTPS: u16 = 443;

pub fn upstream(i: usize, raw: RawUpstream) -> Result<UpstreamConfig, Problem> {
    let keys = UpstreamKeys(i);
    let Some(text) = &raw.address else {
        let remedy = "Add address = \"9.9.9.9:53\" or the like";
        return Err(keys.address("an upstream needs an address", remedy));
    };
    let reached = match text.split_once("://") {
        None => plain(&keys, text, &raw, Transport::Udp)?,
        Some(("udp", rest)) => plain(&keys, rest, &raw, Transport::Udp)?,
        Some(("tcp", rest)) => plain(&keys, rest, &raw, Transport::Tcp)?,
        Some(("tls", rest)) => over_tls(&keys, rest, &raw)?,
        Some(("https", _)) => over_https(&keys, text, &raw)?,
        Some((scheme @ ("quic" | "h3"), _)) => {
            let remedy = "Use tls:// or https://, or the plain udp:// or tcp://";
            return Err(keys.address(format!("{scheme}:// is not supported"), remedy));
        }
        Some((scheme, _)) => {
            let remedy = "Use udp://, tcp://, tls:// or https://, or a plain \"ip:port\"";
            return Err(keys.address(format!("{scheme}:// is not a transport"), remedy));
        }
    };
    let Reached { addresses, host, transport } = reached;
    for address in &addresses {
        if let Some((reason, remedy)) = address.unusable() {
            return Err(keys.address(reason, &remedy));
        }
    }
    let timeout = within(
        &format!("upstream[{i}].timeout"),
        raw.timeout,
        [TimeSpan::millis(10), TimeSpan::secs(10)],
        "Give \"10ms\" to \"10s\"",
    )?;
    let zones = asking::zones(&format!("upstream[{i}].zones"), &raw.zones)?;
    Ok(UpstreamConfig { addresses, host, transport, zones, trusted: raw.trusted, timeout })
}

/// Keys of one upstream, for the problems found in them.
struct UpstreamKeys(usize);

impl UpstreamKeys {
    fn address(&self, reason: impl Into<String>, remedy: &str) -> Problem {
        self.of("address", reason, remedy)
    }

    fn of(&self, key: &str, reason: impl Into<String>, remedy: &str) -> Problem {
        Problem::new(format!("upstream[{}].{key}", self.0), reason, remedy)
    }
}

/// Addresses, name and transport of an upstream, as its `address` and `bootstrap` say.
struct Reached {
    addresses: Vec<UpstreamAddress>,
    host: Option<String>,
    transport: Transport,
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
