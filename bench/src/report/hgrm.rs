//! Percentile output of HdrHistogram.

use hdrhistogram::Histogram;
use std::io::Write;

/// Writes value in microseconds, quantile, count up to the value, and 1 / (1 - quantile) of each
/// row.
pub(super) fn write(histogram: &Histogram<u64>, out: &mut impl Write) -> std::io::Result<()> {
    const MICROS: f64 = 1000.0;
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut count = 0;
    for step in histogram.iter_quantiles(5) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / MICROS, step.quantile_iterated_to());
        if quantile < 1.0 {
            writeln!(out, "{value:12.3} {quantile:2.12} {count:10} {:14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(out, "{value:12.3} {quantile:2.12} {count:10}")?;
        }
    }
    let (mean, stdev) = (histogram.mean() / MICROS, histogram.stdev() / MICROS);
    writeln!(out, "#[Mean    = {mean:12.3}, StdDeviation   = {stdev:12.3}]")?;
    writeln!(
        out,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        histogram.max() as f64 / MICROS,
        histogram.len()
    )?;
    // Three significant digits need 2048 sub-buckets.
    writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), 2048)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_file_ends_with_the_maximum_and_the_count() {
        let mut histogram = crate::tally::histogram().unwrap();
        for micros in 1..=1000 {
            histogram.record(micros * 1000).unwrap();
        }
        let mut text = Vec::new();
        write(&histogram, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("Total count    =         1000"), "{text}");
        let last = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        assert!(last.contains("1.000000000000       1000"), "{last}");
    }
}
