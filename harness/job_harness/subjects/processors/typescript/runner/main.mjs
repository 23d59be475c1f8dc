// Runs as a peer: loads a processor, runs it on the jobs that it is handed, and tells what happens.
//
// Each run of a job is an actor. Standard output and error belong to the processor. A turn ends when this process has
// nothing left to do by itself. Time moves only when a message says so.
import { AsyncLocalStorage } from "node:async_hooks";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { installChance } from "../../../../worlds/peers/chance.mjs";
import { Clock, install, realMilliseconds } from "../../../../worlds/peers/clock.mjs";
import { Peer } from "../../../../worlds/peers/peer.mjs";
import { Modules, readable } from "./modules.mjs";
import { observe } from "./observed.mjs";
import { deepStack, lineAt, placeOf } from "../../../../worlds/peers/places.mjs";
import { Replies } from "../../../../worlds/peers/replies.mjs";
import { Rest } from "../../../../worlds/peers/rest.mjs";
import { keepIn } from "./stripping.mjs";
import { described, lenient, toJson } from "./values.mjs";

const LARGEST = 32 * 1024 * 1024;
const OURS = "job-harness";
const DATES = ["startedAt", "completedAt", "expiresAt", "createdAt", "updatedAt"];

const peer = new Peer({ clock: true });
const clock = new Clock();
const rest = new Rest();
const running = new AsyncLocalStorage();
const registered = new Map();
const over = new Set();
const working = new Set();
let processor = null;
/** What makes replies gates, where runs are explored. */
let replies = null;

/** Whose doing the present code is. */
function actor() {
  return running.getStore() ?? null;
}

function fatal(kind, thrown) {
  peer.effect("fatal", { kind, error: described(thrown) }, actor());
  process.kill(process.pid, "SIGKILL");
}

// what a processor finds ---------------------------------------------------------------------------------------------

/** Ask the harness. What it throws has the place of the question, where its own would say nothing. */
async function ask(name, args) {
  try {
    return await peer.gate(name, args.map(lenient), actor());
  } catch (error) {
    Error.captureStackTrace(error);
    throw error;
  }
}

let told = 0;

/** Say what is done outside, under a number. */
function tell(what) {
  if (actor() === null) return null;
  const number = what.number ?? ++told;
  peer.effect("observed", { ...what, number }, actor());
  return number;
}

function valueOf(given) {
  if (given.call !== undefined) return async (...args) => ask(given.call, args);
  if (given.source !== undefined) return evaluated(given.source);
  if (given.object !== undefined) return mapped(given.object, valueOf);
  if (given.list !== undefined) return given.list.map(valueOf);
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
    const url = String(resource instanceof Request ? resource.url : resource);
    if (way === "refuse") {
      throw new TypeError(`fetch failed: nothing answers ${url} in this test; give fetch= to answer it`);
    }
    const request = new Request(resource, { ...init, duplex: "half" });
    const about = {
      method: request.method,
      headers: Object.fromEntries(request.headers),
      body: request.body === null ? undefined : await request.text(),
    };
    const signal = init.signal ?? (resource instanceof Request ? resource.signal : undefined);
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

// What `import { effect, step } from "job-harness"` brings; a promise resolves when the harness has heard of it. As a
// global `effect` is there where nothing else is called so.
const declaring = {
  effect: (kind, data, about) => ask("job-harness.effect", about === undefined ? [kind, data] : [kind, data, about]),
  step: (name) => ask("job-harness.step", [name]),
};

const registry = {
  registerProcessor: (slug, found) => void registered.set(slug, found),
  getProcessor: (slug) => registered.get(slug),
  hasProcessor: (slug) => registered.has(slug),
  getRegisteredTools: () => [...registered.keys()],
};

// loading ------------------------------------------------------------------------------------------------------------

async function load({ file, name, slug, globals, stubs, fetch, seed, cache, gates, observed }) {
  keepIn(cache);
  const place = () => placeOf(deepStack());
  const line = () => lineAt(deepStack());
  if (gates) Object.assign(clock, { place, line });
  if (gates) peer.line = line;
  clock.begin(clock.now);
  install(clock, seed);
  installChance(seed);
  if (observed) observe({ tell, moment: async () => gates || peer.gate("moment", [], actor()) });
  globalThis.effect ??= declaring.effect;
  for (const key of Object.keys(globals)) globalThis[key] = valueOf(globals[key]);
  if (fetch !== "real") globalThis.fetch = fakeFetch(fetch);
  for (const stub of Object.values(stubs)) {
    if (stub.exports) stub.exports = mapped(stub.exports, valueOf);
  }
  if (gates) await watchReplies({ file, place, line, answered: fetch !== "real" });
  const modules = new Modules({ stubs: { [OURS]: { exports: declaring }, ...stubs }, registry });
  modules.install();
  const found = await import(pathToFileURL(file).href);
  processor = await chosen(found, { name, slug, modules });
  peer.effect("loaded");
}

/** Let each reply from outside be a gate of the run that waits for it; what `fetch` is answered by the test, is one. */
async function watchReplies({ file, place, line, answered }) {
  replies = new Replies({
    require: createRequire(import.meta.url),
    run: actor,
    isDead: () => false, // It dies with this process.
    others: (run) => [...working].some((each) => each !== run && !replies.isAsking(each)),
    stand: (run, point, line) => peer.gate("moment", [point], run, line),
    place,
    line,
    blind: (what) => peer.effect("note", { what: `replies of ${what} are no gates: no crash and no other job came before them` }, actor()),
    isOurs: () => false,
    milliseconds: realMilliseconds,
  });
  await replies.find(file);
  replies.begin(answered ? globalThis.fetch : null);
  rest.connections.knownElsewhere = (socket) => replies.knows(socket);
  rest.made = (type) => replies.made(type);
  rest.more = () => Array.from({ length: replies.pending() }, () => "a reply of PostgreSQL");
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
    throw problem("NoProcessor", `the export ${JSON.stringify(name)} is not a function, but of type ${typeof exported}`);
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
    peer.effect("registered", { what: `${name}() registered ${words}, and not ${JSON.stringify(slug)}` });
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
  working.add(run);
  replies?.again();
  running.run(run, async () => {
    let ending;
    try {
      ending = endingOf(run, await processor(job));
    } catch (thrown) {
      ending = { threw: described(thrown) };
    }
    end(run, { ...ending, ...changed(job, given) });
    over.add(run);
    working.delete(run);
    replies?.over(run);
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
    return { bad: `the processor answered ${kindOf(result)}, which is not a JobResult`, none: true };
  }
  const { success, output, error, retryable, ...rest } = result;
  const unknown = Object.keys(rest);
  if (unknown.length > 0) {
    const what = `its result has ${unknown.join(", ")} beside success, output, error and retryable: the queue keeps none of it`;
    peer.effect("note", { what }, run);
  }
  const json = toJson(output === undefined ? null : output, "output");
  if (json.bad) return { bad: `the processor's output is not JSON: ${json.bad}` };
  for (const what of json.notes) peer.effect("note", { what }, run);
  if (error !== undefined && error !== null && typeof error !== "string") {
    peer.effect("note", { what: `error is ${kindOf(error)}, where text is expected` }, run);
  }
  const text = error === undefined || error === null ? null : typeof error === "string" ? error : described(error).message;
  return { result: { success, output: json.value, error: text, retryable: retryable !== false } };
}

function end(run, ending) {
  let size = Infinity;
  try {
    size = JSON.stringify(ending).length;
  } catch {
    // Text of more than half a gigabyte cannot even be written.
  }
  if (size <= LARGEST) return peer.effect("ended", ending, run);
  const much = size === Infinity ? "more text than fits" : `${(size / 1e6).toFixed(0)} MB`;
  peer.effect("ended", { bad: `the processor answered ${much}; at most ${LARGEST / 1024 / 1024} MiB are taken` }, run);
}

function kindOf(value) {
  if (value === undefined || value === null) return String(value);
  if (typeof value !== "object") return `a ${typeof value}`;
  return typeof value.success === "undefined" ? "an object without success" : "an object whose success is not a boolean";
}

// turns --------------------------------------------------------------------------------------------------------------

const requests = {
  load(about) {
    load(about).catch((thrown) => {
      const data = { ...described(thrown), hint: thrown?.hint ?? "", exports: thrown?.exports ?? null };
      peer.effect("failed", data);
    });
  },

  run({ job }, run) {
    start(run, job);
  },

  /** Write which code ran since the start, or since the last time, into the folder of NODE_V8_COVERAGE. */
  cover() {
    createRequire(import.meta.url)("node:v8").takeCoverage();
  },

  /** The intervals that runs which are over left behind. */
  left() {
    return clock.left((run) => over.has(run));
  },
};

async function act({ time, now, one, do: wanted, with: given, actor: run }) {
  if (time === undefined) return { value: requests[wanted](given, run) ?? null };
  const broken = (timer, error) => timer.context(() => fatal("uncaught exception", error));
  await clock.moveTo(now, { rest: () => rest.reached(), broken, one });
  return {};
}

/** When the next timer is due; where gates are wanted, also whose it is and where it was set. */
function upcoming() {
  const timer = clock.earliest();
  if (timer === null) return { next: null };
  const { when: next, owner: actor, place: point, line } = timer;
  return point ? { next, actor, point, line } : { next };
}

globalThis.console = new console.Console(process.stderr, process.stderr);
clock.owner = actor;
rest.atWork = () => processor === null || working.size > 0;
rest.connections.unanswered = (where) => {
  const what = `a connection to ${where} was not answered for a second of real time: time goes on without it`;
  peer.effect("note", { what }, actor());
};
rest.install();
rest.alive = (io) => peer.send({ idle: peer.turn, next: clock.next(), io });
process.on("unhandledRejection", (reason) => fatal("unhandled rejection", reason));
process.on("uncaughtException", (error) => fatal("uncaught exception", error));
peer.serve({
  act,
  now: (now) => (clock.now = Math.max(clock.now, now), replies?.look()),
  rest: async () => {
    await rest.reached();
    replies?.announce();
  },
  next: upcoming,
});
void process.stdout; // Made when it is first used: it is nothing to wait for, as it is there now.
rest.begin();
