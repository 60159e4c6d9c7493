//! Plots of service times by percentile, for a terminal and as SVG.
//!
//! The horizontal axis is logarithmic in the part of answers that take longer: 90 %, 99 %, 99.9 % are
//! equally far from each other. The vertical axis is logarithmic in time.

use super::logs::Tagged;
use hdrhistogram::Histogram;
use std::fmt::Write as _;

/// Most decimals of the horizontal axis: 99.9999 %.
const NINES_MAX: f64 = 6.0;

/// Height of a plot in a terminal, in rows.
const HEIGHT: usize = 20;

/// Columns left of a plot in a terminal, for times.
const MARGIN: usize = 9;

/// Size of a picture, and the room around its plot: left, top, right, bottom.
const PICTURE: [f64; 2] = [900.0, 520.0];
const ROOM: [f64; 4] = [80.0, 20.0, 170.0, 50.0];

/// Colours that people with any colour vision tell apart (Okabe and Ito).
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c00"];

/// Bounds of a plot.
struct Frame {
    /// Decimals of the horizontal axis.
    nines: f64,
    /// Decimal logarithms of the shortest and the longest time in microseconds, whole numbers.
    times: [f64; 2],
}

impl Frame {
    /// Returns the bounds of histograms; `None` if they are all empty.
    fn of(histograms: &Tagged) -> Option<Self> {
        let full = || histograms.values().filter(|histogram| !histogram.is_empty());
        let most = full().map(|histogram| histogram.len()).max()?;
        let low = full().map(|histogram| log_micros(histogram.min())).fold(f64::MAX, f64::min).floor();
        let high = full().map(|histogram| log_micros(histogram.max())).fold(f64::MIN, f64::max).ceil();
        let nines = (most as f64).log10().ceil().clamp(1.0, NINES_MAX);
        Some(Frame { nines, times: [low, high.max(low + 1.0)] })
    }

    /// Returns the part of the height at which a time lies, from 0 to 1.
    fn height(&self, nanos: u64) -> f64 {
        let [low, high] = self.times;
        ((log_micros(nanos) - low) / (high - low)).clamp(0.0, 1.0)
    }
}

/// Returns the time in nanoseconds at a place of the horizontal axis; `None` beyond the last answer.
fn at(histogram: &Histogram<u64>, nines: f64) -> Option<u64> {
    let is_there = nines <= (histogram.len() as f64).log10().max(0.0) + 0.01;
    is_there.then(|| histogram.value_at_quantile(1.0 - 10f64.powf(-nines)))
}

fn log_micros(nanos: u64) -> f64 {
    (nanos.max(1) as f64 / 1000.0).log10()
}

/// Returns a label of the horizontal axis: 0 %, 90 %, 99 %, and so on.
fn percent(nines: usize) -> String {
    match nines {
        0 => "0%".into(),
        1 => "90%".into(),
        2 => "99%".into(),
        more => format!("99.{}%", "9".repeat(more - 2)),
    }
}

/// Returns a label of the vertical axis, for a power of ten in microseconds.
fn time(power: i32) -> String {
    let (unit, power) = match power {
        ..=-1 => ("ns", power + 3),
        0..=2 => ("us", power),
        3..=5 => ("ms", power - 3),
        _ => ("s", power - 6),
    };
    format!("{} {unit}", 10f64.powi(power))
}

/// Letter of a curve in a terminal.
fn letter(nth: usize) -> char {
    char::from(b'a' + (nth % 26) as u8)
}

/// Returns a plot of text, none of whose lines is longer than `width`, with a legend.
pub fn text(histograms: &Tagged, width: usize) -> String {
    let Some(frame) = Frame::of(histograms) else { return "no answers have been recorded\n".into() };
    let columns = width.saturating_sub(MARGIN + 1).max(10);
    let mut cells = vec![vec![' '; columns]; HEIGHT];
    for (nth, histogram) in histograms.values().enumerate().filter(|(_, it)| !it.is_empty()) {
        for column in 0..columns {
            let nines = column as f64 / (columns - 1) as f64 * frame.nines;
            let Some(nanos) = at(histogram, nines) else { break };
            let row = HEIGHT - 1 - (frame.height(nanos) * (HEIGHT - 1) as f64).round() as usize;
            if let Some(cell) = cells.get_mut(row).and_then(|row| row.get_mut(column)) {
                *cell = letter(nth);
            }
        }
    }
    let [low, high] = frame.times;
    let mut text = String::new();
    for (row, cells) in cells.iter().enumerate() {
        let part = (HEIGHT - 1 - row) as f64 / (HEIGHT - 1) as f64;
        let step = (high - low) / (HEIGHT - 1) as f64;
        let power = (low + part * (high - low)).round();
        let is_tick = (low + part * (high - low) - power).abs() < step / 2.0;
        let label = if is_tick { time(power as i32) } else { String::new() };
        let line: String = cells.iter().collect();
        let _ = writeln!(text, "{label:>MARGIN$}|{}", line.trim_end());
    }
    let _ = writeln!(text, "{:>MARGIN$}+{}", "", "-".repeat(columns));
    let mut axis = String::new();
    for nines in 0..=frame.nines as usize {
        let label = percent(nines);
        let place = MARGIN + 1 + (nines as f64 / frame.nines * (columns - 1) as f64) as usize;
        let place = place.min(width.saturating_sub(label.len()));
        if place > axis.len() || axis.is_empty() {
            let _ = write!(axis, "{label:>width$}", width = place - axis.len() + label.len());
        }
    }
    let _ = writeln!(text, "{axis}");
    for (nth, (tag, histogram)) in histograms.iter().enumerate() {
        let line = format!("{} {}", letter(nth), legend(tag, histogram));
        crate::table::wrapped(&line, width).iter().for_each(|line| text += &format!("{line}\n"));
    }
    text
}

fn legend(tag: &str, histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return format!("{tag}: none");
    }
    let micros = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    format!(
        "{tag}: {}, P50 {:.1}, P99 {:.1}, P99.9 {:.1}, at most {:.1} us",
        histogram.len(),
        micros(0.5),
        micros(0.99),
        micros(0.999),
        histogram.max() as f64 / 1000.0
    )
}

/// Returns a picture.
pub fn svg(histograms: &Tagged) -> String {
    let ([width, height], [left, top, right, bottom]) = (PICTURE, ROOM);
    let (across, down) = (width - left - right, height - top - bottom);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<title>Service times by percentile</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let Some(frame) = Frame::of(histograms) else {
        svg += &format!("<text x=\"{left}\" y=\"40\">no answers have been recorded</text>\n</svg>\n");
        return svg;
    };
    let [low, high] = frame.times;
    for power in low as i32..=high as i32 {
        let y = top + down * (1.0 - (f64::from(power) - low) / (high - low));
        let _ = write!(
            svg,
            "<path d=\"M{left} {y:.1}h{across:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            left - 6.0,
            y + 4.0,
            time(power)
        );
    }
    for nines in 0..=frame.nines as usize {
        let x = left + across * nines as f64 / frame.nines;
        let _ = write!(
            svg,
            "<path d=\"M{x:.1} {top}v{down:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
            top + down + 18.0,
            percent(nines)
        );
    }
    for (nth, (tag, histogram)) in histograms.iter().enumerate() {
        let colour = COLOURS[nth % COLOURS.len()];
        let y = top + 14.0 + 18.0 * nth as f64;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{y:.1}\" fill=\"{colour}\">{} ({})</text>",
            width - right + 10.0,
            escaped(tag),
            histogram.len()
        );
        if histogram.is_empty() {
            continue;
        }
        let points = (0..=across as usize).map_while(|x| {
            let nanos = at(histogram, x as f64 / across * frame.nines)?;
            Some(format!("{:.1},{:.1}", left + x as f64, top + down * (1.0 - frame.height(nanos))))
        });
        let points = points.collect::<Vec<_>>().join(" ");
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{points}\"/>"
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">percentile</text>\n</svg>\n",
        left + across / 2.0,
        height - 12.0
    );
    svg
}

/// Escapes a text for XML. Tags come from files; control characters are none in XML.
fn escaped(text: &str) -> String {
    let escape = |letter: char| match letter {
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '&' => "&amp;".to_owned(),
        '"' => "&quot;".to_owned(),
        letter if letter.is_control() => letter.escape_default().to_string(),
        letter => letter.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        histogram::logs::{Summed, tests::log},
        testing::assert_screen,
    };

    fn times() -> Tagged {
        let mut summed = Summed::read(&log("hit", 0, (1..=9000).map(|n| 800 + n * n / 100))).unwrap();
        summed.add(&log("miss", 0, (1..=300).map(|n| 2_000_000 + n * 100_000))).unwrap();
        summed.add(&log("stale", 0, [])).unwrap();
        summed.histograms
    }

    #[test]
    fn the_plot_of_80_columns() {
        assert_screen(&text(&times(), 80), "src/testdata/plot-80.txt");
        for width in [40, 60, 80, 132] {
            for line in text(&times(), width).lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
        assert_eq!(text(&Tagged::new(), 80), "no answers have been recorded\n");
    }

    #[test]
    fn a_picture_has_a_line_for_each_histogram_that_is_not_empty() {
        let picture = svg(&times());
        assert_eq!((picture.matches("<polyline").count(), picture.matches("</svg>").count()), (2, 1));
        assert!(picture.contains("99.99%") && picture.contains("10 us") && picture.contains("stale (0)"));
        let hostile = Summed::read(&log("<script>&\"", 0, [5])).unwrap();
        let picture = svg(&hostile.histograms);
        assert!(picture.contains("&lt;script&gt;&amp;&quot;") && !picture.contains("<script"), "{picture}");
        assert!(svg(&Tagged::new()).contains("no answers"));
    }

    #[test]
    fn extreme_times_stay_in_the_picture() {
        for values in [vec![1], vec![60_000_000_000], vec![1, 60_000_000_000], vec![1000; 1000]] {
            let histograms = Summed::read(&log("x", 0, values.clone())).unwrap().histograms;
            assert!(text(&histograms, 80).contains("a x: "), "{values:?}");
            assert!(svg(&histograms).contains("<polyline"), "{values:?}");
        }
    }
}
