// Figures that the views show, worked out from the answers of the API. No document is touched here, so
// that tests run this file alone.

/** Returns the value at a path such as "total/dropped", or 0. */
export function at(value, path) {
  for (const part of path.split("/")) {
    value = value?.[part];
  }
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

/** Returns the increase of a counter; a restart of ringdnsd sets counters to 0. */
export function increase(before, now) {
  return now >= before ? now - before : now;
}

/** Answers that the worker caches give, as counters of `total`. */
const WORKER = ["hit", "stale", "cached_failure"];
/** Answers that say no more than that a query is not served. */
const REFUSED = ["formerr", "notimp", "refused", "denied", "badvers", "identity", "cookie", "slipped"];
/** Queries that the control plane leaves without an answer. */
const UNANSWERED = [
  "punt_no_frame", "punt_port_gone", "punt_late", "punt_paced", "punt_blocked", "punt_capped",
];
/** Queries over TCP without an answer. */
const UNANSWERED_TCP = ["dropped", "withheld", "abandoned"];

const sum = (values) => values.reduce((total, value) => total + value, 0);
const counters = (stats, table, names) => sum(names.map((name) => at(stats, `${table}/${name}`)));

/** Returns the totals of an answer of /v1/stats that the overview shows rates of. */
export function totals(stats) {
  const blocked = {};
  for (const [name, list] of Object.entries(stats.lists ?? {})) {
    blocked[name] = sum(Object.values(list.blocked ?? {}));
  }
  return {
    worker: counters(stats, "total", WORKER),
    host: counters(stats, "host/counters", ["fresh", "stale"]),
    control: at(stats, "total/punt_answered") + at(stats, "listeners/answered"),
    refused: counters(stats, "total", REFUSED) + at(stats, "listeners/rejected"),
    dropped: sum(drops(stats).map((drop) => drop.count)),
    blocked: sum(Object.values(blocked)),
    lists: blocked,
    cpu: at(stats, "process/cpu_secs"),
  };
}

/** Returns the reasons for which queries got no answer, with their counts, the greatest first. */
export function drops(stats) {
  const found = [];
  for (const [reason, count] of Object.entries(stats.total?.dropped ?? {})) {
    found.push({ reason, count });
  }
  for (const reason of UNANSWERED) {
    found.push({ reason, count: at(stats, `total/${reason}`) });
  }
  for (const reason of UNANSWERED_TCP) {
    found.push({ reason: `tcp_${reason}`, count: at(stats, `listeners/${reason}`) });
  }
  return found.filter((drop) => drop.count > 0).sort((a, b) => b.count - a.count);
}

/**
 * Returns the rates between two totals that are `seconds` apart. What the control plane answers is told
 * by its tier: lookups of the host cache are also made for renewals, so that they are at most all.
 */
export function rates(before, now, seconds) {
  const rate = (name) => increase(before[name], now[name]) / seconds;
  const control = rate("control");
  const host = Math.min(rate("host"), control);
  const tiers = [rate("worker"), host, control - host, rate("refused")];
  const answers = sum(tiers);
  return {
    tiers,
    answers,
    dropped: rate("dropped"),
    blocked: rate("blocked"),
    cpu: rate("cpu"),
    cached: answers > 0 ? (tiers[0] + tiers[1]) / answers : null,
    worker: answers > 0 ? tiers[0] / answers : null,
  };
}

const BUCKET =
  /^ringdns_answer_duration_seconds_bucket\{outcome="([a-z]+)",le="([^"]+)"\} ([0-9.e+]+)$/;

/** Returns the cumulative buckets of service times by outcome, from the text of /metrics. */
export function buckets(text) {
  const found = {};
  for (const line of text.split("\n")) {
    const parts = BUCKET.exec(line);
    if (parts) {
      const upTo = parts[2] === "+Inf" ? Infinity : Number(parts[2]);
      (found[parts[1]] ??= []).push({ upTo, count: Number(parts[3]) });
    }
  }
  return found;
}

/** Returns the answers in each bucket, of all outcomes, that came after `before`. */
export function histogram(before, now) {
  const bars = [];
  for (const [outcome, cumulative] of Object.entries(now)) {
    let below = 0;
    cumulative.forEach((bucket, nth) => {
      const earlier = before?.[outcome]?.[nth]?.count ?? 0;
      const count = Math.max(0, bucket.count - earlier);
      bars[nth] ??= { from: nth ? cumulative[nth - 1].upTo : 0, upTo: bucket.upTo, by: {}, count: 0 };
      bars[nth].by[outcome] = Math.max(0, count - below);
      bars[nth].count += bars[nth].by[outcome];
      below = Math.max(below, count);
    });
  }
  return bars;
}

/** Returns a percentile of a histogram in seconds, between the bounds of its bucket; null: it is empty. */
export function percentile(bars, share) {
  const total = sum(bars.map((bar) => bar.count));
  if (total === 0) {
    return null;
  }
  let left = total * share;
  for (const bar of bars) {
    if (bar.count > 0 && left <= bar.count) {
      return bar.upTo === Infinity ? bar.from : bar.from + (bar.upTo - bar.from) * (left / bar.count);
    }
    left -= bar.count;
  }
  return bars.at(-1).from;
}

/** Returns a number in at most four characters and a unit: 999, 1.2 k, 35 M. */
export function short(value) {
  const units = ["", " k", " M", " G", " T"];
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = value < 9.95 && (unit > 0 || value % 1 !== 0) ? 1 : 0;
  return value.toFixed(digits) + units[unit];
}

/** Returns a whole number with its thousands apart. */
export function whole(value) {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** Returns a time given in seconds, in its unit: 850 ns, 12 µs, 3.4 ms, 1.2 s. */
export function time(seconds) {
  if (seconds === null || seconds === undefined) {
    return "–";
  }
  for (const [unit, size] of [["s", 1], ["ms", 1e-3], ["µs", 1e-6]]) {
    if (seconds >= size * 0.9995) {
      return `${short(seconds / size)} ${unit}`;
    }
  }
  return `${Math.round(seconds * 1e9)} ns`;
}

/** Returns a span of whole seconds in its two greatest units: 3 d 4 h, 12 min, 5 s. */
export function span(seconds) {
  const units = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) {
    return "0 s";
  }
  const [unit, size] = units[first];
  const told = `${Math.floor(seconds / size)} ${unit}`;
  const next = units[first + 1];
  const rest = next ? Math.floor((seconds % size) / next[1]) : 0;
  return rest > 0 ? `${told} ${rest} ${next[0]}` : told;
}

/** Returns a number of bytes in its unit. */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1023.5 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(value < 9.95 && unit > 0 ? 1 : 0)} ${units[unit]}`;
}

/** Returns a share between 0 and 1 in per cent; null: there is none. */
export function percent(share) {
  if (share === null || share === undefined) {
    return "–";
  }
  // Nearly all is not all.
  const value = share < 1 ? Math.min(share * 100, 99.9) : 100;
  return `${value.toFixed(value === 100 || value < 0.05 ? 0 : 1)} %`;
}

/** Returns a round number that is at least `value`, for the top of an axis. */
export function ceiling(value) {
  if (!(value > 0)) {
    return 1;
  }
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999);
}

/** Splits a stream of text into lines of JSON. Lines that are no JSON are counted and left out. */
export class LineReader {
  #rest = "";
  /** Lines that could not be read. */
  unread = 0;

  /** Returns the rows that end in this piece of the stream. */
  read(piece) {
    const lines = (this.#rest + piece).split("\n");
    this.#rest = lines.pop();
    const rows = [];
    for (const line of lines.filter((line) => line !== "")) {
      try {
        rows.push(JSON.parse(line));
      } catch {
        this.unread += 1;
      }
    }
    return rows;
  }
}

/** Returns whether a row of the query log has all words of a filter; `outcome` may be empty. */
export function matches(row, words, outcome) {
  if (outcome !== "" && row.outcome !== outcome) {
    return false;
  }
  const fields = [row.name, row.client, row.client_name, row.client_group, row.type, row.rcode, row.list];
  const text = fields.filter((field) => typeof field === "string").join(" ").toLowerCase();
  return words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}
