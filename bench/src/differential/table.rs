//! Results: classes of differences, the count of each, and the unexplained ones.

use super::{
    Args,
    probe::Probe,
    reply::{Difference, Field},
    rules::{Right, Rules},
};
use crate::report::group;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    time::Duration,
};

/// Most examples kept of each class.
const EXAMPLES: usize = 5;

/// Difference, and the server that differs.
#[derive(Clone, Debug)]
pub struct Found {
    /// Server that differs from ringdns.
    pub peer: String,
    /// Whether that server is another resolver, whose reply counts as a vote.
    pub is_vote: bool,
    /// Difference between the replies.
    pub difference: Difference,
}

/// Counts in misses and in hits, and examples.
#[derive(Debug, Default)]
struct Seen {
    misses: u64,
    hits: u64,
    examples: Vec<String>,
}

/// All differences found so far.
#[derive(Debug)]
pub struct Table<'r> {
    rules: &'r Rules,
    queries: usize,
    /// Number of queries with each tag.
    tags: BTreeMap<String, u64>,
    /// Explained differences, by rule and peer.
    known: BTreeMap<(usize, String), Seen>,
    /// Unexplained differences, by peer, field and both values.
    unexplained: BTreeMap<(String, Field, String, String), Seen>,
}

impl<'r> Table<'r> {
    /// Returns an empty table.
    pub fn new(rules: &'r Rules) -> Self {
        Table {
            rules,
            queries: 0,
            tags: BTreeMap::new(),
            known: BTreeMap::new(),
            unexplained: BTreeMap::new(),
        }
    }

    /// Counts a query.
    pub fn count(&mut self, probe: &Probe) {
        self.queries += 1;
        for tag in &probe.tags {
            *self.tags.entry(tag.clone()).or_default() += 1;
        }
    }

    /// Returns the number of queries counted.
    pub fn queries(&self) -> usize {
        self.queries
    }

    /// Adds a difference.
    pub fn add(&mut self, probe: &Probe, found: Found, is_hit: bool) {
        let Found { peer, difference, .. } = found;
        let Difference { field, ours, theirs, detail } = &difference;
        let example = format!("{}: ringdns {ours:?}, {peer} {theirs:?}. {detail}", probe.text);
        let seen = match self.rules.explain(probe, &peer, &difference) {
            Some(rule) => self.known.entry((rule, peer)).or_default(),
            None => self.unexplained.entry((peer, *field, ours.clone(), theirs.clone())).or_default(),
        };
        *(if is_hit { &mut seen.hits } else { &mut seen.misses }) += 1;
        if seen.examples.len() < EXAMPLES {
            seen.examples.push(example);
        }
    }

    /// Returns the number of differences without a rule.
    pub fn unexplained(&self) -> u64 {
        self.unexplained.values().map(|seen| seen.misses + seen.hits).sum()
    }

    /// Returns the table as Markdown.
    pub fn render(&self, args: &Args, took: Duration) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text, args, took);
        text
    }

    fn write(&self, text: &mut String, args: &Args, took: Duration) -> std::fmt::Result {
        let sum = |tag: &str| self.tags.get(tag).copied().unwrap_or_default();
        writeln!(
            text,
            "{} queries, each asked twice; took {:.0} s.\n",
            group(self.queries as u64),
            took.as_secs_f64()
        )?;
        writeln!(
            text,
            "{} with EDNS, {} with DO, {} over TCP, {} odd; {} positive, {} without data, {} without name, {} failures.\n",
            group(sum("edns")),
            group(sum("do")),
            group(sum("tcp")),
            group(
                self.tags.iter().filter(|(tag, _)| tag.starts_with("twist:")).map(|(_, count)| count).sum()
            ),
            group(sum("positive")),
            group(sum("nodata")),
            group(sum("nxdomain")),
            group(sum("failure")),
        )?;
        writeln!(
            text,
            "| class | ringdns differs from | misses | hits | right | why |\n|---|---|---:|---:|---|---|"
        )?;
        for (nth, rule) in self.rules.iter().enumerate() {
            for ((_, peer), seen) in self.known.iter().filter(|((known, _), _)| *known == nth) {
                let right = match rule.right {
                    Right::Either => "either",
                    Right::Ringdns => "ringdns",
                    Right::Peer => "the other",
                };
                let (misses, hits) = (group(seen.misses), group(seen.hits));
                writeln!(
                    text,
                    "| {} | {peer} | {misses} | {hits} | {right} | {} |",
                    rule.class, rule.reason
                )?;
                for example in seen.examples.iter().take(args.examples) {
                    writeln!(text, "  {example}")?;
                }
            }
        }
        let used: BTreeSet<usize> = self.known.keys().map(|(rule, _)| *rule).collect();
        let idle = self.rules.iter().enumerate().filter(|(nth, _)| !used.contains(nth));
        let idle: Vec<&str> = idle.map(|(_, rule)| rule.class.as_str()).collect();
        if !idle.is_empty() {
            writeln!(text, "\nRules that matched nothing: {}.", idle.join(", "))?;
        }
        writeln!(text, "\n{} differences are unexplained.", group(self.unexplained()))?;
        if self.unexplained.is_empty() {
            return Ok(());
        }
        writeln!(
            text,
            "\n| from | field | ringdns | the other | misses | hits | for example |\n|---|---|---|---|---:|---:|---|"
        )?;
        let mut unexplained: Vec<_> = self.unexplained.iter().collect();
        unexplained.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.misses + seen.hits));
        for ((peer, field, ours, theirs), seen) in unexplained {
            let (misses, hits) = (group(seen.misses), group(seen.hits));
            let example = seen.examples.first().map_or("", String::as_str);
            writeln!(text, "| {peer} | {field:?} | {ours} | {theirs} | {misses} | {hits} | {example} |")?;
            for example in seen.examples.iter().skip(1).take(args.examples) {
                writeln!(text, "  {example}")?;
            }
        }
        Ok(())
    }

    /// Returns all classes with examples as JSON.
    pub fn json(&self) -> Value {
        let rules: Vec<_> = self.rules.iter().collect();
        let known = self.known.iter().map(|((rule, peer), seen)| {
            let rule = rules[*rule];
            json!({
                "class": rule.class, "from": peer, "misses": seen.misses, "hits": seen.hits, "right": rule.right,
                "reason": rule.reason, "examples": seen.examples,
            })
        });
        let unexplained = self.unexplained.iter().map(|((peer, field, ours, theirs), seen)| {
            json!({
                "from": peer, "field": field, "ringdns": ours, "other": theirs, "misses": seen.misses,
                "hits": seen.hits, "examples": seen.examples,
            })
        });
        json!({
            "queries": self.queries, "tags": self.tags, "classes": known.collect::<Vec<_>>(),
            "unexplained": unexplained.collect::<Vec<_>>(),
        })
    }
}
