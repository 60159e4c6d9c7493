//! `[[blocklist]]` and `[[allowlist]]`: names that are not resolved, and exceptions.

use super::client_group::{self, ClientGroupConfig, RawClientGroup};
use super::lists::{BlockEde, FetchConfig, ListSource, RawLists, TransferConfig, TsigAlgorithm, TsigConfig};
use crate::{bounds::secs, bounds::within, error::Problem, schedule::Schedule, table::table, values::choice};
use ringdns_common::{names, units::TimeSpan};
use ringdns_dataplane::clock::Secs;
use std::{collections::HashSet, net::IpAddr};

/// Time between two downloads of a list, unless its table has another.
const REFRESH: TimeSpan = TimeSpan::secs(6 * 3_600);

table! {
    /// A list of names that are answered as `answer` says and not resolved. Answers of upstreams
    /// whose aliases lead to such a name are replaced too. Lists are read at the start and by each
    /// reload. docs/policy.md has the formats and the order in which lists decide.
    "[[blocklist]]" RawBlocklist {
        /// Name of the list, for the log, metrics and `ringctl policy test`: letters, digits, `-`,
        /// `_` and `.`. Required.
        name: Option<String> = None,
        /// Absolute path of the file with the list, or its URL: `"https://lists.example/ads.txt"`.
        /// With `format = "rpz"` also `"axfr://192.0.2.53/rpz.example"`: the zone is transferred from
        /// that primary. Required.
        source: Option<String> = None,
        /// Name of the key that transfers are signed with (TSIG). Absent: they are not.
        tsig_name: Option<String> = None,
        /// Algorithm of that key.
        tsig_algorithm: TsigAlgorithm = TsigAlgorithm::HmacSha256,
        /// File with the secret of that key in Base64. It is read for each transfer.
        tsig_file: Option<String> = None,
        /// Time between two downloads of a URL: 1 m to 30 d. Files are read again by each reload. The
        /// SOA record of a zone may ask for a shorter time, down to 1 m.
        refresh: TimeSpan = REFRESH,
        /// Format of the list. `"auto"`: recognised by its first lines.
        format: ListFormat = ListFormat::Auto,
        /// Answer to questions about the names, unless a rule in the file chooses another:
        /// `"nxdomain"`, `"nodata"`, `"refused"`, `"null"` (`0.0.0.0` and `::`), `"drop"` (no answer),
        /// an address, or a name with a dot: an alias to that name, which is resolved.
        answer: String = "nxdomain".into(),
        /// Action of all rules of a policy zone (`format = "rpz"`), whatever they say: `"nxdomain"`,
        /// `"nodata"`, `"passthru"`, `"drop"`, `"tcp-only"`, or a name with a dot: an alias to that name.
        /// `"given"`: each rule has its own. `"disabled"`: as `dry_run = true`.
        action: String = "given".into(),
        /// TTL of these answers: one second to a day.
        ttl: TimeSpan = TimeSpan::secs(300),
        /// Extended error (RFC 8914) that goes with these answers to clients with EDNS, and has the
        /// list's name as its text: `"blocked"` (15: the operator's own list), `"censored"` (16: a list
        /// that others oblige the operator to use), `"filtered"` (17: a list that the clients asked
        /// for), or `"none"`.
        ede: BlockEde = BlockEde::Blocked,
        /// Times of the week at which the list is in effect, by the clock of `lists.time_zone`:
        /// `["mon-fri 22:00-06:30", "sat,sun 00:00-24:00"]`. A time that ends before it begins ends on
        /// the next day. Without days: every day. Absent: always.
        schedule: Vec<String> = Vec::new(),
        /// Whether the list only counts the questions that it would block
        /// (`ringdns_list_dry_run_total`).
        dry_run: bool = false,
    }
}

table! {
    /// A list of names that no `[[blocklist]]` blocks.
    "[[allowlist]]" RawAllowlist {
        /// Name of the list, as for `[[blocklist]]`. Required.
        name: Option<String> = None,
        /// Names, each with all names below it, and regular expressions between slashes:
        /// `["corp.example", "/^api[0-9]+\\.example\\.net$/"]`.
        names: Vec<String> = Vec::new(),
        /// Absolute path or URL of a list of more names, each of which is allowed.
        source: Option<String> = None,
        /// Time between two downloads of a URL, as for `[[blocklist]]`.
        refresh: TimeSpan = REFRESH,
        /// Format of that list. `"auto"`: recognised by its first lines.
        format: ListFormat = ListFormat::Auto,
    }
}

choice! {
    /// Format of a list.
    ListFormat {
        /// Recognised by the first lines.
        #[default]
        Auto = "auto",
        /// A name in each line.
        Plain = "plain",
        /// Hosts file.
        Hosts = "hosts",
        /// Adblock rules.
        Adblock = "adblock",
        /// Names with `*.` in front.
        Wildcard = "wildcard",
        /// Options of dnsmasq.
        Dnsmasq = "dnsmasq",
        /// Options of Unbound.
        Unbound = "unbound",
        /// Response policy zone.
        Rpz = "rpz",
    }
}

/// Answer to questions that a list blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockAnswer {
    /// The name does not exist.
    NxDomain,
    /// The name has no records of the type.
    NoData,
    /// RCODE REFUSED.
    Refused,
    /// The unspecified address.
    Null,
    /// No answer at all.
    Drop,
    /// An address.
    Address(IpAddr),
    /// An alias to this name in wire format, which is resolved.
    Alias(Vec<u8>),
}

/// Action of all rules of a policy zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZoneAction {
    /// The name does not exist.
    NxDomain,
    /// The name has no records of the type.
    NoData,
    /// The question is resolved.
    PassThru,
    /// No answer at all.
    Drop,
    /// An empty answer over UDP, by which clients ask over TCP.
    TcpOnly,
    /// An alias to this name in wire format, which is resolved.
    Alias(Vec<u8>),
}

/// A list that blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct BlocklistConfig {
    /// Name of the list.
    pub name: String,
    /// File or URL of the list.
    pub source: ListSource,
    /// Format of the file.
    pub format: ListFormat,
    /// Answer where a rule chooses none.
    pub answer: BlockAnswer,
    /// Action of all rules; `None`: each has its own.
    pub action: Option<ZoneAction>,
    /// TTL of answers.
    pub ttl: Secs,
    /// Extended error of answers.
    pub ede: BlockEde,
    /// Times at which the list is in effect.
    pub schedule: Schedule,
    /// Whether the list has no effect.
    pub dry_run: bool,
}

/// A list that allows.
#[derive(Clone, Debug, PartialEq)]
pub struct AllowlistConfig {
    /// Name of the list.
    pub name: String,
    /// Names and regular expressions, as written.
    pub names: Vec<String>,
    /// File or URL with more.
    pub source: Option<ListSource>,
    /// Format of the file.
    pub format: ListFormat,
}

/// Lists that decide about names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListsConfig {
    /// Lists that block, in their order.
    pub block: Vec<BlocklistConfig>,
    /// Lists that allow, in their order.
    pub allow: Vec<AllowlistConfig>,
    /// Groups of clients for which some of them decide.
    pub groups: Vec<ClientGroupConfig>,
    /// Download of lists.
    pub fetch: FetchConfig,
}

const NAME_MAX: usize = 64;

/// Returns the checked lists.
pub fn check(
    block: Vec<RawBlocklist>,
    allow: Vec<RawAllowlist>,
    groups: Vec<RawClientGroup>,
    fetch: RawLists,
) -> Result<ListsConfig, Problem> {
    let mut known = HashSet::new();
    let mut lists = ListsConfig { fetch: fetch.check()?, ..ListsConfig::default() };
    for (i, raw) in block.into_iter().enumerate() {
        lists.block.push(raw.check(&format!("blocklist[{i}]"), &mut known)?);
    }
    for (i, raw) in allow.into_iter().enumerate() {
        lists.allow.push(raw.check(&format!("allowlist[{i}]"), &mut known)?);
    }
    lists.groups = client_group::check(groups, &lists)?;
    Ok(lists)
}

impl RawBlocklist {
    fn check(self, table: &str, known: &mut HashSet<String>) -> Result<BlocklistConfig, Problem> {
        let name = list_name(table, self.name, known)?;
        let source = self.source.ok_or_else(|| {
            let remedy = "Add source = \"/etc/ringdns/ads.txt\"";
            Problem::new(table, format!("the list {name:?} has no source"), remedy)
        })?;
        let tsig = tsig(table, self.tsig_name, self.tsig_algorithm, self.tsig_file)?;
        let source = match source.starts_with(TransferConfig::SCHEME) && self.format == ListFormat::Rpz {
            true => ListSource::Zone(TransferConfig::check(table, &source, self.refresh, tsig)?.into()),
            false if tsig.is_some() => {
                let remedy =
                    "Remove it, or write source = \"axfr://192.0.2.53/rpz.example\" and format = \"rpz\"";
                return Err(Problem::new(format!("{table}.tsig_name"), "only transfers are signed", remedy));
            }
            false => ListSource::check(table, source, self.refresh)?,
        };
        let key = format!("{table}.action");
        let is_disabled = self.action == "disabled";
        let action = action(&key, &self.action)?;
        if (action.is_some() || is_disabled) && self.format != ListFormat::Rpz {
            let remedy = "Remove it, or write format = \"rpz\"; answer is for other lists";
            return Err(Problem::new(key, "only rules of policy zones have actions", remedy));
        }
        let limits = [TimeSpan::secs(1), TimeSpan::secs(86_400)];
        let ttl = within(&format!("{table}.ttl"), self.ttl, limits, "Give \"1s\" to \"1d\"")?;
        Ok(BlocklistConfig {
            name,
            source,
            format: self.format,
            answer: answer(&format!("{table}.answer"), &self.answer)?,
            action,
            ttl: secs(ttl),
            ede: self.ede,
            schedule: Schedule::check(&format!("{table}.schedule"), &self.schedule)?,
            dry_run: self.dry_run || is_disabled,
        })
    }
}

impl RawAllowlist {
    fn check(self, table: &str, known: &mut HashSet<String>) -> Result<AllowlistConfig, Problem> {
        let name = list_name(table, self.name, known)?;
        if self.names.is_empty() && self.source.is_none() {
            let remedy = "Add names = [\"corp.example\"], or source with the path of a file";
            return Err(Problem::new(
                table,
                format!("the list {name:?} has neither names nor a source"),
                remedy,
            ));
        }
        for (i, text) in self.names.iter().enumerate().filter(|(_, text)| pattern(text).is_none()) {
            names::name(text).map_err(|error| {
                let remedy = "Write \"corp.example\", or a regular expression between slashes";
                Problem::new(format!("{table}.names[{i}]"), error.to_string(), remedy)
            })?;
        }
        let source = self.source.map(|source| ListSource::check(table, source, self.refresh)).transpose()?;
        Ok(AllowlistConfig { name, names: self.names, source, format: self.format })
    }
}

/// Returns the key of transfers, if there is one.
fn tsig(
    table: &str,
    name: Option<String>,
    algorithm: TsigAlgorithm,
    file: Option<String>,
) -> Result<Option<TsigConfig>, Problem> {
    let (name, file) = match (name, file) {
        (None, None) => return Ok(None),
        (Some(name), Some(file)) => (name, file),
        _ => {
            let remedy = "Give tsig_name and tsig_file, or neither";
            return Err(Problem::new(table, "a key has a name and a file with its secret", remedy));
        }
    };
    let name = names::name(&name).map_err(|error| {
        let remedy = "Write the name of the key at the primary, such as \"transfer.example\"";
        Problem::new(format!("{table}.tsig_name"), error.to_string(), remedy)
    })?;
    if !file.starts_with('/') || file.ends_with('/') {
        let reason = format!("{file:?} is not the absolute path of a file");
        return Err(Problem::new(
            format!("{table}.tsig_file"),
            reason,
            "Write \"/etc/ringdns/transfer.key\"",
        ));
    }
    Ok(Some(TsigConfig { name, algorithm, file: file.into() }))
}

/// Returns the regular expression between slashes, if the text is one.
pub fn pattern(text: &str) -> Option<&str> {
    text.strip_prefix('/')?.strip_suffix('/')
}

fn list_name(table: &str, name: Option<String>, known: &mut HashSet<String>) -> Result<String, Problem> {
    let key = format!("{table}.name");
    let remedy = "Write a name of its own, such as \"ads\": at most 64 letters, digits, -, _ and .";
    let name = name.ok_or_else(|| Problem::new(table, "a list needs a name", remedy))?;
    if !is_name(&name) {
        return Err(Problem::new(key, format!("{name:?} is no name of a list"), remedy));
    }
    if !known.insert(name.clone()) {
        return Err(Problem::new(key, format!("two lists have the name {name:?}"), remedy));
    }
    Ok(name)
}

/// Whether a text can be the name of a list or a group.
pub fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

fn answer(key: &str, text: &str) -> Result<BlockAnswer, Problem> {
    Ok(match text {
        "nxdomain" => BlockAnswer::NxDomain,
        "nodata" => BlockAnswer::NoData,
        "refused" => BlockAnswer::Refused,
        "null" => BlockAnswer::Null,
        "drop" => BlockAnswer::Drop,
        other => match (other.parse(), names::name(other)) {
            (Ok(address), _) => BlockAnswer::Address(address),
            // A single label is more likely a misspelt word.
            (_, Ok(name)) if other.trim_end_matches('.').contains('.') => BlockAnswer::Alias(name),
            _ => {
                let remedy = "Write \"nxdomain\", \"nodata\", \"refused\", \"null\", \"drop\", an address, or \
                              a name such as \"blocked.example\"";
                return Err(Problem::new(key, format!("{other:?} is no answer of a list"), remedy));
            }
        },
    })
}

/// Returns the action of all rules of a policy zone; `None`: each has its own, or the zone is disabled.
fn action(key: &str, text: &str) -> Result<Option<ZoneAction>, Problem> {
    Ok(Some(match text {
        "given" | "disabled" => return Ok(None),
        "nxdomain" => ZoneAction::NxDomain,
        "nodata" => ZoneAction::NoData,
        "passthru" => ZoneAction::PassThru,
        "drop" => ZoneAction::Drop,
        "tcp-only" => ZoneAction::TcpOnly,
        other => match names::name(other) {
            // A single label is more likely a misspelt word, an address more likely an answer.
            Ok(name) if other.trim_end_matches('.').contains('.') && other.parse::<IpAddr>().is_err() => {
                ZoneAction::Alias(name)
            }
            _ => {
                let remedy = "Write \"given\", \"disabled\", \"passthru\", \"drop\", \"nxdomain\", \"nodata\", \
                              \"tcp-only\", or a name such as \"garden.example\"";
                return Err(Problem::new(key, format!("{other:?} is no action of a policy zone"), remedy));
            }
        },
    }))
}

#[cfg(test)]
mod tests;
