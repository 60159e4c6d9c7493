// Frame of the page: sign-in, views, keyboard, and the clock that asks for figures.

import { Refused, isToken, setToken, show, text, token } from "./api.mjs";
import { Explain } from "./explain.mjs";
import { Lists } from "./lists.mjs";
import { Log } from "./log.mjs";
import { Overview } from "./overview.mjs";
import { byId, setText } from "./page.mjs";

/** Time between two requests for the status and the counters. */
const PACE_MS = 1000;
/** Requests for the status between two for service times. */
const TIMES_EACH = 5;
/** Longest time until a failed request is made again. */
const PACE_MAX_MS = 15_000;

const NAMES = ["overview", "lists", "explain", "log"];
const VIEWS = { overview: new Overview(), lists: new Lists(), explain: new Explain(), log: new Log() };

/** Caller, as the API names it; null: nobody is signed in. */
let caller = null;
/** View that is shown; null: the sign-in. */
let current = null;
/** Timer of the next round of requests. */
let timer = null;
/** Number that tells a round of requests from those of a caller who has signed out. */
let session = 0;
let rounds = 0;
let failures = 0;

function state(word, meaning) {
  const element = byId("state");
  element.className = `state ${meaning}`;
  setText(element, word);
}

/** Shows the sign-in, with the reason for it. */
function signIn(reason) {
  leave();
  const element = byId("sign-in-reason");
  element.hidden = !reason;
  setText(element, reason ?? "");
  byId("sign-in").hidden = false;
  state("not signed in", "plain");
  document.title = "Sign in – ringdns";
  byId("token").focus();
}

/** Hides all views, and forgets what they show. */
function leave() {
  session += 1;
  clearTimeout(timer);
  timer = null;
  caller = null;
  current = null;
  for (const name of NAMES) {
    VIEWS[name].hide();
    VIEWS[name].forget();
    byId(name).hidden = true;
  }
  byId("views").hidden = true;
  byId("sign-out").hidden = true;
  setText(byId("caller"), "");
}

/** Asks who the token makes its holder, and opens the console. */
async function enter() {
  leave();
  const mine = session;
  state("connecting", "plain");
  try {
    const found = await show("/v1/caller");
    if (mine !== session) {
      return;
    }
    caller = found;
  } catch (error) {
    if (mine === session) {
      refused(error, enter);
    }
    return;
  }
  failures = 0;
  const mayOperate = caller.role === "operate";
  for (const name of NAMES) {
    VIEWS[name].permit(mayOperate);
  }
  setText(byId("caller"), `Signed in as ${caller.who}, role ${caller.role}.`);
  byId("sign-in").hidden = true;
  byId("views").hidden = false;
  byId("sign-out").hidden = false;
  // The field of the token is hidden now, but would have the next keys.
  byId("main").focus();
  open();
  round();
}

/** Handles a request that failed: signs out without a role, or makes it again later. */
function refused(error, again) {
  if (!(error instanceof Refused)) {
    state("this page has a defect", "critical");
    console.error(error);
    return;
  }
  if (error.status === 401) {
    setToken(null);
    signIn(error.message);
    return;
  }
  failures += 1;
  const wait = Math.min(PACE_MAX_MS, Math.max((error.retryAfter ?? 0) * 1000, PACE_MS * 2 ** failures));
  state(`${error.message}; trying again`, error.status === 503 ? "warning" : "critical");
  if (!document.hidden) {
    timer = setTimeout(again, wait);
  }
}

/** Opens the view that the address names. */
function open() {
  const named = location.hash.slice(1);
  const name = NAMES.includes(named) ? named : "overview";
  if (!caller || current === name) {
    return;
  }
  if (current) {
    VIEWS[current].hide();
    byId(current).hidden = true;
  }
  current = name;
  byId(name).hidden = false;
  for (const link of byId("views").children) {
    if (link.hash === `#${name}`) {
      link.setAttribute("aria-current", "page");
      document.title = `${link.textContent} – ringdns`;
    } else {
      link.removeAttribute("aria-current");
    }
  }
  window.scrollTo(0, 0);
  if (!document.hidden) {
    VIEWS[name].show();
  }
}

/** Asks for status and counters, tells the views, and comes again. */
async function round() {
  const mine = session;
  try {
    const withTimes = rounds % TIMES_EACH === 0;
    const [status, stats, metrics] = await Promise.all([
      show("/v1/status"), show("/v1/stats"), withTimes ? text("/metrics") : null,
    ]);
    if (mine !== session) {
      return;
    }
    rounds += 1;
    failures = 0;
    const gravest = status.problems[0]?.severity;
    if (!status.ready) {
      state("not ready", "critical");
    } else if (gravest === "critical" || gravest === "warning") {
      state(gravest === "critical" ? "clients are affected" : "ready, with problems", gravest);
    } else {
      state("ready", "good");
    }
    for (const name of NAMES) {
      VIEWS[name].tell({ status, stats, metrics, at: performance.now() });
    }
  } catch (error) {
    if (mine === session) {
      refused(error, round);
    }
    return;
  }
  if (!document.hidden) {
    timer = setTimeout(round, PACE_MS);
  }
}

byId("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = byId("token");
  const given = field.value.trim();
  field.value = "";
  if (!isToken(given)) {
    signIn("A token has no spaces and no letters beyond ASCII: enter what ringctl token new printed first.");
    return;
  }
  setToken(given);
  enter();
});

byId("sign-out").addEventListener("click", () => {
  setToken(null);
  signIn(null);
});

byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});

const help = byId("help");
byId("help-open").addEventListener("click", () => help.showModal());
byId("help-close").addEventListener("click", () => help.close());

window.addEventListener("hashchange", open);

// Nothing is asked for by a page that nobody sees.
document.addEventListener("visibilitychange", () => {
  if (!caller) {
    if (!document.hidden && token() !== null) {
      enter();
    }
    return;
  }
  clearTimeout(timer);
  timer = null;
  if (document.hidden) {
    session += 1;
    VIEWS[current]?.hide();
  } else {
    VIEWS[current]?.show();
    round();
  }
});

document.addEventListener("keydown", (event) => {
  const isField = event.target.matches?.("input, select, textarea");
  if (event.key === "Escape" && isField) {
    event.target.blur();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isField || help.open) {
    return;
  }
  if (event.key === "?") {
    help.showModal();
  } else if (!caller) {
    return;
  } else if (["1", "2", "3", "4"].includes(event.key)) {
    location.hash = NAMES[Number(event.key) - 1];
  } else if (event.key === "/") {
    const field = byId(current).querySelector("[data-primary]");
    if (field) {
      event.preventDefault();
      field.focus();
      field.select();
    }
  } else if (event.key === "p" && current === "log") {
    VIEWS.log.toggle();
  }
});

if (token() === null) {
  signIn(null);
} else {
  enter();
}
