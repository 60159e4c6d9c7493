//! Plots of a run: rate and latency over time, and percentiles of the latency.

use super::Report;
use crate::{
    plot::{self, Axis, Series},
    report::series::Interval,
};
use anyhow::Result;
use hdrhistogram::Histogram;

const SECONDS: Axis<'static> = Axis { label: "seconds", log: false };
const LATENCY: Axis<'static> = Axis { label: "latency, µs", log: true };
const MICROS: f64 = 1000.0;

impl Report {
    /// Returns the plots, each with its file name.
    pub fn plots(&self) -> Result<[(&'static str, String); 3]> {
        Ok([
            ("rate.svg", self.rate_plot()?),
            ("latency.svg", self.latency_plot()?),
            ("percentiles.svg", self.percentile_plot()?),
        ])
    }

    fn title(&self, what: &str) -> String {
        format!("{what}: {} to {}", self.setup.backend, self.setup.target)
    }

    fn over_time(&self, name: &str, value: impl Fn(&Interval) -> f64) -> Series {
        let step = self.interval.as_secs_f64();
        // The last interval may be incomplete: part of it belongs to the wait for the last answers.
        let whole = self
            .intervals
            .iter()
            .filter(|i| (i.index + 1) as f64 * step <= self.elapsed.as_secs_f64() + 1e-9);
        let points = whole.map(|i| ((i.index as f64 + 0.5) * step, value(i))).collect();
        Series { name: name.into(), points }
    }

    fn rate_plot(&self) -> Result<String> {
        let a_second = |count: u64| count as f64 / self.interval.as_secs_f64();
        let mut series = vec![
            self.over_time("queries sent", |i| a_second(i.sent)),
            self.over_time("answers", |i| a_second(i.answered)),
        ];
        if self.intervals.iter().any(|i| i.timeouts > 0) {
            series.push(self.over_time("lost", |i| a_second(i.timeouts)));
        }
        plot::lines(&self.title("Rate"), SECONDS, Axis { label: "a second", log: false }, &series)
    }

    fn latency_plot(&self) -> Result<String> {
        let quantile = |q| move |i: &Interval| i.latency.value_at_quantile(q) as f64 / MICROS;
        let series = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("most", 1.0)]
            .map(|(name, q)| self.over_time(name, quantile(q)));
        plot::lines(&self.title("Latency"), SECONDS, LATENCY, &series)
    }

    fn percentile_plot(&self) -> Result<String> {
        let mut series: Vec<Series> = self
            .outcomes()
            .map(|(name, histogram)| Series { name, points: percentiles(histogram) })
            .collect();
        if !self.tally.lag.is_empty() {
            series.push(Series {
                name: "the generator's own lag".into(),
                points: percentiles(&self.tally.lag),
            });
        }
        plot::percentiles(&self.title("Latency"), LATENCY, &series)
    }
}

/// Returns shares and the latencies below which they lie, as far out as there are values.
fn percentiles(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let steps = histogram.iter_quantiles(8);
    // Tenths of a microsecond are of no interest, and would take up half of a logarithmic axis.
    let micros = |nanos: u64| (nanos as f64 / MICROS).max(0.1);
    let shares = steps.map(|step| (step.quantile_iterated_to(), micros(step.value_iterated_to())));
    shares.filter(|(share, _)| *share < 1.0 && (1.0 - share) * histogram.len() as f64 >= 1.0).collect()
}
