//! Cost of a hit on the data plane: instructions, and waits for memory.
//!
//! `ns = a * instructions + b * lines * wait(names) + c * far(names)`, with three fitted factors:
//! nanoseconds an instruction with all data near; the part of a wait that remains when the loads of
//! a burst overlap; and nanoseconds for a page of the index that misses the TLB. The wait itself is
//! not fitted to hits: it follows from the time of loads that wait for each other, and from how
//! often an entry is still in a nearer cache. Slabs lie on huge pages, for which the TLB is large
//! enough; the index lies on ordinary ones.

use crate::{
    machine::CacheSize,
    micro::{Results, Row, chase::Load},
    zipf::Popularity,
};
use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// Level of the memory: its size, and the time of a load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Level {
    /// Bytes of this level and the nearer ones; `None` for the last level.
    pub bytes: Option<f64>,
    /// Nanoseconds of a load.
    pub nanos: f64,
}

/// Levels of the memory, the nearest first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memory(pub Vec<Level>);

const LINE: f64 = 64.0;
/// Bytes of a made-up question and of its end.
const QUESTION: f64 = 24.0 + 4.0;
/// Alignment of entries, in bytes.
const ALIGN: f64 = 8.0;

impl Memory {
    /// Fits the levels to the measured loads. Sizes are those that the machine reports, except for
    /// the last cache: other machines may share it, so its size is the one that fits the loads
    /// best.
    pub fn fit(caches: &[CacheSize], loads: &[Load]) -> Result<Self> {
        ensure!(
            !caches.is_empty(),
            "the machine's caches are unknown, so the model has no sizes to start from"
        );
        // Loads from regions large enough that the nearer level is of little help, and small enough
        // for this level.
        let typical = |from: f64, to: f64| {
            let within = loads.iter().filter(|load| (from..=to).contains(&(load.bytes as f64)));
            let mut nanos: Vec<f64> = within.map(|load| load.nanos).collect();
            nanos.sort_by(f64::total_cmp);
            nanos.get(nanos.len() / 2).copied()
        };
        let mut levels = Vec::new();
        let mut below = 0.0;
        for cache in caches {
            let bytes = cache.bytes as f64;
            let part = if below > 0.0 { 0.25 } else { 1.0 };
            let nanos = typical(2.0 * below, part * bytes).context("no load was measured within a cache")?;
            levels.push(Level { bytes: Some(bytes), nanos });
            below = bytes;
        }
        let far: Vec<f64> =
            loads.iter().filter(|load| load.bytes as f64 >= 4.0 * below).map(|load| load.nanos).collect();
        ensure!(!far.is_empty(), "no load was measured far beyond the caches");
        let nanos = far.iter().sum::<f64>() / far.len() as f64;
        levels.push(Level { bytes: None, nanos });
        let memory = Memory(levels);
        let last = caches.len() - 1;
        let candidates = (1..=64).map(|part| memory.with(last, below * f64::from(part) / 64.0));
        let nearer = if last > 0 { caches[last - 1].bytes as f64 } else { 0.0 };
        let best = candidates
            .filter(|memory| memory.0[last].bytes > Some(nearer))
            .min_by(|a, b| a.misfit(loads).total_cmp(&b.misfit(loads)));
        best.context("no size of the last cache fits")
    }

    fn with(&self, level: usize, bytes: f64) -> Self {
        let mut levels = self.0.clone();
        levels[level].bytes = Some(bytes);
        Memory(levels)
    }

    /// Sum of the squares of the relative errors.
    fn misfit(&self, loads: &[Load]) -> f64 {
        let error = |load: &Load| {
            let hits = |bytes: f64| (bytes / load.bytes as f64).min(1.0);
            (self.load(hits) / load.nanos).ln().powi(2)
        };
        loads.iter().map(error).sum()
    }

    /// Returns the mean nanoseconds of a load, where `hits` is the share of loads that fall within
    /// so many bytes.
    fn load(&self, hits: impl Fn(f64) -> f64) -> f64 {
        let (mut sum, mut nearer) = (0.0, 0.0);
        for level in &self.0 {
            let here = level.bytes.map_or(1.0, &hits);
            sum += (here - nearer).max(0.0) * level.nanos;
            nearer = here.max(nearer);
        }
        sum
    }

    /// Returns the nanoseconds by which a line of an entry takes longer than one in the nearest
    /// cache.
    fn wait(&self, what: &Contents) -> f64 {
        let popularity = Popularity::zipf(what.names, what.zipf);
        let nearest = self.0.first().map_or(0.0, |level| level.nanos);
        self.load(|bytes| popularity.lru_hits(bytes / what.bytes_a_name)) - nearest
    }
}

/// Contents of a cache, and popularity of its names.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Contents {
    /// Number of names.
    pub names: usize,
    /// Exponent of Zipf's law.
    pub zipf: f64,
    /// Bytes of a name: entry and index.
    pub bytes_a_name: f64,
    /// Cache lines that a lookup reads: a bucket, and those of the entry.
    pub lines: f64,
}

impl Contents {
    /// Returns contents with entries of a size, and so many bytes of the index for each.
    pub fn new(names: usize, zipf: f64, entry: f64, index: f64) -> Self {
        // An entry of one line spans two of them now and then.
        let lines = 1.0 + 1.0 + (entry - ALIGN).max(0.0) / LINE;
        Contents { names, zipf, bytes_a_name: entry + index, lines }
    }

    /// Returns the contents while `ringbench micro` asks: it reads the question's bytes and their
    /// offsets before it writes a packet, and they take room in the processor's caches that a
    /// server's queries do not.
    pub fn beside_questions(self) -> Self {
        Contents { bytes_a_name: self.bytes_a_name + QUESTION, ..self }
    }

    fn of(row: &Row, index: f64) -> Self {
        Contents::new(row.names, row.zipf, row.entry_bytes, index).beside_questions()
    }
}

/// Prediction and measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Description.
    pub what: String,
    /// Whether the measurement was used for fitting: then it says nothing about the model.
    pub fitted: bool,
    /// Measured value.
    pub measured: f64,
    /// Predicted value, in the same unit.
    pub predicted: f64,
}

impl Point {
    /// Returns the error in percent of the measured value.
    pub fn error(&self) -> f64 {
        100.0 * (self.predicted / self.measured - 1.0)
    }
}

/// Size of a page of the index, in bytes.
const PAGE: f64 = 4096.0;
/// Candidate sizes of the TLB, in pages; the best fit is chosen.
const REMEMBERED: [f64; 7] = [512.0, 1024.0, 1536.0, 2048.0, 3072.0, 4096.0, 8192.0];

/// Returns the share of lookups whose page of the index is not among the `remembered` ones.
fn far(what: &Contents, index_bytes: f64, remembered: f64) -> f64 {
    let pages = what.names as f64 * index_bytes / PAGE;
    let rest = (1.0 - remembered / pages).max(0.0);
    // The most popular names lie on about a page each; all others are spread evenly.
    let popular =
        if what.zipf > 0.0 { Popularity::zipf(what.names, what.zipf).lru_hits(remembered) } else { 0.0 };
    (1.0 - popular) * rest
}

/// Fitted model.
#[derive(Clone, Debug, Serialize)]
pub struct HitModel {
    /// Counted instructions of a hit.
    pub instructions: f64,
    /// Nanoseconds an instruction with all data near.
    pub nanos_an_instruction: f64,
    /// Part of a wait that remains when loads overlap.
    pub wait_left: f64,
    /// Nanoseconds for a page that misses the TLB.
    pub page: f64,
    /// Number of pages in the TLB.
    pub pages: f64,
    /// Levels of the memory.
    pub memory: Memory,
    /// Bytes of the index for each name.
    pub index_bytes: f64,
}

impl HitModel {
    /// Fits the factors to the measurements with names equally popular. Those by Zipf's law are for
    /// checking.
    pub fn fit(micro: &Results, instructions: f64) -> Result<Self> {
        let memory = Memory::fit(&micro.machine.caches, &micro.loads)?;
        // Rows without the smallest cache take the index size of the other rows.
        let index = |row: &Row| row.whole_bytes.map(|whole| whole - row.entry_bytes);
        let index_bytes = micro.hits.iter().filter_map(index).next_back().unwrap_or(16.0);
        let fitting: Vec<&Row> = micro.hits.iter().filter(|row| row.zipf == 0.0).collect();
        ensure!(
            fitting.len() >= 4,
            "the fit needs hits in caches of four sizes, names equally popular: run ringbench micro"
        );
        let mut best: Option<(f64, HitModel)> = None;
        for pages in REMEMBERED {
            let terms = |row: &&Row| {
                let what = Contents::of(row, index_bytes);
                [instructions, what.lines * memory.wait(&what), far(&what, index_bytes, pages)]
                    .map(|x| x / row.nanos[0])
            };
            let Some([nanos_an_instruction, wait_left, page]) = least_squares(fitting.iter().map(terms))
            else {
                continue;
            };
            let memory = memory.clone();
            let model =
                HitModel { instructions, nanos_an_instruction, wait_left, page, pages, memory, index_bytes };
            let squares = fitting.iter().map(|row| model.point(row).error().powi(2)).sum();
            if best.as_ref().is_none_or(|(least, _)| squares < *least) {
                best = Some((squares, model));
            }
        }
        let (_, model) = best.context("the sizes are too similar to tell instructions and memory apart")?;
        Ok(model)
    }

    /// Returns the nanoseconds of a hit.
    pub fn nanos(&self, what: &Contents) -> f64 {
        self.near() + self.wait_left * self.waits(what) + self.page * far(what, self.index_bytes, self.pages)
    }

    /// Returns the nanoseconds of a hit with all data in the nearest cache.
    pub fn near(&self) -> f64 {
        self.nanos_an_instruction * self.instructions
    }

    /// Returns the nanoseconds that loads would wait if none overlapped.
    pub fn waits(&self, what: &Contents) -> f64 {
        what.lines * self.memory.wait(what)
    }

    /// Returns contents with entries like the measured ones.
    pub fn contents(&self, micro: &Results, names: usize, zipf: f64) -> Contents {
        let entry = micro.hits.first().map_or(88.0, |row| row.entry_bytes);
        Contents::new(names, zipf, entry, self.index_bytes)
    }

    /// Returns predictions for all measurements.
    pub fn points(&self, micro: &Results) -> Vec<Point> {
        micro.hits.iter().map(|row| self.point(row)).collect()
    }

    fn point(&self, row: &Row) -> Point {
        Point {
            what: format!("{} names, {}", crate::report::group(row.names as u64), popularity(row.zipf)),
            fitted: row.zipf == 0.0,
            measured: row.nanos[0],
            predicted: self.nanos(&Contents::of(row, self.index_bytes)),
        }
    }
}

/// Describes a popularity in words.
pub fn popularity(zipf: f64) -> String {
    if zipf == 0.0 { "uniform".into() } else { format!("Zipf {zipf}") }
}

/// Returns the factors, none below zero, that bring the sums of all rows' terms nearest to 1.
fn least_squares(rows: impl Iterator<Item = [f64; 3]> + Clone) -> Option<[f64; 3]> {
    // A term whose factor would be negative is left out; the instructions stay.
    let choices = [[true, true, true], [true, true, false], [true, false, true], [true, false, false]];
    let solutions = choices.iter().filter_map(|used| {
        let mut matrix = [[0.0; 4]; 3];
        for terms in rows.clone() {
            for (row, line) in matrix.iter_mut().enumerate() {
                if used[row] {
                    (0..3)
                        .filter(|column| used[*column])
                        .for_each(|column| line[column] += terms[row] * terms[column]);
                    line[3] += terms[row];
                }
            }
        }
        (0..3).filter(|at| !used[*at]).for_each(|at| matrix[at][at] = 1.0);
        solve(matrix).filter(|factors| factors.iter().all(|factor| *factor >= 0.0))
    });
    let misfit = |factors: &[f64; 3]| -> f64 {
        let sum =
            |terms: [f64; 3]| terms.iter().zip(factors).map(|(term, factor)| term * factor).sum::<f64>();
        rows.clone().map(|terms| (1.0 - sum(terms)).powi(2)).sum()
    };
    solutions.min_by(|a, b| misfit(a).total_cmp(&misfit(b)))
}

/// Solves by Gaussian elimination with partial pivoting.
fn solve(mut matrix: [[f64; 4]; 3]) -> Option<[f64; 3]> {
    for at in 0..3 {
        let pivot = (at..3).max_by(|a, b| matrix[*a][at].abs().total_cmp(&matrix[*b][at].abs()))?;
        matrix.swap(at, pivot);
        let line = matrix[at];
        if line[at].abs() < 1e-12 {
            return None;
        }
        for other in (0..3).filter(|other| *other != at) {
            let factor = matrix[other][at] / line[at];
            matrix[other].iter_mut().zip(line).for_each(|(cell, pivot)| *cell -= factor * pivot);
        }
    }
    Some(std::array::from_fn(|at| matrix[at][3] / matrix[at][at]))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::machine::Machine;

    const CACHES: [CacheSize; 2] =
        [CacheSize { level: 1, bytes: 32 << 10 }, CacheSize { level: 2, bytes: 8 << 20 }];

    /// Returns a machine that has half of its last cache, and loads of 1, 10 and 100 ns.
    fn memory() -> Memory {
        Memory(vec![
            Level { bytes: Some(32768.0), nanos: 1.0 },
            Level { bytes: Some(4194304.0), nanos: 10.0 },
            Level { bytes: None, nanos: 100.0 },
        ])
    }

    fn loads() -> Vec<Load> {
        let load = |bytes: usize| Load { bytes, nanos: memory().load(|part| (part / bytes as f64).min(1.0)) };
        (14..30).map(|bits| load(1 << bits)).collect()
    }

    /// Returns results that follow the model: 500 instructions at 0.05 ns, with a quarter of each
    /// wait left.
    pub fn micro() -> Results {
        let made = HitModel {
            instructions: 500.0,
            nanos_an_instruction: 0.05,
            wait_left: 0.25,
            page: 8.0,
            pages: 2048.0,
            memory: memory(),
            index_bytes: 16.0,
        };
        let row = |(names, zipf)| {
            let what = Contents::new(names, zipf, 88.0, 16.0).beside_questions();
            let nanos = made.nanos(&what);
            Row { names, zipf, nanos: [nanos, nanos, nanos], entry_bytes: 88.0, whole_bytes: Some(104.0) }
        };
        let sizes = [10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000];
        let hits = sizes.iter().flat_map(|names| [(*names, 0.0), (*names, 1.0)]).map(row).collect();
        let machine = Machine { caches: CACHES.to_vec(), ..Machine::default() };
        Results { machine, hits, loads: loads() }
    }

    fn near(a: f64, b: f64, part: f64) -> bool {
        (a / b - 1.0).abs() < part
    }

    #[test]
    fn levels_are_found_again() {
        let Memory(levels) = Memory::fit(&CACHES, &loads()).unwrap();
        for (found, made) in levels.iter().zip(memory().0) {
            assert!(near(found.nanos, made.nanos, 0.15), "{levels:?}");
            assert!(near(found.bytes.unwrap_or(1.0), made.bytes.unwrap_or(1.0), 0.1), "{levels:?}");
        }
    }

    #[test]
    fn factors_are_found_again_and_what_was_not_fitted_is_predicted() {
        let model = HitModel::fit(&micro(), 500.0).unwrap();
        assert!(near(model.nanos_an_instruction, 0.05, 0.1) && near(model.wait_left, 0.25, 0.1), "{model:?}");
        let points = model.points(&micro());
        assert_eq!(points.iter().filter(|point| point.fitted).count(), 7);
        assert!(points.iter().all(|point| point.error().abs() < 6.0), "{points:?}");
    }

    #[test]
    fn three_factors_are_solved_and_none_is_negative() {
        let rows = [[1.0, 0.0, 0.0], [0.5, 0.25, 0.0], [0.25, 0.25, 0.25], [0.5, 0.0, 0.5]];
        let [a, b, c] = least_squares(rows.into_iter()).unwrap();
        assert!(near(a, 1.0, 1e-9) && near(b, 2.0, 1e-9) && near(c, 1.0, 1e-9), "{a} {b} {c}");
        // The second factor would be negative.
        let [a, b, _] =
            least_squares([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [2.0, 1.0, 0.0]].into_iter()).unwrap();
        assert!(b == 0.0 && a > 0.5, "{a} {b}");
    }

    #[test]
    fn one_size_is_not_enough() {
        let mut micro = micro();
        micro.hits.truncate(1);
        assert!(HitModel::fit(&micro, 500.0).is_err());
    }

    #[test]
    fn an_entry_of_88_bytes_has_two_lines_and_a_quarter() {
        assert_eq!(Contents::new(1, 0.0, 88.0, 16.0).lines, 1.0 + 2.25);
    }
}
