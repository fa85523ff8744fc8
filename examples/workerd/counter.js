// A counter that keeps a witness: the ids of the operations applied to it, in
// order, in its own state. Each key is one Durable Object.
//
//   POST /counters/KEY/add  {"n": 3}   -> {"value": 3, "version": 1, "digest": "..."}
//   GET  /counters/KEY                 -> {"value": 3, "version": 1, "digest": "..."}
//   GET  /counters/KEY/witness         -> {"ids": ["..."], "version": 1, "digest": "..."}
//
// The header Statequake-Op carries the id of an operation. One that was applied
// before is not applied again: it gets the answer that it got then.

import { createHash } from "node:crypto";

const start = { value: 0, version: 0, digest: "0".repeat(16) };

export class Counter {
  constructor(ctx) {
    this.storage = ctx.storage;
    // Nothing is answered before the state is in memory.
    ctx.blockConcurrencyWhile(async () => {
      this.ids = [];
      this.answers = new Map(); // id -> state after it
      this.state = start;
      // Keys are padded, so their order is that of the operations.
      for (const { id, ...state } of (await this.storage.list({ prefix: "op:" })).values()) {
        this.remember(id, state);
      }
    });
  }

  remember(id, state) {
    this.ids.push(id);
    this.answers.set(id, state);
    this.state = state;
  }

  // add has no await between reading and writing the state. The runtime holds
  // the answer back until what was put is on disk.
  add(id, n) {
    if (this.answers.has(id)) return this.answers.get(id);
    const version = this.state.version + 1;
    const digest = createHash("sha256").update(this.state.digest + id).digest("hex").slice(0, 16);
    const state = { value: this.state.value + n, version, digest };
    this.storage.put("op:" + String(version).padStart(9, "0"), { id, ...state });
    this.remember(id, state);
    return state;
  }

  async fetch(request) {
    const command = new URL(request.url).pathname.split("/")[3];
    if (request.method === "POST" && command === "add") {
      const id = request.headers.get("statequake-op");
      const { n } = await request.json();
      if (!id || !Number.isSafeInteger(n)) return Response.json({ error: "want an id and a whole n" }, { status: 400 });
      return Response.json(this.add(id, n));
    }
    if (request.method === "GET" && command === "witness") return Response.json({ ...this.state, ids: this.ids });
    if (request.method === "GET" && command === undefined) return Response.json(this.state);
    return Response.json({ error: "no such operation" }, { status: 404 });
  }
}

export default {
  async fetch(request, env) {
    const [, kind, key] = new URL(request.url).pathname.split("/");
    if (kind === "ready") return new Response("ok");
    if (kind !== "counters" || !key) return Response.json({ error: "no such entity" }, { status: 404 });
    return env.COUNTER.get(env.COUNTER.idFromName(decodeURIComponent(key))).fetch(request);
  },
};
