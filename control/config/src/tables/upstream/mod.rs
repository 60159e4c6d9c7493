//! `[[upstream]]`: resolvers to forward queries to.

pub mod address;
pub mod transport;

use super::{client_group::ClientGroupConfig, group_names};
use crate::{bounds::within, error::Problem, lists::zones, table::table};
use address::UpstreamAddress;
use ringdns_common::units::TimeSpan;
use std::{net::SocketAddr, time::Duration};
use transport::{Reached, Transport};

table! {
    /// A recursive resolver to forward queries to. With several upstreams, `resolver.strategy`
    /// decides which is asked first; if it fails, the next one is asked.
    "[[upstream]]" RawUpstream {
        /// Address of the upstream: `"9.9.9.9:53"` or `"udp://9.9.9.9:53"`; with `tcp://`, queries
        /// go over TCP alone. `"tls://9.9.9.9#dns.quad9.net"`: DNS over TLS, and the name that the
        /// certificate must be valid for; without a name it must be valid for the address.
        /// `"https://dns.quad9.net/dns-query"`: DNS over HTTPS (HTTP/2). The default ports are 53,
        /// 853 and 443. A link-local address has its interface: `"[fe80::1%eth0]:53"`. A host name
        /// may stand in place of an address, with `bootstrap`. Each address may be listed once.
        /// Required.
        address: Option<String> = None,
        /// IP addresses of the host that `address` names: `["9.9.9.9", "fe80::1%eth0"]`. They are
        /// tried in turn; over UDP, the next one is used once one stops answering. ringdns never
        /// looks the name up, because it has no other resolver to ask.
        bootstrap: Vec<String> = Vec::new(),
        /// PEM file with the CA certificates that may vouch for a `tls://` or `https://` upstream.
        /// Absent: the CAs that the system trusts (Debian: package `ca-certificates`).
        tls_ca_file: Option<String> = None,
        /// Zones that this upstream is asked for: these names and all names below them, and nothing
        /// else. Other upstreams are not asked for them. The longest matching zone decides:
        /// `zones = ["corp.example", "10.in-addr.arpa"]`. Absent: all names that no other
        /// upstream's zones cover.
        zones: Vec<String> = Vec::new(),
        /// Names of the `[[client_group]]` tables for whose clients this upstream is asked, or
        /// `"default"`. For them, it takes the place of the upstreams without `groups`, in its zones, or
        /// without `zones` for all names that no zone covers. Absent: all clients whose group has no
        /// upstream of its own there.
        groups: Option<Vec<String>> = None,
        /// Whether the AD bit of this upstream, by which it says that an answer was validated, is
        /// passed on. Set it only for a validating resolver on a path that nobody can tamper with.
        trusted: bool = false,
        /// Time to wait for an answer from this upstream before the next one is asked.
        timeout: TimeSpan = TimeSpan::millis(800),
    }
}

/// A resolver to forward queries to.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamConfig {
    /// Addresses of the resolver, tried in turn; at least one.
    pub addresses: Vec<UpstreamAddress>,
    /// Host name that stands in the file in place of an address, over UDP and TCP.
    pub host: Option<String>,
    /// Transport that it is asked over.
    pub transport: Transport,
    /// Zones that it is asked for, as lowercased names on the wire; empty: all names that no other
    /// upstream's zones cover.
    pub zones: Vec<Vec<u8>>,
    /// Names of the groups of clients that it is asked for; `None`: all.
    pub groups: Option<Vec<String>>,
    /// Whether its AD bit is trusted.
    pub trusted: bool,
    /// Time that one attempt may take.
    pub timeout: Duration,
}

impl UpstreamConfig {
    /// Whether it is asked for names that no zone covers.
    pub fn is_for_the_rest(&self) -> bool {
        self.zones.is_empty() || self.zones.iter().any(|zone| **zone == [0])
    }

    /// Returns the address as written in the file, with the parts that may be left out there.
    pub fn label(&self) -> String {
        let scheme = self.transport.label();
        let first = &self.addresses[0];
        match &self.transport {
            Transport::Udp | Transport::Tcp => match &self.host {
                Some(host) => format!("{scheme}://{host}:{}", first.port),
                None => format!("{scheme}://{first}"),
            },
            Transport::Tls(tls) if tls.name == first.ip.into() => format!("{scheme}://{first}"),
            Transport::Tls(tls) => format!("{scheme}://{first}#{}", tls.name.to_str()),
            Transport::Https(_, uri) => uri.to_string(),
        }
    }
}

/// Returns the checked upstreams, which may name `groups`. `listen`: the addresses of this server.
pub fn check(
    raw: Vec<RawUpstream>,
    listen: &[SocketAddr],
    groups: &[ClientGroupConfig],
) -> Result<Vec<UpstreamConfig>, Problem> {
    if raw.is_empty() {
        return Err(Problem::new(
            "upstream",
            "no upstream is configured",
            "Add [[upstream]] with the address of a recursive resolver",
        ));
    }
    let upstreams =
        raw.into_iter().enumerate().map(|(i, raw)| raw.check(i, groups)).collect::<Result<Vec<_>, _>>()?;
    no_loops(listen, &upstreams)?;
    are_different(&upstreams)?;
    covers_all(&upstreams)?;
    Ok(upstreams)
}

impl RawUpstream {
    /// Returns the checked values of upstream `i`.
    fn check(self, i: usize, groups: &[ClientGroupConfig]) -> Result<UpstreamConfig, Problem> {
        let Reached { addresses, host, transport } = self.reached(&UpstreamKeys(i))?;
        let limits = [TimeSpan::millis(10), TimeSpan::secs(10)];
        let key = format!("upstream[{i}].timeout");
        let timeout = within(&key, self.timeout, limits, "Give \"10ms\" to \"10s\"")?;
        let zones = zones(&format!("upstream[{i}].zones"), &self.zones)?;
        let groups = group_names::check(&format!("upstream[{i}].groups"), self.groups.clone(), groups)?;
        Ok(UpstreamConfig { addresses, host, transport, zones, groups, trusted: self.trusted, timeout })
    }
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

/// Refuses an upstream that is ringdns itself, because it would send every cache miss in a circle.
fn no_loops(listen: &[SocketAddr], upstreams: &[UpstreamConfig]) -> Result<(), Problem> {
    for (i, upstream) in upstreams.iter().enumerate() {
        let own = |address: &&UpstreamAddress| {
            listen.iter().any(|l| {
                let wildcard = l.ip().is_unspecified() && address.ip.is_loopback();
                l.port() == address.port && (l.ip() == address.ip || wildcard)
            })
        };
        if let Some(own) = upstream.addresses.iter().find(own) {
            let reason = format!("{own} is ringdns itself, which listens there");
            let remedy = "Give the address of another resolver, or listen on another port";
            return Err(UpstreamKeys(i).address(reason, remedy));
        }
    }
    Ok(())
}

/// Checks that no upstream is listed twice, because statistics are kept by its address.
fn are_different(upstreams: &[UpstreamConfig]) -> Result<(), Problem> {
    for (i, upstream) in upstreams.iter().enumerate() {
        let label = upstream.label();
        if upstreams[..i].iter().any(|other| other.label() == label) {
            let remedy =
                "Remove one of the two, and put all its zones into the other (\".\" is all other names)";
            return Err(UpstreamKeys(i).address(format!("{label} is listed twice"), remedy));
        }
    }
    Ok(())
}

/// Checks that every name has an upstream, whoever asks: new groups may come, and this process has
/// questions of its own.
fn covers_all(upstreams: &[UpstreamConfig]) -> Result<(), Problem> {
    let mut rest = upstreams.iter().filter(|upstream| upstream.is_for_the_rest()).peekable();
    if rest.peek().is_some() && rest.all(|upstream| upstream.groups.is_some()) {
        let remedy = "Add an [[upstream]] without groups and zones for all other clients, and for this host's own questions";
        let reason = "every upstream for all names has groups, so other clients have no upstream";
        return Err(Problem::new("upstream", reason, remedy));
    }
    if upstreams.iter().any(UpstreamConfig::is_for_the_rest) {
        return Ok(());
    }
    let remedy = "Add an [[upstream]] without zones for all other names";
    Err(Problem::new("upstream", "every upstream has zones, so other names have no upstream", remedy))
}

#[cfg(test)]
mod tests {
    use crate::testing::{MINIMAL, parse, refused};

    const HEAD: &str = "[server]\nlisten = [\"127.0.0.1:5300\"]\n";

    #[test]
    fn every_name_needs_an_upstream() {
        refused(
            HEAD,
            &[
                ["", "3", "upstream", "no upstream", "[[upstream]]"],
                [
                    "[[upstream]]\naddress = \"9.9.9.9\"\nzones = [\"corp.example\"]",
                    "3",
                    "upstream",
                    "every upstream has zones",
                    "without zones",
                ],
            ],
        );
        let zones = parse(&format!("{MINIMAL}zones = [\"Corp.Example\", \".\"]")).unwrap();
        assert_eq!(zones.upstreams[0].zones, [b"\x04corp\x07example\0".to_vec(), vec![0]]);
    }

    #[test]
    fn upstreams_may_be_for_groups() {
        let kids = "[[client_group]]\nname = \"kids\"\nclients = [\"192.0.2.0/24\"]\n";
        let more = "[[upstream]]\naddress = \"9.9.9.10\"\n";
        let config = parse(&format!("{MINIMAL}{more}groups = [\"kids\"]\n{kids}")).unwrap();
        assert_eq!(config.upstreams[1].groups, Some(vec!["kids".into()]));
        let problem = |more: &str| parse(&format!("{HEAD}{kids}{more}")).unwrap_err().to_string();
        let unknown = problem(&format!("{more}groups = [\"adults\"]"));
        assert!(unknown.contains("upstream[0].groups[0]: there is no group \"adults\""), "{unknown}");
        let alone = problem(&format!("{more}groups = [\"kids\", \"default\"]"));
        assert!(alone.contains("has groups") && alone.contains("without groups"), "{alone}");
    }

    #[test]
    fn wrong_values_are_refused() {
        let twice = "address = \"9.9.9.9\"\n[[upstream]]\naddress = \"udp://9.9.9.9:53\"";
        refused(
            &format!("{HEAD}[[upstream]]\n"),
            &[
                ["trusted = true", "3", "upstream[0].address", "needs an address", "Add address"],
                [twice, "6", "upstream[1].address", "listed twice", "zones"],
                ["address = \"127.0.0.1:5300\"", "4", "upstream[0].address", "ringdns itself", "another"],
                ["address = \"1.1.1.1\"\ntimeout = \"1m\"", "5", "upstream[0].timeout", "too long", "10s"],
                ["address = \"1.1.1.1\"\nzones = [\"a..b\"]", "5", "upstream[0].zones[0]", "a..b", "Write"],
            ],
        );
    }
}
