//! Parser of replay files.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use domain::base::iana::{Class, Rtype};
use ringdns_testkit::scenario::{CLIENT, hex, name_of, rcode_of};

use crate::record::record;
use crate::script::{Action, Entry, Matches, Question, Range, Script, Setting, Step};

/// Clauses of `unbound.conf`. All other words that end with a colon are settings.
const CLAUSES: [&str; 12] = [
    "server",
    "stub-zone",
    "forward-zone",
    "auth-zone",
    "rpz",
    "view",
    "remote-control",
    "python",
    "dynlib",
    "dnscrypt",
    "cachedb",
    "ipset",
];
const FLAGS: [(&str, u16); 8] = [
    ("QR", 0x8000),
    ("AA", 0x0400),
    ("TC", 0x0200),
    ("RD", 0x0100),
    ("RA", 0x0080),
    ("AD", 0x0020),
    ("CD", 0x0010),
    ("NOTIFY", 4 << 11),
];

type Parsed<T> = Result<T, String>;

/// Parses a file.
pub fn script(text: &str) -> Parsed<Script> {
    let (config, rest) = text.split_once("CONFIG_END").unwrap_or(("", text));
    let first = config.lines().count();
    let mut lines = Lines { rest: rest.lines().collect(), next: 0, first };
    let mut script = Script { config: settings(config), ranges: Vec::new(), steps: Vec::new() };
    while let Some(words) = lines.next() {
        let read = match words[0] {
            "SCENARIO_BEGIN" => Ok(()),
            "SCENARIO_END" => return Ok(script),
            "RANGE_BEGIN" => range(&mut lines, &words).map(|range| script.ranges.push(range)),
            "STEP" => step(&mut lines, &words).map(|step| script.steps.push(step)),
            other => Err(format!("{other:?} is no word that begins something")),
        };
        read.map_err(|error| format!("line {}: {error}", lines.number()))?;
    }
    Err("SCENARIO_END is missing".to_owned())
}

/// Lines after the configuration.
struct Lines<'a> {
    rest: Vec<&'a str>,
    next: usize,
    first: usize,
}

impl<'a> Lines<'a> {
    /// Returns the words of the next line that is not empty.
    fn next(&mut self) -> Option<Vec<&'a str>> {
        loop {
            let line = self.rest.get(self.next)?;
            self.next += 1;
            let words: Vec<&str> = line.split(';').next()?.split_whitespace().collect();
            if !words.is_empty() {
                return Some(words);
            }
        }
    }

    /// Returns the last line read, unsplit.
    fn line(&self) -> &'a str {
        self.rest[self.next - 1]
    }

    fn number(&self) -> usize {
        self.first + self.next
    }
}

fn range(lines: &mut Lines<'_>, words: &[&str]) -> Parsed<Range> {
    let [_, first, last] = words else { return Err("RANGE_BEGIN first last".to_owned()) };
    let moment = |text: &str| text.parse().map_err(|_| format!("{text:?} is no step"));
    let mut range =
        Range { first: moment(first)?, last: moment(last)?, addresses: Vec::new(), entries: Vec::new() };
    while let Some(words) = lines.next() {
        match &words[..] {
            ["ADDRESS", address, ..] => range.addresses.push(ip(address)?),
            ["ENTRY_BEGIN", ..] => range.entries.push(entry(lines)?),
            ["RANGE_END", ..] => return Ok(range),
            other => return Err(format!("{other:?} in a range")),
        }
    }
    Err("RANGE_END is missing".to_owned())
}

fn ip(text: &str) -> Parsed<IpAddr> {
    text.parse().map_err(|_| format!("{text:?} is no address"))
}

fn step(lines: &mut Lines<'_>, words: &[&str]) -> Parsed<Step> {
    let [_, moment, kind, more @ ..] = words else { return Err("STEP number kind".to_owned()) };
    let line = lines.number();
    let moment = moment.parse().map_err(|_| format!("{moment:?} is no step"))?;
    let mut with_entry = || match lines.next().as_deref() {
        Some(["ENTRY_BEGIN", ..]) => entry(lines).map(Box::new),
        other => Err(format!("ENTRY_BEGIN is missing before {other:?}")),
    };
    let action = match (*kind, more) {
        ("QUERY", []) => Action::Query { from: CLIENT, entry: with_entry()? },
        ("QUERY", ["ADDRESS", from]) => Action::Query { from: ip(from)?, entry: with_entry()? },
        ("CHECK_ANSWER", _) => Action::CheckAnswer(with_entry()?),
        ("CHECK_OUT_QUERY", _) => Action::CheckOutQuery(with_entry()?),
        ("REPLY", _) => Action::Reply(with_entry()?),
        ("TIMEOUT" | "ERROR", _) => Action::Silence,
        ("TRAFFIC" | "NOTHING", _) => Action::Breathe,
        ("TIME_PASSES", ["ELAPSE", seconds]) => {
            let seconds = seconds.parse().map_err(|_| format!("{seconds:?} is no time"))?;
            Action::TimePasses(Duration::from_secs_f64(seconds))
        }
        (kind, more) => return Err(format!("steps {kind} {more:?} are not played")),
    };
    Ok(Step { line, moment, action })
}

fn entry(lines: &mut Lines<'_>) -> Parsed<Entry> {
    let mut entry = Entry::default();
    // `None` stands for the question section.
    let mut section = None;
    let mut origin = ".";
    while let Some(words) = lines.next() {
        match (words[0], &words[1..]) {
            ("ENTRY_END", _) => return Ok(entry),
            ("MATCH", more) => more.iter().try_for_each(|word| entry.matches.add(word))?,
            ("ADJUST", more) => entry.copies_query |= more.contains(&"copy_query"),
            ("REPLY", more) => more.iter().try_for_each(|word| reply_word(&mut entry, word))?,
            ("SECTION", ["QUESTION"]) => (section, origin) = (None, "."),
            ("SECTION", ["ANSWER"]) => (section, origin) = (Some(0), "."),
            ("SECTION", ["AUTHORITY"]) => (section, origin) = (Some(1), "."),
            ("SECTION", ["ADDITIONAL"]) => (section, origin) = (Some(2), "."),
            ("$ORIGIN", [name]) => origin = name,
            ("HEX_EDNSDATA_BEGIN", _) => entry.options = Some(hexadecimal(lines, "HEX_EDNSDATA_END")?),
            ("HEX_ANSWER_BEGIN", _) => entry.bytes = Some(hexadecimal(lines, "HEX_ANSWER_END")?),
            ("EXTRA_PACKET", _) => return Err("transfers of several messages are not played".to_owned()),
            _ => match section {
                None => entry.question = Some(question(&words)?),
                Some(section) => entry.sections[section].push(record(lines.line(), origin)?),
            },
        }
    }
    Err("ENTRY_END is missing".to_owned())
}

fn reply_word(entry: &mut Entry, word: &str) -> Parsed<()> {
    if let Some((_, flag)) = FLAGS.iter().find(|flag| flag.0 == word) {
        entry.flags |= flag;
    } else if word == "DO" {
        entry.dnssec_ok = true;
    } else if let Some(rcode) = rcode_of(word) {
        entry.rcode = rcode;
    } else {
        return Err(format!("REPLY {word} is not known"));
    }
    Ok(())
}

fn question(words: &[&str]) -> Parsed<Question> {
    let [name, rest @ ..] = words else { return Err("no question".to_owned()) };
    let (class, kind) = match rest {
        [class, kind] => (Class::from_str(class).map_err(|_| format!("{class:?} is no class"))?, kind),
        [kind] => (Class::IN, kind),
        _ => return Err(format!("{words:?} is no question")),
    };
    let qtype = Rtype::from_str(kind).map_err(|_| format!("{kind:?} is no type"))?;
    Ok(Question { name: name_of(name)?, qtype: qtype.to_int(), class: class.to_int() })
}

fn hexadecimal(lines: &mut Lines<'_>, end: &str) -> Parsed<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(words) = lines.next() {
        if words[0] == end {
            return Ok(bytes);
        }
        bytes.extend(hex(&words.concat())?);
    }
    Err(format!("{end} is missing"))
}

impl Matches {
    fn add(&mut self, word: &str) -> Parsed<()> {
        match word {
            "all" => self.all = true,
            "ttl" => self.ttl = true,
            "opcode" => self.opcode = true,
            "rcode" => self.rcode = true,
            "qname" => self.qname = true,
            "qtype" => self.qtype = true,
            "question" => (self.qname, self.qtype) = (true, true),
            "subdomain" => self.subdomain = true,
            "answer" => self.answer = true,
            "DO" => self.dnssec_ok = true,
            "ednsdata" => self.options = true,
            "server_cookie" => self.server_cookie = true,
            "UDP" => self.tcp = Some(false),
            "TCP" => self.tcp = Some(true),
            "ede=any" => self.extended_error = Some(None),
            _ => match word.strip_prefix("ede=").map(str::parse) {
                Some(Ok(code)) => self.extended_error = Some(Some(code)),
                _ => return Err(format!("MATCH {word} is not known")),
            },
        }
        Ok(())
    }
}

//----------- unbound.conf -------------------------------------------------------

/// Returns the settings of a configuration. A word with a colon names the words that follow it.
fn settings(text: &str) -> Vec<Setting> {
    let mut settings: Vec<Setting> = Vec::new();
    let mut clause = (0, String::new());
    for word in text.lines().flat_map(words) {
        match word {
            Word::Bare(word) if is_key(&word) => {
                let key = word.trim_end_matches(':').to_owned();
                if CLAUSES.contains(&&*key) {
                    clause = (clause.0 + 1, key);
                } else {
                    settings.push(Setting { clause: clause.clone(), key, value: String::new() });
                }
            }
            Word::Bare(word) | Word::Quoted(word) => {
                if let Some(setting) = settings.last_mut() {
                    let blank = if setting.value.is_empty() { "" } else { " " };
                    setting.value += &format!("{blank}{word}");
                }
            }
        }
    }
    settings
}

enum Word {
    Bare(String),
    Quoted(String),
}

fn is_key(word: &str) -> bool {
    let name = word.strip_suffix(':').unwrap_or_default();
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || b"-0123456789".contains(&byte))
}

/// Returns the words of a line, without its comment.
fn words(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let quoted = matches!(first, '"' | '\'');
        match first {
            '#' | ';' => break,
            _ if quoted => {
                let inside = &rest[1..];
                let end = inside.find(first).unwrap_or(inside.len());
                words.push(Word::Quoted(inside[..end].to_owned()));
                rest = inside.get(end + 1..).unwrap_or_default();
            }
            _ => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                words.push(Word::Bare(rest[..end].to_owned()));
                rest = &rest[end..];
            }
        }
        rest = rest.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_may_be_on_one_line() {
        let text = "server:\n\tkey: \"a. IN DS 1 ; 2\" # a comment\nforward-zone: name: \".\" forward-addr: 216.0.0.1\n; x\n";
        let read: Vec<_> = settings(text).into_iter().map(|s| (s.clause, s.key, s.value)).collect();
        let text = |clause: (usize, &str), key: &str, value: &str| {
            ((clause.0, clause.1.to_owned()), key.to_owned(), value.to_owned())
        };
        let zone = (2, "forward-zone");
        let wanted = [
            text((1, "server"), "key", "a. IN DS 1 ; 2"),
            text(zone, "name", "."),
            text(zone, "forward-addr", "216.0.0.1"),
        ];
        assert_eq!(read, wanted);
    }

    #[test]
    fn files_are_ranges_and_steps() {
        let text = "CONFIG_END\nSCENARIO_BEGIN Words\nRANGE_BEGIN 0 100\n ADDRESS 1.2.3.4 ; a server\nENTRY_BEGIN\n\
            MATCH opcode subdomain\nADJUST copy_id copy_query\nREPLY QR AA NXDOMAIN\nSECTION QUESTION\nexample. IN A\n\
            SECTION AUTHORITY\n$ORIGIN example.\nwww 5 IN A 192.0.2.1\nENTRY_END\nRANGE_END\n\
            STEP 1 QUERY ADDRESS 192.0.2.9\nENTRY_BEGIN\nREPLY RD DO\nSECTION QUESTION\nwww.example. IN A\nENTRY_END\n\
            STEP 2 TIME_PASSES ELAPSE 0.5\nSTEP 3 CHECK_ANSWER\nENTRY_BEGIN\nMATCH all ede=6\nSECTION QUESTION\n\
            www.example. IN A\nENTRY_END\nSCENARIO_END\n";
        let script = script(text).unwrap();
        let [range] = &script.ranges[..] else { panic!("{script:?}") };
        assert!(range.is_at("1.2.3.4".parse().unwrap()) && !range.is_at(CLIENT));
        assert!(range.is_now(100) && !range.is_now(101));
        let entry = &range.entries[0];
        assert!(entry.matches.subdomain && entry.copies_query);
        assert_eq!((entry.flags, entry.rcode), (0x8400, 3));
        assert_eq!(entry.sections[1][0].to_string(), "www.example. 5 IN A 192.0.2.1");
        let [asks, passes, checks] = &script.steps[..] else { panic!("{script:?}") };
        let Action::Query { from, entry } = &asks.action else { panic!("{asks:?}") };
        assert_eq!((from.to_string(), entry.flags, entry.dnssec_ok), ("192.0.2.9".to_owned(), 0x100, true));
        assert!(matches!(passes.action, Action::TimePasses(time) if time == Duration::from_millis(500)));
        let Action::CheckAnswer(entry) = &checks.action else { panic!("{checks:?}") };
        assert_eq!(entry.matches.extended_error, Some(Some(6)));
    }

    #[test]
    fn what_cannot_be_played_is_named() {
        let error = |text: &str| script(text).unwrap_err();
        assert!(error("CONFIG_END\nSTEP 1 FLUSH_MESSAGE\n").contains("line 2: steps FLUSH_MESSAGE"));
        assert!(error("CONFIG_END\nSTEP 1 QUERY\nENTRY_BEGIN\nMATCH odd\n").contains("MATCH odd"));
    }
}
