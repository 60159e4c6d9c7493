// Drawings: rates over time, service times, and meters.

import { ceiling, percent, short, time } from "./figures.mjs";
import { draw, make, setText } from "./page.mjs";

/** Seconds that the chart of rates shows. */
export const HISTORY = 300;
const WIDTH = 600;
const HEIGHT = 160;

/** Chart of rates by tier over the last minutes, one upon the other. */
export class RateChart {
  #areas;
  #top;
  #middle;
  #svg;

  constructor(parent, tiers) {
    this.#areas = tiers.map((tier) => draw("path", { class: `area ${tier.key}` }));
    const line = (y) => draw("line", { class: "grid", x1: 0, x2: WIDTH, y1: y, y2: y });
    this.#svg = draw(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
      line(0.5), line(HEIGHT / 2), ...this.#areas, line(HEIGHT - 0.5),
    );
    this.#top = make("span", { class: "tick top" });
    this.#middle = make("span", { class: "tick middle" });
    const axis = make(
      "div",
      { class: "axis", "aria-hidden": "true" },
      make("span", {}, "5 min ago"), make("span", {}, "now"),
    );
    parent.append(make("div", { class: "plot" }, this.#svg, this.#top, this.#middle), axis);
  }

  /** Shows samples, each with its moment in milliseconds and its rates; null: a gap. */
  show(samples, now) {
    const known = samples.filter((sample) => sample.rates);
    const top = ceiling(Math.max(1, ...known.map((sample) => sample.rates.answers)));
    const x = (sample) => (WIDTH * (1 - (now - sample.at) / 1000 / HISTORY)).toFixed(1);
    const y = (value) => (HEIGHT * (1 - value / top)).toFixed(1);
    const runs = [[]];
    for (const sample of samples) {
      if (sample.rates) {
        runs.at(-1).push(sample);
      } else {
        runs.push([]);
      }
    }
    this.#areas.forEach((area, tier) => {
      const below = (sample, tiers) => sample.rates.tiers.slice(0, tiers).reduce((a, b) => a + b, 0);
      const path = runs.filter((run) => run.length > 1).map((run) => {
        const upper = run.map((sample) => `${x(sample)},${y(below(sample, tier + 1))}`);
        const lower = run.map((sample) => `${x(sample)},${y(below(sample, tier))}`).reverse();
        return `M${upper.join("L")}L${lower.join("L")}Z`;
      });
      area.setAttribute("d", path.join(""));
    });
    setText(this.#top, short(top));
    setText(this.#middle, short(top / 2));
    const last = known.at(-1)?.rates.answers ?? 0;
    this.#svg.setAttribute("aria-label", `Answers a second: ${short(last)} now, axis up to ${short(top)}`);
  }
}

/** Outcomes of service times, in the order in which bars are stacked. */
const OUTCOMES = ["hit", "stale", "miss"];

/** Chart of service times: a bar for each bucket, on an axis of equal steps. */
export class TimesChart {
  #bars;
  #axis;
  #svg;

  constructor(parent) {
    this.#bars = draw("g", {});
    this.#svg = draw(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" },
      this.#bars,
      draw("line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }),
    );
    this.#axis = make("div", { class: "axis buckets", "aria-hidden": "true" });
    parent.append(make("div", { class: "plot" }, this.#svg), this.#axis);
  }

  /** Shows the bars of a histogram. */
  show(bars) {
    const most = Math.max(1, ...bars.map((bar) => bar.count));
    const step = WIDTH / Math.max(1, bars.length);
    const drawn = [];
    bars.forEach((bar, nth) => {
      let bottom = HEIGHT;
      for (const outcome of OUTCOMES) {
        const count = bar.by[outcome] ?? 0;
        // A bucket with few answers beside one with many is to be seen.
        const height = count > 0 ? Math.max(2, (HEIGHT - 4) * (count / most)) : 0;
        if (height > 0) {
          bottom -= height;
          const place = { x: nth * step + 1.5, y: Math.max(0, bottom), width: step - 3, height };
          drawn.push(draw("rect", { class: `pillar ${outcome}`, ...place }));
        }
      }
    });
    this.#bars.replaceChildren(...drawn);
    const total = bars.reduce((sum, bar) => sum + bar.count, 0);
    const peak = bars.reduce((best, bar) => (bar.count > (best?.count ?? 0) ? bar : best), null);
    const told = peak ? `most in up to ${time(peak.upTo)}, ${percent(peak.count / total)}` : "none";
    this.#svg.setAttribute("aria-label", `Service times of the last minute: ${told}`);
    // A label for each third bucket, at its upper bound.
    const labels = bars.filter((_, nth) => nth % 3 === 2).map((bar) => time(bar.upTo));
    if (this.#axis.childElementCount !== labels.length + 1) {
      this.#axis.replaceChildren(...labels.map((label) => make("span", {}, label)), make("span"));
    }
  }
}

/** Returns a bar that shows how full something is. */
export function meter(name) {
  const bar = make("div", { class: "level" });
  return make(
    "div",
    { class: "meter", role: "meter", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100 },
    bar,
  );
}

/** Sets the share of a meter, between 0 and 1. */
export function setMeter(element, share) {
  const value = Math.round(Math.min(1, Math.max(0, share)) * 100);
  element.setAttribute("aria-valuenow", String(value));
  element.firstElementChild.style.width = `${value}%`;
}
