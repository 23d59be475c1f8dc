// Runs processors in the process of the test, as the peer of the Python side: each run is an actor; a turn ends when
// nothing is left to do by itself. Must not know: test runners, what a test asks for.
"use strict";
const { AsyncLocalStorage } = require("node:async_hooks");
const { described, lenient, toJson } = require("./shared/values.cjs");
const { realMilliseconds, realSetTimeout } = require("./shared/clock.cjs");
const { FOREVER, Replies } = require("./shared/replies.cjs");
const { lineHere, placeHere } = require("./places.cjs");
const { OF_HARNESS, Rest } = require("./rest.cjs");

const DATES = ["startedAt", "completedAt", "expiresAt", "createdAt", "updatedAt"];
const LARGEST = 32 * 1024 * 1024;

class Host {
  /** `send` writes a line, `time` is the virtual time of this realm. */
  constructor({ send, time }) {
    this.send = send;
    this.time = time;
    this.running = new AsyncLocalStorage();
    this.replies = new Replies({
      require,
      run: () => (this.explored ? this.run() : null),
      isDead: (run) => this.isDead(run),
      others: (run) => [...this.runs.values()].some((each) => each !== run && !this.replies.isAsking(each)),
      stand: (run, point, line) => this.running.run(run, () => this.stand(point, ["reply", {}], line)),
      calls: (run, point, line, method) => this.running.run(run, () => this.stand(point, ["call", { method }], line)),
      place: placeHere,
      line: lineHere,
      unawaited: (point) => this.unawaited.add(point),
      blind: (what) => this.doubts.add(`replies of ${what} are no gates: no crash and no other job came before them`),
      opens: (what) => this.send({ effect: "note", actor: this.run().name, data: { what } }),
      isOurs: (socket) => socket[OF_HARNESS] === true,
      milliseconds: realMilliseconds,
    });
    this.rest = new Rest(this.replies);
    this.turns = Promise.resolve();
    this.turn = 0;
    this.gate = 0;
    this.forget();
  }

  forget() {
    this.processors = new Map();
    this.runs = new Map();
    /** All runs, those that have ended included. */
    this.began = [];
    /** Runs that waited, for a real second, for nothing that is known. */
    this.hanging = new WeakSet();
    this.gates = new Map();
    /** What the last attempt of a job that threw has thrown, by the job. */
    this.thrown = new Map();
    this.severed = new Set();
    /** Results that a queue may take for the success of what they call a failure, in words. */
    this.doubts = new Set();
    /** What runs that ended well did not wait for, in words. */
    this.unawaited = new Set();
    this.explored = false;
    /** Begins a worker of the test's own anew, by its name. */
    this.again = () => {};
    /** What declares the side effects of code that belongs to no worker and no run, where workers are the test's own. */
    this.unnamed = undefined;
  }

  /** Begin with no processors at a time of day. */
  begin({ now, gates = false, seed = 0 }) {
    this.forget();
    this.explored = gates;
    const owner = () => this.running.getStore()?.process ?? this.actor();
    this.time.on({ now, seed, owner, place: gates ? placeHere : () => "", line: gates ? lineHere : () => undefined });
    this.rest.begin();
    if (gates) this.replies.begin();
  }

  end() {
    if (this.explored) {
      for (const run of this.runs.values()) this.replies.sever(run);
      this.replies.end();
    }
    this.rest.end(); // It was there first: what both put on sockets is taken off in turn.
    this.explored = false;
    this.time.off();
    for (const run of this.runs.keys()) this.severed.add(run);
    this.runs.clear();
    this.gates.clear();
  }

  /** Whose doing the present code is; null: the test's own. */
  run() {
    const run = this.running.getStore();
    return run === undefined || run.process !== undefined ? null : run;
  }

  actor() {
    return this.run()?.name ?? null;
  }

  isDead(run) {
    return this.severed.has(run.name) || run.of !== this.time.clock;
  }

  /** Whether the present code is of a run whose worker is dead. What a run does after its end is heard: it happens. */
  get dead() {
    const run = this.running.getStore();
    if (run?.process !== undefined) return run.process.dead;
    return run !== undefined && this.isDead(run);
  }

  // messages -----------------------------------------------------------------------------------------------------

  hear(message) {
    if (message.sever !== undefined) this.sever(message);
    else this.turns = this.turns.then(() => this.take(message));
  }

  async take(message) {
    const number = (this.turn = message.go ?? message.time);
    const { clock } = this.time;
    if (clock === null) return this.send({ idle: number, next: null });
    this.rest.look();
    this.replies.look();
    clock.now = Math.max(clock.now, message.now ?? 0);
    if (message.gate !== undefined) this.pass(message);
    else if (message.do === "run") this.start(message);
    else if (message.do === "again") this.again(message.actor);
    else if (message.time !== undefined) await this.move(message);
    await this.settle();
    this.replies.announce();
    this.send({ idle: number, ...this.next() });
  }

  move({ now, one = false }) {
    const broken = (_, error) => realSetTimeout(() => { throw error; }); // As in any process: it is the runner's to tell.
    return this.time.clock.moveTo(now, { rest: () => this.settle(), broken, one });
  }

  async settle() {
    await this.rest.reached({
      waiting: () => this.unexplained().some((run) => !this.hanging.has(run)),
      alive: (io) => this.send({ idle: this.turn, next: this.time.clock?.next() ?? null, io }),
    });
    for (const run of this.unexplained()) this.hanging.add(run); // It is given its real second once, not at each step of time.
  }

  /** Runs that wait for nothing that is known. */
  unexplained() {
    return this.time.clock === null ? [] : [...this.runs.values()].filter((run) => this.waitsForSomethingElse(run));
  }

  waitsForSomethingElse(run) {
    const mine = ({ owner, actor }) => (owner ?? actor) === run.name;
    const known = [...this.time.clock.timers.values()].some(mine) || [...this.gates.values()].some(mine) || this.replies.keeps(run);
    if (known) this.hanging.delete(run);
    return !known;
  }

  next() {
    const timer = this.time.clock?.earliest() ?? null;
    if (timer === null) return { next: null };
    const { when: next, owner: actor, place: point, line } = timer;
    return point && actor !== null ? { next, actor, point, line } : { next };
  }

  sever({ sever, actor }) {
    this.severed.add(actor);
    this.runs.delete(actor);
    for (const run of this.began.filter(({ name }) => name === actor)) this.replies.sever(run);
    for (const [number, gate] of this.gates) if (gate.actor === actor) this.gates.delete(number);
    for (const timer of this.time.clock?.timers.values() ?? []) if (timer.owner === actor) timer.cancel();
    this.send({ idle: sever, next: this.time.clock?.next() ?? null });
  }

  /** The intervals that runs which have ended left behind, and the replies for which they did not wait. */
  left() {
    const over = (owner) => typeof owner === "string" && !this.runs.has(owner) && !this.severed.has(owner);
    const intervals = (this.time.clock?.left(over) ?? []).map((interval) => `a ${interval} still runs: clear it before the processor returns`);
    return [...intervals, ...[...this.unawaited].map((point) => `nothing waits for the ${point}: await it before the processor returns`)];
  }

  /** What the first of the FAILED jobs that no test looked at threw. */
  unseen({ jobs, looked }) {
    const failed = [...jobs].find(([job, { status }]) => status === "FAILED" && !looked.has(job) && this.thrown.has(job));
    return failed && this.thrown.get(failed[0]);
  }

  /** What is open about the results since this was last asked, in words. */
  takeDoubts() {
    const doubts = [...this.doubts];
    this.doubts.clear();
    return doubts;
  }

  /** The timers of the test's body that wait for virtual time, in words, the first one first. */
  waiting() {
    const timers = [...(this.time.clock?.timers.values() ?? [])];
    return timers
      .filter((timer) => timer.owner === null && !timer.repeats && !timer.byLibrary)
      .sort((one, other) => one.when - other.when)
      .map(({ wait }) => `a setTimeout of ${wait} ms waits for virtual time, which passes in harness.advance("${wait}ms")`);
  }

  // gates --------------------------------------------------------------------------------------------------------

  /** Let the present run stand at a gate, until it is told to go on; of a dead one that is forever. */
  stand(point, given, line) {
    const process = this.running.getStore()?.process ?? this.unnamed;
    if (process !== undefined) return process.stand(point, given);
    const actor = this.actor();
    if (actor === null) return Promise.resolve(null);
    if (this.dead) return FOREVER;
    const gate = ++this.gate;
    return new Promise((resolve, reject) => {
      this.gates.set(gate, { actor, resolve, reject });
      this.send({ gate, actor, point, with: given, line });
    });
  }

  pass({ gate, value, error }) {
    const waiting = this.gates.get(gate);
    this.gates.delete(gate);
    if (error) waiting?.reject(Object.assign(new Error(error.message), { name: error.name }));
    else waiting?.resolve(value);
  }

  // runs ---------------------------------------------------------------------------------------------------------

  start({ with: { job, slug }, actor }) {
    const run = { name: actor, job: job.id, of: this.time.clock };
    this.runs.set(actor, run);
    this.began.push(run);
    if (this.explored) this.replies.again();
    this.running.run(run, () => this.perform(run, slug, given(job)));
  }

  async perform(run, slug, job) {
    const before = JSON.stringify(job.input);
    let ending;
    try {
      const found = this.processors.get(slug);
      if (found === undefined) throw new Error(`no processor is registered for the tool ${JSON.stringify(slug)} any more`);
      const { processor, withToken } = found;
      ending = this.ending(run, await (withToken ? processor(job, ...lockOf(run)) : processor(job)), slug);
    } catch (thrown) {
      this.thrown.set(run.job, thrown);
      ending = { threw: described(thrown) };
    }
    if (this.runs.get(run.name) !== run) return; // Its worker has died.
    this.runs.delete(run.name);
    if (ending.result?.success) this.replies.endsWell(run);
    this.replies.over(run);
    const changed = changedInput(job, before);
    this.send({ effect: "ended", actor: run.name, data: bounded({ ...ending, ...changed }) });
  }

  ending(run, result, slug) {
    const whole = isResult(result);
    const { success, output, error, retryable, ...rest } = whole ? result : { success: true, output: result };
    const json = toJson(output === undefined ? null : output, "output");
    if (json.bad) return { bad: `the processor's output is not JSON: ${json.bad}` };
    const lost = Object.keys(rest).join(", ");
    if (lost) json.notes.push(`its result has ${lost} beside success, output, error and retryable: the queue keeps none of it`);
    if (lost && !success) this.doubts.add(doubtful(slug, lost));
    for (const what of json.notes) this.send({ effect: "note", actor: run.name, data: { what } });
    const text = error === undefined || error === null ? null : typeof error === "string" ? error : described(error).message;
    return { result: { success, output: json.value, error: text, retryable: retryable !== false } };
  }
}

/** What a processor is called with: the row of the guide's tool_job; `name` and `data` as pg-boss and BullMQ call them. */
function given(job) {
  for (const key of DATES) if (job[key] !== null && job[key] !== undefined) job[key] = new Date(job[key]);
  const row = { ...job, name: job.toolSlug, data: job.input, attemptsMade: job.attempts - 1 };
  return Object.defineProperties(row, { updateProgress: { value: async () => {} }, log: { value: lineCounter() } });
}

/** What BullMQ gives a processor beside its job: the token of its lock, and a signal, which aborts only where the application asks. */
function lockOf({ name }) {
  return [name, new AbortController().signal];
}

/** What BullMQ's `job.log` does for its caller: it tells how many lines there are by now. */
function lineCounter() {
  let lines = 0;
  return async () => ++lines;
}

function isResult(result) {
  return result !== null && typeof result === "object" && typeof result.success === "boolean";
}

/** A result of the user's own that looks like a JobResult: only here does it make the job fail. */
function doubtful(slug, others) {
  return (
    `the processor of '${slug}' returned success: false beside ${others}, and its job failed here; BullMQ, pg-boss and ` +
    "graphile-worker complete such a job and never retry it: throw an error instead"
  );
}

function changedInput(job, before) {
  try {
    if (JSON.stringify(job.input) === before) return {};
  } catch {
    // It put something there that JSON cannot hold.
  }
  return { input: lenient(job.input) };
}

function bounded(ending) {
  const { length } = JSON.stringify(ending);
  if (length <= LARGEST) return ending;
  return { bad: `the processor returned ${(length / 1e6).toFixed(0)} MB; at most ${LARGEST / 1024 / 1024} MiB are taken` };
}

module.exports = { FOREVER, Host };
