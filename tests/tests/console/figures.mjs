// Tests of the figures that the console works out from answers of the API. `main.rs` runs them.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as figures from "../../../control/daemon/src/admin/console/figures.mjs";

const STATS = {
  total: {
    hit: 100, stale: 5, cached_failure: 1, refused: 2, denied: 3, punt_answered: 20, punt_late: 4,
    dropped: { limited: 7, not_ip: 0 },
  },
  host: { counters: { fresh: 12, stale: 1 } },
  listeners: { answered: 10, rejected: 1, dropped: 2 },
  lists: { ads: { blocked: { default: 3, kids: 4 } }, empty: { blocked: {} } },
  process: { cpu_secs: 1.5 },
};

test("totals are sums of the counters of a kind", () => {
  const { lists, ...told } = figures.totals(STATS);
  const expected = {
    worker: 106, host: 13, control: 30, refused: 6, dropped: 13, blocked: 7, cpu: 1.5,
  };
  assert.deepEqual(told, expected);
  assert.deepEqual(lists, { ads: 7, empty: 0 });
  assert.deepEqual(figures.totals({}).dropped, 0);
});

test("drops come with their reasons, the greatest first", () => {
  const told = figures.drops(STATS).map(({ reason, count }) => `${reason} ${count}`);
  assert.deepEqual(told, ["limited 7", "punt_late 4", "tcp_dropped 2"]);
});

test("rates divide an increase among tiers, and survive a restart", () => {
  const before = figures.totals(STATS);
  const later = structuredClone(STATS);
  later.total.hit += 60;
  later.total.punt_answered += 30;
  later.host.counters.fresh += 10;
  later.total.denied += 10;
  const told = figures.rates(before, figures.totals(later), 2);
  assert.deepEqual(told.tiers, [30, 5, 10, 5]);
  assert.equal(told.answers, 50);
  assert.equal(told.cached, 0.7);
  // Lookups for renewals are no answers.
  later.host.counters.fresh += 1000;
  assert.deepEqual(figures.rates(before, figures.totals(later), 2).tiers, [30, 15, 0, 5]);
  const restarted = figures.rates(before, figures.totals({ total: { hit: 8 } }), 2);
  assert.deepEqual(restarted.tiers, [4, 0, 0, 0]);
  assert.equal(figures.rates(before, before, 1).cached, null);
});

const METRICS = `# TYPE ringdns_answer_duration_seconds histogram
ringdns_answer_duration_seconds_bucket{outcome="hit",le="0.000005"} 10
ringdns_answer_duration_seconds_bucket{outcome="hit",le="0.001"} 30
ringdns_answer_duration_seconds_bucket{outcome="hit",le="+Inf"} 31
ringdns_answer_duration_seconds_count{outcome="hit"} 31
ringdns_answer_duration_seconds_bucket{outcome="miss",le="0.000005"} 0
ringdns_answer_duration_seconds_bucket{outcome="miss",le="0.001"} 0
ringdns_answer_duration_seconds_bucket{outcome="miss",le="+Inf"} 9
`;

test("a histogram has the answers between two readings", () => {
  const now = figures.buckets(METRICS);
  assert.deepEqual(Object.keys(now), ["hit", "miss"]);
  const all = figures.histogram(undefined, now);
  assert.deepEqual(all.map(({ count }) => count), [10, 20, 10]);
  assert.deepEqual(all[2].by, { hit: 1, miss: 9 });
  assert.deepEqual(all.map(({ from, upTo }) => [from, upTo]), [[0, 5e-6], [5e-6, 1e-3], [1e-3, Infinity]]);
  const before = figures.buckets(METRICS.replaceAll(/"hit",le="([^"]+)"} (\d+)/g, '"hit",le="$1"} 10'));
  assert.deepEqual(figures.histogram(before, now).map(({ count }) => count), [0, 20, 1]);
  assert.deepEqual(figures.histogram(now, now).map(({ count }) => count), [0, 0, 0]);
});

test("percentiles lie within their buckets", () => {
  const bars = figures.histogram(undefined, figures.buckets(METRICS));
  assert.equal(figures.percentile(bars, 0.125), 2.5e-6);
  assert.ok(Math.abs(figures.percentile(bars, 0.5) - 0.0005025) < 1e-9);
  assert.equal(figures.percentile(bars, 0.99), 1e-3, "nothing is known beyond the last bound");
  assert.equal(figures.percentile([], 0.5), null);
});

test("figures are short, and none is rounded to a lie", () => {
  const told = (form, values) => values.map((value) => figures[form](value));
  assert.deepEqual(
    told("short", [0, 0.4, 9.94, 12.3, 999.4, 999.6, 1234, 123_456, 35_000_000]),
    ["0", "0.4", "9.9", "12", "999", "1.0 k", "1.2 k", "123 k", "35 M"],
  );
  assert.deepEqual(
    told("time", [null, 0, 8.5e-7, 1.25e-5, 0.0034, 0.9999, 12]),
    ["–", "0 ns", "850 ns", "13 µs", "3.4 ms", "1.0 s", "12 s"],
  );
  assert.deepEqual(
    told("span", [0, 59, 61, 3600, 90_061]), ["0 s", "59 s", "1 min 1 s", "1 h", "1 d 1 h"],
  );
  assert.deepEqual(told("bytes", [0, 1023, 1024, 5 << 20]), ["0 B", "1023 B", "1.0 KiB", "5.0 MiB"]);
  assert.deepEqual(
    told("percent", [null, 0, 0.5, 0.99999, 1]), ["–", "0 %", "50.0 %", "99.9 %", "100 %"],
  );
  assert.deepEqual(told("whole", [0, 999, 1000, 1_234_567]), ["0", "999", "1\u202f000", "1\u202f234\u202f567"]);
  assert.deepEqual(told("ceiling", [0, 1, 1.1, 3, 26, 99, 100]), [1, 1, 2, 5, 50, 100, 100]);
});

test("lines of a stream are read however they are cut, and wrong ones are counted", () => {
  const reader = new figures.LineReader();
  const rows = ['{"name":"a', '."}\n{"na', 'me":"b."}\n\nno json\n', '{"name":"c."}'].flatMap((piece) => reader.read(piece));
  assert.deepEqual(rows, [{ name: "a." }, { name: "b." }]);
  assert.equal(reader.unread, 1);
  assert.deepEqual(reader.read("\n"), [{ name: "c." }]);
});

test("a filter finds words in any field", () => {
  const row = { name: "www.ads.example.", client: "192.0.2.7", type: "AAAA", rcode: "NXDOMAIN", outcome: "blocked", list: null };
  for (const [words, outcome, expected] of [
    ["", "", true], ["ADS", "", true], ["192.0.2 aaaa", "", true], ["ads nothing", "", false],
    ["", "blocked", true], ["ads", "hit", false], ["null", "", false], [" ads ", "", true],
  ]) {
    assert.equal(figures.matches(row, words, outcome), expected, `${words} ${outcome}`);
  }
});
