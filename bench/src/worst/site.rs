//! Set-up of the server that packets come to: what an operator may have configured, and the state that
//! other clients have brought about.

use crate::{
    instructions::parts::{Client, OLD_SECRET, SECRET},
    stage,
};
use anyhow::{Context, Result};
use ringdns_dataplane::{
    access::AccessList,
    cache::Scope,
    checksum::Checksums,
    dns::cookie::Cookies,
    group::{ClientGroups, Group, GroupSet},
    labels::Labels,
    limiter::{GroupLimit, GroupLimits, LimitConfig},
    log::Sieve,
    policy::{QueryPolicy, Refusal},
    prefix::Prefix,
};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// Groups with other clients.
const OTHER_GROUPS: u16 = 20;
/// MAC addresses in groups, besides the client's.
const OTHER_MACS: u8 = 64;
/// Names that the query log leaves out.
const LEFT_OUT: usize = 100;
/// Burst of a limit that the packets of a measurement stay below, and other packets can exceed.
const BURST: u32 = 4_000;

/// Limit that no client reaches, in queries a second.
const FREELY: u32 = 10_000_000;

/// Verification of checksums by a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verification {
    /// AF_XDP in zero-copy mode.
    Verify,
    /// AF_XDP in copy mode.
    AllowPartial,
    /// `trust_checksums`.
    Trust,
    /// Kernel sockets.
    Unused,
}

impl Verification {
    /// Returns the setting of the data plane.
    pub fn checksums(self) -> Checksums {
        match self {
            Verification::Verify => Checksums::Verify,
            Verification::AllowPartial => Checksums::AllowPartial,
            Verification::Trust => Checksums::Trust,
            Verification::Unused => Checksums::Unused,
        }
    }
}

/// Groups of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Groups {
    /// None.
    None,
    /// Twenty groups; the client is in none of them.
    Others,
    /// Twenty groups; the client is in one by its address.
    Address,
    /// Groups by MAC address, the client's too.
    Mac,
    /// Groups by MAC address without the client's, which is in one by its address.
    OtherMacs,
}

/// Clients that an answer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Audience {
    /// All.
    All,
    /// All but those of a group with upstreams of its own.
    ButOthers,
    /// Clients of the group of the client, which has upstreams of its own.
    Own,
    /// Clients whose group has a list that has given the answer. Its name has this many bytes.
    List(u8),
}

/// Rate limit, and the loads of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// None.
    Off,
    /// All clients are below.
    Below,
    /// All clients are below; some are exempt, and groups have limits of their own.
    Terms,
    /// Another client is over.
    OtherOver,
    /// Another client is over; some are exempt, and groups have limits of their own.
    TermsOtherOver,
    /// The client is over, and gets no answer.
    Over,
    /// The client is over, and gets answers with TC=1.
    Slip,
    /// The client is over, and gets its answers, since the limit is tried only.
    DryRun,
}

impl Limit {
    /// Returns the client that has to be brought over its limit.
    pub fn client_over(self) -> Option<Client> {
        match self {
            Limit::Off | Limit::Below | Limit::Terms => None,
            Limit::OtherOver | Limit::TermsOtherOver => Some(Client::OTHER),
            Limit::Over | Limit::Slip | Limit::DryRun => Some(Client::USUAL),
        }
    }
}

/// Query log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Log {
    /// None.
    Off,
    /// One answer in a hundred.
    Sampled,
    /// All answers.
    All,
    /// All answers, but for some clients and a hundred names.
    Sieved,
}

impl Log {
    /// Returns the filter of the log; `None`: there is no log.
    pub fn sieve(self) -> Result<Option<Sieve>> {
        Ok(match self {
            Log::Off => None,
            Log::Sampled => Some(Sieve::new(100, &[], &[])?),
            Log::All => Some(Sieve::open()),
            Log::Sieved => {
                let beside = ["10.53.0.3".parse()?, "fd53::3".parse()?];
                let name = |nth: usize| [&[3], format!("x{nth:02}").as_bytes(), b"\x07example\0"].concat();
                let names: Vec<Vec<u8>> = (0..LEFT_OUT).map(name).collect();
                Some(Sieve::new(1, &beside, &names)?)
            }
        })
    }
}

/// Set-up of the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Site {
    /// Verification of checksums.
    pub checksums: Verification,
    /// Lengths of the entries of the access list that decide about the client, over IPv4 and IPv6; `None`:
    /// those of the default list.
    pub access: Option<(u8, u8)>,
    /// Other entries of the access list.
    pub other_prefixes: u16,
    /// Whether the entry denies the client; needs `access`.
    pub is_denied: bool,
    /// Whether clients that may not ask get no answer.
    pub is_silent: bool,
    /// Groups of clients.
    pub groups: Groups,
    /// Clients that the answers are for.
    pub audience: Audience,
    /// Rate limit.
    pub limit: Limit,
    /// Query log.
    pub log: Log,
    /// Whether the server makes cookies.
    pub has_cookies: bool,
    /// Whether it takes cookies that were made with the secret of before.
    pub has_old_secret: bool,
    /// Whether a client with a cookie must have a valid one.
    pub requires_cookies: bool,
    /// Length of the server's name for those who ask for it, by NSID and by `id.server`; 0: none.
    pub name: u8,
    /// Primaries whose NOTIFY messages are taken.
    pub primaries: u8,
}

impl Default for Site {
    fn default() -> Self {
        Site {
            checksums: Verification::Verify,
            access: None,
            other_prefixes: 0,
            is_denied: false,
            is_silent: false,
            groups: Groups::None,
            audience: Audience::All,
            limit: Limit::Off,
            log: Log::Off,
            has_cookies: true,
            has_old_secret: false,
            requires_cookies: false,
            name: 0,
            primaries: 0,
        }
    }
}

/// Group of the client, where it is in one.
const OWN: usize = 1;
/// Group of other clients.
const OTHER: usize = 2;

fn group(number: usize) -> Result<Group> {
    Group::new(number).context("a group has no number")
}

impl Site {
    /// Whether the set-up is the server's default: over AF_XDP, in either mode.
    pub fn is_default(&self) -> bool {
        let usual = matches!(self.checksums, Verification::Verify | Verification::AllowPartial);
        usual && Site { checksums: Verification::Verify, ..self.clone() } == Site::default()
    }

    /// Returns the clients that the answers are for.
    pub fn scope(&self) -> Result<Scope> {
        let own = match self.groups {
            Groups::None | Groups::Others => Group::DEFAULT,
            Groups::Address | Groups::Mac | Groups::OtherMacs => group(OWN)?,
        };
        let but_others = GroupSet::ALL.without(group(OTHER)?);
        Ok(match self.audience {
            Audience::All => Scope::ALL,
            Audience::ButOthers => Scope { group: own, groups: but_others, list: None },
            Audience::Own => Scope { group: own, groups: GroupSet::NONE.with(own), list: None },
            Audience::List(_) => Scope { group: own, groups: but_others, list: Some(0) },
        })
    }

    /// Returns the policy of the data plane.
    pub fn policy(&self) -> Result<QueryPolicy> {
        let names = Labels::default();
        if let Audience::List(len) = self.audience {
            names.number(&"l".repeat(len.max(1).into())).context("a list has no number")?;
        }
        let old = self.has_old_secret.then_some(OLD_SECRET);
        let name = (self.name > 0).then(|| vec![b's'; self.name.into()].into_boxed_slice());
        Ok(QueryPolicy {
            access: self.access_list()?,
            refusal: if self.is_silent { Refusal::Drop } else { Refusal::Answer },
            groups: self.client_groups()?,
            lists: Arc::new(names),
            cookies: self.has_cookies.then(|| Cookies::new(SECRET, old)),
            require_cookies: self.requires_cookies,
            nsid: name.clone(),
            identity: name,
            limit: self.limit_config()?,
            primaries: (0..self.primaries).map(|n| IpAddr::from([192, 0, 2, n])).collect(),
        })
    }

    fn access_list(&self) -> Result<AccessList> {
        let mut allow = Vec::new();
        for nth in 0..self.other_prefixes {
            let [high, low] = nth.to_be_bytes();
            allow.push(Prefix::new(Ipv4Addr::new(172, 16 + high, low, 0).into(), 24)?);
            allow.push(Prefix::new(Ipv6Addr::new(0x2001, 0xdb8, nth, 0, 0, 0, 0, 0).into(), 48)?);
        }
        let usual = stage::ALLOW.iter().map(|prefix| prefix.parse());
        let usual = usual.collect::<Result<Vec<Prefix>, _>>()?;
        let Some((v4, v6)) = self.access else {
            allow.extend(usual);
            return Ok(AccessList::new(&allow, &[])?);
        };
        let around =
            |client: Client| [Prefix::around(client.v4.into(), v4), Prefix::around(client.v6.into(), v6)];
        if self.is_denied {
            allow.extend(usual);
            return Ok(AccessList::new(&allow, &around(Client::USUAL))?);
        }
        allow.extend(around(Client::USUAL));
        allow.extend(around(Client::OTHER));
        Ok(AccessList::new(&allow, &[])?)
    }

    fn client_groups(&self) -> Result<ClientGroups> {
        if self.groups == Groups::None {
            return Ok(ClientGroups::default());
        }
        let mut prefixes = Vec::new();
        for nth in 1..=OTHER_GROUPS {
            let number = group(usize::from(nth) + 1)?;
            prefixes.push((Prefix::new(Ipv4Addr::new(10, 53, nth as u8, 0).into(), 24)?, number));
            prefixes.push((Prefix::new(Ipv6Addr::new(0xfd53, 0, nth, 1, 0, 0, 0, 0).into(), 64)?, number));
        }
        let own: [IpAddr; 2] = [Client::USUAL.v4.into(), Client::USUAL.v6.into()];
        if self.groups == Groups::Others {
            // Beside the client, so that the look-up goes as deep as it can.
            prefixes.push(("10.53.0.3".parse()?, group(OTHER)?));
            prefixes.push(("fd53::3".parse()?, group(OTHER)?));
        } else if self.groups != Groups::Mac {
            let own = own.map(|address| (Prefix::around(address, 128), group(OWN)));
            for (prefix, number) in own {
                prefixes.push((prefix, number?));
            }
        }
        let groups = ClientGroups::new(&prefixes)?;
        if !matches!(self.groups, Groups::Mac | Groups::OtherMacs) {
            return Ok(groups);
        }
        let mut macs = Vec::new();
        for nth in 0..OTHER_MACS {
            macs.push((format!("02:00:00:01:00:{nth:02x}").parse()?, group(OTHER)?));
        }
        if self.groups == Groups::Mac {
            macs.push(("02:00:00:00:53:01".parse()?, group(OWN)?));
        }
        Ok(groups.with_macs(macs))
    }

    fn limit_config(&self) -> Result<Option<LimitConfig>> {
        let has_terms = matches!(self.limit, Limit::Terms | Limit::TermsOtherOver);
        let burst = match self.limit {
            Limit::Off => return Ok(None),
            Limit::Below | Limit::Terms => 1 << 20,
            Limit::OtherOver | Limit::TermsOtherOver => BURST,
            Limit::Over | Limit::Slip | Limit::DryRun => ringdns_dataplane::limiter::BURST_MIN,
        };
        let per_second = match self.limit {
            Limit::Off | Limit::Below | Limit::Terms => FREELY,
            Limit::OtherOver | Limit::TermsOtherOver | Limit::Over | Limit::Slip | Limit::DryRun => 200,
        };
        // The client is in the first group, and stays below its limit at any rate.
        let limits = [(group(OWN)?, FREELY), (group(OTHER)?, 100)];
        let limits = limits.map(|(group, per_second)| (group, GroupLimit { per_second, burst }));
        let terms = || -> Result<Arc<GroupLimits>> {
            Ok(Arc::new(GroupLimits {
                clients: Site { groups: Groups::OtherMacs, ..Site::default() }.client_groups()?,
                limits: limits.to_vec(),
            }))
        };
        let exempt: &[Prefix] = if has_terms { &["10.53.0.3".parse()?, "fd53::3".parse()?] } else { &[] };
        Ok(Some(LimitConfig {
            per_second,
            burst,
            slip: u32::from(self.limit == Limit::Slip),
            exempt: AccessList::new(exempt, &[])?,
            groups: if has_terms { Some(terms()?) } else { None },
            dry_run: self.limit == Limit::DryRun,
            ..stage::limit()?
        }))
    }
}
