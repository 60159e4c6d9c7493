// Requests of the API, with the token that the user gave.

const KEY = "ringdns-token";
/** Time after which a request that shows something is given up. */
const PATIENCE_MS = 10_000;

/** Refusal or failure of a request: its status code, 0 without an answer, and the reason. */
export class Refused extends Error {
  constructor(status, reason, retryAfter) {
    super(reason);
    this.status = status;
    /** Seconds after which to try again, if the answer says so. */
    this.retryAfter = retryAfter;
  }
}

/** Returns the token of this tab, or null. It is forgotten when the tab is closed. */
export function token() {
  return sessionStorage.getItem(KEY);
}

/** Keeps a token; null: forgets it. */
export function setToken(text) {
  if (text === null) {
    sessionStorage.removeItem(KEY);
  } else {
    sessionStorage.setItem(KEY, text);
  }
}

/** Returns whether a text can be a token: other characters cannot stand in a header. */
export function isToken(text) {
  return /^[\x21-\x7e]{1,512}$/.test(text);
}

async function request(method, path, parameters, signal) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null);
  const query = new URLSearchParams(given).toString();
  let response;
  try {
    response = await fetch(query ? `${path}?${query}` : path, {
      method,
      signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      headers: { Authorization: `Bearer ${token() ?? ""}` },
    });
  } catch (error) {
    if (signal?.aborted) {
      throw error;
    }
    throw new Refused(0, "ringdnsd cannot be reached");
  }
  if (response.ok) {
    return response;
  }
  let reason = `the answer is ${response.status} ${response.statusText}`;
  try {
    reason = (await response.json()).error ?? reason;
  } catch {
    // A proxy in front may answer with a page of its own.
  }
  throw new Refused(response.status, reason, Number(response.headers.get("Retry-After")) || undefined);
}

/** Reads an answer; without a signal, it may take any time. An answer that is cut short is a refusal. */
async function within(signal, read) {
  try {
    return await read();
  } catch (error) {
    if (error instanceof Refused) {
      throw error;
    }
    throw new Refused(0, signal?.aborted ? "ringdnsd did not answer in time" : "the answer cannot be read");
  }
}

/** Returns the JSON at a path. */
export async function show(path, parameters = {}) {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  return within(signal, async () => (await request("GET", path, parameters, signal)).json());
}

/** Returns the text at a path. */
export async function text(path) {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  return within(signal, async () => (await request("GET", path, {}, signal)).text());
}

/** Asks for a change, and returns the JSON of the answer. Downloads may take long. */
export async function change(path, parameters = {}) {
  return within(undefined, async () => (await request("POST", path, parameters)).json());
}

/** Returns the body of a stream, which ends with `signal`. */
export async function stream(path, signal) {
  return (await request("GET", path, {}, signal)).body;
}
