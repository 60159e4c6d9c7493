//! Parser of scenarios. Anything that it does not understand is an error with its line.

mod file;
mod message;
mod operator;

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;
use std::vec::IntoIter;

use super::record::{Record, Ttl, hex};
use super::{Action, Answer, Scenario, Step, Upstream};
use file::{Setting, unknown_file};
use message::{answer, ask, get, see, send_raw};

/// First words of steps.
const VERBS: [&str; 7] = ["client", "upstream", "later", "expect", "operator", "for", "configuration"];
/// Mark, in the header, of a scenario that is not played in the lab.
const SIMULATOR_ONLY: &str = "Simulator only: ";

impl Scenario {
    pub fn load(root: &Path, path: &Path) -> Result<Scenario, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(path).with_extension("");
        Self::parse(&name.display().to_string(), path, &text)
    }

    pub fn parse(name: &str, path: &Path, text: &str) -> Result<Scenario, String> {
        let fail = |line: usize, error: String| format!("{}:{line}: {error}", path.display());
        let lines: Vec<&str> = text.lines().collect();
        let header = lines.iter().take_while(|line| line.starts_with('#')).count();
        let about: Vec<&str> =
            lines[..header].iter().map(|line| line.trim_start_matches('#').trim()).collect();
        if about.is_empty() {
            return Err(fail(1, "begin with a comment that says what the scenario shows".to_owned()));
        }
        let first = first_step(&lines).ok_or_else(|| fail(header, "there is no step".to_owned()))?;
        let setting = Setting::parse(&lines[header..first]);
        let Setting { config, files } = setting.map_err(|(at, error)| fail(header + 1 + at, error))?;
        let lines = unrolled(&lines, first).map_err(|(line, error)| fail(line, error))?;
        let mut steps = Vec::new();
        let mut queries = 0;
        let mut rest = &lines[..];
        while let Some(((number, line), below)) = rest.split_first() {
            let (body, next) = below.split_at(indented(below.iter().map(|(_, line)| &line[..])));
            if !line.is_empty() && !line.starts_with('#') {
                let body: Vec<&str> = body.iter().map(|(_, line)| &line[..]).collect();
                let parsed = match line.as_str() {
                    "configuration" => {
                        let lines: Vec<&str> = body.iter().map(|line| unindented(line)).collect();
                        let parsed = file::configuration(&lines).map(Action::Configure);
                        parsed.map_err(|(at, error)| fail(number + 1 + at, error))?
                    }
                    _ => action(line, &body, &mut queries).map_err(|error| fail(*number, error))?,
                };
                let text = [&[&line[..]], &body[..]].concat().join("\n").trim_end().to_owned();
                steps.push(Step { line: *number, text, action: parsed });
            }
            rest = next;
        }
        let first = files.iter().map(|file| file.name.as_str());
        let names = steps.iter().filter_map(Step::written).chain(first).collect::<BTreeSet<_>>();
        let changes = steps.iter().filter_map(|step| match &step.action {
            Action::Configure(changes) => Some((step.line, changes)),
            _ => None,
        });
        for (line, changes) in std::iter::once((header, &config)).chain(changes) {
            if let Some(name) = unknown_file(changes, &names) {
                let word = format!("{{{name}}}");
                let at = text.lines().skip(line).position(|line| line.contains(&word)).unwrap_or_default();
                return Err(fail(line + 1 + at, format!("there is no file {name}: {word} refers to it")));
            }
        }
        let only = about.iter().find_map(|line| line.strip_prefix(SIMULATOR_ONLY));
        Ok(Scenario {
            name: name.to_owned(),
            path: path.to_owned(),
            about: about.join("\n"),
            config,
            files,
            steps,
            simulator_only: only.map(str::to_owned),
        })
    }
}

/// Returns the position of the first step. A file that there is already is changed, which is a step.
fn first_step(lines: &[&str]) -> Option<usize> {
    let mut files = BTreeSet::new();
    lines.iter().position(|line| {
        let mut words = line.split(' ');
        let (first, name) = (words.next().unwrap_or_default(), words.next());
        VERBS.contains(&first) || first == "file" && !files.insert(name)
    })
}

impl Step {
    /// Returns the name of the file that the step writes.
    fn written(&self) -> Option<&str> {
        match &self.action {
            Action::Write(file) => Some(&file.name),
            _ => None,
        }
    }
}

/// Returns a line without the indentation that shows that it belongs to the line before it.
fn unindented(line: &str) -> &str {
    line.strip_prefix("    ").unwrap_or(line)
}

/// Returns the number of these lines that belong to the line before them.
fn indented<'a>(lines: impl Iterator<Item = &'a str>) -> usize {
    lines.take_while(|line| line.starts_with([' ', '\t']) || line.is_empty()).count()
}

/// Returns the numbers from `1..64`, or the words of a list.
fn turns(text: &str) -> Result<Vec<String>, String> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if words.len() > 1 {
        return Ok(words);
    }
    match text.split_once("..").map(|(first, last)| (first.parse::<u32>(), last.parse::<u32>())) {
        Some((Ok(first), Ok(last))) => Ok((first..=last).map(|n| n.to_string()).collect()),
        _ => Err(format!("{text:?} is neither a range (1..64) nor several words")),
    }
}

/// Returns the lines from `first` on, with their numbers. The lines indented below `for 1..64` are
/// repeated as often, with `{n}` replaced by the number; those below `for a b` once for each word.
fn unrolled(lines: &[&str], first: usize) -> Result<Vec<(usize, String)>, (usize, String)> {
    let mut unrolled = Vec::new();
    let mut at = first;
    while at < lines.len() {
        let number = at + 1;
        let Some(range) = lines[at].strip_prefix("for ") else {
            unrolled.push((number, lines[at].to_owned()));
            at += 1;
            continue;
        };
        let turns = turns(range).map_err(|error| (number, error))?;
        let body = &lines[at + 1..];
        let body = &body[..indented(body.iter().copied())];
        for n in turns {
            let made = |line: &&str| unindented(line).replace("{n}", &n);
            unrolled.extend((number + 1..).zip(body.iter().map(made)));
        }
        at += 1 + body.len();
    }
    Ok(unrolled)
}

//----------- Configuration ----------------------------------------------------

/// Returns the upstream whose capital letter ends an address, and the part before the letter.
fn letter(address: &str) -> Option<(&str, Upstream)> {
    let (scheme, rest) = address.rfind("://").map_or(("", address), |at| address.split_at(at + 3));
    match rest.as_bytes() {
        [letter @ b'A'..=b'Z'] => Some((scheme, usize::from(letter - b'A'))),
        _ => None,
    }
}

/// Returns the upstreams that a configuration mentions.
pub fn configured(config: &toml::Table) -> Vec<Upstream> {
    let upstreams = config.get("upstream").and_then(toml::Value::as_array).into_iter().flatten();
    upstreams.filter_map(|upstream| Some(letter(upstream.get("address")?.as_str()?)?.1)).collect()
}

/// Returns `base` with the additions and changes of the scenario, as text.
pub fn merged(mut base: toml::Table, mut scenario: toml::Table, upstreams: &[SocketAddr]) -> String {
    if !scenario.contains_key("upstream") {
        let alone = toml::Table::from_iter([("address".to_owned(), "A".into())]);
        scenario.insert("upstream".to_owned(), toml::Value::Array(vec![alone.into()]));
    }
    if let Some(toml::Value::Array(tables)) = scenario.get_mut("upstream") {
        for address in tables.iter_mut().filter_map(|table| table.get_mut("address")) {
            if let Some((scheme, number)) = address.as_str().and_then(letter) {
                *address = format!("{scheme}{}", upstreams[number]).into();
            }
        }
    }
    for (key, value) in scenario {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(old)), toml::Value::Table(new)) => old.extend(new),
            (_, value) => drop(base.insert(key, value)),
        }
    }
    base.to_string()
}

//----------- Steps ------------------------------------------------------------

/// Words of a step.
struct Words(Peekable<IntoIter<String>>);

impl Words {
    fn of(text: &str) -> Result<Self, String> {
        let mut words: Vec<String> = Vec::new();
        let mut rest = without_comment(text).trim_start();
        while !rest.is_empty() {
            let end = if let Some(quoted) = rest.strip_prefix('"') {
                quoted.find('"').ok_or("a quotation mark is not closed")? + 2
            } else {
                rest.find(char::is_whitespace).unwrap_or(rest.len())
            };
            words.push(rest[..end].to_owned());
            rest = rest[end..].trim_start();
        }
        Ok(Words(words.into_iter().peekable()))
    }

    fn next(&mut self) -> Option<String> {
        self.0.next()
    }

    fn need(&mut self, what: &str) -> Result<String, String> {
        self.next().ok_or_else(|| format!("{what} is missing"))
    }

    fn number<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.need(what)?;
        word.parse().map_err(|_| format!("{word:?} is no {what}"))
    }

    /// Takes the next word if it is this one.
    fn take(&mut self, word: &str) -> bool {
        self.0.next_if(|next| next == word).is_some()
    }

    fn take_number<T: FromStr>(&mut self) -> Option<T> {
        let word = self.0.next_if(|next| next.parse::<T>().is_ok())?;
        word.parse().ok()
    }

    fn hex(&mut self) -> Result<Vec<u8>, String> {
        hex(&self.need("hexadecimal digits")?)
    }

    fn end(&mut self) -> Result<(), String> {
        self.next().map_or(Ok(()), |word| Err(format!("{word:?} is not understood here")))
    }
}

/// Returns the line without its comment, which begins at a semicolon outside quotation marks.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let end = line.char_indices().find(|(_, letter)| {
        quoted ^= *letter == '"';
        *letter == ';' && !quoted
    });
    line[..end.map_or(line.len(), |(at, _)| at)].trim_end()
}

fn action(line: &str, body: &[&str], queries: &mut usize) -> Result<Action, String> {
    let [line] = &expanded(line)?[..] else { return Err("a step must be one line".to_owned()) };
    let mut words = Words::of(line)?;
    let subject = words.need("a step")?;
    let upstream = if subject == "upstream" { upstream(&mut words) } else { 0 };
    if subject == "file" {
        return file::file(&mut words, body).map(Action::Write);
    }
    let verb = words.need("what happens")?;
    let mut body = Body::of(body)?;
    for with in std::mem::take(&mut body.with) {
        let rest: Vec<String> = words.0.by_ref().chain(Words::of(&with)?.0).collect();
        words = Words(rest.into_iter().peekable());
    }
    let action = match (subject.as_str(), verb.as_str()) {
        ("client", "asks") => Action::Send(ask(&mut words, queries)?),
        ("client", "sends") => Action::Send(send_raw(&mut words, &mut body, queries)?),
        ("client", "closes") => Action::Close(words.need("the connection")?),
        ("client", "gets") if words.take("nothing") => {
            Action::GetNothing(words.take("for").then(|| words.need("the query")).transpose()?)
        }
        ("client", "gets") if words.take("end") => Action::GetEnd(words.need("the connection")?),
        ("client", "gets") => Action::Get(Box::new(get(&mut words, &mut body)?)),
        ("upstream", "sees") if words.take("nothing") => Action::SeeNothing(upstream),
        ("upstream", "sees") => Action::See(upstream, Box::new(see(&mut words)?)),
        ("upstream", "answers") => Action::Answer(upstream, Box::new(answer(&mut words, &mut body)?)),
        ("upstream", "sends") => {
            let raw = Some(std::mem::take(&mut body).hex()?);
            Action::Answer(upstream, Box::new(Answer { raw, ..answer(&mut words, &mut body)? }))
        }
        ("upstream", "closes") => Action::Hang(upstream),
        ("upstream", "stops") => Action::Stop(upstream),
        ("upstream", "starts") => Action::Start(upstream),
        ("later", time) => Action::Later(duration(time)?),
        ("expect", pointer) => stat(pointer, &mut words)?,
        ("operator", verb) => operator::action(verb, &mut words)?,
        _ => return Err(format!("{subject} {verb}: unknown step")),
    };
    words.end()?;
    body.end()?;
    Ok(action)
}

fn upstream(words: &mut Words) -> Upstream {
    let letter = words.0.next_if(|word| matches!(word.as_bytes(), [b'A'..=b'Z']));
    letter.map_or(0, |letter| usize::from(letter.as_bytes()[0] - b'A'))
}

fn duration(text: &str) -> Result<Duration, String> {
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let count: u64 = number.parse().map_err(|_| format!("{text:?} is no time: 299s, 250ms, 5m, 2h, 1d"))?;
    let seconds = match &text[number.len()..] {
        "ms" => return Ok(Duration::from_millis(count)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        unit => return Err(format!("{unit:?} is no unit of time")),
    };
    Ok(Duration::from_secs(count * seconds))
}

fn stat(pointer: &str, words: &mut Words) -> Result<Action, String> {
    let (relation, value) = (words.need("= or >=")?, words.number("number")?);
    let most = match relation.as_str() {
        "=" => value,
        ">=" => u64::MAX,
        _ => return Err(format!("{relation:?} is neither = nor >=")),
    };
    Ok(Action::Stat { pointer: pointer.to_owned(), least: value, most })
}

//----------- Messages ---------------------------------------------------------

/// Indented lines of a step.
#[derive(Default)]
struct Body {
    with: Vec<String>,
    lines: Vec<String>,
}

impl Body {
    fn of(lines: &[&str]) -> Result<Body, String> {
        let mut body = Body::default();
        for line in lines.iter().map(|line| without_comment(line).trim()) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.strip_prefix("with ") {
                Some(words) => body.with.push(words.to_owned()),
                None => body.lines.extend(expanded(line)?),
            }
        }
        Ok(body)
    }

    /// Parses the lines as records, by section.
    fn records(&mut self) -> Result<[Vec<(Record, Ttl)>; 3], String> {
        let mut sections: [Vec<_>; 3] = Default::default();
        let mut section = 0;
        for line in self.lines.drain(..) {
            match line.as_str() {
                "answer:" => section = 0,
                "authority:" => section = 1,
                "additional:" => section = 2,
                record => sections[section].push(Record::parse(record)?),
            }
        }
        Ok(sections)
    }

    fn hex(&mut self) -> Result<Vec<u8>, String> {
        hex(&self.lines.drain(..).collect::<String>())
    }

    fn end(self) -> Result<(), String> {
        self.lines.first().map_or(Ok(()), |line| Err(format!("{line:?} is not understood here")))
    }
}

/// Expands braces: `{1..40}` makes forty lines of one, in which `{+0}` repeats the number and
/// `{+1}` is one more; `{x*250}` writes 250 x.
fn expanded(line: &str) -> Result<Vec<String>, String> {
    let (Some(open), Some(close)) = (line.find('{'), line.find('}')) else {
        return Ok(vec![line.to_owned()]);
    };
    let (before, braces, after) = (&line[..open], &line[open + 1..close], &line[close + 1..]);
    let number = |text: &str| text.parse::<usize>().map_err(|_| format!("{{{braces}}} is not understood"));
    let filled: Vec<String> = match (braces.split_once(".."), braces.split_once('*')) {
        (Some((first, last)), _) => (number(first)?..=number(last)?)
            .map(|n| {
                let again =
                    |text: &str, plus: usize| text.replace(&format!("{{+{plus}}}"), &(n + plus).to_string());
                format!("{before}{n}{}", again(&again(after, 0), 1))
            })
            .collect(),
        (_, Some((text, times))) => vec![format!("{before}{}{after}", text.repeat(number(times)?))],
        _ => return Err(format!("{{{braces}}} is neither {{1..40}} nor {{x*250}}")),
    };
    let lines = filled.iter().map(|line| expanded(line)).collect::<Result<Vec<_>, _>>()?;
    Ok(lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_are_unrolled_and_keep_their_lines() {
        let lines = ["# about", "for 1..2", "    client asks a{n} A", "        b{n}", "later 1s"];
        let unrolled = unrolled(&lines, 1).unwrap();
        let text: Vec<(usize, &str)> = unrolled.iter().map(|(number, line)| (*number, &line[..])).collect();
        let expected =
            [(3, "client asks a1 A"), (4, "    b1"), (3, "client asks a2 A"), (4, "    b2"), (5, "later 1s")];
        assert_eq!(text, expected);
        let words = super::unrolled(&["for a.x b.x", "    client asks {n} A"], 0).unwrap();
        assert_eq!(words, [(2, "client asks a.x A".to_owned()), (2, "client asks b.x A".to_owned())]);
        assert_eq!(super::unrolled(&["for ever"], 0).unwrap_err().0, 1);
    }

    #[test]
    fn braces_make_lines_and_letters() {
        assert_eq!(expanded("n{8..9} n{+1} {x*3} {+0}").unwrap(), ["n8 n9 xxx 8", "n9 n10 xxx 9"]);
        assert_eq!(expanded("plain").unwrap(), ["plain"]);
        assert!(expanded("{1..x}").is_err() && expanded("{?}").is_err());
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_line() {
        let parse = |text: &str| Scenario::parse("name", Path::new("file"), text).unwrap_err();
        for (text, said) in [
            ("client asks a A\n", "file:1: begin with a comment"),
            ("# about\n", "file:1: there is no step"),
            ("# about\n\nclient asks a A loudly\n", "file:3: \"loudly\""),
            ("# about\nclient asks a A\n    a 300 A 192.0.2.1\n", "file:2: \"a 300"),
            ("# about\nfor 1..2\n    client sings\n", "file:3: client sings"),
        ] {
            let error = parse(text);
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
    }
}
