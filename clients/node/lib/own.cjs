// A harness for workers that a test starts itself: `boss.work(...)`, `run({...})`. Their timers and their database follow
// virtual time; one that dies hears nothing any more, and is begun anew. Must not know: test runners, lines.
"use strict";
const net = require("node:net");
const { Harness, Job, kind, refuseUnknown } = require("./harness.cjs");
const { FOREVER } = require("./host.cjs");
const { world } = require("./world.cjs");

/** One worker of a test's own, from one beginning to its death; sockets that its code opens are its own. */
class OwnProcess {
  constructor(name, begin) {
    this.name = name;
    this.begin = begin;
    this.dead = false;
    this.sockets = new Set();
  }

  /** Let what it declares be seen, and die there if that was asked for. */
  stand(point, [kind, given]) {
    if (this.dead) return FOREVER;
    const there = world();
    const { session, host, time } = there;
    if (kind === "effect") {
      session.effects.push({ name: point, at: time.clock.now, job: null, attempt: null, worker: this.name, data: given.data });
      session.checkNow();
    }
    const planned = session.deaths.findIndex(({ at, worker }) => at === point && (worker ?? this.name) === this.name);
    if (planned < 0 || this.name === null) return Promise.resolve(null);
    session.deaths.splice(planned, 1);
    host.send({ effect: "died", actor: this.name, data: { ports: this.die() } });
    return FOREVER;
  }

  /** Cut off all that it has, unheard; returns the ports at which a server still knows it. */
  die() {
    this.dead = true;
    for (const timer of [...(world().time.clock?.timers.values() ?? [])]) if (timer.owner === this) timer.cancel();
    return cutOff(this.sockets);
  }
}

/** Close sockets unheard; returns the ports at which a server still knows them. */
function cutOff(sockets) {
  const ports = [...sockets].map(({ localPort }) => localPort).filter(Boolean);
  for (const socket of sockets) {
    socket.removeAllListeners(); // Whoever waits for a reply waits forever, as in a process that is no more.
    socket.on("error", () => {});
    socket.destroy();
  }
  sockets.clear();
  return ports;
}

class OwnWorkersHarness extends Harness {
  #processes = new Map();
  #url = null;
  #theirs = new Set();
  #unwatch = () => {};

  opening(title) {
    const { queue, ...unknown } = this.options;
    refuseUnknown("ownWorkers", unknown, ["queue"]);
    return ["open_workers", { queue: queue ?? "", title }];
  }

  async open(title) {
    this.#url = (await super.open(title)).url;
    this.#processes.clear();
    const { session } = world();
    session.deaths = [];
    // What it throws when it begins anew is a mistake of the test: nothing else would say so.
    world().host.again = (name) => void Promise.resolve().then(() => this.#run(name)).catch((error) => session.mistakes.push(error));
    world().host.unnamed = new OwnProcess(null);
    this.#unwatch = watchSockets(world().host.running, this.#theirs);
  }

  async close(options) {
    const deaths = world().session?.deaths ?? [];
    try {
      await super.close(options);
    } finally {
      // The database goes, and with it whatever the test did not stop; what leads elsewhere may be for other tests, too.
      for (const process of this.#processes.values()) if (!process.dead) process.die();
      const port = this.#url === null ? 0 : Number(new URL(this.#url).port);
      cutOff(new Set([...this.#theirs].filter((socket) => socket.remotePort === port)));
      this.#theirs.clear();
      this.#unwatch();
      world().host.unnamed = undefined;
    }
    const [never] = options?.judge === false ? [] : deaths;
    if (never !== undefined) throw new Error(`crashWorker({ at: ${JSON.stringify(never.at)} }): no worker came to that effect or step`);
  }

  /** Where the database of this test is; in a worker that was started here, under its name. */
  get databaseUrl() {
    if (this.#url === null) throw new Error("no harness is open here: read databaseUrl inside a test");
    const url = new URL(this.#url);
    const { process } = world().host.running.getStore() ?? {};
    if (process !== undefined) url.searchParams.set("application_name", process.name);
    return url.href;
  }

  /** Begin a worker as a process of its own, which may die: whatever the function starts belongs to it. */
  async start(name, begin) {
    if (typeof name !== "string" || typeof begin !== "function") throw new TypeError("start(name, begin) takes a name and a function");
    if (this.#processes.has(name)) throw new Error(`start(${JSON.stringify(name)}): a worker of that name is there already`);
    this.#processes.set(name, new OwnProcess(name, begin));
    await this.ask("watchJobs");
    const begun = await this.#run(name);
    await this.ask("watchJobs"); // A job that is sent from here on may be run at once, and its row deleted.
    return begun;
  }

  #run(name) {
    const before = this.#processes.get(name);
    const process = before.dead ? new OwnProcess(name, before.begin) : before;
    this.#processes.set(name, process);
    return world().host.running.run({ name, process }, process.begin);
  }

  /** Let a worker die now, or at the next effect or step of a name; it begins anew at once. */
  async crashWorker({ at, worker, ...unknown } = {}) {
    refuseUnknown("crashWorker", unknown, ["at", "worker"]);
    const names = [...this.#processes.keys()];
    if (names.length === 0) throw new Error('crashWorker: no worker was begun with harness.start("worker", async () => { ... }), so nothing says what dies with it');
    if (worker !== undefined && !names.includes(worker)) throw new Error(`crashWorker: there is no worker ${JSON.stringify(worker)}. Available: ${names.join(", ")}.`);
    if (at !== undefined && typeof at !== "string") throw new TypeError(`crashWorker: \`at\` is ${kind(at)}; give the name of an effect or step`);
    if (at !== undefined) return void world().session.deaths.push({ at, worker });
    const name = worker ?? names[0];
    await this.ask("workerDied", { worker: name, ports: this.#processes.get(name).die() });
  }

  /** A job of the library's table by its id, as it is when it is read. */
  job(id) {
    if (typeof id !== "string" && typeof id !== "number") throw new TypeError(`job() takes the id of a job, not ${kind(id)}: await what sends it`);
    return new Job(String(id), world().session);
  }

  /** All jobs of the table, in the order in which they came. */
  get jobs() {
    return [...world().session.jobs.keys()].map((id) => this.job(id));
  }
}

/** Note whose each new socket is, until the function that is returned is called; those of the test itself are `theirs`. */
function watchSockets(running, theirs) {
  const { connect } = net.Socket.prototype;
  net.Socket.prototype.connect = function (...given) {
    const { process } = running.getStore() ?? {};
    if (process?.dead) return this;
    (process === undefined ? theirs : process.sockets).add(this);
    return connect.apply(this, given);
  };
  return () => void (net.Socket.prototype.connect = connect);
}

module.exports = { OwnWorkersHarness };
