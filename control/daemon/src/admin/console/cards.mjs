// Cards of the overview that have requests of their own: the busiest names and clients, and what a check of
// the host finds. A card is shown from its first answer on.

import { Refused, show } from "./api.mjs";
import { percent, short } from "./figures.mjs";
import { badge, byId, keyed, make, rowOf, setCells, setText } from "./page.mjs";

/** Card that asks for its figures while its view is shown. */
class Card {
  #card;
  #pace;
  #timer = null;
  #isShown = false;
  /** Number that tells an answer from that to an earlier question. */
  #nth = 0;

  constructor(card, pace) {
    this.#card = card;
    this.#pace = pace;
  }

  show() {
    this.#isShown = true;
    this.ask();
  }

  hide() {
    this.#isShown = false;
    this.#nth += 1;
    clearTimeout(this.#timer);
  }

  forget() {
    this.#card.hidden = true;
    this.clear();
  }

  /** Asks now, and again after a while. */
  async ask() {
    clearTimeout(this.#timer);
    this.#nth += 1;
    const mine = this.#nth;
    try {
      const answer = await show(...this.request());
      if (mine !== this.#nth) {
        return;
      }
      this.fill(answer);
      this.#card.hidden = false;
    } catch (error) {
      if (!(error instanceof Refused)) {
        throw error;
      }
      // The clock of the page is refused, too, and tells of it.
    }
    if (mine === this.#nth && this.#isShown) {
      this.#timer = setTimeout(() => this.ask(), this.#pace);
    }
  }
}

/** Time between two requests for a ranking. */
const RANKING_PACE_MS = 5000;
/** Minutes that a ranking covers, and its rows. */
const RANKING = { minutes: 5, last: 10 };

/** Busiest names, zones or clients of the last minutes. */
export class Ranking extends Card {
  #kind;
  #rows;
  #none;

  /** `kind` is a ranking's name in the API, or a control whose value is one. */
  constructor(card, kind) {
    super(card, RANKING_PACE_MS);
    this.#kind = kind;
    this.#rows = card.querySelector("tbody");
    this.#none = card.querySelector(".empty");
    if (typeof kind !== "string") {
      kind.addEventListener("change", () => this.ask());
    }
  }

  request() {
    const kind = typeof this.#kind === "string" ? this.#kind : this.#kind.value;
    return [`/v1/top/${kind}`, RANKING];
  }

  fill({ rows }) {
    this.#none.hidden = rows.length > 0;
    this.#rows.parentElement.hidden = rows.length === 0;
    const build = rowOf([["", "name"], ["Queries", "number"], ["Share", "number"]]);
    keyed(this.#rows, rows, (row) => row.key, build, (part, { key, queries, share }) => {
      setCells(part, [key, short(queries), percent(share)]);
    });
  }

  clear() {
    this.#rows.replaceChildren();
  }
}

/** Time between two checks of the host: each reads much. */
const DOCTOR_PACE_MS = 60_000;
/** Verdicts of a check, the worst first, with their meanings. */
const VERDICTS = [["fault", "critical"], ["warning", "warning"], ["advice", "info"], ["unknown", "plain"]];

/** Findings of the check of the host. */
export class Doctor extends Card {
  #findings = byId("findings");
  #summary = byId("doctor-summary");

  constructor(card) {
    super(card, DOCTOR_PACE_MS);
    byId("doctor-again").addEventListener("click", () => this.ask());
  }

  request() {
    return ["/v1/doctor"];
  }

  fill(all) {
    const rank = ({ verdict }) => VERDICTS.findIndex(([name]) => name === verdict);
    const shown = all.filter((finding) => rank(finding) >= 0).sort((a, b) => rank(a) - rank(b));
    const good = all.length - shown.length;
    setText(this.#summary, `${good} of ${all.length} checks find nothing to mend.`);
    const title = () => make("h3", {}, make("span"), " ", make("span"));
    const build = () => make("li", {}, title(), make("p"), make("pre", {}, make("code")));
    // A check may find several things.
    const key = ({ check, evidence }) => `${check} ${evidence}`;
    keyed(this.#findings, shown, key, build, (part, finding) => {
      const [name, verdict] = part.firstElementChild.children;
      const [, meaning] = VERDICTS[rank(finding)];
      setText(name, finding.check.replaceAll("_", " "));
      if (verdict.textContent !== finding.verdict) {
        verdict.replaceChildren(badge(finding.verdict, meaning));
      }
      setText(part.children[1], finding.evidence);
      part.children[2].hidden = !finding.remedy;
      setText(part.children[2].firstElementChild, finding.remedy ?? "");
    });
  }

  clear() {
    this.#findings.replaceChildren();
    setText(this.#summary, "");
  }
}
