// The harness as a test sees it: verbs, jobs, side effects. Must not know: test runners, lines.
"use strict";
const timers = require("node:timers");
const { isNativeError } = require("node:util/types");
const { Refused } = require("./connection.cjs");
const { FOREVER } = require("./host.cjs");
const { callingLine, lineHere } = require("./places.cjs");
const { REFUSED, SILENT, UNANSWERED, closedConnection, refusedConnection, silence } = require("./shared/replies.cjs");
const { lenient, toJson } = require("./shared/values.cjs");
const { changed, stateAround } = require("./state.cjs");
const { BothClocks } = require("./time.cjs");
const { world } = require("./world.cjs");

const INSPECT = Symbol.for("nodejs.util.inspect.custom");
const VERB = /[A-Z]/g;
const NOT_OPEN =
  "no harness is open here\n" +
  "  Call jobHarness() at the top of the file or in a describe, not inside a test, and use it inside a test or a beforeEach there.\n" +
  "  Tests that run at the same time (`concurrent`) close each other's: let those of a file run one after the other.";
// `([job]) => ...` and `function ([job]) {...}`, as pg-boss's work() calls it.
const OF_A_BATCH = /^(?:async\s*)?(?:function\b[^(]*)?\(\s*\[/;
// `(job, token) => ...` and `async process(job, token, signal) {...}`, as BullMQ's Worker calls it. A task of graphile-worker has
// two parameters as well, and would take the job for its payload: only the name of the second one tells them apart.
const OF_BULLMQ = /^[^)]*,\s*\w*token\s*(?:,\s*[\w$]+\s*)?,?\s*\)/i;
const ANEW = '  Make it anew in the body of the test, or give { isolate: "worker" }: each run then loads the file in a process of its own.';
const STILL_MS = 2_000;
const LOOK_MS = 500;

/** What the Python side has told of one open harness. */
class Session {
  constructor(title = "") {
    this.title = title;
    this.jobs = new Map();
    this.effects = [];
    this.looked = new Set();
    /** Jobs of which the test has read anything. */
    this.seen = new Set();
    this.checks = [];
    /** Those that are asked once nothing is left to do, and may wait for what they look at. */
    this.atRest = [];
    this.checking = this.resting = false;
    this.broken = new Set();
    this.asking = Promise.resolve();
    this.mistakes = [];
    this.now = 0;
    this.lost = null;
    this.over = false;
    this.told = false;
  }

  take({ now, jobs, effects }) {
    this.now = now;
    for (const { id, ...told } of jobs) this.jobs.set(id, { ...this.jobs.get(id), ...told });
    this.effects.push(...effects);
  }

  /** The counts above 0. To read how many failed is to look at the jobs that did. */
  counted(counts) {
    const failed = [...this.jobs].filter(([, { status }]) => status === "FAILED").map(([id]) => id);
    const told = Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
    if (told.failed === undefined) return told;
    const get = () => (failed.forEach((id) => this.looked.add(id)), counts.failed);
    return Object.defineProperty(told, "failed", { get, enumerable: true });
  }

  /** Judge by the test's own checks; returns those that do not hold, each once. */
  check() {
    const found = [];
    this.checking = true;
    for (const check of this.checks) {
      if (this.broken.has(check)) continue;
      let words = "";
      try {
        const holds = check();
        // What `expect` returns complains where a property is read that it does not have, such as `next`.
        if (typeof holds?.then === "function" || Object.prototype.toString.call(holds).endsWith("Generator]")) {
          holds.then?.(undefined, () => {}); // What it rejects with is not the mistake.
          this.checks = this.checks.filter((each) => each !== check);
          this.mistakes.push(new TypeError(neverRun(check)));
        }
        if (holds === false) words = "it returned false";
      } catch (error) {
        words = firstLine(error);
      }
      if (words === "") continue;
      this.broken.add(check);
      found.push({ name: check.name || "a check", message: words });
    }
    this.checking = false;
    return found;
  }

  /** Judge by those of the end, one after the other. */
  async checkAtRest() {
    const found = [];
    this.checking = this.resting = true;
    for (const check of this.atRest) {
      const words = await Promise.resolve().then(check).then((holds) => (holds === false ? "it returned false" : ""), firstLine);
      if (words !== "") found.push({ name: check.name || "a check", message: words });
    }
    this.checking = this.resting = false;
    return found;
  }

  /** The same where nothing asks for it; a check that is not judged must not pass. */
  checkNow() {
    for (const broken of this.check()) world().connection?.ask("broken", broken).catch((error) => this.mistakes.push(error));
  }
}

function firstLine(error) {
  return String(error?.message ?? error).split("\n")[0] || "an error without words";
}

/** One job, read as it is when it is read. */
class Job {
  #session;

  constructor(id, session) {
    this.id = id;
    this.#session = session;
  }

  #told() {
    this.#session.seen.add(this.id);
    const told = this.#session.jobs.get(this.id);
    if (told === undefined) throw new Error(neverSeen(this.id, this.#session));
    return told;
  }

  #looked() {
    this.#session.looked.add(this.id);
    return this.#told();
  }

  /** The tool that it is for. */
  get tool() {
    return this.#told().tool;
  }

  /** PENDING, PROCESSING, COMPLETED, FAILED or CANCELLED. */
  get status() {
    return this.#looked().status;
  }

  /** How often it was claimed. */
  get attempts() {
    return this.#told().attempts ?? 0;
  }

  /** How often its processor was started. */
  get runs() {
    return this.#told().runs;
  }

  /** The statuses that it went through. */
  get path() {
    return [...(this.#looked().path ?? [])];
  }

  /** What the attempt that completed it returned, through JSON and back. */
  get output() {
    return this.#looked().output ?? null;
  }

  /** What the last failed attempt left behind. */
  get error() {
    return this.#looked().error ?? null;
  }

  /** The side effects of its processor, as [name, data], in order. */
  get effects() {
    this.#session.seen.add(this.id);
    return this.#session.effects.filter(({ job }) => job === this.id).map(({ name, data }) => [name, data]);
  }

  toString() {
    const { tool, status, attempts = 0, maxAttempts = "?" } = this.#session.jobs.get(this.id) ?? {};
    return `<job ${this.id} of ${tool}: ${status}, attempts ${attempts} of ${maxAttempts}>`;
  }

  [INSPECT]() {
    return this.toString();
  }
}

function neverSeen(id, { jobs }) {
  const known = [...jobs.keys()];
  const listed = known.length === 0 ? "none" : `${known.slice(0, 5).join(", ")}${known.length > 5 ? ", ..." : ""}`;
  return (
    `no job ${JSON.stringify(id)} is known here; known: ${listed}\n` +
    '  With ownWorkers() the table is read whenever time has passed: await harness.advance("1s") after the job was sent.'
  );
}

/** What serves a tool, and how it is called: a function, or an object that has `process`, as a `WorkerHost` of NestJS. */
function callable(slug, given) {
  const method = typeof given !== "function" && typeof given?.process === "function" ? given.process : given;
  const isClass = typeof method === "function" && /^class\b/.test(String(method));
  if (typeof method !== "function" || isClass) {
    throw new TypeError(
      `register(${JSON.stringify(slug)}): the processor is ${isClass ? `the class ${method.name || "without a name"}` : kind(given)}; ` +
        `give a function, or an object${isClass ? " of it" : ""} that has a method process()`,
    );
  }
  return { method, call: method === given ? given : (...job) => method.apply(given, job) };
}

class Harness {
  /** `options` are those of every harness that this one opens. */
  constructor(options = {}) {
    this.options = options;
    /** By side effect that tests had, the tools that made it; whether one ended well that had a job, and whether one was played in other processes. */
    this.happened = new Map();
    /** By tool, the variables around its processor when a test of the file first registered it. */
    this.around = new Map();
    /** What `external` declared, unless a test looked whether it was called since. */
    this.externals = new Set();
    this.judged = this.elsewhere = false;
  }

  get #session() {
    const { session } = world();
    if (session === null) throw new Error(NOT_OPEN);
    return session;
  }

  /** Let time be virtual from here on, and the queue be empty. */
  async open(title) {
    const there = world();
    if (there.session !== null || there.opening) {
      throw new Error(
        "a harness is open already: tests that run at the same time would share one virtual time\n" +
          "  Let the tests of a file run one after the other (no `concurrent`), and call jobHarness() once for each of them: at the top of\n" +
          "  the file, or in a describe.",
      );
    }
    there.time.refuseLeftOn();
    const session = new Session(title);
    there.opening = true;
    let told;
    try {
      await there.connect();
      told = await there.ask(...this.opening(title));
    } finally {
      there.opening = false;
    }
    there.session = session;
    session.now = told.now;
    there.host.begin({ now: told.now, seed: this.options.seed });
    session.still = watched(there, (why) => process.stderr.write(`job-harness: ${title}: ${why}\n`));
    return told;
  }

  /** What is asked for to open it. */
  opening(title) {
    return ["open", { ...wired(this.options), title }];
  }

  /** Judge, close, and throw what is wrong, in words. */
  async close({ judge = true } = {}) {
    const there = world();
    await there.exploring?.cancel(); // The runner has given it up: its time is over.
    const { session } = there;
    if (session === null) return;
    let [wrong, unjudged, frames] = [[], [], []];
    session.still?.();
    const left = leftRunning(there.host);
    try {
      if (session.lost !== null) throw session.lost;
      await session.asking;
      let twoClocks = null;
      try {
        if (judge) there.time.refuseLeaving(session.title);
      } catch (error) {
        twoClocks = error; // The other side has to close all the same: else it refuses every later test.
      }
      session.checkNow();
      for (const broken of judge ? await session.checkAtRest() : []) await there.ask("broken", broken);
      ({ problems: wrong, unjudged = [], frames = [] } = await there.ask("close", { looked: [...session.looked], seen: [...session.seen], judge: judge && twoClocks === null }));
      if (twoClocks !== null) throw twoClocks;
      wrong.push(...left);
    } finally {
      this.keepEffects(session);
      session.over = true;
      there.session = null;
      there.host.end();
    }
    if (judge && session.mistakes.length > 0 && !session.told) throw session.mistakes[0];
    if (judge && wrong.length > 0) throw shown("JobHarness", spelled(wrong.join("\n\n")), { cause: there.host.unseen(session), frames });
    const doubts = there.host.takeDoubts();
    this.judged ||= judge && session.jobs.size > 0;
    if (judge) tellUnjudged(session.title, unjudged, doubts);
  }

  keepEffects(session) {
    for (const { name, job } of session.effects) {
      this.happened.set(name, (this.happened.get(name) ?? new Set()).add(session.jobs.get(job)?.tool));
    }
  }

  get #asked() {
    return [this.options.atMostOnce, this.options.exactlyOnce].flat().map((each) => each?.name ?? each).filter((name) => name !== undefined);
  }

  /**
   * Side effects that are judged and that no run of an explored test had, though a tool of its made them in a test before:
   * what that left in variables around the processor may keep it from them.
   */
  remembered({ had, found }) {
    const told = [];
    for (const name of this.#asked.filter((name) => !had.has(name))) {
      for (const tool of this.happened.get(name) ?? []) {
        const names = changed(this.around.get(tool) ?? new Map(), found.get(tool) ?? new Map());
        if (names.length === 0) continue;
        told.push(`'${tool}' had the effect '${name}' in an earlier test of this file and in no run of this one, and it uses ${names.join(", ")}, which that test changed\n${ANEW}`);
      }
    }
    return told;
  }

  /**
   * Tell of the side effects that are judged and that no test of the file had: nothing was judged there. And of what was
   * declared and never called, which fails nothing: another test of the file may be for that.
   */
  tellNeverHappened(file) {
    const never = this.#asked.filter((name) => !this.happened.has(name));
    if (!this.judged || this.elsewhere) return;
    const uncalled = [...this.externals].filter((name) => !this.happened.has(name) && !never.includes(name));
    for (const name of uncalled) process.stderr.write(`job-harness: ${file}: not judged: external '${name}': no run called it; let a processor call it, or leave it out\n`);
    tellUnjudged(file, never.map((name) => `the effect '${name}' is asked about and never happened in this file`));
  }

  /** Ask on behalf of the test, one thing after the other; inside a processor at once. */
  ask(verb, given = {}) {
    const there = world();
    const session = this.#session;
    if (session.resting) return Promise.reject(new Error(`${verb} in atRest(): the run is over; read jobs, effects and your own stores there`));
    const what = verb.replace(VERB, (letter) => `_${letter.toLowerCase()}`);
    const { value: told, bad } = toJson(given, verb);
    if (bad) return Promise.reject(new TypeError(bad));
    if (there.host.actor() !== null) return there.host.dead ? FOREVER : there.ask(what, told);
    const at = new Error();
    const asked = session.asking.then(() => {
      if (session.over) throw new Error(`${verb}: the test is over`);
      if (session.mistakes.length > 0) {
        session.told = true;
        throw session.mistakes[0];
      }
      there.time.refuseOthers();
      return there.ask(what, told);
    });
    session.asking = asked.catch(() => {});
    return asked.then(
      (value) => (session.checkNow(), value),
      (error) => {
        session.told ||= verb !== "register";
        throw session.mistakes.includes(error) ? error : pointed(error, at);
      },
    );
  }

  // what a test sets up ------------------------------------------------------------------------------------------

  register(slug, processor) {
    if (typeof slug !== "string") throw new TypeError(`register: the tool is ${kind(slug)}; give its name as text`);
    const { method, call } = callable(slug, processor);
    const [length, source, name] = [method.length, String(method), method.name.replace(/^bound /, "") || "processor"];
    const withToken = length > 1 && OF_BULLMQ.test(source);
    if (length > 1 && !withToken) {
      throw new TypeError(
        `register(${JSON.stringify(slug)}): the processor takes ${length} parameters, and is called with the job alone\n` +
          `  Wrap it, and give it what it needs: register(${JSON.stringify(slug)}, (job) => ${name}(job.input, ...)).\n` +
          "  One for BullMQ gets a token and a signal, too, if its second parameter is called token, which that of a bound function\n" +
          `  does not tell: give the object that has process(), or register(${JSON.stringify(slug)}, (job, token) => ...).`,
      );
    }
    if (OF_A_BATCH.test(source)) {
      throw new TypeError(
        `register(${JSON.stringify(slug)}): the processor takes an array of jobs, as pg-boss calls it, and is called with one job\n` +
          `  Wrap it: register(${JSON.stringify(slug)}, (job) => ${name}([job])).`,
      );
    }
    world().host.processors.set(slug, { processor: call, withToken });
    if (!this.around.has(slug)) this.around.set(slug, stateAround([method]));
    world().registered?.(slug, method);
    const session = this.#session;
    // What is asked next waits until a mistake is known: it would be told of its consequence.
    session.asking = this.ask("register", { slug }).catch((error) => session.mistakes.push(error));
  }

  async enqueue(slug, input = null, { priority = 0, startAfter, maxAttempts, uniqueKey, ...unknown } = {}) {
    refuseUnknown("enqueue", unknown, ["priority", "startAfter", "maxAttempts", "uniqueKey"]);
    const given = { slug, input, priority };
    if (startAfter !== undefined) given.start_after = moment(startAfter);
    if (maxAttempts !== undefined) given.max_attempts = maxAttempts;
    if (uniqueKey !== undefined) given.unique_key = uniqueKey;
    return this.#job(await this.ask("enqueue", given));
  }

  cancel(job) {
    return this.ask("cancel", { job: id(job) });
  }

  retry(job) {
    return this.ask("retry", { job: id(job) });
  }

  // what a test lets go wrong ------------------------------------------------------------------------------------

  crashWorker({ at, job, ...unknown } = {}) {
    refuseUnknown("crashWorker", unknown, ["at", "job"]);
    return this.ask("crashWorker", { ...(at === undefined ? {} : { at }), ...(job === undefined ? {} : { job: id(job) }) });
  }

  deliverTwice(job) {
    return this.ask("deliverTwice", { job: id(job) });
  }

  // what a test lets happen --------------------------------------------------------------------------------------

  performJob(slug, input = null) {
    return this.ask("performJob", { slug, input });
  }

  async workOne() {
    const found = await this.ask("workOne");
    return found === null ? null : this.#job(found);
  }

  async drain({ withScheduled = false, withRecursion = true, limit, ...unknown } = {}) {
    refuseUnknown("drain", unknown, ["withScheduled", "withRecursion", "limit"]);
    const given = { with_scheduled: withScheduled, with_recursion: withRecursion };
    const counts = await this.ask("drain", limit === undefined ? given : { ...given, limit });
    return this.#session.counted(counts);
  }

  runUntilIdle() {
    return this.ask("runUntilIdle");
  }

  async advance(by) {
    return this.ask("advance", { by: length(by, "advance") });
  }

  async jump(by) {
    return this.ask("jump", { by: length(by, "jump") });
  }

  async waitFor(job, status, { within, ...unknown } = {}) {
    refuseUnknown("waitFor", unknown, ["within"]);
    const limit = within === undefined ? {} : { within: length(within, "within") };
    const given = { job: id(job), ...(status === undefined ? {} : { status }), ...limit };
    return this.ask("waitFor", given);
  }

  // what a test looks at -----------------------------------------------------------------------------------------

  /** The virtual time of day. */
  get now() {
    const { clock } = world().time;
    return new Date(clock?.now ?? this.#session.now);
  }

  /** The side effects that processors declared, in order; those of a name, and of a job. */
  effects(name, { job, ...unknown } = {}) {
    refuseUnknown("effects", unknown, ["job"]);
    if (!this.#session.checking) for (const each of name === undefined ? [...this.externals] : [name]) this.externals.delete(each);
    const whose = job === undefined ? null : id(job);
    for (const each of whose === null ? this.#session.jobs.keys() : [whose]) this.#session.seen.add(each);
    const fits = (each) => (name === undefined || each.name === name) && (whose === null || each.job === whose);
    return this.#session.effects.filter(fits).map((each) => ({ ...each, at: new Date(each.at) }));
  }

  async allEnqueued(slug, wanted = {}) {
    return (await this.ask("allEnqueued", looked("allEnqueued", slug, wanted))).map((each) => this.#job(each));
  }

  async assertEnqueued(slug, wanted = {}) {
    return this.#job(await this.ask("assertEnqueued", looked("assertEnqueued", slug, wanted)));
  }

  refuteEnqueued(slug, wanted = {}) {
    return this.ask("refuteEnqueued", looked("refuteEnqueued", slug, wanted));
  }

  assertPath(job, path) {
    return this.ask("assertPath", { job: id(job), path });
  }

  /** Judge by a function of the test's own after every event, and now if there are jobs: false or a throw is an anomaly. */
  always(check) {
    if (typeof check !== "function") throw new TypeError(`always() takes a function, not ${kind(check)}`);
    if (check.constructor.name !== "Function") throw new TypeError(neverRun(check));
    const session = this.#session;
    session.checks.push(check);
    session.asking = this.ask("always").catch((error) => session.mistakes.push(error));
  }

  /** Judge by a function that may be async once nothing is left to do: what it throws, or false, is an anomaly. */
  atRest(check) {
    if (typeof check !== "function") throw new TypeError(`atRest() takes a function, not ${kind(check)}`);
    const session = this.#session;
    if (session.atRest.push(check) > 1 || !world().host.explored) return;
    session.asking = this.ask("atRest").catch((error) => session.mistakes.push(error));
  }

  /** Wrap what stands for the world outside: each call is a side effect, and a run stands at a gate before it and after its answer. */
  external(name, answer = () => undefined, { data = dataOf, ...unknown } = {}) {
    refuseUnnamed("external", name);
    refuseUnknown("external", unknown, ["data"]);
    this.externals.add(name);
    return async (...given) => {
      const line = lineHere();
      const { host } = world();
      await host.stand(`call of ${name}()`, ["reply", {}], line); // What the caller has noted by now stays if it dies here.
      const fails = await host.stand(`${name}()`, ["call", {}], line);
      if (fails === REFUSED) throw refusedConnection();
      if (fails === SILENT) await silence(timers, signalOf(given));
      const value = await answer(...given);
      await declare(name, data(...given), { line });
      await host.stand(name, ["reply"], line);
      if (fails === UNANSWERED) throw closedConnection();
      return value;
    };
  }

  #job(name) {
    return new Job(name, this.#session);
  }
}

/** Declare a side effect of the job at work, in the fake that stands for the world outside; elsewhere it does nothing. */
async function declare(name, data = {}, { identity, idempotent = false, line = world().host.replies.answering.getStore() ?? callingLine(), ...unknown } = {}) {
  refuseUnnamed("effect", name);
  refuseUnknown("effect", unknown, ["identity", "idempotent"]);
  const told = { data: json(data, "data"), idempotent, ...(identity === undefined ? {} : { identity }) };
  await world().host.stand(name, ["effect", told], line);
}

/** Name a point at which others may act and a worker may die; elsewhere than in a job it does nothing. */
async function step(name) {
  refuseUnnamed("step", name);
  await world().host.stand(name, ["step"], lineHere());
}

/** The signal among the arguments of a call, or of an object that is one. */
function signalOf(given) {
  return given.flatMap((each) => [each, each?.signal]).find((each) => each instanceof AbortSignal);
}

/** The arguments of a call as data: what JSON cannot hold of them, such as a signal, is nothing that the test has to mind. */
function dataOf(...given) {
  const args = lenient(given);
  const [first] = args;
  return args.length === 1 && first !== null && typeof first === "object" && !Array.isArray(first) ? first : { args };
}

// what goes over the border ----------------------------------------------------------------------------------------

function json(value, name) {
  const { value: plain, bad } = toJson(value === undefined ? null : value, name);
  if (bad) throw new TypeError(bad);
  return plain;
}

function id(job) {
  if (job instanceof Job || typeof job?.id === "string") return job.id;
  if (typeof job === "string") return job;
  throw new TypeError(`${kind(job)} is no job; give what enqueue() returned (await it), or a job's id`);
}

/** A length of virtual time. A number that looks like the milliseconds of a timer is refused: 60_000 s are 16 hours. */
function length(given, where) {
  if (typeof given !== "number" || given < 1_000 || given % 1_000 !== 0) return given;
  const meant = [given / 1_000, given].map((seconds) => `"${seconds}s"`);
  throw new TypeError(`${where}: ${given} would be seconds, and looks like milliseconds; write ${meant[0]}, or ${meant[1]} if you mean seconds`);
}

function moment(given) {
  return given instanceof Date ? { at: given.getTime() } : length(given, "startAfter");
}

function looked(verb, slug, { input, startAfter, priority, uniqueKey, maxAttempts, status, within, count, ...unknown }) {
  refuseUnknown(verb, unknown, ["input", "startAfter", "priority", "uniqueKey", "maxAttempts", "status", "within", "count"], " The job's input goes into { input: ... }.");
  const wanted = { slug, input, priority, unique_key: uniqueKey, max_attempts: maxAttempts, status, within, count };
  if (startAfter !== undefined) wanted.start_after = moment(startAfter);
  return Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined));
}

function wired({ engine, settings, seed, atMostOnce, exactlyOnce, ...unknown }) {
  refuseUnknown("jobHarness", unknown, ["engine", "settings", "seed", "atMostOnce", "exactlyOnce"]);
  const listed = (given) => (given === undefined ? undefined : [given].flat());
  const given = { engine, settings, seed, at_most_once: listed(atMostOnce), exactly_once: listed(exactlyOnce) };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

function refuseUnknown(what, unknown, known, hint = "") {
  for (const name of Object.keys(unknown)) throw new TypeError(`${what} takes no ${JSON.stringify(name)}. Available: ${known.join(", ")}.${hint}`);
}

function refuseUnnamed(verb, name) {
  if (typeof name !== "string") throw new TypeError(`${verb}(): the name is ${kind(name)}; give it as text`);
}

function neverRun({ name }) {
  return (
    `always(${name}): the check returns a promise or a generator, and nothing waits for that, so it could not fail\n` +
    "  Write it without async and without *: it looks at jobs, effects and what the test keeps. What a database holds at the end:\n" +
    "  harness.atRest(async () => ...)."
  );
}

function kind(value) {
  return value === null ? "null" : value instanceof Promise ? "a promise" : `of type ${typeof value}`;
}

// errors as a runner shows them ------------------------------------------------------------------------------------

/** Set to anything but 0, it fails what passed although something was not judged, as --job-strict does in pytest. */
const STRICT = "JOB_HARNESS_STRICT";

/** Tell what a pass says nothing of; throw it where that is asked for. */
/** Say what a pass is no promise about. What judged nothing at all fails where CI is set, a doubt about a part only where asked. */
function tellUnjudged(title, unjudged, doubts = []) {
  const told = (each) => `not judged: ${spelled(each)}`;
  for (const each of [...unjudged, ...doubts]) process.stderr.write(`job-harness: ${title}: ${told(each)}\n`);
  const failing = isSet(STRICT) ? [...unjudged, ...doubts] : isSet("CI") ? unjudged : [];
  if (failing.length > 0) throw shown("Inconclusive", failing.map(told).join("\n"));
}

function isSet(variable) {
  return !["", "0", "false"].includes(process.env[variable] ?? "");
}

/** Tell once, where nothing is heard for a while, that the body waits for a timer of its own. Returns what ends the watch. */
function watched(there, tell) {
  const { setInterval, clearInterval } = there.time.real;
  let [heard, looks] = [there.lastHeard, 0];
  const timer = setInterval(() => {
    const still = there.lastHeard === heard && there.connection?.asked.size === 0;
    [heard, looks] = [there.lastHeard, still ? looks + 1 : 0];
    const [first] = there.host.waiting();
    if (looks * LOOK_MS < STILL_MS || first === undefined) return;
    tell(`nothing was asked for ${STILL_MS / 1000} s, and ${first}`);
    end();
  }, LOOK_MS);
  timer.unref?.();
  const end = () => clearInterval(timer);
  return end;
}

/**
 * An error that is its words, and the lines that it turns on: what a runner shows of the code, and annotates. `cause` is what
 * a processor threw, if that is one. The last line comes first, where the anomaly showed.
 */
function shown(name, words, { cause, frames = [] } = {}) {
  const error = isNativeError(cause) ? new Error(words, { cause: withoutOurs(cause) }) : new Error(words);
  error.name = name;
  const lines = frames.map(({ file, line, column }) => `    at ${file}:${line}:${column}`).reverse();
  error.stack = [`${name}: ${words}`, ...lines].join("\n");
  return error;
}

/** Take our own lines from where an error came through. */
function withoutOurs(error) {
  error.stack = String(error.stack).split("\n").filter((line) => !line.includes(__dirname)).join("\n");
  return error;
}

/** What the processors of a test left running, in the words of a problem; none where nothing is left. */
function leftRunning(host) {
  const left = host.left();
  return left.length === 0 ? [] : [["processors of this test left something running:", ...left.map((each) => `  ${each}`)].join("\n")];
}

/** Let an error that came over the connection point at the line of the test that asked. */
function pointed(error, at) {
  if (!(error instanceof Refused || error instanceof BothClocks)) return error;
  if (error.kind !== "internal") error.message = spelled(error.message); // An error of ours has lines of Python.
  const frames = String(at.stack).split("\n").filter((line) => /^\s+at /.test(line) && !line.includes(__dirname));
  error.stack = [`${error.name}: ${error.message}`, ...frames].join("\n");
  return error;
}

/** The verbs as they are called here. */
function spelled(words) {
  return words.replace(/\b(crash_worker|deliver_twice|run_until_idle|perform_job|work_one|wait_for|with_scheduled|with_recursion)\b/g, (verb) =>
    verb.replace(/_(\w)/g, (_, letter) => letter.toUpperCase()),
  );
}

module.exports = { ANEW, Harness, Job, Session, declare, kind, leftRunning, refuseUnknown, shown, step, tellUnjudged, wired, withoutOurs };
