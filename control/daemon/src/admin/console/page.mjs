// Parts of the page. Text comes from clients and servers of others: it is set as text, never parsed.

import { Refused } from "./api.mjs";

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") {
      element.addEventListener(name, value);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, String(value));
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Returns a new element. Functions among the properties listen to events; children may be text. */
export function make(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** Returns a new element of a drawing. */
export function draw(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

/** Returns the element with an id, which the page has. */
export function byId(id) {
  return document.getElementById(id);
}

/** Sets the text of an element if it is another, so that a selection in it stays. */
export function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Returns a badge with a word and its meaning: good, warning, critical, info or plain. */
export function badge(word, meaning) {
  return make("span", { class: `badge ${meaning}` }, word);
}

/**
 * Brings the children of an element in line with items: one child for each, found again by its key, so that
 * focus and selection stay. `build` makes a child, `update` writes an item into it.
 */
export function keyed(parent, items, keyOf, build, update) {
  const old = new Map();
  for (const child of [...parent.children]) {
    old.set(child.dataset.key, child);
  }
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = old.get(key);
    if (child) {
      old.delete(key);
    } else {
      child = build(item);
      child.dataset.key = key;
    }
    update(child, item);
    if (child === next) {
      next = next.nextElementSibling;
    } else {
      parent.insertBefore(child, next);
    }
  }
  // All that is behind is of no item, also where two had one key.
  while (next) {
    const gone = next;
    next = next.nextElementSibling;
    gone.remove();
  }
}

/** Returns a builder of table rows, whose cells have classes and the column's name for narrow windows. */
export function rowOf(columns) {
  return () => {
    const cells = columns.map(([name, kind]) => make("td", { class: kind, "data-column": name }));
    // Tables become blocks in narrow windows, which would take their roles away.
    return make("tr", { role: "row" }, ...cells.map((cell) => fill(cell, { role: "cell" }, [])));
  };
}

/** Writes texts or elements into the cells of a row. */
export function setCells(row, values) {
  values.forEach((value, nth) => {
    const cell = row.children[nth];
    if (typeof value === "string") {
      setText(cell, value);
    } else if (!cell.firstChild?.isEqualNode?.(value) || cell.childNodes.length !== 1) {
      cell.replaceChildren(value);
    }
  });
}

/** Shows a message for some seconds, which screen readers tell. */
export function toast(text, meaning = "good") {
  const message = make("p", { class: `toast ${meaning}` }, text);
  byId("toasts").append(message);
  setTimeout(() => message.remove(), meaning === "good" ? 5000 : 12_000);
}

/**
 * Runs a change that a control asks for: the control is off meanwhile, and the result is told. `done`
 * returns the message of a success.
 */
export async function act(control, work, done) {
  control.disabled = true;
  try {
    toast(done(await work()));
    return true;
  } catch (error) {
    toast(error instanceof Refused ? error.message : `The page has a defect: ${error}`, "critical");
    return false;
  } finally {
    control.disabled = false;
  }
}

/** Hours from 0 to 23, whatever the language is. */
const HOURS = { hourCycle: "h23" };

/** Returns the time of day of a moment. */
export function clock(milliseconds) {
  return new Date(milliseconds).toLocaleTimeString([], HOURS);
}

/** Returns the time of a moment, with the day if it is not today. */
export function moment(milliseconds) {
  const date = new Date(milliseconds);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? clock(milliseconds) : date.toLocaleString([], HOURS);
}
