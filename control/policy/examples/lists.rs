//! Reads lists and prints their counts, the time and rules a second.
//!
//! `cargo run --release -p ringdns-policy --example lists -- FILE…`

use ringdns_policy::text::{Format, read};
use std::{error::Error, fs::File, io::BufReader, time::Instant};

fn main() -> Result<(), Box<dyn Error>> {
    for path in std::env::args().skip(1) {
        let start = Instant::now();
        let mut bytes = 0;
        // As a caller would: each rule is looked at and dropped.
        let source = BufReader::with_capacity(64 * 1024, File::open(&path)?);
        let report = read(source, Format::Auto, |_, rule| bytes += std::mem::size_of_val(&rule))?;
        let took = start.elapsed();
        let counts = &report.counts;
        let rate = counts.rules as f64 / took.as_secs_f64() / 1e6;
        println!(
            "{path}: {}, {} lines, {} comments, {} blank, {} directives, {} rules in {} lines, {} in part, \
             {bytes} bytes of rules, {took:.1?}, {rate:.2} M rules/s",
            report.format,
            counts.lines,
            counts.comments,
            counts.blank,
            counts.directives,
            counts.rules,
            counts.with_rules,
            counts.partial,
        );
        for (reason, lines) in &counts.skipped {
            println!("    {lines} skipped: {reason}");
        }
        for problem in &report.problems {
            println!("    {problem}");
        }
    }
    Ok(())
}
