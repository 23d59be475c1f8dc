// A test that is played many times: the Python side says when, and judges; the body is called here, anew for each run.
// Must not know: test runners, how runs are chosen.
"use strict";
const inspector = require("node:inspector");
const { Connection } = require("./connection.cjs");
const { IsolatedBodies } = require("./isolated.cjs");
const { ANEW, Session, leftRunning, shown, wired } = require("./harness.cjs");
const { changed, stateAround } = require("./state.cjs");
const { world } = require("./world.cjs");

const STILL_MS = 5_000;
const LOOK_MS = 250;
const PROGRESS_MS = 10_000;
const real = { now: performance.now.bind(performance), setInterval: globalThis.setInterval, clearInterval: globalThis.clearInterval };

/**
 * Explore, or play what `token` says. Throws what was found, or what the undisturbed body threw.
 *
 * `command` replays it, where TOKEN stands for the token; `page` is the file as the page of a finding is named after it.
 * Returns what it cost, and what was not judged, in words.
 */
async function explore(harness, body, { name, file, page, command, runs, seconds, seed, callsFail, token, found, pin, isolated, before }) {
  const there = world();
  await there.host.replies.find(file);
  const bodies = isolated === undefined ? new Bodies(harness, body, name, before) : new IsolatedBodies(isolated);
  await there.connect();
  const progress = toldProgress(name);
  there.play = (message) => (progress(message), void bodies.play(message));
  there.registered = (slug, processor) => bodies.registered(slug, processor);
  const asked = { name, file: page, source: String(body), command, options: { ...wired(harness.options), title: name }, calls_fail: callsFail };
  for (const [key, value] of Object.entries({ runs, seconds, seed, found, replay: token })) if (value !== undefined) asked[key] = value;
  const givenUp = new Promise((_, reject) => {
    // What is played at the moment cannot be interrupted: the Python side ends with it, and the next test begins another.
    there.exploring = { cancel: () => (reject(new Error(`${name}: the test is over`)), there.disconnect()) };
  });
  try {
    const told = await Promise.race([there.ask("explore", asked), givenUp]);
    if (told.verdict === "finding") {
      const pinned = pin(told);
      throw shown("JobHarness", pinned ? `${told.screen}\nPinned: ${pinned}` : told.screen, told);
    }
    // The error is the runner's to show, with its lines: what led to it stands before.
    if (told.screen) process.stderr.write(`job-harness: ${name}: it failed undisturbed; this is what its jobs did:\n${told.screen}\n`);
    if (told.verdict === "fails") throw bodies.failure ?? shown("JobHarness", told.why);
    if (told.verdict === "inconclusive") {
      const { why, alone = false, changed = [] } = told;
      throw Object.assign(shown("Inconclusive", changed.length > 0 ? `${why}\n${ANEW}` : why), { alone, changed });
    }
    const remembered = isolated === undefined ? harness.remembered(bodies) : [];
    return { ...told, unjudged: [...(told.unjudged ?? []), ...remembered] };
  } finally {
    there.play = there.registered = there.exploring = null;
    bodies.end();
  }
}

/** Say every now and then how far a search is, which may take minutes. */
function toldProgress(name) {
  const began = real.now();
  let told = began;
  return ({ run }) => {
    if (real.now() - told < PROGRESS_MS) return;
    told = real.now();
    process.stderr.write(`job-harness: ${name}: ${run} runs in ${Math.round((told - began) / 1000)} s\n`);
  };
}

/** Play the one run that another process asks for, and what its processors have to do, until that process is done. */
async function playOnce(harness, body, { place, file }) {
  const there = world();
  await there.host.replies.find(file);
  const bodies = new Bodies(harness, body);
  await new Promise((resolve, reject) => {
    there.play = (message) => void bodies.play(message);
    there.registered = (slug, processor) => bodies.registered(slug, processor);
    const hear = { heard: (message) => there.hear(message), lost: () => resolve() };
    Connection.at(place, hear).then((connection) => (there.connection = connection).work(), reject);
  });
  bodies.end();
  there.connection = null;
}

class Bodies {
  /** `before` are the tools that hooks registered before the first run. */
  constructor(harness, body, name = null, before = new Set()) {
    this.harness = harness;
    this.body = body;
    this.name = name;
    this.before = before;
    this.failure = null;
    this.began = [new Map(), new Map()];
    /** The side effects of its runs; and by tool, the variables around its processor when the first run registered it. */
    this.had = new Set();
    this.found = new Map();
    this.state = new Map();
    this.run = 0;
    this.stuck = null;
  }

  async play({ play, now, gates, run }) {
    const there = world();
    this.run = run;
    this.state = this.began[run] ?? new Map();
    there.host.end();
    const session = (there.session = new Session());
    session.now = now;
    const stuck = (this.stuck = this.watched(there));
    let failure = null;
    let lost = null;
    try {
      there.host.begin({ now, gates, seed: this.harness.options.seed });
      lost = await Promise.race([Promise.resolve().then(() => this.body(this.harness)).then(() => null), stuck.found]);
      await session.asking;
      if (session.mistakes.length > 0) throw session.mistakes[0];
      there.time.refuseLeaving(this.name);
    } catch (error) {
      failure = this.hooked(error);
      if (run === 0) this.failure = error;
    }
    stuck.end();
    for (const { name } of session.effects) this.had.add(name);
    this.harness.keepEffects(session);
    const told = failure === null ? null : `${failure?.name ?? "Error"}: ${failure?.message ?? failure}`;
    const judged = { looked: [...session.looked], running: leftRunning(there.host), doubts: there.host.takeDoubts() };
    if (!session.over) there.connection.send({ played: play, failure: told, ...(lost === null ? {} : { lost }), left: this.left(), checks: session.checks.length + session.atRest.length, ...judged });
  }

  /** Say of a tool that a hook registered why no run has it. */
  hooked(error) {
    const tool = /^no processor is registered for the tool '([^']*)'/.exec(error?.message ?? "")?.[1];
    if (!this.before.has(tool)) return error;
    const why = "\n  A hook such as beforeEach runs once, and not for each run: call register() in the body of the explored test.";
    for (const part of ["stack", "message"]) error[part] = error[part].replace(/\n\s*Call register\(.*\) first\./, why);
    return error;
  }

  /** Look at what a processor finds around it when a run begins: what the body made anew is as it was in the first runs. */
  registered(slug, processor) {
    // What other modules keep explains why undisturbed runs differ.
    const around = stateAround([processor], { called: this.run <= 1 });
    if (!this.found.has(slug)) this.found.set(slug, around);
    for (const [name, value] of around) this.state.set(`${name}, which ${slug} uses`, value);
  }

  /** What earlier runs had changed when this one began. The first may fill what then stays: a cache, a client. */
  left() {
    return changed(this.began[this.run > 1 ? 1 : 0], this.state);
  }

  /** Notice a body that waits for something that is neither asked for nor at work. */
  watched(there) {
    let seen = -1;
    let looks = 0; // On a busy machine they come later, as whatever the body waits for.
    let found;
    const promise = new Promise((resolve) => (found = resolve));
    const timer = real.setInterval(() => {
      if (inspector.url() !== undefined) return; // At a breakpoint nothing is asked for.
      const signs = there.lastHeard + there.connection.asked.size - 1;
      if (signs !== seen || there.connection.asked.size > 1) [seen, looks] = [signs, 0];
      else if (++looks * LOOK_MS > STILL_MS) {
        const timer = there.host.waiting()[0];
        found(
          `the body of the test waits for a promise that does not settle: nothing was asked for ${STILL_MS / 1000} s` +
            (timer === undefined ? "" : `, and ${timer}`),
        );
      }
    }, LOOK_MS);
    return { found: promise, end: () => real.clearInterval(timer) };
  }

  end() {
    const there = world();
    this.stuck?.end();
    if (there.session !== null) there.session.over = true;
    there.session = null;
    there.host.end();
  }
}

module.exports = { explore, playOnce };
