//! Measures three structures for the names of a list: `cargo run --release --example names [FILE]`.
//!
//! Without a file of names, one a line, it makes 2,140,000 names of the shape of large blocklists.

use rand::{Rng, SeedableRng, rngs::StdRng};
use ringdns_policy::names::{Mark, NameKey, Path, Reach, Sign, Table, TableBuilder};
use std::{collections::HashSet, hint::black_box, time::Instant};
use xorf::{BinaryFuse16, Filter};

const RULES: usize = 2_140_000;
const ASKED: usize = 500_000;

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
const SUBS: [&str; 16] = [
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

struct Names {
    random: StdRng,
    parents: Vec<String>,
}

impl Names {
    fn new(seed: u64) -> Self {
        Names { random: StdRng::seed_from_u64(seed), parents: Vec::new() }
    }

    fn label(&mut self, shortest: usize, longest: usize) -> String {
        const LETTERS: &[u8] = b"eeeaaaiiooutnnrrsslcdmphgbfvkwyxjqz0123456789-";
        // The sum of two draws has the mode in the middle, as the lengths of registered names have.
        let half = (longest - shortest) / 2;
        let len = shortest + self.random.random_range(0..=half) + self.random.random_range(0..=half);
        let mut label: String =
            (0..len).map(|_| LETTERS[self.random.random_range(0..LETTERS.len())] as char).collect();
        label.replace_range(..1, "a");
        label.replace_range(len - 1.., "n");
        label
    }

    fn domain(&mut self) -> String {
        let sum: u32 = TLDS.iter().map(|tld| tld.1).sum();
        let mut draw = self.random.random_range(0..sum);
        let tld = TLDS.iter().find(|tld| {
            let found = draw < tld.1;
            draw = draw.saturating_sub(tld.1);
            found
        });
        format!("{}.{}", self.label(4, 20), tld.unwrap().0)
    }

    fn name(&mut self, subdomains: f64) -> String {
        let parent = if !self.parents.is_empty() && self.random.random_bool(0.25) {
            let at = self.random.random_range(0..self.parents.len());
            self.parents[at].clone()
        } else {
            let parent = self.domain();
            if self.random.random_bool(0.05) {
                self.parents.push(parent.clone());
            }
            parent
        };
        if !self.random.random_bool(subdomains) {
            return parent;
        }
        let sub = if self.random.random_bool(0.5) {
            SUBS[self.random.random_range(0..SUBS.len())].to_owned()
        } else {
            self.label(2, 16)
        };
        format!("{sub}.{parent}")
    }
}

fn wire(name: &str) -> Vec<u8> {
    ringdns_common::names::name(name).unwrap()
}

/// The labels from the root inwards, as text: the order in which an `fst` shares prefixes.
fn reversed(name: &str) -> String {
    let mut labels: Vec<&str> = name.split('.').collect();
    labels.reverse();
    labels.join(".") + "."
}

fn fst_find(fst: &fst::raw::Fst<Vec<u8>>, name: &[u8]) -> bool {
    let mut starts = [0u8; 128];
    let (mut count, mut at) = (0, 0);
    while name[at] != 0 {
        starts[count] = at as u8;
        count += 1;
        at += 1 + name[at] as usize;
    }
    let mut node = fst.root();
    for start in starts[..count].iter().rev() {
        let start = *start as usize;
        for byte in name[start + 1..start + 1 + name[start] as usize].iter().chain(b".") {
            let Some(next) = node.find_input(*byte) else { return false };
            node = fst.node(node.transition(next).addr);
        }
        if node.is_final() {
            return true;
        }
    }
    false
}

/// Buckets of a cache line with eight fingerprints, which spill into the next bucket.
struct Lines(Vec<[u64; 8]>);

impl Lines {
    fn new(fingerprints: &[u64]) -> Self {
        let mut lines = vec![[0u64; 8]; fingerprints.len() * 100 / 8 / 72 + 1];
        let count = lines.len();
        for fingerprint in fingerprints {
            let mut at = Self::home(*fingerprint, count);
            loop {
                if lines[at].contains(&(fingerprint << 3 | 1)) {
                    break;
                }
                if let Some(free) = lines[at].iter_mut().find(|slot| **slot == 0) {
                    *free = fingerprint << 3 | 1;
                    break;
                }
                at = (at + 1) % count;
            }
        }
        Lines(lines)
    }

    fn home(fingerprint: u64, count: usize) -> usize {
        ((fingerprint as u128 * count as u128) >> 61) as usize
    }

    fn get(&self, fingerprint: u64) -> bool {
        let mut at = Self::home(fingerprint, self.0.len());
        loop {
            let line = &self.0[at];
            if line.iter().fold(false, |found, slot| found | (slot >> 3 == fingerprint)) {
                return true;
            }
            if line[7] == 0 {
                return false;
            }
            at = (at + 1) % self.0.len();
        }
    }
}

/// Returns the processor time of this thread in nanoseconds, which others on the machine do not add to.
fn cpu_nanos() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn lookups(label: &str, kind: &str, names: &[Vec<u8>], mut find: impl FnMut(&[u8]) -> bool) {
    let mut times = Vec::new();
    let mut hits = 0;
    for round in 0..4 {
        for slice in names.chunks(25_000) {
            let begin = cpu_nanos();
            let found = slice.iter().filter(|name| find(black_box(name))).count();
            times.push((cpu_nanos() - begin) / slice.len() as f64);
            hits += if round == 0 { found } else { 0 };
        }
    }
    times.sort_by(f64::total_cmp);
    let (tenth, median) = (times[times.len() / 10], times[times.len() / 2]);
    println!("{label:26} {kind:9} {tenth:7.1} ns, median {median:7.1} ns  ({hits} of {} found)", names.len());
}

fn main() {
    let mut maker = Names::new(1);
    let rules: Vec<String> = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect(),
        None => {
            let mut set = HashSet::new();
            while set.len() < RULES {
                set.insert(maker.name(0.45));
            }
            set.into_iter().collect()
        }
    };
    let text: usize = rules.iter().map(|name| name.len() + 1).sum();
    println!("{} rules, {:.1} bytes each as text", rules.len(), text as f64 / rules.len() as f64);
    let mut other = Names::new(2);
    let mut unlisted: Vec<Vec<u8>> = Vec::new();
    while unlisted.len() < ASKED {
        let name = other.name(1.0);
        if (3..=4).contains(&name.split('.').count()) {
            unlisted.push(wire(&name));
        }
    }
    let mut random = StdRng::seed_from_u64(3);
    let listed: Vec<Vec<u8>> =
        (0..ASKED).map(|_| wire(&rules[random.random_range(0..rules.len())])).collect();

    let key = NameKey::new(&[7; 16]);
    lookups("read the name alone", "unlisted", &unlisted, |name| name.iter().fold(0, |a, b| a ^ b) == 255);
    lookups("hash alone", "unlisted", &unlisted, |name| {
        let mut path = Path::default();
        key.read(&mut path, name, 127).is_some() && black_box(path.at(2)) == Some(1)
    });
    let wires: Vec<Vec<u8>> = rules.iter().map(|name| wire(name)).collect();
    let begin = Instant::now();
    let fingerprints: Vec<(u64, u8)> = wires.iter().map(|name| key.fingerprint(name).unwrap()).collect();
    println!("hashing the rules: {:?}", begin.elapsed());

    let begin = Instant::now();
    let mut builder = TableBuilder::default();
    for (fingerprint, labels) in &fingerprints {
        builder.push(*fingerprint, *labels, Mark::new(Reach::Suffix, Sign::Block)).unwrap();
    }
    let (table, duplicates) = builder.finish();
    println!("sorted table: built in {:?}, {duplicates} duplicates", begin.elapsed());
    let per = |bytes: usize| bytes as f64 / rules.len() as f64;
    println!("sorted table with filter: {:.2} bytes a rule", per(table.bytes()));
    let in_table = |table: &Table, name: &[u8]| {
        let mut path = Path::default();
        key.read(&mut path, name, 127).is_some() && table.find(&path).block.is_some()
    };
    lookups("Bloom filter, sorted table", "unlisted", &unlisted, |name| in_table(&table, name));
    lookups("Bloom filter, sorted table", "listed", &listed, |name| in_table(&table, name));

    let all: Vec<u64> = fingerprints.iter().map(|pair| pair.0).collect();
    let begin = Instant::now();
    let lines = Lines::new(&all);
    println!(
        "cache-line buckets: built in {:?}, {:.2} bytes a rule",
        begin.elapsed(),
        per(lines.0.len() * 64)
    );
    let in_lines = |name: &[u8]| {
        let mut path = Path::default();
        key.read(&mut path, name, 127);
        (1..=path.labels()).any(|labels| path.at(labels).is_some_and(|print| lines.get(print)))
    };
    lookups("cache-line buckets", "unlisted", &unlisted, in_lines);
    lookups("cache-line buckets", "listed", &listed, in_lines);

    if std::env::var_os("FST").is_none() {
        return;
    }
    let begin = Instant::now();
    let mut sorted: Vec<String> = rules.iter().map(|name| reversed(name)).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let prepared = begin.elapsed();
    let mut build = fst::raw::Builder::memory();
    for name in &sorted {
        build.add(name).unwrap();
    }
    let fst = build.into_fst();
    println!(
        "fst: prepared in {prepared:?}, with building {:?}, {:.2} bytes a rule",
        begin.elapsed(),
        per(fst.as_bytes().len())
    );
    lookups("fst", "unlisted", &unlisted, |name| fst_find(&fst, name));
    lookups("fst", "listed", &listed, |name| fst_find(&fst, name));

    let begin = Instant::now();
    let mut unique = all.clone();
    unique.sort_unstable();
    unique.dedup();
    let filter = BinaryFuse16::try_from(&unique).unwrap();
    println!(
        "fuse filter: built in {:?}, {:.2} bytes a rule beside those behind it",
        begin.elapsed(),
        per(filter.len() * 2)
    );
    let filtered = |name: &[u8]| {
        let mut path = Path::default();
        key.read(&mut path, name, 127);
        (1..=path.labels()).any(|labels| path.at(labels).is_some_and(|print| filter.contains(&print)))
    };
    lookups("fuse filter, fst", "unlisted", &unlisted, |name| filtered(name) && fst_find(&fst, name));
    lookups("fuse filter, fst", "listed", &listed, |name| filtered(name) && fst_find(&fst, name));
    lookups("fuse filter, sorted table", "unlisted", &unlisted, |name| {
        filtered(name) && in_table(&table, name)
    });
    lookups("fuse filter, sorted table", "listed", &listed, |name| filtered(name) && in_table(&table, name));
}
