//! Measures a list: `cargo run --release -p ringdns-policy --example names [FILE]`.
//!
//! Without a file of names, one a line, it makes 2,140,000 names of the shape of large blocklists.
//! Times are those of the thread's processor time, so that others on the machine add less to them.

use rand::{Rng, SeedableRng, rngs::StdRng};
use ringdns_policy::{
    list::{List, ListBuilder},
    names::{NameKey, Path},
    policy::{BlockList, Policy, Verdict},
    rule::{Effect, Rule, RuleAnswer, Subject},
};
use rustix::time::{ClockId, clock_gettime};
use std::{collections::HashSet, hint::black_box};

/// Rules of the made list.
const RULES: usize = 2_140_000;

/// Questions of each kind.
const ASKED: usize = 500_000;

/// Questions between two readings of the clock.
const SLICE: usize = 25_000;

const TLDS: [(&str, u32); 24] = [
    ("com", 460),
    ("net", 80),
    ("org", 45),
    ("info", 30),
    ("ru", 45),
    ("de", 30),
    ("xyz", 40),
    ("top", 40),
    ("co.uk", 20),
    ("com.br", 15),
    ("io", 15),
    ("online", 15),
    ("site", 20),
    ("shop", 20),
    ("cn", 20),
    ("click", 15),
    ("fr", 12),
    ("nl", 12),
    ("it", 12),
    ("pl", 12),
    ("in", 12),
    ("biz", 12),
    ("club", 10),
    ("eu", 8),
];

const SUBDOMAINS: [&str; 16] = [
    "www",
    "ads",
    "track",
    "stats",
    "metrics",
    "click",
    "cdn",
    "api",
    "img",
    "smetrics",
    "pixel",
    "go",
    "m",
    "s",
    "analytics",
    "mail",
];

/// Source of names, the same ones for the same seed.
struct Names {
    random: StdRng,
    parents: Vec<String>,
}

impl Names {
    fn new(seed: u64) -> Self {
        Names { random: StdRng::seed_from_u64(seed), parents: Vec::new() }
    }

    fn one_of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.random.random_range(0..texts.len())]
    }

    fn label(&mut self, shortest: usize, longest: usize) -> String {
        const LETTERS: &[u8] = b"eeeaaaiiooutnnrrsslcdmphgbfvkwyxjqz0123456789";
        // The sum of two draws has its mode in the middle, as the lengths of registered names.
        let half = (longest - shortest) / 2;
        let len = shortest + self.random.random_range(0..=half) + self.random.random_range(0..=half);
        (0..len).map(|_| char::from(LETTERS[self.random.random_range(0..LETTERS.len())])).collect()
    }

    fn registered(&mut self) -> String {
        let all: Vec<&str> =
            TLDS.iter().flat_map(|(tld, share)| std::iter::repeat_n(*tld, *share as usize)).collect();
        format!("{}.{}", self.label(4, 20), self.one_of(&all))
    }

    /// Returns a name, which is one below a registered name with the probability `subdomains`.
    fn name(&mut self, subdomains: f64) -> String {
        let again = !self.parents.is_empty() && self.random.random_bool(0.25);
        let parent = if again {
            self.parents[self.random.random_range(0..self.parents.len())].clone()
        } else {
            self.registered()
        };
        if !again && self.random.random_bool(0.05) {
            self.parents.push(parent.clone());
        }
        if !self.random.random_bool(subdomains) {
            return parent;
        }
        let known = self.random.random_bool(0.5);
        let label = if known { self.one_of(&SUBDOMAINS).to_owned() } else { self.label(2, 16) };
        format!("{label}.{parent}")
    }
}

fn wire(name: &str) -> Box<[u8]> {
    ringdns_common::names::name(name).expect("a name").into()
}

/// Returns the processor time of this thread in nanoseconds.
fn cpu_nanos() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Prints the time of a look-up: the tenth and the fiftieth hundredth of slices.
fn lookups(label: &str, names: &[Box<[u8]>], mut find: impl FnMut(&[u8]) -> bool) {
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..4 {
        for slice in names.chunks(SLICE) {
            let begin = cpu_nanos();
            found += slice.iter().filter(|name| find(black_box(name))).count();
            times.push((cpu_nanos() - begin) / slice.len() as f64);
        }
    }
    times.sort_by(f64::total_cmp);
    let (tenth, median) = (times[times.len() / 10], times[times.len() / 2]);
    let share = found as f64 / (4 * names.len()) as f64 * 100.0;
    println!("{label:24} {tenth:6.1} ns, median {median:6.1} ns, {share:.1} % found");
}

fn rules() -> Vec<String> {
    if let Some(path) = std::env::args().nth(1) {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        return text.lines().map(str::to_owned).collect();
    }
    let mut maker = Names::new(1);
    let mut names = HashSet::new();
    while names.len() < RULES {
        names.insert(maker.name(0.45));
    }
    names.into_iter().collect()
}

fn build(key: NameKey, names: &[Box<[u8]>]) -> List {
    build_of(key, names.iter().map(|name| Rule::new(Subject::Suffix(name.clone()), Effect::Block)))
}

fn build_of(key: NameKey, rules: impl Iterator<Item = Rule>) -> List {
    let mut builder = ListBuilder::new(key);
    rules.zip(1..).for_each(|(rule, line)| builder.push(line, rule));
    builder.finish().0
}

/// Measures the set of expressions that the wildcards of Adblock lists become.
fn expressions(key: NameKey, unlisted: &[Box<[u8]>]) {
    let patterns = (0..2_000).map(|n| format!(r"(?:^|\.)ads{n}-.*\.tracker{n}\.com$").into());
    let list = build_of(key, patterns.map(|pattern| Rule::new(Subject::Regex(pattern), Effect::Block)));
    println!("{} expressions", list.counts().regex);
    lookups("unlisted", unlisted, |name| list.find(name, 1).is_some());
}

/// Measures the most costly questions that were found.
fn hostile(key: NameKey) {
    let deep: Vec<Box<[u8]>> = (0..SLICE).map(|_| wire(&"a.".repeat(127))).collect();
    let names = |n: usize| Rule::new(Subject::Exact(wire(&"b.".repeat(n))), Effect::Block);
    let all_depths = build_of(key, (1..128).map(names));
    lookups("127 labels, all listed", &deep, |name| all_depths.find(name, 1).is_some());
    let patterns = (0..2_000).map(|n| format!("[ab].{{{}}}c.{{20}}[19]{n}", 20 + n % 30).into());
    let patterns = build_of(key, patterns.map(|pattern| Rule::new(Subject::Regex(pattern), Effect::Block)));
    let mut random = StdRng::seed_from_u64(4);
    let mut label = || (0..62).map(|_| char::from(b"abc19"[random.random_range(0..5)])).collect::<String>();
    let long: Vec<_> = (0..500).map(|_| wire(&[label(), label(), label(), label()].join("."))).collect();
    println!("{} expressions", patterns.counts().regex);
    lookups("a name of 251 bytes", &long, |name| patterns.find(name, 1).is_some());
}

fn main() {
    let rules = rules();
    let names: Vec<Box<[u8]>> = rules.iter().map(|name| wire(name)).collect();
    let key = NameKey::new(&[7; 16]);
    let begin = cpu_nanos();
    let list = build(key, &names);
    let seconds = (cpu_nanos() - begin) / 1e9;
    let (count, bytes) = (list.counts().rules, list.bytes());
    println!("{count} rules built in {seconds:.2} s, {:.2} bytes each", bytes as f64 / count as f64);
    let mut again = None;
    let memory = allocation_counter::measure(|| again = Some(build(key, &names)));
    println!("building takes {} bytes at most, the list {bytes}", memory.bytes_max);
    assert_eq!(again.map(|again| again.content()), Some(list.content()));

    let mut random = StdRng::seed_from_u64(3);
    let listed: Vec<_> = (0..ASKED).map(|_| wire(&rules[random.random_range(0..rules.len())])).collect();
    let mut other = Names::new(2);
    let unlisted = std::iter::repeat_with(|| other.name(1.0)).filter(|name| name.split('.').count() < 5);
    let unlisted: Vec<_> = unlisted.take(ASKED).map(|name| wire(&name)).collect();
    lookups("reading a name", &unlisted, |name| name.iter().fold(0, |sum, byte| sum ^ byte) == 255);
    let mut path = Path::default();
    lookups("hashing it", &unlisted, |name| {
        key.read(&mut path, name, 0b11100).is_some() && black_box(path.at(2)) == Some(1)
    });
    lookups("unlisted", &unlisted, |name| list.find(name, 1).is_some());
    lookups("listed", &listed, |name| list.find(name, 1).is_some());

    let answer = RuleAnswer::NxDomain;
    let block = BlockList {
        name: "ads".into(),
        list: list.into(),
        answer,
        ttl: 60,
        dry_run: false,
        client: None,
        action: None,
        ede: Some(15),
    };
    let policy = Policy::new(key, Vec::new(), vec![block]);
    let blocked = |policy: &Policy, name: &[u8]| matches!(policy.judge(name, 1), Verdict::Blocked(_));
    lookups("unlisted, by a policy", &unlisted, |name| blocked(&policy, name));
    lookups("listed, by a policy", &listed, |name| blocked(&policy, name));
    expressions(key, &unlisted);
    hostile(key);
    let empty = Policy::new(key, Vec::new(), Vec::new());
    lookups("by an empty policy", &unlisted, |name| blocked(black_box(&empty), name));
}
