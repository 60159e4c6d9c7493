// Tests of the requests that the console makes. `main.rs` runs them.

import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.sessionStorage = { getItem: () => "token" };
const { Refused, change, show, text } = await import("../../../control/daemon/src/admin/console/api.mjs");

/** Answers all requests with a body and a status. */
function answer(body, status = 200) {
  globalThis.fetch = async () => new Response(body, { status });
}

/** Returns a body whose connection is cut after some bytes. */
function cut() {
  let isBegun = false;
  return new ReadableStream({
    pull(to) {
      if (isBegun) {
        to.error(new TypeError("network error"));
      } else {
        isBegun = true;
        to.enqueue(new TextEncoder().encode('{"name": "a'));
      }
    },
  });
}

const reasonOf = async (work) => {
  const error = await work().then(() => assert.fail("it is no refusal"), (error) => error);
  assert.ok(error instanceof Refused, String(error));
  return [error.status, error.message];
};

test("an answer that is cut short is a refusal", async () => {
  for (const work of [() => show("/v1/status"), () => text("/metrics"), () => change("/v1/reload")]) {
    answer(cut());
    assert.deepEqual(await reasonOf(work), [0, "the answer cannot be read"]);
  }
  answer("<html>");
  assert.deepEqual(await reasonOf(() => change("/v1/reload")), [0, "the answer cannot be read"]);
});

test("a refusal has the reason that ringdnsd gives, or its status", async () => {
  answer('{"error": "no role"}', 403);
  assert.deepEqual(await reasonOf(() => change("/v1/reload")), [403, "no role"]);
  answer("<html>", 502);
  assert.equal((await reasonOf(() => show("/v1/status")))[0], 502);
  globalThis.fetch = async () => { throw new TypeError("failed to fetch"); };
  assert.deepEqual(await reasonOf(() => change("/v1/reload")), [0, "ringdnsd cannot be reached"]);
});

test("the answer to a change is its JSON", async () => {
  answer('{"name": "ads.example."}');
  assert.deepEqual(await change("/v1/policy/override"), { name: "ads.example." });
});
