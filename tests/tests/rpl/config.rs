//! Translates a file's `unbound.conf` into a configuration of ringdns, and into instructions for
//! the player.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use hickory_proto::rr::Name;
use ringdns_testkit::scenario::{CLIENT, Record, name_of};

use crate::record::record;
use crate::script::{Script, Setting};

/// Address of K.ROOT-SERVERS.NET, which the files use for the root.
const ROOT: IpAddr = IpAddr::V4(Ipv4Addr::new(193, 0, 14, 129));

/// Prefix of the clients' addresses in the files, which the player replaces.
const LOOPBACK: &str = "127.0.0.";

/// Settings that do not concern a forwarder: they control the player, or how a recursor asks
/// servers.
const OF_RECURSORS: [&str; 29] = [
    "name",
    "do-ip6",
    "ede",
    "edns-tcp-keepalive",
    "fake-sha1",
    "forward-addr",
    "forward-host",
    "harden-algo-downgrade",
    "harden-dnssec-stripped",
    "harden-referral-path",
    "harden-unknown-additional",
    "iter-scrub-promiscuous",
    "log-servfail",
    "minimal-responses",
    "module-config",
    "msg-cache-size",
    "msg-cache-slabs",
    "outbound-msg-retry",
    "prefetch-key",
    "qname-minimisation",
    "rrset-roundrobin",
    "stub-addr",
    "stub-first",
    "stub-prime",
    "target-fetch-policy",
    "trust-anchor-signaling",
    "val-log-level",
    "val-override-date",
    "verbosity",
];

/// A parsed configuration.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub anchors: Vec<Record>,
    /// Unix time for the validation of signatures.
    pub date: Option<u64>,
    /// Stub and forward zones: the servers that the recursor asks about names in each zone.
    pub zones: Vec<Zone>,
    /// Settings without a counterpart in ringdns.
    pub ignored: Vec<String>,
    /// Whether clients may query the cache without RD. ringdns refuses that, so the player sets RD.
    pub snoops: bool,
    allowed: Vec<String>,
    denied: Vec<String>,
    drops: bool,
    /// Whether special-use names have records in the file.
    has_special_names: bool,
    server: Vec<(&'static str, String)>,
    keepalive: Option<String>,
    validates: bool,
    insecure: Vec<String>,
    cache: Vec<(&'static str, String)>,
    prefetches: bool,
}

/// A stub or forward zone.
#[derive(Clone, Debug)]
pub struct Zone {
    pub name: Name,
    pub servers: Vec<IpAddr>,
    /// Whether the servers are resolvers, whose answers are final.
    pub forwards: bool,
}

impl Setup {
    pub fn read(script: &Script) -> Result<Setup, String> {
        let mut setup = Setup { validates: true, ..Setup::default() };
        let mut zone = None;
        let (mut stale, mut hides_identity) = (false, false);
        let mut patience = "1800ms".to_owned();
        for Setting { clause: (number, clause), key, value } in &script.config {
            let kind = matches!(&**clause, "stub-zone" | "forward-zone");
            if kind && zone.replace(*number) != Some(*number) {
                let forwards = clause == "forward-zone";
                setup.zones.push(Zone { name: Name::root(), servers: Vec::new(), forwards });
            }
            let seconds = || format!("{value}s");
            let yes = value == "yes";
            match (&**key, setup.zones.last_mut()) {
                ("name", Some(zone)) if kind => zone.name = name_of(value)?,
                ("stub-addr" | "forward-addr", Some(zone)) => zone.servers.push(address(value)?),
                ("trust-anchor", _) => setup.anchors.push(record(&value.replace(['(', ')'], ""), ".")?),
                ("val-override-date", _) => setup.date = date(value)?,
                ("domain-insecure", _) => setup.insecure.push(value.clone()),
                ("module-config", _) => setup.validates = value.contains("validator"),
                ("prefetch", _) => setup.prefetches = yes,
                ("serve-expired", _) => stale = yes,
                ("serve-expired-client-timeout", _) => patience = format!("{value}ms"),
                ("serve-expired-ttl", _) => setup.cache.push(("stale_max", seconds())),
                ("serve-expired-reply-ttl", _) => setup.cache.push(("stale_ttl", seconds())),
                ("cache-min-ttl", _) => setup.cache.push(("min_ttl", seconds())),
                ("cache-max-ttl", _) => setup.cache.push(("max_ttl", seconds())),
                ("cache-max-negative-ttl", _) => setup.cache.push(("negative_max_ttl", seconds())),
                ("access-control", _) => setup.admit(value)?,
                ("local-zone", _) if value.ends_with("nodefault") => setup.has_special_names = true,
                ("hide-identity", _) => hides_identity = yes,
                ("identity", _) => setup.server.push(("identity", value.clone())),
                ("nsid", _) if value.starts_with("ascii_") => {
                    setup.server.push(("nsid", value["ascii_".len()..].to_owned()));
                }
                ("edns-tcp-keepalive-timeout", _) => setup.keepalive = Some(format!("{value}ms")),
                ("ede-serve-expired", _) => {}
                (key, _) if OF_RECURSORS.contains(&key) => {}
                (key, _) => {
                    setup.ignored.push(if kind { key.to_owned() } else { format!("{clause}: {key}") })
                }
            }
        }
        if stale {
            setup.cache.push(("stale_client_timeout", patience));
        } else {
            setup.cache.retain(|(key, _)| !key.starts_with("stale"));
        }
        if !setup.zones.iter().any(|zone| zone.name.is_root()) {
            setup.zones.push(Zone { name: Name::root(), servers: vec![ROOT], forwards: false });
        }
        setup.server.retain(|(key, _)| *key != "identity" || !hides_identity);
        setup.ignored.dedup();
        Ok(setup)
    }

    fn admit(&mut self, value: &str) -> Result<(), String> {
        let Some((prefix, action)) = value.split_once(' ') else {
            return Err(format!("access-control: {value}"));
        };
        let prefix = if prefix.starts_with(LOOPBACK) { CLIENT.to_string() } else { prefix.to_owned() };
        match action {
            "refuse" | "deny" => self.denied.push(prefix),
            _ => self.allowed.push(prefix),
        }
        self.drops |= action == "deny";
        self.snoops |= action == "allow_snoop";
        Ok(())
    }

    /// Returns the resolvers that all queries are forwarded to, if the recursor follows no
    /// referrals.
    pub fn forwards_all(&self) -> Option<&[IpAddr]> {
        match &self.zones[..] {
            [zone] if zone.forwards && !zone.servers.is_empty() => Some(&zone.servers),
            _ => None,
        }
    }

    pub fn validates(&self) -> bool {
        self.validates && !self.anchors.is_empty()
    }

    /// Returns the configuration of ringdnsd. `anchors` is the file of the trust anchors.
    pub fn ringdns(&self, upstreams: &[SocketAddr], anchors: &Path) -> String {
        let mut text = "[server]\nlisten = [\"10.53.0.2:53\", \"[fd53::2]:53\"]\n".to_owned();
        for (key, value) in &self.server {
            writeln!(text, "{key} = {value:?}").expect("a string takes any text");
        }
        text += &format!(
            "[resolver]\ncookies = false\nrandomize_case = false\n[local]\nspecial_names = {}\n",
            !self.has_special_names
        );
        if let Some(idle) = &self.keepalive {
            text += &format!("[tcp]\nidle = {idle:?}\n");
        }
        for upstream in upstreams {
            writeln!(text, "[[upstream]]\naddress = \"{upstream}\"").expect("a string takes any text");
        }
        let allowed = [&["0.0.0.0/0".to_owned(), "::/0".to_owned()], &self.allowed[..]].concat();
        let refused = if self.drops { "drop" } else { "answer" };
        text += &format!("[access]\nallow = {allowed:?}\ndeny = {:?}\nrefused = {refused:?}\n", self.denied);
        text += "[cache]\nbytes_per_worker = \"1MiB\"\nhost_bytes = \"4MiB\"\n";
        let stale = self.cache.iter().any(|(key, _)| *key == "stale_client_timeout");
        writeln!(text, "serve_stale = {stale}").expect("a string takes any text");
        for (key, value) in &self.cache {
            writeln!(text, "{key} = \"{value}\"").expect("a string takes any text");
        }
        text += &format!("[refresh]\nahead = {}\n", if self.prefetches { 10 } else { 0 });
        if self.validates() {
            let insecure = &self.insecure;
            text += &format!(
                "[dnssec]\nvalidate = true\ntrust_anchor_file = {anchors:?}\ninsecure = {insecure:?}\n"
            );
        }
        text
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text.split(['@', '#']).next().unwrap_or_default();
    bare.parse().map_err(|_| format!("{text:?} is no address of a server"))
}

/// Parses `YYYYMMDDHHmmss`, or seconds. Returns `None` for -1, which means the times of the
/// signatures.
fn date(text: &str) -> Result<Option<u64>, String> {
    if text == "-1" {
        return Ok(None);
    }
    let wrong = || format!("{text:?} is no date");
    if text.len() != 14 {
        return text.parse().map(Some).map_err(|_| wrong());
    }
    // Times in signatures have the same format.
    let signature =
        record(&format!(". IN RRSIG A 8 0 0 {text} {text} 0 . AAAA"), ".").map_err(|_| wrong())?;
    let seconds = signature.data[8..12].try_into().map_err(|_| wrong())?;
    Ok(Some(u64::from(u32::from_be_bytes(seconds))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::script;

    #[test]
    fn settings_of_unbound_become_ringdns_s() {
        let text = "server:\n\tval-override-date: \"20070916134226\"\n\tserve-expired: yes\n\tserve-expired-reply-ttl: 123\n\
            \ttrust-anchor: \"example.com. 3600 IN DS 2854 3 1 46e4ffc6e9a4793b488954bd3f0cc6af0dfb201b\"\n\trpz-log: yes\n\
            stub-zone:\n\tname: \"example\"\n\tstub-addr: 1.2.3.4@53\nCONFIG_END\nSCENARIO_BEGIN\nSCENARIO_END\n";
        let setup = Setup::read(&script(text).unwrap()).unwrap();
        assert_eq!(setup.date, Some(1_189_950_146));
        assert_eq!(setup.ignored, ["server: rpz-log"]);
        assert_eq!(
            setup.zones.iter().map(|zone| zone.servers.clone()).collect::<Vec<_>>(),
            [vec![IpAddr::from([1, 2, 3, 4])], vec![ROOT]]
        );
        let text = setup.ringdns(&[([127, 0, 0, 1], 5300).into()], Path::new("anchors"));
        for line in [
            "serve_stale = true",
            "stale_ttl = \"123s\"",
            "trust_anchor_file = \"anchors\"",
            "address = \"127.0.0.1:5300\"",
        ] {
            assert!(text.lines().any(|written| written == line), "{line}: {text}");
        }
    }
}
