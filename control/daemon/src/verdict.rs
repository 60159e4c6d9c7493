//! Verdict on a question, as `ringctl policy test` shows it: of a running ringdnsd, or of a
//! configuration and its files alone.

use crate::{
    lists::{EffectiveLists, GroupsError, Lists},
    local::{self, LocalSources},
};
use ringdns_api::{PolicyTest, RulePlace};
use ringdns_common::names::{self, NameError};
use ringdns_config::{Config, Problem};
use ringdns_dataplane::{dns::rtype, group::Group};
use ringdns_policy::{
    data::LocalData,
    groups::Policies,
    list::{Found, Kind},
    policy::Verdict,
    rule::RuleAnswer,
};
use std::{net::IpAddr, path::Path};

/// Question that a verdict is wanted on.
#[derive(Clone, Debug)]
pub struct TestedQuestion {
    /// Name in wire format, lowercased.
    pub name: Vec<u8>,
    /// Type.
    pub qtype: u16,
}

impl TestedQuestion {
    /// Parses a name, and a type unless it is A.
    pub fn parse(name: &str, qtype: Option<&str>) -> Result<Self, NameError> {
        let qtype = qtype.map_or(Ok(rtype::A), names::record_type)?;
        Ok(TestedQuestion { name: names::name(name)?, qtype })
    }
}

/// Sources of a verdict, in the order in which they decide.
pub struct Judges<'a> {
    /// Local data.
    pub local: Option<&'a LocalData>,
    /// Aliases of search engines.
    pub safe_search: Option<&'a LocalData>,
    /// Lists.
    pub lists: Option<&'a Policies>,
}

impl Judges<'_> {
    /// Returns the verdict on a question of a client of `group`, with its address if that is known.
    /// `place` returns the place of the rule of a list.
    pub fn test(
        &self,
        question: &TestedQuestion,
        (client, (group, group_name)): (Option<IpAddr>, (Group, String)),
        place: impl Fn(&str, &Found<'_>) -> Option<RulePlace>,
    ) -> PolicyTest {
        let TestedQuestion { name, qtype } = question;
        let mut test = PolicyTest {
            name: names::display(name),
            rtype: names::type_name(*qtype),
            group: group_name,
            action: "resolve".into(),
            list: None,
            answer: None,
            rule: None,
            dry_run: Vec::new(),
        };
        let answers = |data: Option<&LocalData>| {
            data.is_some_and(|data| {
                data.answer_for(data.groups().member(&test.group), name, *qtype).is_some()
            })
        };
        let (is_local, is_engine) = (answers(self.local), answers(self.safe_search));
        if is_local {
            test.action = "local".into();
            return test;
        }
        if is_engine {
            test.action = "safe_search".into();
        }
        let Some(policies) = self.lists else { return test };
        let policy = policies.of(group);
        test.dry_run = policy.would_block(name, *qtype).iter().map(|list| list.name.to_string()).collect();
        let (list, mut rule) = match policy.judge(name, *qtype) {
            Verdict::Pass => return test,
            Verdict::Allowed(allowed) => {
                if !is_engine {
                    test.action = "allow".into();
                }
                (allowed.list, allowed.rule)
            }
            Verdict::Blocked(blocked) => {
                test.action = "block".into();
                test.answer = Some(answer(blocked.answer));
                (&*blocked.list.name, blocked.rule)
            }
        };
        // All clients for whom the rules are the same have one policy, made for one of their prefixes.
        let zone = policy.block_lists().iter().find(|zone| *zone.name == *list);
        if let (Kind::Client(_), Some(client), Some(zone)) = (rule.kind, client, zone)
            && let Some(prefix) = zone.list.clients().longest(client, u8::MAX)
            && let Some(own) = zone.list.find_client(prefix, *qtype)
        {
            rule = own;
        }
        test.list = Some(list.to_owned());
        test.rule = place(list, &rule);
        test
    }
}

/// Returns an answer as the configuration has it.
fn answer(answer: &RuleAnswer) -> String {
    match answer {
        RuleAnswer::NxDomain => "nxdomain".into(),
        RuleAnswer::NoData => "nodata".into(),
        RuleAnswer::Refused => "refused".into(),
        RuleAnswer::Drop => "drop".into(),
        RuleAnswer::TcpOnly => "tcp-only".into(),
        RuleAnswer::Null => "null".into(),
        RuleAnswer::Address(address) => address.to_string(),
        RuleAnswer::Alias(name) => names::display(name),
        RuleAnswer::AliasBelow(name) => format!("*.{}", names::display(name)),
    }
}

/// Error of a verdict without a running ringdnsd.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The name or the type is none.
    #[error("{0}")]
    Question(#[from] NameError),
    /// There is no such group.
    #[error("there is no group {0:?}. [[client_group]] tables have their names")]
    Group(String),
    /// Files cannot be used.
    #[error("the configuration cannot be used")]
    Problems(Vec<Problem>),
}

/// Client whose question is tested; without both, it is in the default group.
#[derive(Clone, Debug, Default)]
pub struct TestedClient {
    /// Address.
    pub address: Option<IpAddr>,
    /// Name of the group.
    pub group: Option<String>,
}

/// Returns the verdict on a question by a configuration, which was read from `path`, and its files:
/// of lists that are downloaded, the last good copies. Also returns the lists that have none.
pub fn offline(
    config: &Config,
    path: &Path,
    question: &TestedQuestion,
    client: &TestedClient,
) -> Result<(PolicyTest, Vec<String>), OfflineError> {
    let mut lists = Lists::default();
    let read = lists.load(&config.lists).err();
    let mut sources = LocalSources::default();
    let local = sources.load(&config.local);
    let data = match (read, local) {
        (None, Ok(data)) => data,
        (read, local) => {
            let problems = read.into_iter().chain(local.err()).flatten();
            return Err(OfflineError::Problems(problems.collect()));
        }
    };
    let engines = local::safe_search(config.safe_search);
    let effective = EffectiveLists::now(&mut lists, &config.lists)
        .map_err(|problem| OfflineError::Problems(vec![problem]))?;
    let groups = effective.groups();
    let group = match (client.address, &client.group) {
        (Some(address), _) => {
            let clients = groups.clients().map_err(|error| {
                let problem = Problem::new("client_group", error.to_string(), GroupsError::REMEDY);
                OfflineError::Problems(vec![problem])
            })?;
            clients.of(address)
        }
        (None, Some(name)) => groups.named(name).ok_or_else(|| OfflineError::Group(name.clone()))?,
        (None, None) => Group::DEFAULT,
    };
    let judges = Judges { local: Some(&data), safe_search: Some(&engines), lists: Some(&effective.policies) };
    let test =
        judges.test(question, (client.address, (group, groups.name(group).to_owned())), |list, found| {
            effective.place_of(list, (&question.name, question.qtype), found, path)
        });
    let names = config.lists.block.iter().map(|list| &list.name);
    let names = names.chain(config.lists.allow.iter().map(|list| &list.name));
    let missing = names.filter(|name| effective.is_missing(name)).cloned().collect();
    Ok((test, missing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_alone_decide_as_they_do_in_service() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let rules = "# comment\n||ads.example^\n||shop.example^$client=203.0.113.0/24|~203.0.113.5\n\
                     ||shop.example^$client=198.51.100.8\n@@||ads.example^$client=203.0.113.7\n";
        fs::write(at("ads.txt"), rules).unwrap();
        fs::create_dir(at("lists")).unwrap();
        fs::write(at("lists/feed.list"), "feed.example\n").unwrap();
        fs::write(
            at("overrides.toml"),
            "[[override]]\nname = \"over.example.\"\naction = \"block\"\n\
             [[override]]\nname = \"old.example.\"\naction = \"block\"\nuntil = \"2001-01-01T00:00:00Z\"\n\
             [[pause]]\nclient = \"198.51.100.7\"\n",
        )
        .unwrap();
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n\
             [lists]\ndir = {:?}\noverrides_file = {:?}\n\
             [[blocklist]]\nname = \"ads\"\nsource = {:?}\nanswer = \"null\"\n\
             [[blocklist]]\nname = \"feed\"\nsource = \"https://lists.example/feed\"\n\
             [[blocklist]]\nname = \"gone\"\nsource = \"https://lists.example/gone\"\n\
             [[allowlist]]\nname = \"ours\"\nnames = [\"ok.ads.example\"]\n\
             [[client_group]]\nname = \"kids\"\nclients = [\"192.0.2.0/24\"]\nblocklists = []\n\
             [[local_record]]\nname = \"nas.example\"\ntype = \"A\"\ndata = \"192.0.2.9\"\n\
             [[local_record]]\nname = \"toys.example\"\ntype = \"A\"\ndata = \"192.0.2.9\"\ngroups = [\"kids\"]\n",
            at("lists"),
            at("overrides.toml"),
            at("ads.txt"),
        );
        let path = at("ringdns.toml");
        fs::write(&path, &text).unwrap();
        let config = Config::parse(&text, &path).unwrap();
        let test = |name: &str, client: &TestedClient| {
            let question = TestedQuestion::parse(name, None).unwrap();
            let (test, missing) = offline(&config, &path, &question, client).unwrap();
            assert_eq!(missing, ["gone"]);
            let place = test.rule.map(|rule| {
                let file = rule.file.rsplit('/').next().unwrap().to_owned();
                format!("{file}:{}: {}", rule.line, rule.text)
            });
            (test.action, test.list.unwrap_or_default(), place.unwrap_or_default(), test.group)
        };
        let seen = |action: &str, list: &str, place: &str, group: &str| {
            (action.to_owned(), list.to_owned(), place.to_owned(), group.to_owned())
        };
        let anybody = TestedClient::default();
        let kid = TestedClient { address: Some([192, 0, 2, 7].into()), group: None };
        let paused = TestedClient { address: Some([198, 51, 100, 7].into()), group: None };
        let kids = TestedClient { address: None, group: Some("kids".into()) };
        let at_shop = |client: [u8; 4]| TestedClient { address: Some(client.into()), group: None };
        let shop = |line: &str| seen("block", "ads", line, "default");
        for (name, client, expected) in [
            ("shop.example", &anybody, seen("resolve", "", "", "default")),
            (
                "shop.example",
                &at_shop([203, 0, 113, 7]),
                shop("ads.txt:3: ||shop.example^$client=203.0.113.0/24|~203.0.113.5"),
            ),
            ("shop.example", &at_shop([203, 0, 113, 5]), seen("resolve", "", "", "default")),
            (
                "shop.example",
                &at_shop([198, 51, 100, 8]),
                shop("ads.txt:4: ||shop.example^$client=198.51.100.8"),
            ),
            (
                "ads.example",
                &at_shop([203, 0, 113, 7]),
                seen("allow", "ads", "ads.txt:5: @@||ads.example^$client=203.0.113.7", "default"),
            ),
            ("www.ads.example", &anybody, seen("block", "ads", "ads.txt:2: ||ads.example^", "default")),
            ("feed.example", &anybody, seen("block", "feed", "feed.list:1: feed.example", "default")),
            ("ok.ads.example", &anybody, seen("allow", "ours", "ringdns.toml:20: ok.ads.example", "default")),
            ("ads.example", &kid, seen("resolve", "", "", "kids")),
            ("ads.example", &paused, seen("resolve", "", "", "default")),
            ("a.over.example", &paused, seen("resolve", "", "", "default")),
            ("ads.example", &kids, seen("resolve", "", "", "kids")),
            (
                "a.over.example",
                &kid,
                seen("block", "overrides", "overrides.toml:2: name = \"over.example.\"", "kids"),
            ),
            ("old.example", &anybody, seen("resolve", "", "", "default")),
            ("nas.example", &anybody, seen("local", "", "", "default")),
            ("nas.example", &kid, seen("local", "", "", "kids")),
            ("toys.example", &anybody, seen("resolve", "", "", "default")),
            ("toys.example", &kid, seen("local", "", "", "kids")),
            ("toys.example", &kids, seen("local", "", "", "kids")),
        ] {
            assert_eq!(test(name, client), expected, "{name}");
        }
        let unknown = TestedClient { address: None, group: Some("adults".into()) };
        let question = TestedQuestion::parse("a.example", None).unwrap();
        assert!(matches!(offline(&config, &path, &question, &unknown), Err(OfflineError::Group(_))));
        fs::write(at("overrides.toml"), "[").unwrap();
        assert!(matches!(offline(&config, &path, &question, &anybody), Err(OfflineError::Problems(_))));
    }
}
