// The child process that has clock, queue, faults and judge, and the lines between it and this process:
// docs/contracts/serve_protocol.md. Must not know: processors, timers, tests.
"use strict";
const { spawn } = require("node:child_process");
const inspector = require("node:inspector");
const net = require("node:net");
const { PassThrough } = require("node:stream");
const { OF_HARNESS } = require("./rest.cjs");
const { EnvironmentUnavailable, VARIABLE, WHAT_TO_INSTALL, candidates, isAbsent, version, whyAbsent } = require("./python.cjs");

const PROTOCOL = 1;
const START_MS = 30_000;
const END_MS = 3_000;
const LONGEST_TOLD = 2_000;
const real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };

/** What was asked for and not done: `kind` says why, as the protocol lists. */
class Refused extends Error {
  constructor({ kind, name, message, hint }) {
    super(hint ? `${message}\n  ${hint}` : message);
    this.kind = kind;
    this.name = kind === "assertion" ? "AssertionError" : (name ?? "Refused");
  }
}

class Connection {
  /** Start the Python side. `heard` gets every message that is no answer; `lost` why there will be no more. */
  static async open({ heard, lost, serve = ["--stdio"] }) {
    const tried = [];
    for (const command of candidates()) {
      const connection = new Connection([...command, "serve", ...serve], { heard, lost });
      const why = await connection.greeted;
      if (why === null) return connection;
      await connection.close();
      tried.push(`${command[0]}: ${why.reason}`);
      if (!why.absent) throw new EnvironmentUnavailable(`job-harness cannot use ${command.join(" ")}: ${why.reason}`, why.hint);
    }
    throw new EnvironmentUnavailable(`job-harness finds no Python that has it; tried\n    ${tried.join("\n    ")}`);
  }

  /** Take part in the harness of another process, which passes lines on at this place, or `begins` one for this process. */
  static async at(place, { heard, lost, begins = false }) {
    const connection = new Connection([place], { heard, lost, place, begins });
    const why = await connection.greeted;
    if (why !== null) throw new EnvironmentUnavailable(`job-harness: ${why.reason}`, "");
    return connection;
  }

  constructor(command, { heard, lost, place, begins = false }) {
    this.command = command;
    this.begins = begins;
    this.heard = heard;
    this.lost = lost;
    this.asked = new Map();
    /** By number, who takes the answer to what another process has asked through this one. */
    this.passedOn = new Map();
    this.number = 0;
    this.pending = [];
    this.printed = "";
    this.over = null;
    this.greeting = false;
    this.greeted = new Promise((resolve) => (this.greet = resolve));
    // A session of its own: Ctrl-C is for the test runner to hear, and the child ends with its input.
    this.child = place === undefined ? started(command) : through(place);
    this.limit = real.setTimeout(() => this.fail(`it did not begin within ${START_MS / 1000} s`), START_MS);
    this.child.on("error", (error) => this.end(error.code === "ENOENT" ? "there is no such program" : error.message, error.code === "ENOENT"));
    this.child.on("close", (code, signal) => this.closed(code, signal));
    this.child.stdin.on("error", () => {});
    this.child.stdout.setEncoding("utf8");
    this.child.stdout.on("data", (text) => this.take(text));
    this.child.stderr.setEncoding("utf8");
    this.child.stderr.on("data", (text) => this.print(text));
    this.rest();
  }

  // lines --------------------------------------------------------------------------------------------------------

  take(text) {
    this.pending.push(text);
    if (!text.includes("\n")) return; // Only whole lines are put together: a long one comes in many pieces.
    const lines = this.pending.join("").split("\n");
    this.pending = [lines.pop()];
    for (const line of lines) {
      let message = null;
      try {
        message = JSON.parse(line);
      } catch {
        // It is named below.
      }
      if (this.over !== null) return;
      if (message === null || typeof message !== "object") return this.polluted(line);
      if (message.hello !== undefined) this.hello(message);
      else if (message.answer !== undefined) this.answered(message);
      else this.heard(message);
    }
  }

  polluted(line) {
    this.fail(
      `something wrote ${JSON.stringify(line.slice(0, 200))} into its standard output, which is for the protocol`,
      `Let ${VARIABLE} name a Python itself, not a script that prints.`,
    );
  }

  hello({ hello, version: theirs }) {
    if (hello !== PROTOCOL || theirs !== version) {
      const both = `it is job-harness ${theirs} (protocol ${hello}), and this npm package is ${version} (protocol ${PROTOCOL})`;
      return this.fail(both, "Install the same version of both.");
    }
    real.clearTimeout(this.limit);
    this.greeting = true;
    this.greet(null);
  }

  answered(message) {
    const { answer, value, refused, news } = message;
    const passedOn = this.passedOn.get(answer);
    if (passedOn !== undefined) return void (this.passedOn.delete(answer), passedOn(message));
    const asked = this.asked.get(answer);
    this.asked.delete(answer);
    if (this.asked.size === 0) this.rest();
    if (news) this.heard({ news });
    if (asked === undefined) return;
    if (refused) asked.reject(new Refused(refused));
    else asked.resolve(value);
  }

  send(message) {
    if (this.over === null) this.child.stdin.write(`${JSON.stringify(message)}\n`);
  }

  /** Ask for something. Rejects with Refused, or EnvironmentUnavailable once the child is gone. */
  ask(what, given, actor) {
    if (this.over !== null) return Promise.reject(this.over);
    const number = ++this.number;
    this.work();
    this.introduce();
    return new Promise((resolve, reject) => {
      this.asked.set(number, { resolve, reject });
      this.send({ ask: number, do: what, with: given, ...(actor === undefined ? {} : { actor }) });
    });
  }

  /** Say which process this is, and whether a debugger may hold it: then it is waited for as long as it takes. */
  introduce() {
    const inspected = inspector.url() !== undefined;
    if (this.introduced === inspected) return;
    this.introduced = inspected;
    const own = this.begins ? { folder: process.cwd(), environment: { ...process.env } } : {};
    this.begins = false;
    this.send({ process: process.pid, inspected, ...own });
  }

  // the child ----------------------------------------------------------------------------------------------------

  /** Keep this process alive while something is asked; otherwise nothing of the child does. */
  work() {
    for (const handle of [this.child, this.child.stdin, this.child.stdout, this.child.stderr]) handle.ref?.();
  }

  rest() {
    for (const handle of [this.child, this.child.stdin, this.child.stdout, this.child.stderr]) handle.unref?.();
    if (this.over === null && this.limit !== undefined) this.limit.unref?.();
  }

  print(text) {
    this.printed = (this.printed + text).slice(-LONGEST_TOLD);
    if (this.greeting) process.stderr.write(text);
  }

  closed(code, signal) {
    const how = typeof code === "boolean" ? "closed the connection" : signal ? `was killed by ${signal}` : `ended with exit code ${code}`;
    const last = this.printed.trim().split("\n").slice(-4).join("\n    ");
    const absent = isAbsent(this.printed);
    this.end(absent ? whyAbsent(this.printed) : `its process ${how}${last ? `; it last said\n    ${last}` : ""}`, absent);
  }

  fail(reason, hint = "") {
    this.end(reason, false, hint);
    this.child.kill("SIGKILL");
  }

  end(reason, absent = false, hint = WHAT_TO_INSTALL) {
    if (this.over !== null) return;
    real.clearTimeout(this.limit);
    this.over = new EnvironmentUnavailable(`job-harness: the Python side is gone: ${reason}`, "");
    this.greet({ reason, absent, hint });
    for (const { reject } of this.asked.values()) reject(this.over);
    this.asked.clear();
    this.lost(this.over);
  }

  /** End the child, which cannot outlive its input, and wait for that. */
  close() {
    if (this.over === null) {
      this.over = new EnvironmentUnavailable("job-harness: this harness is closed", "");
      real.clearTimeout(this.limit);
    }
    this.child.stdin.end(); // With that it gives back what it has started, and ends.
    const gone = this.child.exitCode !== null || this.child.signalCode !== null || this.child.pid === undefined;
    if (gone) return Promise.resolve();
    this.work();
    return new Promise((resolve) => {
      const limit = real.setTimeout(() => this.child.kill("SIGKILL"), END_MS);
      this.child.once("close", () => (real.clearTimeout(limit), resolve()));
    });
  }
}

function started([program, ...given]) {
  return spawn(program, given, {
    stdio: ["pipe", "pipe", "pipe", 2],
    env: { ...process.env, JOB_HARNESS_SAY: "3" }, // While a processor takes this thread, only the child can say so.
    detached: process.platform !== "win32",
    windowsHide: true,
  });
}

/** A socket as a child process is seen. */
function through(place) {
  const socket = net.connect(place);
  const nothing = new PassThrough();
  return Object.assign(socket, { [OF_HARNESS]: true, stdin: socket, stdout: socket, stderr: nothing, exitCode: null, signalCode: null, pid: 0, kill: () => socket.destroy() });
}

module.exports = { Connection, EnvironmentUnavailable, PROTOCOL, Refused };
