//! Checks of `[[upstream]]`: address, transport, and the name in the certificate.

use super::{TlsConfig, Transport, UpstreamConfig, asking, bounds::within, error::Problem, raw::RawUpstream};
use http::Uri;
use ringdns_common::units::TimeSpan;
use rustls::pki_types::ServerName;
use std::net::{IpAddr, SocketAddr};

const DNS: u16 = 53;
const DNS_OVER_TLS: u16 = 853;
const HTTPS: u16 = 443;

pub fn upstream(i: usize, raw: RawUpstream) -> Result<UpstreamConfig, Problem> {
    let keys = UpstreamKeys(i);
    let Some(text) = &raw.address else {
        let remedy = "Add address = \"9.9.9.9:53\" or the like";
        return Err(keys.address("an upstream needs an address", remedy));
    };
    let (address, transport) = match text.split_once("://") {
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
    for address in std::iter::once(&address).chain(transport.tls().into_iter().flat_map(|tls| &tls.spare)) {
        if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
            let remedy = "Give the address and port of one resolver";
            return Err(keys.address(format!("{address} cannot be asked"), remedy));
        }
    }
    let timeout = within(
        &format!("upstream[{i}].timeout"),
        raw.timeout,
        [TimeSpan::millis(10), TimeSpan::secs(10)],
        "Give \"10ms\" to \"10s\"",
    )?;
    let zones = asking::zones(&format!("upstream[{i}].zones"), &raw.zones)?;
    Ok(UpstreamConfig { address, transport, zones, trusted: raw.trusted, timeout })
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

/// Parses an upstream over UDP or TCP: an address, and no TLS options.
fn plain(
    keys: &UpstreamKeys,
    text: &str,
    raw: &RawUpstream,
    transport: Transport,
) -> Result<(SocketAddr, Transport), Problem> {
    let label = transport.label();
    if text.contains('#') {
        let remedy = "Remove \"#...\", or ask over tls://";
        return Err(keys.address(format!("{label}:// has no certificate to find a name in"), remedy));
    }
    if raw.tls_ca_file.is_some() {
        let remedy = "Remove the key, or use tls:// or https://";
        return Err(keys.of("tls_ca_file", format!("there are no certificates over {label}://"), remedy));
    }
    if !raw.bootstrap.is_empty() {
        let remedy = "Remove the key; it belongs to names in tls:// and https://";
        return Err(keys.of("bootstrap", format!("{label}:// takes an address, not a name"), remedy));
    }
    let address = socket_address(text, DNS).ok_or_else(|| {
        let remedy = "Write \"9.9.9.9:53\" or \"[2620:fe::fe]:53\"; names are for tls:// and https://, with their \
                      addresses in bootstrap";
        keys.address(format!("{text:?} is no IP address with a port"), remedy)
    })?;
    Ok((address, transport))
}

/// Parses `tls://9.9.9.9:853#dns.quad9.net`: an address or a name with a port, and the name in the
/// certificate if it differs.
fn over_tls(keys: &UpstreamKeys, rest: &str, raw: &RawUpstream) -> Result<(SocketAddr, Transport), Problem> {
    let (place, pinned) = match rest.split_once('#') {
        Some((place, pinned)) => (place, Some(pinned)),
        None => (rest, None),
    };
    if place.contains('/') {
        let remedy = "Write \"tls://9.9.9.9#dns.quad9.net\"; paths are for https://";
        return Err(keys.address(format!("there is a path in {place:?}"), remedy));
    }
    let own = socket_address(place, DNS_OVER_TLS);
    let (host, port) = match own {
        Some(address) => (address.ip().to_string(), address.port()),
        None => split_port(place, DNS_OVER_TLS).ok_or_else(|| bad_host(keys, place))?,
    };
    let name = server_name(keys, pinned.unwrap_or(&host))?;
    let (address, spare) = reached_at(keys, &host, own, port, raw)?;
    Ok((address, Transport::Tls(TlsConfig { name, spare, ca_file: raw.tls_ca_file.clone().map(Into::into) })))
}

/// Parses `https://dns.quad9.net/dns-query`: a URL (RFC 8484) whose host is the name in the
/// certificate.
fn over_https(
    keys: &UpstreamKeys,
    text: &str,
    raw: &RawUpstream,
) -> Result<(SocketAddr, Transport), Problem> {
    let example = "Write it as \"https://dns.quad9.net/dns-query\"";
    // RFC 8484 ends its URI templates in `{?dns}`, which is for GET; queries are sent by POST.
    let url = text.strip_suffix("{?dns}").unwrap_or(text);
    if url.contains('#') {
        let remedy = "Put the name into the URL, and its addresses into bootstrap";
        return Err(keys.address("the name in the certificate is the URL's host", remedy));
    }
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
    let address = host.parse().ok().map(|ip| SocketAddr::new(ip, port));
    let name = server_name(keys, host)?;
    let (address, spare) = reached_at(keys, host, address, port, raw)?;
    let tls = TlsConfig { name, spare, ca_file: raw.tls_ca_file.clone().map(Into::into) };
    Ok((address, Transport::Https(tls, uri)))
}

/// Returns the first of an upstream's addresses, and the others: its own, or those of `bootstrap`.
fn reached_at(
    keys: &UpstreamKeys,
    host: &str,
    own: Option<SocketAddr>,
    port: u16,
    raw: &RawUpstream,
) -> Result<(SocketAddr, Vec<SocketAddr>), Problem> {
    let mut addresses = Vec::new();
    for (at, text) in raw.bootstrap.iter().enumerate() {
        let ip: IpAddr = text.parse().map_err(|_| {
            let remedy = "Write \"9.9.9.9\" or \"2620:fe::fe\"; the port is that of the address";
            keys.of(&format!("bootstrap[{at}]"), format!("{text:?} is no IP address"), remedy)
        })?;
        addresses.push(SocketAddr::new(ip, port));
    }
    match (own, addresses.split_first()) {
        (Some(address), None) => Ok((address, Vec::new())),
        (Some(_), Some(_)) => {
            let remedy = "Remove the key, or write the name in place of the address";
            Err(keys.of("bootstrap", format!("{host} is an address already"), remedy))
        }
        (None, Some((first, others))) => Ok((*first, others.to_vec())),
        (None, None) => {
            let remedy = "Add bootstrap with its addresses, such as bootstrap = [\"9.9.9.9\"]: names cannot be looked up before \
                 there is a resolver";
            Err(keys.address(format!("the address of {host} is not known"), remedy))
        }
    }
}

fn server_name(keys: &UpstreamKeys, name: &str) -> Result<ServerName<'static>, Problem> {
    ServerName::try_from(name.to_owned()).map_err(|_| bad_host(keys, name))
}

fn bad_host(keys: &UpstreamKeys, name: &str) -> Problem {
    let remedy = "Write \"tls://9.9.9.9:853#dns.quad9.net\" or \"https://dns.quad9.net/dns-query\"";
    keys.address(format!("{name:?} is neither an IP address nor a host name"), remedy)
}

/// Parses an IP address with or without a port; `port` is the default.
fn socket_address(text: &str, port: u16) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        Some(SocketAddr::new(bare.parse().ok()?, port))
    })
}

/// Splits a host name from its port; `port` is the default.
fn split_port(text: &str, port: u16) -> Option<(String, u16)> {
    match text.split_once(':') {
        Some((host, port)) => Some((host.to_owned(), port.parse().ok()?)),
        None => Some((text.to_owned(), port)),
    }
}
