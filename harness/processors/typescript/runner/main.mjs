// One Node child of a harness: loads a processor, runs it on the jobs that it is handed, and tells what happens.
//
// Three descriptors are named on the command line: the parent speaks on the first, this child on the second, JSON lines
// both; the third closes when the parent is gone. Standard output and error belong to the processor. A message opens a
// turn, which ends with `idle` when the child has nothing left to do by itself. Time moves only when a message says so.
import { AsyncLocalStorage } from "node:async_hooks";
import { Console } from "node:console";
import fs from "node:fs";
import net from "node:net";
import { Worker } from "node:worker_threads";
import { pathToFileURL } from "node:url";
import { Clock, install } from "../../../foreign/clock.mjs";
import { Modules, readable } from "./modules.mjs";
import { Rest } from "./rest.mjs";
import { keepIn } from "./stripping.mjs";
import { described, lenient, toJson } from "./values.mjs";

const [INWARD, OUTWARD, LIFELINE] = process.argv.splice(2).map(Number);
const LARGEST = 32 * 1024 * 1024;
const DATES = ["startedAt", "completedAt", "expiresAt", "createdAt", "updatedAt"];

const clock = new Clock();
const rest = new Rest();
const running = new AsyncLocalStorage();
const registered = new Map();
const calls = new Map();
const over = new Set();
let processor = null;
let number = 0;

function send(message) {
  const line = Buffer.from(`${JSON.stringify(message)}\n`);
  for (let sent = 0; sent < line.length; ) sent += fs.writeSync(OUTWARD, line, sent);
}

function fatal(kind, thrown) {
  send({ fatal: kind, error: described(thrown), run: running.getStore() ?? null });
  process.kill(process.pid, "SIGKILL");
}

// what a processor finds ---------------------------------------------------------------------------------------------

function ask(name, args) {
  const id = ++number;
  send({ call: id, name, args: args.map(lenient), run: running.getStore() ?? null });
  return new Promise((resolve, reject) => calls.set(id, { resolve, reject }));
}

function valueOf(given) {
  if (given.call !== undefined) return async (...args) => ask(given.call, args);
  if (given.source !== undefined) return evaluated(given.source);
  return given.json;
}

function evaluated(source) {
  const code = readable(`globalThis.__jobHarness = (${source}\n);`, "the expression");
  (0, eval)(code);
  const value = globalThis.__jobHarness;
  delete globalThis.__jobHarness;
  return value;
}

function fakeFetch(way) {
  return async (resource, init = {}) => {
    const request = resource instanceof Request ? resource : null;
    const url = String(request ? request.url : resource);
    if (way === "refuse") {
      throw new TypeError(`fetch failed: nothing answers ${url} in this test; give fetch= to answer it`);
    }
    const about = {
      method: init.method ?? request?.method ?? "GET",
      headers: Object.fromEntries(new Headers(init.headers ?? request?.headers)),
      body: init.body === undefined ? await request?.text() : String(init.body),
    };
    const signal = init.signal ?? request?.signal;
    signal?.throwIfAborted();
    const answer = ask("fetch", [url, about]);
    const aborted = new Promise((_, reject) => {
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
    const { status, headers, body } = await (signal ? Promise.race([answer, aborted]) : answer);
    const bare = [101, 204, 205, 304].includes(status);
    const response = new Response(bare ? null : body, { status, headers });
    Object.defineProperty(response, "url", { value: url });
    return response;
  };
}

const registry = {
  registerProcessor: (slug, found) => void registered.set(slug, found),
  getProcessor: (slug) => registered.get(slug),
  hasProcessor: (slug) => registered.has(slug),
  getRegisteredTools: () => [...registered.keys()],
};

// loading ------------------------------------------------------------------------------------------------------------

async function load({ file, name, slug, globals, stubs, fetch, now, seed, cache }) {
  keepIn(cache);
  clock.begin(now);
  install(clock, seed);
  for (const key of Object.keys(globals)) globalThis[key] = valueOf(globals[key]);
  if (fetch !== "real") globalThis.fetch = fakeFetch(fetch);
  for (const stub of Object.values(stubs)) {
    if (stub.exports) stub.exports = mapped(stub.exports, valueOf);
  }
  const modules = new Modules({ stubs, registry });
  modules.install();
  const found = await import(pathToFileURL(file).href);
  processor = await chosen(found, { name, slug, modules });
  send({ loaded: true, node: process.version });
}

function mapped(object, change) {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
}

async function chosen(found, { name, slug, modules }) {
  const exported = found[name];
  if (exported === undefined) {
    throw problem("MissingExport", `there is no export ${JSON.stringify(name)}`, { exports: Object.keys(found) });
  }
  if (typeof exported !== "function") {
    throw problem("NoProcessor", `the export ${JSON.stringify(name)} is no function, but ${typeof exported}`);
  }
  if (!/^register/.test(name) || exported.length > 0) return exported;
  await exported();
  return registeredFor(slug, name, modules);
}

async function registeredFor(slug, name, modules) {
  const all = [registry];
  for (const url of modules.registries) all.push(await import(url));
  const tools = new Map();
  for (const each of all) {
    for (const tool of [slug, ...(each.getRegisteredTools?.() ?? [])]) {
      const found = tool === null ? undefined : each.getProcessor?.(tool);
      if (typeof found === "function" && !tools.has(tool)) tools.set(tool, found);
    }
  }
  if (tools.has(slug)) return tools.get(slug);
  const words = [...tools.keys()].map((tool) => JSON.stringify(tool)).join(", ") || "nothing";
  if (tools.size === 1) {
    send({ registered: `${name}() registered ${words}, and not ${JSON.stringify(slug)}` });
    return [...tools.values()][0];
  }
  throw problem("NotRegistered", `${name}() registered ${words}, and not ${JSON.stringify(slug)}`, {
    hint: `Call registerProcessor(${JSON.stringify(slug)}, ...) in it, or name the processor itself: "file.ts#processName".`,
  });
}

function problem(name, message, more = {}) {
  return Object.assign(new Error(message), { name, ...more });
}

// running ------------------------------------------------------------------------------------------------------------

function start(run, job) {
  for (const key of DATES) if (job[key] !== null && job[key] !== undefined) job[key] = new Date(job[key]);
  const given = JSON.stringify(job.input);
  running.run(run, async () => {
    let ending;
    try {
      ending = endingOf(run, await processor(job));
    } catch (thrown) {
      ending = { threw: described(thrown) };
    }
    tell({ ended: run, ...ending, ...changed(job, given) });
    over.add(run);
  });
}

/** The input as the processor left it, where it changed it. */
function changed(job, given) {
  try {
    if (JSON.stringify(job.input) === given) return {};
  } catch {
    // It put something there that JSON cannot hold.
  }
  return { input: lenient(job.input) };
}

function endingOf(run, result) {
  if (result === null || typeof result !== "object" || typeof result.success !== "boolean") {
    return { bad: `the processor answered ${kindOf(result)}, which is no JobResult` };
  }
  const { success, output, error, retryable } = result;
  const json = toJson(output === undefined ? null : output, "output");
  if (json.bad) return { bad: `the processor's output is no JSON: ${json.bad}` };
  for (const note of json.notes) send({ note, run });
  if (error !== undefined && error !== null && typeof error !== "string") {
    send({ note: `error is ${kindOf(error)}, where text is expected`, run });
  }
  const text = error === undefined || error === null ? null : typeof error === "string" ? error : described(error).message;
  return { result: { success, output: json.value, error: text, retryable: retryable !== false } };
}

function tell(message) {
  let size = Infinity;
  try {
    size = JSON.stringify(message).length;
  } catch {
    // Text of more than half a gigabyte cannot even be written.
  }
  if (size <= LARGEST) return send(message);
  const much = size === Infinity ? "more text than fits" : `${(size / 1e6).toFixed(0)} MB`;
  send({ ended: message.ended, bad: `the processor answered ${much}; at most ${LARGEST / 1024 / 1024} MiB are taken` });
}

function kindOf(value) {
  if (value === undefined || value === null) return String(value);
  if (typeof value !== "object") return `a ${typeof value}`;
  return typeof value.success === "undefined" ? "an object without success" : "an object whose success is no boolean";
}

function answer({ call, value, error }) {
  const waiting = calls.get(call);
  calls.delete(call);
  if (error) waiting?.reject(Object.assign(new Error(error.message), { name: error.name }));
  else waiting?.resolve(value);
}

async function act(message) {
  if (message.now !== undefined && message.do !== "tick") clock.now = Math.max(clock.now, message.now);
  switch (message.do) {
    case "load":
      load(message).catch((thrown) => {
        send({ failed: { ...described(thrown), hint: thrown?.hint ?? "", exports: thrown?.exports ?? null } });
      });
      break;
    case "run":
      start(message.run, message.job);
      break;
    case "reply":
      answer(message);
      break;
    case "left":
      send({ left: clock.left((run) => over.has(run)) });
      break;
    case "tick":
      await clock.moveTo(message.now, {
        rest: () => rest.reached(),
        broken: (timer, error) => timer.context(() => fatal("uncaught exception", error)),
      });
      break;
  }
  await rest.reached();
  send({ idle: message.turn, next: clock.next() });
}

// the channel --------------------------------------------------------------------------------------------------------

function listen() {
  const inward = new net.Socket({ fd: INWARD, readable: true, writable: false });
  let pending = [];
  let turns = Promise.resolve();
  inward.setEncoding("utf8");
  inward.on("data", (text) => {
    pending.push(text);
    if (!text.includes("\n")) return; // Only whole lines are put together: a long one comes in many pieces.
    const lines = pending.join("").split("\n");
    pending = [lines.pop()];
    for (const line of lines) turns = turns.then(() => act(JSON.parse(line)));
  });
  inward.on("end", () => process.kill(process.pid, "SIGKILL"));
}

// A thread of its own notices that the parent is gone even while a processor keeps this one busy.
const watch = `const lifeline = new (require("net").Socket)({ fd: ${LIFELINE}, readable: true, writable: false });
lifeline.on("close", () => process.kill(process.pid, "SIGKILL")).resume();`;
new Worker(watch, { eval: true, stdout: false, stderr: false }).unref();
globalThis.console = new Console(process.stderr, process.stderr);
clock.owner = () => running.getStore() ?? null;
rest.alive = (kinds) => send({ alive: kinds });
process.on("unhandledRejection", (reason) => fatal("unhandled rejection", reason));
process.on("uncaughtException", (error) => fatal("uncaught exception", error));
listen();
rest.begin();
