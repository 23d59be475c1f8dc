// What there is once in the realm of a test file, however often its modules are loaded anew (`jest.resetModules`): the
// connection, the virtual time, and the harness that is open. Must not know: test runners.
"use strict";
const { Connection } = require("./connection.cjs");
const { SHARED } = require("./shared_harness.cjs");
const { Host } = require("./host.cjs");
const { VirtualTime } = require("./time.cjs");

const KEY = Symbol.for("job-harness.world");

class World {
  constructor() {
    for (const name of ["bun", "deno"]) {
      if (process.versions[name] === undefined) continue;
      throw new Error(`job-harness runs on Node, not on ${name}: it needs Node's timers and async_hooks. Run the tests with Node.`);
    }
    this.time = new VirtualTime();
    this.host = new Host({ send: (message) => this.connection?.send(message), time: this.time });
    this.connection = null;
    this.session = null;
    /** Whether one is being opened. */
    this.opening = false;
    this.play = null;
    /** The explored test that is played, which can be given up. */
    this.exploring = null;
    /** Takes what is for the process that plays a run, where that is another one. */
    this.relay = null;
    this.registered = null;
    this.users = 0;
    /** How often a test of a name was declared in a file. */
    this.declared = new Map();
    /** Whether a test of this file has begun, and whether one has taken up the token that is to be replayed. */
    this.tested = false;
    this.replayed = false;
    /** Whether its virtual time leaves the process once the file is over. */
    this.leaves = false;
    this.lastHeard = 0;
  }

  /** The Python side, started when it is first needed, or where the run of all files has one, a fork of that. */
  async connect() {
    if (this.connection === null || this.connection.over !== null) {
      this.connection = null;
      const hear = { heard: (message) => this.hear(message), lost: (why) => this.lose(why) };
      const shared = process.env[SHARED];
      if (shared) this.connection = await Connection.at(shared, { ...hear, begins: true }).catch(() => null);
      this.connection ??= await Connection.open(hear);
    }
    return this.connection;
  }

  /** Count a test that is declared under a name, which another one may have too. */
  nth(name) {
    this.declared.set(name, (this.declared.get(name) ?? 0) + 1);
    return this.declared.get(name);
  }

  hear(message) {
    this.lastHeard++;
    if (message.check !== undefined && this.relay === null) this.check(message);
    else if (message.news !== undefined && message.check === undefined) this.session?.take(message.news);
    else if (message.play !== undefined) this.play?.(message);
    else (this.relay ?? ((said) => this.host.hear(said)))(message);
  }

  /** Judge by the checks of the test: something has happened. */
  check({ check, news, rest }) {
    this.session?.take(news);
    const tell = (broken = []) => void this.connection?.send({ checked: check, broken });
    if (rest) void this.session?.checkAtRest().then(tell);
    else tell(this.session?.check());
  }

  lose(why) {
    if (this.session !== null) this.session.lost = why;
    this.time.off();
  }

  /** Ask for something on behalf of the run at work, or of the test. */
  ask(what, given) {
    const actor = this.host.actor();
    if (this.connection === null) return Promise.reject(new Error("job-harness: no harness is open"));
    return this.connection.ask(what, given, actor ?? undefined);
  }

  async disconnect() {
    const { connection } = this;
    this.connection = null;
    this.time.off();
    await connection?.close();
  }
}

function world() {
  return (globalThis[KEY] ??= new World());
}

module.exports = { world };
