//! Plots as SVG documents: lines over an axis, the tail of a distribution, and bars with their spread.
//!
//! The colours are those of Okabe and Ito, which people with any colour vision can tell apart.
//! Lines differ in marks and dashes too.

use anyhow::{Result, anyhow, ensure};
use plotters::{
    coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

/// Line of a plot.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name in the legend. An empty name is left out.
    pub name: String,
    /// Points in the order in which they are joined. Points outside of the axes (not finite, or not
    /// above zero on a logarithmic one) are left out.
    pub points: Vec<(f64, f64)>,
}

/// Axis of a plot.
#[derive(Clone, Copy, Debug)]
pub struct Axis<'a> {
    /// Quantity on the axis, with its unit.
    pub label: &'a str,
    /// Whether the axis is logarithmic.
    pub log: bool,
}

/// Bar: a figure with its spread.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Name of the bar.
    pub name: String,
    /// Figure, drawn as the bar's length.
    pub value: f64,
    /// Least figure of the runs.
    pub low: f64,
    /// Greatest figure of the runs.
    pub high: f64,
}

const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
];
const INK: RGBColor = RGBColor(34, 34, 34);
const SOFT: RGBColor = RGBColor(95, 95, 95);
const RULE: RGBColor = RGBColor(222, 222, 222);
const FONT: &str = "Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif";

/// Most points of a line that still get a mark each.
const MARKED: usize = 40;

/// Draws lines over two axes.
pub fn lines(title: &str, x: Axis, y: Axis, series: &[Series]) -> Result<String> {
    draw(title, (x, &si), (y, &si), series)
}

/// Draws the tail of distributions: the value below which a share of them lies, over the share,
/// which continues to 99 %, 99.9 % and so forth in equal steps. `points` are (share from 0 to 1,
/// value).
pub fn percentiles(title: &str, value: Axis, series: &[Series]) -> Result<String> {
    let stretched: Vec<Series> = series
        .iter()
        .map(|Series { name, points }| Series {
            name: name.clone(),
            points: points.iter().map(|(share, value)| (1.0 / (1.0 - share), *value)).collect(),
        })
        .collect();
    let share = |odds: f64| {
        let nines = odds.log10().round() as usize;
        format!("{:.*} %", nines.saturating_sub(2), 100.0 * (1.0 - 1.0 / odds))
    };
    draw(title, (Axis { label: "share of the answers", log: true }, &share), (value, &si), &stretched)
}

type Format<'f> = &'f dyn Fn(f64) -> String;

fn draw(
    title: &str,
    (x, x_text): (Axis, Format<'_>),
    (y, y_text): (Axis, Format<'_>),
    series: &[Series],
) -> Result<String> {
    let series: Vec<Series> = series
        .iter()
        .map(|Series { name, points }| Series {
            name: name.clone(),
            points: points.iter().filter_map(|(at, value)| Some((x.place(*at)?, y.place(*value)?))).collect(),
        })
        .collect();
    let x_scale = x.scale(series.iter().flat_map(|s| s.points.iter().map(|p| p.0)))?;
    let y_scale = y.scale(series.iter().flat_map(|s| s.points.iter().map(|p| p.1)))?;
    let longest = series.iter().map(|s| text_width(&s.name, 14.0)).max().unwrap_or_default();
    let legend = if longest == 0 { 20 } else { longest + 60 };
    let (width, height) = (780 + legend as u32, 460.max(60 + 24 * series.len() as u32));

    document(width, height, |root| {
        root.draw(&Text::new(title, (16, 14), font(19.0).color(&INK)))?;
        let (plot, names) = root.margin(44, 0, 0, 0).split_horizontally(780);
        let label_width = y_scale.ticks.iter().map(|at| text_width(&y_text(y.value(*at)), 13.0)).max();
        let mut chart = ChartBuilder::on(&plot)
            .margin_left(14)
            .margin_right(24)
            .x_label_area_size(52)
            .y_label_area_size(label_width.unwrap_or_default() as u32 + 40)
            .build_cartesian_2d(x_scale.clone(), y_scale.clone())?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RULE)
            .axis_style(SOFT)
            .label_style(font(13.0).color(&INK))
            .axis_desc_style(font(14.0).color(&INK))
            .x_labels(x_scale.ticks.len())
            .y_labels(y_scale.ticks.len())
            .x_label_formatter(&|at| x_text(x.value(*at)))
            .y_label_formatter(&|at| y_text(y.value(*at)))
            .x_desc(x.label)
            .y_desc(y.label)
            .draw()?;
        for (nth, Series { points, .. }) in series.iter().enumerate() {
            let colour = COLOURS[nth % COLOURS.len()];
            let line = points.iter().copied();
            // The legend is drawn beside the plot, where it hides nothing.
            if nth < COLOURS.len() {
                chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
            } else {
                chart.draw_series(DashedLineSeries::new(line, 7, 4, colour.stroke_width(2)))?;
            }
            if points.len() <= MARKED {
                chart.draw_series(points.iter().map(|at| mark(nth, *at, colour)))?;
            }
        }
        for (nth, Series { name, .. }) in series.iter().enumerate().filter(|(_, s)| !s.name.is_empty()) {
            let colour = COLOURS[nth % COLOURS.len()];
            let at = 16 + 24 * nth as i32;
            let stroke = if nth < COLOURS.len() { vec![(0, 24)] } else { vec![(0, 8), (12, 20)] };
            for (from, to) in stroke {
                names.draw(&PathElement::new(vec![(from, at), (to, at)], colour.stroke_width(2)))?;
            }
            names.draw(&mark(nth, (12, at), colour))?;
            names.draw(&Text::new(name.as_str(), (32, at), font(14.0).color(&INK).pos(LEFT_MIDDLE)))?;
        }
        Ok(())
    })
}

const LEFT_MIDDLE: Pos = Pos { h_pos: HPos::Left, v_pos: VPos::Center };

/// Shape of a few pixels at a place.
type Mark<C, DB> = <EmptyElement<C, DB> as std::ops::Add<Polygon<(i32, i32)>>>::Output;

/// Returns the nth line's mark: a circle, a triangle or a square.
fn mark<C, DB: DrawingBackend>(nth: usize, at: C, colour: RGBColor) -> Mark<C, DB> {
    const ROUND: &[(i32, i32)] = &[(-4, -2), (-2, -4), (2, -4), (4, -2), (4, 2), (2, 4), (-2, 4), (-4, 2)];
    const TRIANGLE: &[(i32, i32)] = &[(-5, 4), (0, -5), (5, 4)];
    const SQUARE: &[(i32, i32)] = &[(-4, -4), (4, -4), (4, 4), (-4, 4)];
    let shape = [ROUND, TRIANGLE, SQUARE][nth % 3];
    EmptyElement::at(at) + Polygon::new(shape, colour.filled())
}

/// Draws horizontal bars in the given order, each with a whisker from its least to its greatest
/// figure, and its figures beside it.
pub fn bars(title: &str, unit: &str, bars: &[Bar]) -> Result<String> {
    ensure!(
        bars.iter().all(|bar| bar.value.is_finite() && bar.value >= 0.0),
        "a bar's value must be a number, and not below zero"
    );
    let figures: Vec<String> =
        bars.iter()
            .map(|Bar { value, low, high, .. }| {
                if low < high { format!("{} ({}–{})", si(*value), si(*low), si(*high)) } else { si(*value) }
            })
            .collect();
    let widest = |texts: &mut dyn Iterator<Item = &str>| texts.map(|t| text_width(t, 14.0)).max();
    let names = widest(&mut bars.iter().map(|bar| bar.name.as_str())).unwrap_or_default() + 28;
    let figure_width = widest(&mut figures.iter().map(String::as_str)).unwrap_or_default() + 24;
    const LENGTH: i32 = 460;
    const STEP: i32 = 32;
    let top = 52;
    let bottom = top + STEP * bars.len() as i32 + 6;
    let (width, height) = ((names + LENGTH + figure_width) as u32, (bottom + 52) as u32);

    let axis = Axis { label: unit, log: false };
    let scale = axis.scale(bars.iter().flat_map(|bar| [0.0, bar.value, bar.high]))?;
    let place = |value: f64| scale.map(&value, (names, names + LENGTH));
    document(width, height, |root| {
        root.draw(&Text::new(title, (16, 14), font(19.0).color(&INK)))?;
        let below = Pos { h_pos: HPos::Center, v_pos: VPos::Top };
        for tick in &scale.ticks {
            let at = place(*tick);
            root.draw(&PathElement::new(vec![(at, top), (at, bottom)], RULE))?;
            root.draw(&Text::new(si(*tick), (at, bottom + 6), font(13.0).color(&INK).pos(below)))?;
        }
        let middle = (names + LENGTH / 2, bottom + 28);
        root.draw(&Text::new(unit, middle, font(14.0).color(&INK).pos(below)))?;
        for ((nth, bar), figure) in bars.iter().enumerate().zip(&figures) {
            let at = top + STEP * nth as i32 + STEP / 2 + 3;
            let right = Pos { h_pos: HPos::Right, v_pos: VPos::Center };
            let name = font(14.0).color(&INK).pos(right);
            root.draw(&Text::new(bar.name.as_str(), (names - 10, at), name))?;
            let ends = [(names, at - 10), (place(bar.value), at + 10)];
            root.draw(&Rectangle::new(ends, COLOURS[0].mix(0.75).filled()))?;
            if bar.low < bar.high {
                let (low, high) = (place(bar.low), place(bar.high));
                for (from, to) in [
                    ((low, at), (high, at)),
                    ((low, at - 5), (low, at + 5)),
                    ((high, at - 5), (high, at + 5)),
                ] {
                    root.draw(&PathElement::new(vec![from, to], INK.stroke_width(2)))?;
                }
            }
            let end = place(bar.value.max(bar.high)) + 10;
            root.draw(&Text::new(figure.as_str(), (end, at), font(14.0).color(&INK).pos(LEFT_MIDDLE)))?;
        }
        root.draw(&PathElement::new(vec![(names, top), (names, bottom)], SOFT))?;
        Ok(())
    })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn document(width: u32, height: u32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String> {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
    let drawn = root.fill(&WHITE).and_then(|()| draw(&root)).and_then(|()| root.present());
    drawn.map_err(|error| anyhow!("cannot draw: {error}"))?;
    drop(root);
    Ok(svg)
}

fn font(size: f64) -> TextStyle<'static> {
    (FONT, size).into()
}

/// Returns the approximate width of a text in pixels: there is no font to measure with.
fn text_width(text: &str, size: f64) -> i32 {
    (text.chars().count() as f64 * size * 0.54) as i32
}

/// Range of an axis, in places: values, or their decimal logarithms.
#[derive(Clone, Debug)]
struct Scale {
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        let part = (place - self.from) / (self.to - self.from);
        limit.0 + (part * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

impl Axis<'_> {
    /// Returns the place of a value, if it has one.
    fn place(&self, value: f64) -> Option<f64> {
        let place = if self.log { value.log10() } else { value };
        place.is_finite().then_some(place)
    }

    /// Returns the value at a place.
    fn value(&self, place: f64) -> f64 {
        if self.log { 10f64.powf(place) } else { place }
    }

    /// Returns the range that holds all `places`, extended to whole ticks, and to zero if that is
    /// near.
    fn scale(&self, places: impl Iterator<Item = f64>) -> Result<Scale> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for place in places {
            (low, high) = (low.min(place), high.max(place));
        }
        ensure!(low <= high, "there is nothing to plot over \"{}\"", self.label);
        if self.log {
            return Ok(log_scale(low, high));
        }
        if low > 0.0 && low < 0.75 * high {
            low = 0.0;
        }
        if low == high {
            (low, high) =
                if low == 0.0 { (0.0, 1.0) } else { (low - low.abs() / 10.0, high + high.abs() / 10.0) };
        }
        let step = nice_step((high - low) / 6.0);
        let (from, to) = ((low / step).floor(), (high / step).ceil());
        let ticks = (0..=(to - from) as u32).map(|nth| (from + f64::from(nth)) * step).collect();
        Ok(Scale { from: from * step, to: to * step, ticks })
    }
}

/// Returns a range in decades; a range of few decades also has ticks at halves and fifths.
fn log_scale(low: f64, high: f64) -> Scale {
    let parts: &[f64] = if high - low > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let decades = low.floor() as i32..=high.ceil() as i32;
    let all: Vec<f64> =
        decades.flat_map(|decade| parts.iter().map(move |part| f64::from(decade) + part.log10())).collect();
    const CLOSE: f64 = 1e-9;
    let from = all.iter().rev().find(|tick| **tick <= low + CLOSE).copied().unwrap_or(low);
    let mut to = all.iter().find(|tick| **tick >= high - CLOSE).copied().unwrap_or(high);
    if to - from < CLOSE {
        to = from + 1.0;
    }
    let ticks = all.into_iter().filter(|tick| (from - CLOSE..=to + CLOSE).contains(tick)).collect();
    Scale { from, to, ticks }
}

/// Returns the least step of 1, 2 or 5 times a power of ten that is not below `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|part| part * power).into_iter().find(|step| *step >= least).unwrap_or(least)
}

/// Formats a number with three digits and an SI prefix: 1.5 M, 20 k, 3, 0.25.
pub fn si(value: f64) -> String {
    let (scaled, prefix) = match value.abs() {
        size if size >= 999.5e6 => (value / 1e9, " G"),
        size if size >= 999.5e3 => (value / 1e6, " M"),
        size if size >= 10e3 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        size if size >= 99.95 || size == 0.0 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        size => (2 - size.log10().floor() as i32).min(9) as usize,
    };
    let text = format!("{scaled:.digits$}");
    let text = if digits > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{prefix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Series> {
        let rise = (1..=20).map(|i| (f64::from(i), f64::from(i * i))).collect();
        let flat = (1..=20).map(|i| (f64::from(i), 70.0)).collect();
        let name = String::from;
        vec![
            Series { name: name("rings <1>"), points: rise },
            Series { name: name("Knot Resolver"), points: flat },
        ]
    }

    /// Returns all numbers of the `points` of the shapes of one colour.
    fn points(svg: &str, colour: &str) -> Vec<(f64, f64)> {
        let line = svg.lines().find(|line| line.starts_with("<polyline") && line.contains(colour)).unwrap();
        let points = line.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        let pair = |pair: &str| pair.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()));
        points.split_whitespace().filter_map(pair).collect()
    }

    #[test]
    fn lines_go_where_their_values_are_and_names_stand_in_full() {
        let (x, y) = (Axis { label: "seconds", log: false }, Axis { label: "answers/s", log: false });
        let svg = lines("Rate", x, y, &two()).unwrap();
        for text in ["Rate", "seconds", "answers/s", "rings &lt;1&gt;", "Knot Resolver"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        let rise = points(&svg, "#0072B2");
        assert_eq!(rise.len(), 20);
        assert!(rise.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1), "{rise:?}");
        let flat = points(&svg, "#D55E00");
        assert!(flat.windows(2).all(|pair| pair[0].1 == pair[1].1), "{flat:?}");
    }

    #[test]
    fn equal_ratios_are_equal_distances_on_a_logarithmic_axis() {
        let points_in = (0..4).map(|i| (f64::from(i), 10f64.powi(i))).collect();
        let series = [Series { name: String::new(), points: points_in }];
        let svg = lines("", Axis { label: "", log: false }, Axis { label: "", log: true }, &series).unwrap();
        let line = points(&svg, "#0072B2");
        let steps: Vec<f64> = line.windows(2).map(|pair| pair[0].1 - pair[1].1).collect();
        assert!(steps.iter().all(|step| (step - steps[0]).abs() <= 1.0 && *step > 50.0), "{steps:?}");
        assert!(svg.contains("100"), "decades have their labels");
    }

    #[test]
    fn nothing_is_no_plot_and_what_has_no_place_is_left_out() {
        let axis = Axis { label: "µs", log: true };
        let zeros = [Series { name: String::new(), points: vec![(1.0, 0.0), (2.0, f64::NAN)] }];
        assert!(lines("", axis, axis, &zeros).unwrap_err().to_string().contains("µs"));
    }

    #[test]
    fn the_tail_is_labelled_by_its_shares() {
        let points = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999].map(|share| (share, 10.0 + share)).to_vec();
        let svg =
            percentiles("Tail", Axis { label: "µs", log: false }, &[Series { name: "a".into(), points }]);
        let svg = svg.unwrap();
        for label in ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"] {
            assert!(svg.lines().any(|line| line.trim() == label), "{label}: {svg}");
        }
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |name: &str, value| Bar { name: name.into(), value, low: 0.9 * value, high: 1.1 * value };
        let svg = bars("Rates", "answers/s", &[bar("ringdns", 600e3), bar("other", 150e3)]).unwrap();
        let widths: Vec<f64> = svg
            .lines()
            .filter(|line| line.starts_with("<rect") && line.contains("#0072B2"))
            .map(|line| line.split(" width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(widths.len(), 2);
        assert!((widths[0] / widths[1] - 4.0).abs() < 0.1, "{widths:?}");
        assert!(svg.contains("600 k (540 k–660 k)"), "{svg}");
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 0.25, 3.0, 9_500.0, 20e3, 1.5e6, 719_772.0, 2e9, 0.001234].map(si);
        assert_eq!(texts, ["0", "0.25", "3", "9500", "20 k", "1.5 M", "720 k", "2 G", "0.00123"]);
    }
}
