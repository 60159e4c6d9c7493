// Log: rows of the query log as they come, and a search in those that are stored.

import { Refused, change, show, stream } from "./api.mjs";
import { LineReader, matches, short, time, whole } from "./figures.mjs";
import { act, badge, byId, clock, make, moment, setText } from "./page.mjs";

/** Rows that are kept, so that a filter finds earlier ones. */
const KEPT = 2000;
/** Rows that are shown at most. */
const SHOWN = 200;
/** Time between two drawings. */
const PACE_MS = 400;
/** Time until a stream that has ended is opened again. */
const AGAIN_MS = 3000;
/** Seconds for which a name is blocked or allowed from here. */
const OVERRIDE_SECS = 3600;

const MEANINGS = { blocked: "critical", failure: "warning", rejected: "warning", hit: "good" };
const COLUMNS = [
  ["Time", "time"], ["Client", "client"], ["Name", "name"], ["Type", ""], ["Outcome", ""], ["From", ""],
  ["Code", ""], ["Took", "number"],
];

/** Spans of a search, with their seconds. */
const SPANS = [["10 minutes", 600], ["1 hour", 3600], ["1 day", 86_400], ["the whole log", ""]];

/** View of the log. */
export class Log {
  #rows = [];
  #elements = new WeakMap();
  #open = null;
  #isPaused = false;
  /** Whether the rows are those of a search. */
  #isSearch = false;
  #mayOperate = false;
  #isShown = false;
  #received = 0;
  #lines = new LineReader();
  /** Number that tells the search whose rows are wanted from earlier ones. */
  #nth = 0;
  #timer = null;
  #again = null;
  #since = 0;

  constructor() {
    const option = ([name, seconds]) => make("option", { value: seconds, selected: seconds === 3600 }, name);
    byId("search-since").append(...SPANS.map(option));
    byId("search-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#search(event.submitter ?? event.target);
    });
    byId("log-pause").addEventListener("click", () => this.toggle());
    byId("log-clear").addEventListener("click", () => {
      this.#rows = [];
      this.#draw();
    });
    for (const [id, event] of [["log-words", "input"], ["log-outcome", "change"]]) {
      byId(id).addEventListener(event, () => this.#draw());
    }
  }

  show() {
    this.#isShown = true;
    if (!this.#isPaused) {
      this.#listen();
    }
  }

  hide() {
    this.#isShown = false;
    this.#stop();
  }

  permit(mayOperate) {
    this.#mayOperate = mayOperate;
  }

  tell() {}

  forget() {
    if (this.#isPaused) {
      this.toggle();
    }
    // A search under way is of the caller who leaves.
    this.#nth += 1;
    setText(byId("log-state"), "");
    this.#rows = [];
    this.#elements = new WeakMap();
    for (const id of ["log-words", "log-outcome", "search-suffix", "search-client"]) {
      byId(id).value = "";
    }
    byId("rows").replaceChildren();
  }

  /** Pauses the log, or goes on with it. */
  toggle() {
    this.#isPaused = !this.#isPaused;
    this.#nth += 1;
    const button = byId("log-pause");
    button.setAttribute("aria-pressed", String(this.#isPaused));
    setText(button, this.#isPaused ? "Go on" : "Pause");
    if (this.#isPaused) {
      this.#stop();
      this.#say("Paused: rows that come meanwhile are not kept.");
    } else {
      if (this.#isSearch) {
        this.#isSearch = false;
        this.#rows = [];
        this.#draw();
      }
      if (this.#isShown) {
        this.#listen();
      }
    }
  }

  /** Shows stored rows in place of those that come. */
  async #search(control) {
    const [suffix, client, since] = ["suffix", "client", "since"].map((part) => byId(`search-${part}`).value.trim());
    if (!this.#isPaused) {
      this.toggle();
    }
    this.#nth += 1;
    const mine = this.#nth;
    this.#say("Searching.");
    control.disabled = true;
    try {
      const found = await show("/v1/log/rows", { suffix, client, since, last: SHOWN });
      if (mine !== this.#nth) {
        return;
      }
      this.#isSearch = true;
      this.#rows = found.rows.reverse();
      byId("log-words").value = "";
      byId("log-outcome").value = "";
      this.#draw();
      const parts = [found.rows.length === 1 ? "1 stored row" : `${whole(found.rows.length)} stored rows`];
      parts.push(found.is_cut ? "older ones are left out" : "", found.damaged > 0 ? "some are damaged" : "");
      this.#say(`${parts.filter(Boolean).join("; ")}. "Go on" shows new rows.`);
    } catch (error) {
      if (!(error instanceof Refused)) {
        throw error;
      }
      if (mine === this.#nth) {
        this.#say(error.message);
      }
    } finally {
      control.disabled = false;
    }
  }

  #stop() {
    clearInterval(this.#timer);
    clearTimeout(this.#again);
    this.#open?.abort();
    this.#open = null;
  }

  /** Tells the state of the log. Screen readers do not tell the rate, which changes all the time. */
  #say(text, isRate = false) {
    const state = byId("log-state");
    state.setAttribute("aria-live", isRate ? "off" : "polite");
    setText(state, text);
  }

  /** Reads the stream until the view is left. A browser that is slow misses rows; nothing waits for it. */
  async #listen() {
    this.#stop();
    const open = new AbortController();
    const lines = new LineReader();
    this.#open = open;
    this.#received = 0;
    this.#lines = lines;
    this.#since = performance.now();
    this.#say("Waiting for queries.");
    this.#timer = setInterval(() => this.#draw(), PACE_MS);
    let reason = "the stream has ended";
    let wait = AGAIN_MS;
    try {
      const body = await stream("/v1/log/tap", open.signal);
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || this.#open !== open) {
          break;
        }
        const rows = lines.read(value);
        this.#received += rows.length;
        this.#rows.push(...rows.slice(-KEPT));
        this.#rows.splice(0, this.#rows.length - KEPT);
      }
    } catch (error) {
      if (error instanceof Refused) {
        reason = error.message;
        // The log is disabled, or the token is no longer good: asking again changes nothing.
        wait = [401, 403, 409].includes(error.status) ? null : (error.retryAfter ?? 3) * 1000;
      }
    }
    if (this.#open !== open) {
      return;
    }
    clearInterval(this.#timer);
    this.#draw();
    this.#say(wait === null ? reason : `${reason}; opening it again`);
    if (wait !== null) {
      this.#again = setTimeout(() => this.#listen(), wait);
    }
  }

  #draw() {
    const words = byId("log-words").value;
    const outcome = byId("log-outcome").value;
    const found = [];
    let count = 0;
    for (let nth = this.#rows.length - 1; nth >= 0; nth -= 1) {
      if (matches(this.#rows[nth], words, outcome)) {
        count += 1;
        if (found.length < SHOWN) {
          found.push(this.#rows[nth]);
        }
      }
    }
    const table = byId("rows");
    // A row that somebody is about to use does not move away under the pointer or the focus.
    const isHeld = table.matches(":hover") || table.contains(document.activeElement);
    if (!isHeld) {
      table.replaceChildren(...found.map((row) => this.#element(row)));
    }
    const { unread } = this.#lines;
    if (this.#open && this.#received + unread > 0) {
      const seconds = Math.max(1, (performance.now() - this.#since) / 1000);
      const rate = `${short(this.#received / seconds)} rows a second`;
      const shown = `the last ${whole(found.length)} of ${whole(count)} that match are shown`;
      const parts = [rate, isHeld ? "rows stand still while one is pointed at" : shown];
      parts.push(unread > 0 ? `${whole(unread)} of the lines cannot be read` : "");
      this.#say(`${parts.filter(Boolean).join("; ")}.`, true);
    }
  }

  #element(row) {
    const known = this.#elements.get(row);
    if (known) {
      return known;
    }
    const client = row.client_name ? `${row.client_name} (${row.client})` : row.client;
    // Stored rows have an empty text where there is nothing, and days before today.
    const from = row.list || row.upstream || row.tier;
    const timeOf = this.#isSearch ? moment : clock;
    const texts = [
      timeOf(row.time_ms), client, row.name, row.type, badge(row.outcome, MEANINGS[row.outcome] ?? "plain"), from,
      row.rcode, time(row.service_ns / 1e9),
    ];
    const cells = COLUMNS.map(([column, kind], nth) =>
      make("td", { class: kind, role: "cell", "data-column": column }, texts[nth] ?? ""));
    const element = make("tr", { role: "row" }, ...cells, this.#controls(row));
    this.#elements.set(row, element);
    return element;
  }

  #controls(row) {
    const isBlocked = row.outcome === "blocked";
    const [word, action] = isBlocked ? ["Allow", "allow"] : ["Block", "block"];
    const set = make("button", { class: "small", type: "button", "aria-label": `${word} ${row.name}` }, word);
    set.disabled = !this.#mayOperate;
    set.addEventListener("click", () => {
      const work = () => change("/v1/policy/override", { name: row.name, action, seconds: OVERRIDE_SECS });
      act(set, work, (made) => `${made.name} and names below it: ${action} for an hour.`);
    });
    const explain = make(
      "button", { class: "small quiet", type: "button", "aria-label": `Explain ${row.name}` }, "Explain",
    );
    explain.addEventListener("click", () => {
      byId("explain-name").value = row.name;
      byId("explain-type").value = row.type;
      byId("explain-client").value = "";
      location.hash = "explain";
      byId("explain-form").requestSubmit();
    });
    return make("td", { class: "buttons", role: "cell" }, explain, set);
  }
}
