// Explored runs each in a process of its own, for tests that keep state outside of their body: the file is loaded anew by
// the runner, which plays the body once. This process starts it and passes lines on. Must not know: test runners, bodies.
"use strict";
const { spawn } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const { PROTOCOL } = require("./connection.cjs");
const { version } = require("./python.cjs");
const { world } = require("./world.cjs");

/** Names, in such a process, where to ask for the run that it plays. */
const PLAYS = "JOB_HARNESS_PLAYS";
/** And of which test, by its whole name. */
const PLAYED_TEST = "JOB_HARNESS_PLAYED_TEST";
const WAITS_MS = 5_000;
const TAIL = 2_000;
const real = { setInterval: globalThis.setInterval, clearInterval: globalThis.clearInterval };

class IsolatedBodies {
  /** `command` is program and arguments that run this `test` alone, in a fresh process. */
  constructor({ command, test }) {
    this.command = command;
    this.test = test;
    this.failure = null;
    this.waiting = [];
    this.wanted = [];
    this.children = new Set();
    this.at = null;
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), "job-harness-"));
    this.place = process.platform === "win32" ? `\\\\.\\pipe\\${path.basename(this.folder)}` : path.join(this.folder, "s");
    this.server = net.createServer((socket) => this.arrived(socket)).listen(this.place);
    world().relay = (message) => this.at?.write(`${JSON.stringify(message)}\n`);
  }

  async play(message) {
    const there = world();
    this.at?.destroy(); // With that the process before ends.
    const alive = real.setInterval(() => there.connection?.send({ idle: 0, next: null }), WAITS_MS);
    try {
      this.at = await this.fresh();
      this.at.played = message.play;
      there.relay(message);
    } catch (error) {
      there.connection.send({ played: message.play, failure: null, lost: error.message });
    } finally {
      real.clearInterval(alive);
    }
  }

  registered() {}

  /** A process that has loaded the file and waits; the next one is started meanwhile. */
  async fresh() {
    this.begin();
    const found = new Promise((resolve, reject) => this.wanted.push({ resolve, reject }));
    this.match();
    const socket = await found;
    this.begin();
    return socket;
  }

  match() {
    while (this.wanted.length > 0 && this.waiting.length > 0) this.wanted.shift().resolve(this.waiting.shift());
  }

  /** Start a process, unless one is ready or on its way. */
  begin() {
    if (this.starting || this.waiting.length > 0) return;
    this.starting = true;
    const [program, ...given] = this.command;
    const env = ofOtherRun({ [PLAYS]: this.place, [PLAYED_TEST]: this.test });
    const child = spawn(program, given, { env, stdio: ["ignore", "pipe", "pipe"], detached: process.platform !== "win32" });
    this.children.add(child);
    let told = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (told = (told + data).slice(-TAIL)));
    child.on("error", (error) => this.failed(child, error.message));
    child.on("close", (code) => this.failed(child, `it ended with exit code ${code}: ${told.trim()}`));
  }

  failed(child, why) {
    if (!this.children.delete(child) || child.arrived) return;
    this.starting = false;
    for (const { reject } of this.wanted.splice(0)) reject(new Error(`isolate: "worker": the process of a run came to nothing: ${why}`));
  }

  arrived(socket) {
    this.starting = false;
    for (const child of this.children) child.arrived = true;
    socket.on("error", () => {});
    socket.setEncoding("utf8");
    let pending = "";
    socket.on("data", (text) => {
      const lines = (pending + text).split("\n");
      pending = lines.pop();
      for (const line of lines) this.pass(socket, JSON.parse(line));
    });
    socket.on("close", () => {
      this.waiting = this.waiting.filter((each) => each !== socket);
      if (socket === this.at) this.ended(socket);
    });
    socket.write(`${JSON.stringify({ hello: PROTOCOL, version })}\n`);
    this.waiting.push(socket);
    this.match();
  }

  /** Pass a line on. What was asked for is answered under the number that this process gave it. */
  pass(socket, message) {
    const { connection } = world();
    if (socket !== this.at || connection === null) return;
    if (message.played !== undefined) socket.played = null;
    if (message.ask === undefined) return connection.send(message);
    const number = ++connection.number;
    connection.passedOn.set(number, (answer) => socket.write(`${JSON.stringify({ ...answer, answer: message.ask })}\n`));
    connection.send({ ...message, ask: number });
  }

  ended({ played }) {
    if (played !== null && played !== undefined) world().connection?.send({ played, failure: null, lost: "its process ended" });
  }

  end() {
    world().relay = null;
    this.at = null;
    this.server.close();
    for (const child of this.children) {
      try {
        process.kill(process.platform === "win32" ? child.pid : -child.pid, "SIGKILL");
      } catch {
        // It has ended by itself.
      }
    }
    this.children.clear();
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The environment of another run of the runner, which this one is not to be taken for. */
function ofOtherRun(more) {
  const env = { ...process.env, ...more };
  for (const name of Object.keys(env)) if (/^(VITEST|JEST|TINYPOOL|NODE_CHANNEL|NODE_V8_COVERAGE)/.test(name)) delete env[name];
  return env;
}

module.exports = { IsolatedBodies, PLAYS, PLAYED_TEST, ofOtherRun };
