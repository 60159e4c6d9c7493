//! Policy for queries in the data plane, made from the configuration and the files that it names.

use crate::lists::{Groups, GroupsError};
use ringdns_common::names;
use ringdns_config as config;
use ringdns_config::{Config, Problem, secrets};
use ringdns_dataplane::{
    access::AccessList,
    dns::{cookie::Cookies, is_within},
    group::ClientGroups,
    limiter::LimitConfig,
    policy::QueryPolicy,
};
use ringdns_querylog::LogGroups;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Returns the policy that `config` describes, with its groups of clients; without names of lists.
pub fn policy(config: &Config, groups: &Groups) -> Result<QueryPolicy, Problem> {
    let mut policy = QueryPolicy {
        access: access(&config.access)?,
        refusal: config.access.refusal,
        groups: ClientGroups::default(),
        lists: Arc::default(),
        cookies: cookies(&config.cookies)?,
        require_cookies: config.cookies.require_over_udp,
        nsid: config.server.nsid.as_deref().map(|name| name.as_bytes().into()),
        identity: config.server.identity.as_deref().map(|name| name.as_bytes().into()),
        limit: config.rate_limit.as_ref().map(limit).transpose()?,
        primaries: primaries(config),
    };
    regroup(&mut policy, groups)?;
    Ok(policy)
}

/// Replaces the groups of clients of a policy, and their limits.
pub fn regroup(policy: &mut QueryPolicy, groups: &Groups) -> Result<(), Problem> {
    policy.groups = groups
        .clients()
        .map_err(|error| Problem::new("client_group", error.to_string(), GroupsError::REMEDY))?;
    if let Some(limit) = &mut policy.limit {
        limit.groups = groups.limits(&policy.groups);
    }
    Ok(())
}

/// Returns the groups of clients of a policy as the query log has them.
pub fn log_groups(policy: &QueryPolicy, groups: &Groups) -> LogGroups {
    let (clients, names) = (policy.groups.clone(), groups.names().to_vec());
    LogGroups { clients, names, unlogged: groups.unlogged() }
}

/// Returns the hosts whose NOTIFY messages are understood.
fn primaries(config: &Config) -> Arc<[IpAddr]> {
    let block = config.lists.block.iter().map(|list| Some(&list.source));
    let allow = config.lists.allow.iter().map(|list| list.source.as_ref());
    let primaries = block.chain(allow).filter_map(|source| match source? {
        config::ListSource::Zone(zone) => Some(zone.primary.ip().to_canonical()),
        _ => None,
    });
    primaries.collect()
}

fn limit(config: &config::RateLimitConfig) -> Result<LimitConfig, Problem> {
    let exempt = AccessList::new(&config.exempt, &[]).map_err(|error| {
        Problem::new("rate_limit.exempt", error.to_string(), "Join neighbouring prefixes")
    })?;
    Ok(LimitConfig {
        per_second: config.per_second,
        burst: config.burst,
        slip: config.slip,
        exempt,
        groups: None,
        dry_run: config.dry_run,
        flood_times: if config.dry_run { 0 } else { config.ban_times },
    })
}

fn access(config: &config::AccessConfig) -> Result<AccessList, Problem> {
    AccessList::new(&config.allow, &config.deny).map_err(|error| {
        let remedy =
            "Join neighbouring prefixes, or let a router in front of this host tell the clients apart";
        Problem::new("access.allow", error.to_string(), remedy)
    })
}

/// Returns warnings about a policy that is valid but probably not intended.
pub fn warnings(config: &Config, policy: &QueryPolicy) -> Vec<String> {
    let open = |address: &&SocketAddr| {
        let share =
            if address.is_ipv4() { policy.access.v4.share() } else { policy.access.v6.share() / V6_IN_USE };
        share > OPEN && is_public(address.ip())
    };
    let warning = |address: &SocketAddr| {
        format!(
            "access.allow lets everybody ask at {address}: attackers use open resolvers to flood others with answers \
                         (RFC 5358). List only the networks to serve; nftables on this host does not see what AF_XDP takes"
        )
    };
    let http = config.control.http.filter(|http| !http.ip().is_loopback()).map(|http| {
        format!(
            "control.http takes tokens at {http} unencrypted: everybody on the way can read and use them. Use a loopback \
             address behind a proxy with TLS, or a network of your own"
        )
    });
    let open = config.server.listen.iter().find(open).map(warning);
    let more = unsigned_zones(config).into_iter().chain(plain_lists(config)).chain(unknown_senders(config));
    open.into_iter().chain(http).chain(more).collect()
}

/// Returns a warning if groups have clients by MAC address, and no worker learns of those.
fn unknown_senders(config: &Config) -> Option<String> {
    let mut groups = config.lists.groups.iter().filter(|group| !group.macs.is_empty());
    let group = groups.next().filter(|_| config.server.interface.is_none())?;
    Some(format!(
        "client_group {:?} has clients by MAC address, which queries over kernel sockets do not tell: set \
         server.interface, or list prefixes",
        group.name
    ))
}

/// Returns a warning for each list that is downloaded in plain text from afar.
fn plain_lists(config: &Config) -> Vec<String> {
    let block = config.lists.block.iter().map(|list| (&list.name, Some(&list.source)));
    let allow = config.lists.allow.iter().map(|list| (&list.name, list.source.as_ref()));
    let warning = |(name, source): (&String, Option<&config::ListSource>)| {
        let host = source?.changeable_host()?;
        Some(format!(
            "list {name:?} comes from {host} over http:// or axfr:// without a key, where everybody on the way can change it: \
             use https://, or tsig_name and tsig_file"
        ))
    };
    block.chain(allow).filter_map(warning).collect()
}

/// Returns a warning for each zone with upstreams of its own that the public DNS may not sign, and
/// that is validated all the same.
fn unsigned_zones(config: &Config) -> Vec<String> {
    let is_exempt = |zone: &Vec<u8>| config.dnssec.insecure.iter().any(|name| is_within(zone, name));
    let zones = config.upstreams.iter().flat_map(|upstream| &upstream.zones);
    let mut zones: Vec<_> = zones.filter(|zone| **zone != [0] && !is_exempt(zone)).collect();
    zones.sort_unstable();
    zones.dedup();
    // With anchors of their own, zones can be validated without the public DNS.
    zones.retain(|_| config.dnssec.validate && config.dnssec.trust_anchor_file.is_none());
    let warning = |zone: &Vec<u8>| {
        let zone = names::display(zone);
        format!(
            "dnssec.validate: {zone} has upstreams of its own. If the public DNS does not delegate it, its answers fail \
             validation and clients get SERVFAIL: list it in dnssec.insecure then"
        )
    };
    zones.into_iter().map(warning).collect()
}

/// Share of all IPv6 addresses that is allocated: 2000::/3 (RFC 4291 section 2.4).
const V6_IN_USE: f64 = 0.125;

/// Share of all addresses above which a list counts as one that allows everybody.
const OPEN: f64 = 0.5;

/// Whether an address to listen on can be reached from everywhere, as far as the address tells: a
/// wildcard may include such addresses.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_loopback() || v4.is_private() || v4.is_link_local() || shared)
        }
        IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()),
    }
}

fn cookies(config: &config::CookieConfig) -> Result<Option<Cookies>, Problem> {
    if !config.enabled {
        return Ok(None);
    }
    let Some(path) = &config.secret_file else { return Ok(Some(Cookies::new(rand::random(), None))) };
    let (secret, other) = secrets::secrets_of("cookies.secret_file", path)?;
    Ok(Some(Cookies::new(secret, other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_dataplane::dns::cookie::Cookie;
    use std::{io::Write, net::Ipv4Addr, path::Path};

    fn made_from(text: &str) -> Result<Option<Cookies>, Problem> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let secret_file = Some(file.path().to_owned());
        cookies(&config::CookieConfig { enabled: true, secret_file, require_over_udp: false })
    }

    fn config(listen: &str, access: &str) -> Config {
        let text = format!(
            "[server]\nlisten = [{listen:?}]\n[[upstream]]\naddress = \"192.0.2.1\"\n[access]\n{access}"
        );
        Config::parse(&text, Path::new("ringdns.toml")).unwrap()
    }

    #[test]
    fn by_default_only_neighbours_may_ask() {
        let policy = policy(&config("198.51.100.1:53", ""), &Groups::default()).unwrap();
        for (client, allowed) in [
            ("127.0.0.1", true),
            ("10.53.0.1", true),
            ("172.31.255.255", true),
            ("172.32.0.0", false),
            ("192.168.1.1", true),
            ("192.169.0.0", false),
            ("100.64.0.1", true),
            ("100.128.0.0", false),
            ("169.254.1.1", true),
            ("198.51.100.2", false),
            ("8.8.8.8", false),
            ("::1", true),
            ("fd53::1", true),
            ("fe80::1", true),
            ("fec0::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(policy.access.allows(client.parse().unwrap()), allowed, "{client}");
        }
        assert!(warnings(&config("198.51.100.1:53", ""), &policy).is_empty());
    }

    #[test]
    fn an_open_resolver_is_warned_of() {
        for (listen, access, warned) in [
            ("198.51.100.1:53", "allow = [\"0.0.0.0/0\"]", true),
            ("0.0.0.0:53", "allow = [\"0.0.0.0/1\", \"128.0.0.0/1\"]\ndeny = [\"10.0.0.0/8\"]", true),
            ("[2001:db8::1]:53", "allow = [\"2000::/3\"]\ndeny = [\"2001::/16\"]", true),
            ("[2001:db8::1]:53", "allow = [\"::/0\"]", true),
            ("[2001:db8::1]:53", "allow = [\"0.0.0.0/0\"]", false),
            ("192.168.1.1:53", "allow = [\"0.0.0.0/0\"]", false),
            ("100.64.0.1:53", "allow = [\"0.0.0.0/0\"]", false),
            ("127.0.0.1:53", "allow = [\"0.0.0.0/0\"]", false),
            ("198.51.100.1:53", "allow = [\"198.51.100.0/22\"]", false),
        ] {
            let config = config(listen, access);
            let warnings = warnings(&config, &policy(&config, &Groups::default()).unwrap());
            assert_eq!(warnings.len(), usize::from(warned), "{listen}, {access}: {warnings:?}");
            assert!(warnings.iter().all(|text| text.contains("RFC 5358") && text.contains(listen)));
        }
    }

    #[test]
    fn an_api_that_others_can_reach_is_warned_of() {
        for (http, warned) in [
            ("127.0.0.1:1", false),
            ("127.1.2.3:1", false),
            ("[::1]:1", false),
            ("0.0.0.0:1", true),
            ("[::]:1", true),
            ("10.53.0.2:1", true),
        ] {
            let config = config("127.0.0.1:53", &format!("[control]\nhttp = {http:?}\ntokens_file = \"t\""));
            let warnings = warnings(&config, &policy(&config, &Groups::default()).unwrap());
            assert_eq!(warnings.len(), usize::from(warned), "{http}: {warnings:?}");
            assert!(warnings.iter().all(|text| text.contains(http)));
        }
    }

    #[test]
    fn the_secrets_are_those_in_the_file() {
        let server = "010000005cf79f111f8130c3eee29480";
        let cookie = Cookie {
            client: 0x2464_c4ab_cf10_c957_u64.to_be_bytes(),
            server: u128::from_str_radix(server, 16).ok().map(u128::to_be_bytes),
        };
        // RFC 9018 appendix A.1.
        let good = |text: &str| {
            let client = Ipv4Addr::new(198, 51, 100, 100).into();
            made_from(text).unwrap().unwrap().answer(&cookie, client, 1_559_731_985).1
        };
        let (ours, other) = ("e5e973e5a6b2a43f48e7dc849e37bfcf", "00000000000000000000000000000000");
        assert!(good(ours) && good(&format!("{}\r\n", ours.to_uppercase())));
        assert!(good(&format!("{ours}\n{other}\n")) && good(&format!("{other}\n\n {ours}")));
        assert!(!good(other));
    }

    #[test]
    fn groups_by_mac_address_without_an_interface_are_warned_of() {
        let warned = |client: &str, interface: &str| {
            let group = format!("[[client_group]]\nname = \"kids\"\nclients = [{client:?}]\n");
            let mut config = config("127.0.0.1:53", &group);
            config.server.interface = (!interface.is_empty()).then(|| interface.to_owned());
            let warnings = warnings(&config, &policy(&config, &Groups::default()).unwrap());
            warnings.iter().any(|text| text.contains("\"kids\" has clients by MAC address"))
        };
        assert!(warned("02:00:00:00:00:01", ""));
        assert!(!warned("02:00:00:00:00:01", "lo") && !warned("10.0.0.1", ""));
    }

    #[test]
    fn zones_that_may_not_be_signed_are_named() {
        let more = |dnssec: &str| {
            let config = config(
                "127.0.0.1:53",
                &format!(
                    "[[upstream]]\naddress = \"192.0.2.2\"\nzones = [\"corp.example\", \"x.lab.example\"]\n\
                     [[upstream]]\naddress = \"192.0.2.3\"\nzones = [\"corp.example\", \".\"]\n[dnssec]\n{dnssec}"
                ),
            );
            warnings(&config, &policy(&config, &Groups::default()).unwrap())
        };
        assert!(more("").is_empty());
        let warned = more("validate = true\ninsecure = [\"lab.example\"]");
        assert!(
            matches!(&warned[..], [one] if one.starts_with("dnssec.validate: corp.example. has")),
            "{warned:?}"
        );
        assert!(more("validate = true\ninsecure = [\"lab.example\", \"corp.example\"]").is_empty());
        assert!(more("validate = true\ntrust_anchor_file = \"/anchors\"").is_empty());
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_repeated() {
        let secret = "e5e973e5a6b2a43f48e7dc849e37bfcf";
        for (text, reason) in [
            ("", "no secret"),
            ("e5e9", "secret 1"),
            (&format!("{secret}\n{secret}0"), "secret 2"),
            (&format!("+{}", &secret[1..]), "secret 1"),
            (&[secret; 3].join("\n"), "more than two"),
        ] {
            let problem = made_from(text).unwrap_err();
            assert_eq!(problem.key, "cookies.secret_file");
            assert!(problem.reason.contains(reason) && !problem.reason.contains("e5e9"), "{problem}");
        }
        let missing = config::CookieConfig {
            enabled: true,
            secret_file: Some("no/such/file".into()),
            require_over_udp: false,
        };
        assert!(cookies(&missing).unwrap_err().reason.contains("no/such/file"));
        assert!(cookies(&config::CookieConfig { enabled: false, ..missing }).unwrap().is_none());
    }
}
