// Lists: pauses, names that are blocked or allowed by hand, and the lists in effect.

import { change, show } from "./api.mjs";
import { short, whole, totals } from "./figures.mjs";
import { act, badge, byId, keyed, make, moment, rowOf, setCells, setText } from "./page.mjs";

/** Time between two requests for the lists. */
const PACE_MS = 5000;
/** Spans for which a change may be in effect, with their seconds. */
const SPANS = [
  ["5 minutes", 300], ["30 minutes", 1800], ["1 hour", 3600], ["1 day", 86_400], ["1 week", 604_800],
  ["until it is undone", ""],
];

function spans(select, preset) {
  const option = ([name, seconds]) => make("option", { value: seconds, selected: seconds === preset }, name);
  select.append(...SPANS.map(option));
}

/** Whether a text is an address, as opposed to the name of a group. */
function isAddress(text) {
  return /^\d+\.\d+\.\d+\.\d+$/.test(text) || /^[0-9a-f]*:[0-9a-f:.]*$/i.test(text);
}

/** Returns the words for the clients of a pause. */
function whom({ group, client }) {
  if (client) {
    return `the client ${client}`;
  }
  return group ? `the group ${group}` : "all clients";
}

function until(time) {
  return time ? moment(Date.parse(time)) : "it is undone";
}

/** View of the lists. */
export class Lists {
  #timer = null;
  #isShown = false;
  #mayOperate = false;
  #blocked = {};

  constructor() {
    spans(byId("name-time"), 3600);
    spans(byId("pause-time"), 300);
    byId("name-form").addEventListener("submit", (event) => this.#setName(event));
    byId("pause-form").addEventListener("submit", (event) => this.#pause(event));
    byId("refresh-all").addEventListener("click", (event) => this.#refresh(event.currentTarget, ""));
    byId("reload").addEventListener("click", (event) => this.#reload(event.currentTarget));
  }

  show() {
    this.#isShown = true;
    this.#ask();
  }

  hide() {
    this.#isShown = false;
    clearTimeout(this.#timer);
  }

  /** Turns controls on or off, as the role says. */
  permit(mayOperate) {
    this.#mayOperate = mayOperate;
    byId("read-only").hidden = mayOperate;
    for (const fields of document.querySelectorAll("#lists fieldset")) {
      fields.disabled = !mayOperate;
    }
    for (const button of document.querySelectorAll("#lists header .operate")) {
      button.disabled = !mayOperate;
    }
  }

  forget() {
    for (const id of ["pauses", "overrides", "sources", "groups"]) {
      byId(id).replaceChildren();
    }
    this.#blocked = {};
  }

  /** Takes the counters of lists and the names of groups. */
  tell({ stats }) {
    this.#blocked = totals(stats).lists;
    const groups = new Set();
    for (const list of Object.values(stats.lists ?? {})) {
      Object.keys(list.blocked ?? {}).forEach((group) => groups.add(group));
    }
    const option = (group) => make("option", { value: group });
    keyed(byId("groups"), [...groups].sort(), (group) => group, option, () => {});
  }

  /** Asks for lists and overrides, now and again while the view is shown. */
  async #ask() {
    clearTimeout(this.#timer);
    try {
      const [lists, overrides] = await Promise.all([
        show("/v1/policy/lists"), show("/v1/policy/overrides"),
      ]);
      if (this.#isShown) {
        this.#showPauses(overrides.pause ?? []);
        this.#showOverrides(overrides.override ?? []);
        this.#showLists(lists);
      }
    } catch {
      // The clock of the page meets the same refusal, and tells of it.
    }
    if (this.#isShown) {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#ask(), PACE_MS);
    }
  }

  #showPauses(pauses) {
    const build = (pause) => {
      const undo = make("button", { class: "small operate", type: "button" }, "Resume");
      undo.addEventListener("click", () => this.#resume(undo, pause));
      return make("div", { class: "notice warning row" }, make("p", { class: "grow" }), undo);
    };
    keyed(byId("pauses"), pauses, (pause) => `${pause.group ?? ""} ${pause.client ?? ""}`, build, (part, pause) => {
      setText(part.firstElementChild, `No list decides for ${whom(pause)} until ${until(pause.until)}.`);
      part.lastElementChild.disabled = !this.#mayOperate;
    });
  }

  #showOverrides(overrides) {
    byId("overrides-none").hidden = overrides.length > 0;
    byId("overrides-table").hidden = overrides.length === 0;
    const cells = rowOf([["Name", "name"], ["Effect", ""], ["Group", ""], ["Until", ""]]);
    const build = (override) => {
      const undo = make("button", { class: "small", type: "button" }, "Undo");
      undo.addEventListener("click", () => this.#clear(undo, override));
      const row = cells();
      row.append(make("td", { class: "buttons", role: "cell" }, undo));
      return row;
    };
    keyed(
      byId("overrides"), overrides, ({ name, group }) => `${name} ${group ?? ""}`, build,
      (row, { name, action, group, until: end }) => {
        const effect = action === "block" ? badge("blocked", "critical") : badge("allowed", "good");
        setCells(row, [name, effect, group ?? "all clients", until(end)]);
        row.lastElementChild.firstElementChild.disabled = !this.#mayOperate;
      },
    );
  }

  #showLists(lists) {
    byId("sources-none").hidden = lists.length > 0;
    byId("sources-table").hidden = lists.length === 0;
    const meanings = { fresh: "good", stale: "info", degraded: "warning" };
    const cells = rowOf([
      ["List", "name"], ["State", ""], ["Rules", "number"], ["Blocked", "number"], ["Source", "source"],
      ["Renewed", ""],
    ]);
    const build = ({ name, source }) => {
      const row = cells();
      const renew = make("button", { class: "small", type: "button", "aria-label": `Renew ${name}` }, "Renew");
      renew.addEventListener("click", () => this.#refresh(renew, name));
      // A list that has names in the configuration alone is renewed by a reload.
      const control = source === "configuration" ? "" : renew;
      row.append(make("td", { class: "buttons", role: "cell" }, control));
      return row;
    };
    keyed(byId("sources"), lists, (list) => list.name, build, (row, list) => {
      const { name, state, rules, source, last_success, last_error } = list;
      const renewed = last_success ? moment(last_success * 1000) : "never";
      setCells(row, [
        name, badge(state, meanings[state] ?? "plain"), whole(rules), short(this.#blocked[name] ?? 0),
        last_error ? `${source}: ${last_error}` : source, renewed,
      ]);
      const button = row.lastElementChild.firstElementChild;
      if (button && button.dataset.busy === undefined) {
        button.disabled = !this.#mayOperate;
      }
    });
  }

  async #setName(event) {
    event.preventDefault();
    const action = event.submitter?.value === "allow" ? "allow" : "block";
    const [name, group, seconds] = ["name-name", "name-group", "name-time"].map((id) => byId(id).value.trim());
    const said = (set) =>
      `${set.name} and names below it are ${action === "block" ? "blocked" : "allowed"} until ${until(set.until)}.`;
    const work = () => change("/v1/policy/override", { name, action, group, seconds });
    if (await act(event.submitter ?? event.target, work, said)) {
      byId("name-name").value = "";
    }
    this.#ask();
  }

  async #pause(event) {
    event.preventDefault();
    const [named, seconds] = ["pause-whom", "pause-time"].map((id) => byId(id).value.trim());
    const parameters = { [isAddress(named) ? "client" : "group"]: named, seconds };
    const said = (pause) => `No list decides for ${whom(pause)} until ${until(pause.until)}.`;
    await act(event.submitter ?? event.target, () => change("/v1/policy/pause", parameters), said);
    this.#ask();
  }

  async #resume(button, pause) {
    const parameters = { group: pause.group ?? "", client: pause.client ?? "" };
    const said = () => `Lists decide again for ${whom(pause)}.`;
    await act(button, () => change("/v1/policy/resume", parameters), said);
    this.#ask();
  }

  async #clear(button, { name, group }) {
    const work = () => change("/v1/policy/clear", { name, group: group ?? "" });
    await act(button, work, () => `Lists decide about ${name} again.`);
    this.#ask();
  }

  async #refresh(button, name) {
    button.dataset.busy = "";
    await act(button, () => change("/v1/policy/refresh", { name }), (results) => {
      const failed = results.filter((list) => list.error);
      if (failed.length > 0) {
        return `Not renewed: ${failed.map((list) => `${list.name} (${list.error})`).join("; ")}`;
      }
      const changed = results.filter((list) => list.changes).length;
      return changed > 0 ? `${changed} of ${results.length} lists have changed.` : "No list has changed.";
    });
    delete button.dataset.busy;
    this.#ask();
  }

  async #reload(button) {
    await act(button, () => change("/v1/reload"), ({ applied, needs_restart }) => {
      const told = applied.length > 0 ? `In effect now: ${applied.join(", ")}.` : "Nothing has changed.";
      return needs_restart.length > 0 ? `${told} At a restart: ${needs_restart.join(", ")}.` : told;
    });
    this.#ask();
  }
}
