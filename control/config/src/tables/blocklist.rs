//! `[[blocklist]]` and `[[allowlist]]`: names that are not resolved, and exceptions.

use crate::{bounds::secs, bounds::within, error::Problem, table::table, values::choice};
use ringdns_common::{names, units::TimeSpan};
use ringdns_dataplane::clock::Secs;
use std::{collections::HashSet, net::IpAddr, path::PathBuf};

table! {
    /// A list of names that are answered as `answer` says and not resolved. Answers of upstreams
    /// whose aliases lead to such a name are replaced too. Lists are read at the start and by each
    /// reload. docs/policy.md has the formats and the order in which lists decide.
    "[[blocklist]]" RawBlocklist {
        /// Name of the list, for the log, metrics and `ringctl policy test`: letters, digits, `-`,
        /// `_` and `.`. Required.
        name: Option<String> = None,
        /// Absolute path of the file with the list. Required.
        source: Option<String> = None,
        /// Format of the file. `"auto"`: recognised by its first lines.
        format: ListFormat = ListFormat::Auto,
        /// Answer to questions about the names, unless a rule in the file chooses another:
        /// `"nxdomain"`, `"nodata"`, `"refused"`, `"null"` (`0.0.0.0` and `::`), an address, or a name
        /// with a dot: an alias to that name, which is resolved.
        answer: String = "nxdomain".into(),
        /// TTL of these answers: one second to a day.
        ttl: TimeSpan = TimeSpan::secs(300),
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
        /// Absolute path of a file with more names, each of which is allowed.
        source: Option<String> = None,
        /// Format of the file. `"auto"`: recognised by its first lines.
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
    /// File with the list.
    pub source: PathBuf,
    /// Format of the file.
    pub format: ListFormat,
    /// Answer where a rule chooses none.
    pub answer: BlockAnswer,
    /// TTL of answers.
    pub ttl: Secs,
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
    /// File with more.
    pub source: Option<PathBuf>,
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
}

const NAME_MAX: usize = 64;

/// Returns the checked lists.
pub fn check(block: Vec<RawBlocklist>, allow: Vec<RawAllowlist>) -> Result<ListsConfig, Problem> {
    let mut known = HashSet::new();
    let mut lists = ListsConfig::default();
    for (i, raw) in block.into_iter().enumerate() {
        lists.block.push(raw.check(&format!("blocklist[{i}]"), &mut known)?);
    }
    for (i, raw) in allow.into_iter().enumerate() {
        lists.allow.push(raw.check(&format!("allowlist[{i}]"), &mut known)?);
    }
    Ok(lists)
}

impl RawBlocklist {
    fn check(self, table: &str, known: &mut HashSet<String>) -> Result<BlocklistConfig, Problem> {
        let name = list_name(table, self.name, known)?;
        let source = self.source.ok_or_else(|| {
            let remedy = "Add source = \"/etc/ringdns/ads.txt\"";
            Problem::new(table, format!("the list {name:?} has no source"), remedy)
        })?;
        let limits = [TimeSpan::secs(1), TimeSpan::secs(86_400)];
        let ttl = within(&format!("{table}.ttl"), self.ttl, limits, "Give \"1s\" to \"1d\"")?;
        Ok(BlocklistConfig {
            name,
            source: path(&format!("{table}.source"), source)?,
            format: self.format,
            answer: answer(&format!("{table}.answer"), &self.answer)?,
            ttl: secs(ttl),
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
        let source = self.source.map(|source| path(&format!("{table}.source"), source)).transpose()?;
        Ok(AllowlistConfig { name, names: self.names, source, format: self.format })
    }
}

/// Returns the regular expression between slashes, if the text is one.
pub fn pattern(text: &str) -> Option<&str> {
    text.strip_prefix('/')?.strip_suffix('/')
}

fn list_name(table: &str, name: Option<String>, known: &mut HashSet<String>) -> Result<String, Problem> {
    let key = format!("{table}.name");
    let remedy = "Write a name of its own, such as \"ads\": at most 64 letters, digits, -, _ and .";
    let name = name.ok_or_else(|| Problem::new(table, "a list needs a name", remedy))?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !(1..=NAME_MAX).contains(&name.len()) || !name.bytes().all(allowed) {
        return Err(Problem::new(key, format!("{name:?} is no name of a list"), remedy));
    }
    if !known.insert(name.clone()) {
        return Err(Problem::new(key, format!("two lists have the name {name:?}"), remedy));
    }
    Ok(name)
}

fn path(key: &str, text: String) -> Result<PathBuf, Problem> {
    if text.contains("://") {
        let remedy = "Download the list to a file, for example by a timer, and reload";
        return Err(Problem::new(
            key,
            format!("{text:?} is a URL, and lists are read from files only"),
            remedy,
        ));
    }
    if !text.starts_with('/') || text.ends_with('/') {
        let remedy = "Write \"/etc/ringdns/ads.txt\"";
        return Err(Problem::new(key, format!("{text:?} is not the absolute path of a file"), remedy));
    }
    Ok(text.into())
}

fn answer(key: &str, text: &str) -> Result<BlockAnswer, Problem> {
    Ok(match text {
        "nxdomain" => BlockAnswer::NxDomain,
        "nodata" => BlockAnswer::NoData,
        "refused" => BlockAnswer::Refused,
        "null" => BlockAnswer::Null,
        other => match (other.parse(), names::name(other)) {
            (Ok(address), _) => BlockAnswer::Address(address),
            // A single label is more likely a misspelt word.
            (_, Ok(name)) if other.trim_end_matches('.').contains('.') => BlockAnswer::Alias(name),
            _ => {
                let remedy = "Write \"nxdomain\", \"nodata\", \"refused\", \"null\", an address, or a name \
                              such as \"blocked.example\"";
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
             [[blocklist]]\nname = \"b\"\nsource = \"/b\"\nformat = \"hosts\"\ndry_run = true\n\
             [[allowlist]]\nname = \"ours\"\nnames = [\"corp.example\", \"/^a[0-9]+\\\\./\"]\n",
        )
        .lists;
        let ads = BlocklistConfig {
            name: "ads".into(),
            source: "/a".into(),
            format: ListFormat::Auto,
            answer: BlockAnswer::Address([192, 0, 2, 1].into()),
            ttl: 60,
            dry_run: false,
        };
        assert_eq!(lists.block[0], ads);
        let [_, second] = &lists.block[..] else { panic!("{lists:?}") };
        assert_eq!((second.format, &second.answer), (ListFormat::Hosts, &BlockAnswer::NxDomain));
        assert!(second.dry_run);
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
                ["name = \"a\"\nsource = \"a\"", "7", "blocklist[0].source", "absolute", "/etc"],
                ["name = \"a\"\nsource = \"https://a/b\"", "7", "blocklist[0].source", "URL", "reload"],
                [
                    "name = \"a\"\nsource = \"/a\"\nanswer = \"no\"",
                    "8",
                    "blocklist[0].answer",
                    "\"no\"",
                    "null",
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
}
