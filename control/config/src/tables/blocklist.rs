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
        let limits = [TimeSpan::secs(1), TimeSpan::secs(86_400)];
        let ttl = within(&format!("{table}.ttl"), self.ttl, limits, "Give \"1s\" to \"1d\"")?;
        Ok(BlocklistConfig {
            name,
            source,
            format: self.format,
            answer: answer(&format!("{table}.answer"), &self.answer)?,
            ttl: secs(ttl),
            ede: self.ede,
            schedule: Schedule::check(&format!("{table}.schedule"), &self.schedule)?,
            dry_run: self.dry_run,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn lists_are_read() {
        let lists = minimal_with(
            "[[blocklist]]\nname = \"ads\"\nsource = \"/a\"\nanswer = \"192.0.2.1\"\nttl = \"1m\"\n\
             [[blocklist]]\nname = \"b\"\nsource = \"/b\"\nformat = \"hosts\"\ndry_run = true\nede = \"filtered\"\n\
             [[allowlist]]\nname = \"ours\"\nnames = [\"corp.example\", \"/^a[0-9]+\\\\./\"]\n",
        )
        .lists;
        let ads = BlocklistConfig {
            name: "ads".into(),
            source: ListSource::File("/a".into()),
            format: ListFormat::Auto,
            answer: BlockAnswer::Address([192, 0, 2, 1].into()),
            ttl: 60,
            ede: BlockEde::Blocked,
            schedule: Schedule::default(),
            dry_run: false,
        };
        assert_eq!(lists.block[0], ads);
        let [_, second] = &lists.block[..] else { panic!("{lists:?}") };
        assert_eq!((second.format, &second.answer), (ListFormat::Hosts, &BlockAnswer::NxDomain));
        assert!(second.dry_run && second.ede.code() == Some(17));
        assert_eq!(pattern(&lists.allow[0].names[1]), Some("^a[0-9]+\\."));
        let alias =
            minimal_with("[[blocklist]]\nname = \"a\"\nsource = \"/a\"\nanswer = \"Sink.example\"").lists;
        assert_eq!(alias.block[0].answer, BlockAnswer::Alias(b"\x04sink\x07example\0".to_vec()));
        assert_eq!(minimal_with("").lists, ListsConfig::default());
    }

    #[test]
    fn wrong_values_are_refused() {
        let twice = "name = \"a\"\nsource = \"/a\"\n[[blocklist]]\nname = \"a\"\nsource = \"/b\"";
        refused(
            &format!("{MINIMAL}[[blocklist]]\n"),
            &[
                ["source = \"/a\"", "5", "blocklist[0]", "needs a name", "ads"],
                ["name = \"a b\"\nsource = \"/a\"", "6", "blocklist[0].name", "\"a b\"", "ads"],
                ["name = \"a\"", "5", "blocklist[0]", "no source", "Add source"],
                ["name = \"a\"\nsource = \"a\"", "7", "blocklist[0].source", "absolute path", "/etc"],
                [
                    "name = \"a\"\nsource = \"/a\"\nanswer = \"no\"",
                    "8",
                    "blocklist[0].answer",
                    "\"no\"",
                    "null",
                ],
                [
                    "name = \"a\"\nsource = \"/a\"\nschedule = [\"mo 08:00-09:00\"]",
                    "8",
                    "blocklist[0].schedule[0]",
                    "no time of the week",
                    "mon-fri",
                ],
                ["name = \"a\"\nsource = \"/a\"\nttl = \"0s\"", "8", "blocklist[0].ttl", "too short", "1s"],
                [twice, "9", "blocklist[1].name", "two lists", "of its own"],
            ],
        );
        refused(
            &format!("{MINIMAL}[[allowlist]]\nname = \"a\"\n"),
            &[
                ["", "5", "allowlist[0]", "neither", "Add names"],
                ["names = [\"a..b\"]", "7", "allowlist[0].names[0]", "a..b", "slashes"],
            ],
        );
    }

    #[test]
    fn policy_zones_are_transferred() {
        let table = "[[blocklist]]\nname = \"a\"\nformat = \"rpz\"\nsource = ";
        let source = |text: &str| {
            let lists = minimal_with(&format!("{table}{text:?}\n")).lists;
            match &lists.block[0].source {
                ListSource::Zone(zone) => (zone.url.clone(), lists.block[0].source.changeable_host()),
                other => panic!("{other:?}"),
            }
        };
        let far = Some("192.0.2.53".to_owned());
        assert_eq!(
            source("axfr://192.0.2.53/RPZ.example."),
            ("axfr://192.0.2.53:53/rpz.example.".into(), far)
        );
        assert_eq!(source("axfr://[::1]/rpz.example"), ("axfr://[::1]:53/rpz.example.".into(), None));
        assert_eq!(source("axfr://[fd00::1]:54/a"), ("axfr://[fd00::1]:54/a.".into(), None));
        let key = "tsig_name = \"K.example\"\ntsig_algorithm = \"hmac-sha512\"\ntsig_file = \"/k\"\n";
        let lists = minimal_with(&format!("{table}\"axfr://192.0.2.53/rpz.example\"\n{key}")).lists;
        assert_eq!(lists.block[0].source.changeable_host(), None, "it is signed");
        let ListSource::Zone(zone) = &lists.block[0].source else { panic!("{lists:?}") };
        let name = b"\x01k\x07example\0".to_vec();
        let tsig = TsigConfig { name, algorithm: TsigAlgorithm::HmacSha512, file: "/k".into() };
        assert_eq!(zone.tsig, Some(tsig));
    }

    #[test]
    fn wrong_transfers_are_refused() {
        let key = "tsig_name = \"k\"\ntsig_file = \"/k\"";
        let rpz = "source = \"axfr://192.0.2.53/a\"\nformat = \"rpz\"";
        refused(
            &format!("{MINIMAL}[[blocklist]]\nname = \"a\"\n"),
            &[
                [
                    "source = \"axfr://192.0.2.53/a\"",
                    "7",
                    "blocklist[0].source",
                    "only response policy zones",
                    "rpz",
                ],
                [
                    "source = \"axfr://ns.example/a\"\nformat = \"rpz\"",
                    "7",
                    "blocklist[0].source",
                    "no address",
                    "axfr://",
                ],
                [
                    "source = \"axfr://192.0.2.53\"\nformat = \"rpz\"",
                    "7",
                    "blocklist[0].source",
                    "no zone",
                    "axfr://",
                ],
                [
                    "source = \"axfr://0.0.0.0/a\"\nformat = \"rpz\"",
                    "7",
                    "blocklist[0].source",
                    "no address",
                    "axfr://",
                ],
                [
                    "source = \"axfr://192.0.2.53/.\"\nformat = \"rpz\"",
                    "7",
                    "blocklist[0].source",
                    "the root",
                    "axfr://",
                ],
                [&format!("{rpz}\ntsig_name = \"k\""), "5", "blocklist[0]", "a name and a file", "neither"],
                [
                    &format!("{rpz}\ntsig_name = \"a..b\"\ntsig_file = \"/k\""),
                    "9",
                    "blocklist[0].tsig_name",
                    "a..b",
                    "primary",
                ],
                [
                    &format!("{rpz}\ntsig_name = \"k\"\ntsig_file = \"k\""),
                    "10",
                    "blocklist[0].tsig_file",
                    "absolute",
                    "/etc",
                ],
                [
                    &format!("source = \"/a\"\n{key}"),
                    "8",
                    "blocklist[0].tsig_name",
                    "only transfers",
                    "axfr://",
                ],
            ],
        );
    }
}
