// A peer's end of the peer protocol in Node: docs/contracts/peer_protocol.md. Lines in, turns, lines out.
// Must not know: processors, queues, clocks.
import { createRequire } from "node:module";

// `import` of these would read every export of them, lazy ones too, which costs as much as a third of Node's own start.
const require = createRequire(import.meta.url);
const fs = require("node:fs");
const net = require("node:net");

export const VERSION = 1;
const VARIABLE = "JOB_HARNESS_PEER";
const WATCHED = "JOB_HARNESS_PEER_WATCHED";

export class Peer {
  constructor({ clock }) {
    const [inward, outward, life] = process.env[VARIABLE].split(",").map(Number);
    delete process.env[VARIABLE];
    this.inward = inward;
    this.outward = outward;
    this.gates = new Map();
    this.severed = new Set();
    this.number = 0;
    this.turn = 0;
    const watched = process.env[WATCHED] !== undefined;
    delete process.env[WATCHED];
    if (!watched) this.watch(life);
    this.send({ hello: VERSION, clock, by: `Node ${process.version}` });
  }

  /** Let a thread of its own notice that the harness is gone, even while a user's code keeps this one busy. */
  watch(life) {
    const { Worker } = require("node:worker_threads");
    const watch = `const life = new (require("net").Socket)({ fd: ${life}, readable: true, writable: false });
      life.on("close", () => process.kill(process.pid, "SIGKILL")).resume();`;
    new Worker(watch, { eval: true, stdout: false, stderr: false }).unref();
  }

  send(report) {
    const line = Buffer.from(`${JSON.stringify(report)}\n`);
    for (let sent = 0; sent < line.length; ) sent += fs.writeSync(this.outward, line, sent);
  }

  /** Say that an actor did something that can be seen from outside. */
  effect(kind, data = {}, actor = null) {
    if (!this.severed.has(actor)) this.send({ effect: kind, actor, data });
  }

  /** Let an actor wait until it is told to go on: with what value, or with what error. */
  gate(point, args, actor = null, line = this.line?.()) {
    const gate = ++this.number;
    return new Promise((resolve, reject) => {
      if (this.severed.has(actor)) return; // It is never resumed.
      this.gates.set(gate, { actor, resolve, reject });
      this.send({ gate, actor, point, with: args, line });
    });
  }

  /**
   * Take messages, one after the other; those for which `beside` says so, beside each other.
   *
   * `act` carries out a `go` or a `time`, and says how it ended; `now` sets the clock, `sever` forgets an actor;
   * `rest` is awaited at the end of a turn, and `next` says when the next timer is due.
   */
  serve({ act, now, sever = () => {}, rest = async () => {}, next = () => ({ next: null }), beside = () => false }) {
    const turn = async (message) => {
      const number = message.go ?? message.time ?? message.sever;
      this.turn = number;
      if (message.now !== undefined) now(message.now);
      let outcome = {};
      if (message.gate !== undefined) this.resume(message);
      else if (message.sever === undefined) outcome = await act(message);
      else this.sever(message.actor, sever);
      await rest();
      this.send({ idle: number, ...next(), ...outcome });
    };
    let turns = Promise.resolve();
    let pending = [];
    const inward = new net.Socket({ fd: this.inward, readable: true, writable: false });
    inward.setEncoding("utf8");
    inward.on("data", (text) => {
      pending.push(text);
      if (!text.includes("\n")) return; // Only whole lines are put together: a long one comes in many pieces.
      const lines = pending.join("").split("\n");
      pending = [lines.pop()];
      for (const line of lines) {
        const message = JSON.parse(line);
        turns = turns.then(() => (beside(message) ? void turn(message) : turn(message)));
      }
    });
    inward.on("end", () => process.kill(process.pid, "SIGKILL"));
  }

  resume({ gate, value, error }) {
    const waiting = this.gates.get(gate);
    this.gates.delete(gate);
    if (error) waiting?.reject(Object.assign(new Error(error.message), error));
    else waiting?.resolve(value);
  }

  /** Let nothing that an actor still does be seen, and let it wait forever where it waits. */
  sever(actor, forget) {
    this.severed.add(actor);
    forget(actor);
    for (const [gate, waiting] of this.gates) if (waiting.actor === actor) this.gates.delete(gate);
  }
}

/** An error, and what it came from. */
function* chainOf(error) {
  for (let here = error, depth = 0; here && depth < 8; here = here.cause ?? here.errors?.[0], depth++) yield here;
}

/** What an error says, and what it came from says beyond that: a library's own may say next to nothing. */
function toldOf(error) {
  let told = String(error);
  for (const here of chainOf(error)) if (!told.includes(here.message ?? here)) told += `, from ${here}`;
  return told;
}

/** The SQLSTATE of an error, or the name of its errno, or that of what it came from. */
function codeOf(error) {
  for (const here of chainOf(error)) if (typeof here.code === "string") return here.code;
  return null;
}

/** How a request ended: its value, that nothing happened (`Refused`), or that its outcome is unknown. */
export async function outcomeOf(work, Refused) {
  try {
    return { value: (await work()) ?? null };
  } catch (error) {
    if (error instanceof Refused) return { refused: error.message };
    return { raised: toldOf(error), code: codeOf(error) };
  }
}
