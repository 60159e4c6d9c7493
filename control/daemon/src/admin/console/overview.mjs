// Overview: problems, rates, service times, drops, upstreams, caches, and the process.

import { Doctor, Ranking } from "./cards.mjs";
import { HISTORY, RateChart, TimesChart, meter, setMeter } from "./charts.mjs";
import {
  at, buckets, bytes, drops, histogram, percent, percentile, rates, short, span, time, totals, whole,
} from "./figures.mjs";
import { badge, byId, keyed, make, moment, rowOf, setCells, setText } from "./page.mjs";

/** Sources of answers, in the order of `rates`. */
const TIERS = [
  { key: "worker", name: "worker cache" },
  { key: "host", name: "host cache" },
  { key: "rest", name: "lists, local data, upstreams" },
  { key: "refused", name: "refused" },
];
/** Time between two samples that is a gap: the page was hidden, or ringdnsd did not answer. */
const GAP_MS = 5000;
/** Milliseconds over which a rate is taken: shorter ones jump, since workers publish in steps. */
const SPAN_MS = 3200;
/** Milliseconds for which service times are summed. */
const WINDOW_MS = 60_000;

/** Returns a description list's setter: the first call makes its entries. */
function facts(list) {
  const values = new Map();
  return (name, value, note = "", meaning = "") => {
    let entry = values.get(name);
    if (!entry) {
      entry = { value: make("dd"), note: make("dd", { class: "note" }) };
      values.set(name, entry);
      list.append(make("div", {}, make("dt", {}, name), entry.value, entry.note));
    }
    setText(entry.value, value);
    setText(entry.note, note);
    entry.value.parentElement.className = meaning;
  };
}

/** Returns the words of a reason, which the API writes as a name. */
function words(reason) {
  return reason.replace(/^tcp_/, "over TCP: ").replaceAll("_", " ");
}

/** View of the present state. */
export class Overview {
  #samples = [];
  /** Figures of the last moments, the oldest first. */
  #recent = [];
  #earlier = [];
  #chart = new RateChart(byId("rates"), TIERS);
  #times = new TimesChart(byId("times"));
  #figure = facts(byId("figures"));
  #percentile = facts(byId("percentiles"));
  #process = facts(byId("process"));
  #legend = TIERS.map((tier) => {
    const value = make("b");
    byId("rates-legend").append(make("li", { class: tier.key }, `${tier.name} `, value));
    return value;
  });

  #cards = [
    new Ranking(byId("top-names"), byId("top-names-kind")),
    new Ranking(byId("top-zones"), "zones"),
    new Ranking(byId("top-clients"), "clients"),
    new Doctor(byId("doctor")),
  ];

  show() {
    this.#cards.forEach((card) => card.show());
  }

  hide() {
    this.#cards.forEach((card) => card.hide());
  }

  permit() {}

  /** Forgets what was shown to a caller. */
  forget() {
    this.#samples = [];
    this.#recent = [];
    this.#earlier = [];
    for (const id of ["problems", "upstreams", "drops", "caches"]) {
      byId(id).replaceChildren();
    }
    this.#cards.forEach((card) => card.forget());
  }

  /** Takes new figures. They are kept while another view is shown, too. */
  tell({ status, stats, metrics, at: now }) {
    const present = { at: now, totals: totals(stats), drops: drops(stats), upstreams: new Map() };
    for (const upstream of status.upstreams) {
      present.upstreams.set(upstream.address, upstream.queries);
    }
    if (now - (this.#recent.at(-1)?.at ?? 0) > GAP_MS) {
      this.#recent = [];
    }
    const isRecent = (earlier, nth, all) => nth === all.length - 1 || now - earlier.at <= SPAN_MS;
    this.#recent = this.#recent.filter(isRecent);
    const last = this.#recent[0] ?? null;
    this.#recent.push(present);
    const seconds = last ? (now - last.at) / 1000 : 0;
    const rate = last ? rates(last.totals, present.totals, seconds) : null;
    this.#samples.push({ at: now, rates: rate });
    this.#samples = this.#samples.filter((sample) => now - sample.at <= HISTORY * 1000);

    this.#chart.show(this.#samples, now);
    this.#legend.forEach((value, tier) => setText(value, rate ? short(rate.tiers[tier]) : "–"));
    this.#showProblems(status);
    this.#showFigures(status, rate);
    this.#showDrops(present, last, seconds);
    this.#showUpstreams(status.upstreams, last, seconds);
    this.#showCaches(stats);
    this.#showProcess(status, rate);
    if (metrics) {
      this.#showTimes(buckets(metrics), now);
    }
  }

  #showProblems(status) {
    const obstacle = status.obstacle
      ? [{ kind: "not_ready", severity: "critical", subject: "", text: status.obstacle }]
      : [];
    const build = () => make("article", {}, make("h2"), make("p"), make("p", { class: "hint" }));
    keyed(
      byId("problems"), [...obstacle, ...status.problems],
      (problem) => `${problem.kind} ${problem.subject}`, build,
      (article, { kind, severity, subject, text, since }) => {
        article.className = `notice ${severity}`;
        const [title, told, when] = article.children;
        setText(title, subject ? `${words(kind)}: ${subject}` : words(kind));
        setText(told, text);
        setText(when, since ? `${severity}, since ${moment(since * 1000)}` : severity);
      },
    );
  }

  #showFigures(status, rate) {
    const peak = Math.max(0, ...this.#samples.map((sample) => sample.rates?.answers ?? 0));
    this.#figure("Answers a second", rate ? short(rate.answers) : "–", `peak ${short(peak)} in 5 min`);
    this.#figure("From caches", percent(rate?.cached), `${percent(rate?.worker)} in a worker`);
    this.#figure("Blocked a second", rate ? short(rate.blocked) : "–", "by lists and overrides");
    const dropped = rate?.dropped ?? 0;
    const meaning = dropped > 0 ? "attention" : "";
    this.#figure("No answer, a second", rate ? short(dropped) : "–", "for the reasons below", meaning);
  }

  #showDrops(present, last, seconds) {
    const before = new Map(last?.drops.map((drop) => [drop.reason, drop.count]));
    byId("drops-none").hidden = present.drops.length > 0;
    byId("drops-table").hidden = present.drops.length === 0;
    const build = rowOf([["Reason", ""], ["A second", "number"], ["Since the start", "number"]]);
    keyed(byId("drops"), present.drops, (drop) => drop.reason, build, (row, { reason, count }) => {
      const grown = last ? Math.max(0, count - (before.get(reason) ?? 0)) / seconds : 0;
      setCells(row, [words(reason), short(grown), whole(count)]);
    });
  }

  #showUpstreams(upstreams, last, seconds) {
    const build = rowOf([
      ["Address", "name"], ["State", ""], ["Zones", ""], ["Queries/s", "number"], ["Median", "number"],
      ["99 %", "number"], ["Time-outs", "number"], ["Errors", "number"],
    ]);
    keyed(byId("upstreams"), upstreams, (upstream) => upstream.address, build, (row, upstream) => {
      const { address, put_back, back_off_ms, zones, queries, times, timeouts, errors } = upstream;
      const before = last?.upstreams.get(address);
      const grown = before === undefined ? 0 : Math.max(0, queries - before) / seconds;
      const state = put_back
        ? badge(`back-off ${span(Math.ceil(back_off_ms / 1000))}`, "warning")
        : badge("in use", "good");
      const took = (micros) => (times.count > 0 ? time(micros / 1e6) : "–");
      setCells(row, [
        address, state, zones.length > 0 ? zones.join(", ") : "all", short(grown), took(times.p50_us),
        took(times.p99_us), whole(timeouts), whole(errors),
      ]);
    });
  }

  #showCaches(stats) {
    const workers = stats.workers ?? [];
    const total = (name) => workers.reduce((sum, worker) => sum + at(worker, `cache/${name}`), 0);
    const caches = [
      { name: "Worker caches", used: total("used"), capacity: total("capacity"), entries: total("entries") },
      {
        name: "Host cache", used: at(stats, "host/bytes"), capacity: at(stats, "host/capacity"),
        entries: at(stats, "host/entries"),
      },
    ];
    const build = ({ name }) => make("div", {}, make("p"), meter(name), make("p", { class: "hint" }));
    keyed(byId("caches"), caches, (cache) => cache.name, build, (part, cache) => {
      setText(part.children[0], cache.name);
      setMeter(part.children[1], cache.capacity > 0 ? cache.used / cache.capacity : 0);
      const size = `${bytes(cache.used)} of ${bytes(cache.capacity)}`;
      const answers = cache.entries === 1 ? "1 answer" : `${whole(cache.entries)} answers`;
      setText(part.children[2], `${answers}, ${size}`);
    });
  }

  #showProcess(status, rate) {
    const { process } = status;
    this.#process("Listens on", status.listen.join(", "));
    this.#process("Receives by", status.receiving);
    this.#process("Workers", whole(status.workers));
    this.#process("Runs for", span(status.uptime_secs));
    if (process) {
      this.#process("Memory", bytes(process.resident_bytes));
      this.#process("CPU", rate ? `${(rate.cpu * 100).toFixed(0)} % of one core` : "–");
    }
    this.#process("Version", status.version);
  }

  #showTimes(present, now) {
    this.#earlier = this.#earlier.filter((earlier) => now - earlier.at <= WINDOW_MS);
    // The first sample has all times since the start, which are shown until there are later ones.
    const bars = histogram(this.#earlier[0]?.buckets, present);
    const isFirst = this.#earlier.length === 0;
    this.#earlier.push({ at: now, buckets: present });
    setText(byId("times-title"), `Service times, ${isFirst ? "since the start" : "last minute"}`);
    this.#times.show(bars);
    for (const [name, share] of [["Median", 0.5], ["90 %", 0.9], ["99 %", 0.99], ["99.9 %", 0.999]]) {
      this.#percentile(name, time(percentile(bars, share)));
    }
  }
}
