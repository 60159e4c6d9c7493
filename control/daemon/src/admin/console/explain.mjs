// Explain: the way of a query, from the access list to upstreams.

import { Refused, show } from "./api.mjs";
import { span, time } from "./figures.mjs";
import { badge, byId, make, moment } from "./page.mjs";

/** Returns a step of the way: a title, a badge and lines. */
function step(title, mark, ...lines) {
  const told = lines.filter(Boolean).map((line) => make("p", {}, line));
  return make("li", {}, make("h3", {}, title, " ", mark ?? ""), ...told);
}

function access({ access: verdict, client, banned, policy }) {
  const who = client ? `${client}, group ${policy.group || "default"}` : `any client, group ${policy.group || "default"}`;
  const mark = badge(verdict, verdict === "allowed" ? "good" : "critical");
  return step("Access", mark, who, banned && `The prefix ${banned} is banned: its queries are dropped.`);
}

function policy({ policy: { action, list, answer, rule, dry_run } }) {
  const meanings = { block: "critical", allow: "good" };
  const mark = badge(action.replaceAll("_", " "), meanings[action] ?? "plain");
  return step(
    "Lists and local data", mark,
    list && `List ${list}${answer ? ` answers: ${answer}` : ""}`,
    rule && make("code", {}, `${rule.file}:${rule.line}: ${rule.text}`),
    dry_run.length > 0 && `Would answer without dry_run: ${dry_run.join(", ")}`,
  );
}

function workers({ workers: all }) {
  const fresh = all.filter((worker) => worker.state === "fresh").length;
  const mark = badge(`${fresh} of ${all.length} fresh`, fresh > 0 ? "good" : "plain");
  const line = ({ worker, state, rcode, age_secs, fresh_secs, by_list }) => {
    const parts = [`Worker ${worker}: ${state}`];
    if (state === "fresh" || state === "stale") {
      parts.push(rcode ?? "", `received ${span(age_secs)} ago`);
      parts.push(state === "fresh" ? `expires in ${span(fresh_secs)}` : "expired", by_list ? "of a list" : "");
    }
    return parts.filter(Boolean).join(", ");
  };
  return step("Worker caches", mark, ...all.map(line));
}

/** Returns the flags that the clients of an entry or of a lookup set. */
function flagsOf({ dnssec_ok, checking_disabled }) {
  return [dnssec_ok ? "DO" : "", checking_disabled ? "CD" : ""].filter(Boolean);
}

function host({ host: entries, misses, special }) {
  const mark = badge(entries.length > 0 ? entries[0].state : "absent", entries.length > 0 ? "good" : "plain");
  const line = (entry) => {
    const flags = flagsOf(entry).join(" ");
    const left = entry.fresh_secs > 0 ? `expires in ${span(entry.fresh_secs)}` : "expired";
    const kind = [entry.rcode, flags, entry.state, `received ${span(entry.age_secs)} ago`, left];
    const records = entry.records.map((record) => make("code", {}, record));
    return make("div", {}, kind.filter(Boolean).join(", "), ...records);
  };
  const missed = (miss) => {
    const flags = flagsOf(miss).join(" and ");
    return `Last miss ${moment(miss.at * 1000)}${flags ? ` with ${flags}` : ""}: ${miss.text}`;
  };
  const alone = special && "This host answers the name alone.";
  return step("Host cache", mark, alone, ...entries.map(line), ...misses.map(missed));
}

function upstreams({ upstreams: all, zone, capped }) {
  const line = ({ address, back_off_ms, round_trip_us }) => {
    const state = back_off_ms > 0 ? `in back-off for ${span(Math.ceil(back_off_ms / 1000))}` : "in use";
    return `${address}: ${state}${round_trip_us > 0 ? `, ${time(round_trip_us / 1e6)}` : ""}`;
  };
  return step(
    "Upstreams", badge(zone === "." ? "all zones" : zone, "plain"),
    capped && `Questions of ${capped} are capped because of a flood of random names.`,
    ...(all.length > 0 ? all.map(line) : ["No upstream is configured for this name."]),
  );
}

/** View that explains. */
export class Explain {
  #asked = 0;

  constructor() {
    byId("explain-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask();
    });
  }

  show() {
    if (byId("explained").childElementCount === 0) {
      byId("explain-name").focus();
    }
  }

  hide() {}

  permit() {}

  tell() {}

  forget() {
    this.#asked += 1;
    byId("explained").replaceChildren();
    for (const id of ["explain-name", "explain-type", "explain-client"]) {
      byId(id).value = "";
    }
  }

  async #ask() {
    const [name, type, client] = ["name", "type", "client"].map((part) => byId(`explain-${part}`).value.trim());
    this.#asked += 1;
    const nth = this.#asked;
    const shown = byId("explained");
    shown.setAttribute("aria-busy", "true");
    let told;
    try {
      const explained = await show("/v1/explain", { name, type: type.toUpperCase(), client });
      const way = [access, policy, workers, host, upstreams].map((part) => part(explained));
      told = make(
        "section", { class: "card explained" },
        make("h2", {}, `${explained.policy.name} ${explained.policy.rtype}`),
        make("p", { class: "verdict" }, explained.verdict),
        make("ol", { class: "way" }, ...way),
      );
    } catch (error) {
      if (!(error instanceof Refused)) {
        throw error;
      }
      told = make("p", { class: "notice critical" }, error.message);
    }
    if (nth === this.#asked) {
      shown.removeAttribute("aria-busy");
      shown.replaceChildren(told);
    }
  }
}
