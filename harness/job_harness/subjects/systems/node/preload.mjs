// Loaded before a user's own program (`node --import`): virtual time, drawn numbers of our own, and a say in when the
// process is at rest. The program itself is not changed, and knows nothing of this.
// Must not know: queues, jobs, statements.
import Module, { createRequire } from "node:module";
import { installChance } from "../../../worlds/peers/chance.mjs";
import { Clock, install, realMilliseconds, realSetImmediate, realSetTimeout } from "../../../worlds/peers/clock.mjs";
import { Peer } from "../../../worlds/peers/peer.mjs";
import { deepStack, lineAt, lineOf, placeOf } from "../../../worlds/peers/places.mjs";
import { Rest, SILENT } from "../../../worlds/peers/rest.mjs";

const require = createRequire(import.meta.url);
const net = require("node:net");
const tls = require("node:tls");
const http = require("node:http");
const https = require("node:https");
const crypto = require("node:crypto");
const channels = require("node:diagnostics_channel");

const ASKED = "JOB_HARNESS_SYSTEM";
const LOCAL = /^(localhost|127\.\d+\.\d+\.\d+|::1|0\.0\.0\.0|::|)$/;
// Where tsx tells the process that watches files, if one does, what was imported.
const TSX_WATCHER = /[\\/]tsx-\d+[\\/]\d+\.pipe$/;
// What may be open without anything coming of it: whether bytes are on their way is known by their number.
// The messages of PostgreSQL's that have the text of a statement, after their kind and length: Parse has a name before it.
const [QUERY, PARSE, HEAD] = [0x51, 0x50, 5];
const POOLED = Symbol("watched by job-harness");
const COUNTED = ["TCPSocketWrap", "PipeWrap", "MessagePort", "ProcessWrap"];
// A child process is waited for so long, in real time: one that stays, such as a server, lives beside this one.
const CHILD_MS = 2_000;
// How long a program counts as being loaded, in real time, while it waits for messages of a thread and for nothing else.
const LOADING_MS = 20_000;

async function begin() {
  const asked = JSON.parse(process.env[ASKED]);
  delete process.env[ASKED];
  const peer = new Peer({ clock: true });
  const clock = new Clock();
  const sockets = new Sockets();
  const rest = new Rest();
  for (const kind of COUNTED) SILENT.add(kind);
  const odd = new Set();
  const note = (what) => {
    if (!odd.has(what)) peer.effect("odd", { what });
    odd.add(what);
  };
  const lines = new Lines();
  const children = watchChildren();
  watchNetwork(asked, sockets, lines, note);
  let begun = false;
  let began = -LOADING_MS;
  let letGo;
  const gone = new Promise((resolve) => (letGo = resolve));
  const requests = {
    /** Let the program begin at this instant. */
    begin({ seed }) {
      clock.begin(clock.now);
      clock.skew = 0;
      clock.owner = () => null;
      clock.place = () => placeOf(deepStack());
      install(clock, hashed(`${seed} Math.random`));
      installChance(seed);
      void [process.stdout, process.stderr]; // Made when they are first used: they keep no program going.
      rest.begin();
      begun = true;
      began = realMilliseconds();
      letGo();
    },
    /** Let one timer fire, where nothing of ours catches what it throws. */
    fire: ({ timer }) => void realSetImmediate(() => clock.timers.get(timer)?.fire()),
    rest() {},
  };
  const loading = () => (realMilliseconds() - began < LOADING_MS && isLoading(clock, rest) ? ["MessagePort"] : []);
  rest.more = () => [...sockets.behind(), ...children(), ...loading()];
  rest.alive = (io) => peer.send({ idle: peer.turn, next: null, io });
  peer.serve({
    async act(message) {
      sockets.expect(message.with.sockets ?? {});
      for (const [id, when] of message.with.skip ?? []) if (clock.timers.has(id)) clock.timers.get(id).when = when;
      clock.skew = message.with.skew ?? 0;
      requests[message.do](message.with);
      return { value: null };
    },
    now: (now) => (clock.now = Math.max(clock.now, now)),
    async rest() {
      await rest.reached();
      if (begun) await lastWork(clock, rest);
    },
    next() {
      if (begun && isOver(clock, rest)) realSetImmediate(() => process.exit());
      return { next: clock.next(), timers: timersOf(clock), sockets: sockets.told(), lines: lines.told(sockets) };
    },
  });
  await gone;
}

/** Whether a message of a thread is all that is waited for: a loader, such as tsx before Node 22, answers so. */
function isLoading(clock, rest) {
  const more = new Set(above(rest));
  return clock.timers.size === 0 && more.delete("MessagePort") && more.size === 0;
}

/** The kinds of what keeps a program going that were not there, or not as many, when it began. */
function above(rest) {
  const counts = new Map();
  for (const kind of process.getActiveResourcesInfo()) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [...counts].filter(([kind, count]) => kind !== "Immediate" && count > (rest.baseline.get(kind) ?? 0)).map(([kind]) => kind);
}

/** Whether nothing keeps the program going: no timer, no server, no connection. By itself, Node would end it. */
function isOver(clock, rest) {
  if ([...clock.timers.values()].some((timer) => timer.kept)) return false;
  return above(rest).length === 0;
}

/** Say that the end comes, once nothing keeps the program going; again, as Node does, whenever that began something. */
async function lastWork(clock, rest) {
  while (isOver(clock, rest)) {
    realSetImmediate(() => process.emit("beforeExit", process.exitCode ?? 0));
    await new Promise((heard) => realSetImmediate(heard));
    const immediate = process.getActiveResourcesInfo().includes("Immediate");
    if (isOver(clock, rest) && !immediate && rest.outstanding().length === 0) return;
    await rest.reached();
  }
}

/** Return what lists the child processes that are waited for. */
function watchChildren() {
  const awaited = new Set();
  channels.subscribe("child_process", ({ process: child }) => {
    awaited.add(child);
    const over = () => awaited.delete(child);
    child.once("exit", over);
    realSetTimeout(over, CHILD_MS).unref();
  });
  return () => [...awaited].filter((child) => child._handle?.hasRef()).map(() => "ProcessWrap");
}

function timersOf(clock) {
  return [...clock.timers.values()].map(({ id, when, wait, repeats, place, kept }) => {
    return [id, when, wait, repeats, place, kept];
  });
}

// sockets ------------------------------------------------------------------------------------------------------------

/** Counts what went over each socket between this process and the harness: by the ports of its two ends. */
class Sockets {
  constructor() {
    this.known = new Map();
    /** Pairs of ends of connections that this process has with itself, both ways: the harness sees neither end. */
    this.within = [];
    this.expected = {};
  }

  add(socket) {
    const keep = () => {
      if (socket.localPort === undefined) return;
      const other = `${socket.remotePort}:${socket.localPort}`;
      if (!this.known.has(other)) return this.known.set(`${socket.localPort}:${socket.remotePort}`, socket);
      this.within.push([socket, this.known.get(other)], [this.known.get(other), socket]);
      this.known.delete(other);
    };
    if (socket.localPort === undefined) socket.once("connect", keep);
    else keep();
  }

  expect(sockets) {
    this.expected = sockets;
    for (const [key, socket] of this.known) if (socket.destroyed && !(key in sockets)) this.known.delete(key);
    this.within = this.within.filter(([from, to]) => !from.destroyed || !to.destroyed);
  }

  /** What the harness, or this process itself, has sent and this process has not read yet. */
  behind() {
    for (const [from, to] of this.within) {
      if (!hasEnded(to) && (to.bytesRead < from.bytesWritten || from.destroyed || from.writableFinished)) return ["read"];
    }
    for (const [key, [bytes, closed]] of Object.entries(this.expected)) {
      const socket = this.known.get(key);
      if (socket === undefined) return ["accept"];
      if (socket.destroyed) continue;
      if (socket.bytesRead < bytes || (closed && !hasEnded(socket))) return ["read"];
    }
    return [];
  }

  /** By socket: what was read of it, what was written to it, whether this side has ended it, whether the other's end was seen. */
  told() {
    const told = {};
    for (const [key, socket] of this.known) {
      const { destroyed, bytesRead, bytesWritten } = socket;
      told[key] = [bytesRead, bytesWritten, destroyed || socket.writableEnded, hasEnded(socket)];
    }
    return told;
  }
}

/** Whether a socket has seen the end of the other side, or hears no more. */
function hasEnded(socket) {
  return socket.destroyed || socket.readableEnded || socket._readableState.ended;
}

/** Let connections lead where the harness says: to the database, to other processes, to what stands for the outside. */
function watchNetwork({ ports, outside, database, recorder }, sockets, lines, note) {
  const listened = new Map();
  const { connect } = net.Socket.prototype;
  net.Socket.prototype.connect = function (...given) {
    const args = Array.isArray(given[0]) && given.length === 1 ? given[0] : given;
    const options = typeof args[0] === "object" && args[0] !== null ? args[0] : { port: args[0], host: args[1] };
    const callback = args.findLast((each) => typeof each === "function");
    if (TSX_WATCHER.test(options.path ?? "")) {
      const error = Object.assign(new Error(`connect ENOENT ${options.path}`), { code: "ENOENT" });
      process.nextTick(() => this.destroy(error));
      return this;
    }
    if (options.path !== undefined && options.port === undefined) {
      note(`it connects to the socket ${options.path}, which the harness does not see`);
      return connect.apply(this, given);
    }
    const host = typeof options.host === "string" ? options.host : "localhost";
    const to = destination(host, Number(options.port));
    if (to === null) {
      note(`it connects to ${host}:${options.port}, which \`outside\` does not name`);
      const error = Object.assign(new Error(`connect ECONNREFUSED ${host}:${options.port}`), { code: "ECONNREFUSED" });
      process.nextTick(() => this.destroy(error));
      return this;
    }
    sockets.add(this);
    const where = { port: to, host: "127.0.0.1" };
    connect.call(this, where, ...(callback === undefined ? [] : [callback]));
    if (to === database) lines.watch(this); // To connect puts `write` back as it was.
    return this;
  };
  function destination(host, port) {
    if (LOCAL.test(host)) {
      if (port === database || port === recorder) return port;
      return listened.get(port) ?? ports[port] ?? null;
    }
    return host in outside ? recorder : null;
  }
  channels.subscribe("net.server.socket", ({ socket }) => sockets.add(socket));
  watchServers(ports, listened);
  watchRequests(outside, note);
}

/** Knows from which line of the user's something is sent: of the stack, or of the pool that was handed the statement. */
class Lines {
  constructor() {
    this.byText = new Map();
    this.sent = new Map();
    const { _load } = Module;
    const { byText } = this;
    Module._load = function (request, ...rest) {
      const loaded = _load.call(this, request, ...rest);
      if (request === "pg-pool" && !Object.hasOwn(loaded.prototype, POOLED)) watchPool(loaded.prototype, byText);
      return loaded;
    };
  }

  /** Take note of what is sent over a socket, once for all that reads alike. */
  watch(socket) {
    const { write } = socket;
    socket.write = (data, ...rest) => {
      const sql = statementOf(data);
      if (sql !== "") this.sent.set(socket, lineFor(sql, this.byText));
      return write.call(socket, data, ...rest);
    };
  }

  /** By socket, the line from which something was sent over it since this was last asked. */
  told(sockets) {
    const told = {};
    for (const [key, socket] of sockets.known) if (this.sent.get(socket)) told[key] = this.sent.get(socket);
    this.sent.clear();
    return told;
  }
}

/** A pool sends a statement when it has a connection, and whose line it was is told by no stack then. */
function watchPool(pool, byText) {
  const { query } = pool;
  pool[POOLED] = true;
  pool.query = function (text, ...rest) {
    lineFor(typeof text === "string" ? text : text?.text, byText);
    return query.call(this, text, ...rest);
  };
}

function statementOf(data) {
  if (!Buffer.isBuffer(data) || (data[0] !== QUERY && data[0] !== PARSE)) return "";
  const from = data[0] === QUERY ? HEAD : data.indexOf(0, HEAD) + 1;
  return data.utf8Slice(from, data.indexOf(0, from));
}

function lineFor(sql, byText) {
  if (!byText.has(sql)) byText.set(sql, lineOf(deepStack()));
  return byText.get(sql);
}

/**
 * Let a server listen at the port that the harness chose for it; at one that the file does not name, where only this
 * process finds it: another run, or another instance, may be there.
 */
function watchServers(ports, listened) {
  const { listen, address } = net.Server.prototype;
  net.Server.prototype.listen = function (...args) {
    const options = typeof args[0] === "object" && args[0] !== null ? args[0] : { port: args[0] };
    const port = Number(options.port);
    const callback = args.findLast((each) => typeof each === "function");
    if (!(port > 0)) return listen.apply(this, args);
    this.asked = port;
    this.once("listening", () => listened.set(port, address.call(this).port));
    const where = { port: ports[port] ?? listened.get(port) ?? 0, host: "127.0.0.1" };
    return callback === undefined ? listen.call(this, where) : listen.call(this, where, callback);
  };
  net.Server.prototype.address = function () {
    const told = address.call(this);
    return this.asked === undefined || told === null ? told : { ...told, port: this.asked };
  };
}

/** What is asked of the outside is asked in plain HTTP: there is no certificate for another's host. */
function watchRequests(outside, note) {
  const named = (host) => String(host ?? "").replace(/:\d+$/, "") in outside;
  for (const method of ["request", "get"]) {
    const real = https[method];
    https[method] = function (...args) {
      const at = typeof args[0] === "string" || args[0] instanceof URL ? 1 : 0;
      const url = at === 1 ? new URL(args[0]) : null;
      const options = typeof args[at] === "object" && args[at] !== null ? { ...args[at] } : {};
      const host = options.hostname ?? options.host ?? url?.hostname;
      if (!named(host)) return real.apply(this, args);
      const path = options.path ?? (url === null ? "/" : url.pathname + url.search);
      const plain = { ...options, protocol: "http:", hostname: host, host, port: 80, path, agent: undefined };
      const callback = args.findLast((each) => typeof each === "function");
      return http[method](plain, callback);
    };
  }
  // A call says from which line it comes: the stack of who writes to its connection is the client's own.
  for (const method of ["request", "get"]) {
    const real = http[method];
    http[method] = function (...args) {
      const at = args.findIndex((each) => typeof each === "object" && each !== null && !(each instanceof URL));
      const options = args[at];
      const { hostname } = options ?? {};
      if (!named(hostname ?? options?.host) || Array.isArray(options.headers)) return real.apply(this, args);
      return real.apply(this, args.with(at, { ...options, headers: { ...options.headers, ...fromLine() } }));
    };
  }
  const { fetch } = globalThis;
  globalThis.fetch = async function (input, init) {
    if (typeof input !== "object" || input instanceof URL) {
      const host = URL.canParse(String(input)) ? new URL(input).hostname : "";
      if (named(host)) init = { ...init, headers: { ...Object.fromEntries(new Headers(init?.headers)), ...fromLine() } };
    }
    const isRequest = typeof input === "object" && typeof input?.url === "string"; // To name `Request` loads all of undici.
    const text = isRequest ? input.url : String(input);
    const url = URL.canParse(text) ? new URL(text) : null; // Node says why it is none.
    if (url?.protocol !== "https:" || !named(url.hostname)) return fetch(input, init);
    url.protocol = "http:";
    url.port = "";
    return fetch(isRequest ? new Request(url, input) : url, init);
  };
  const { connect } = tls;
  tls.connect = function (...args) {
    const host = args[0]?.servername ?? args[0]?.host;
    note(`it opens a TLS connection${host ? ` to ${host}` : ""}: only fetch and node:https can be recorded`);
    return connect.apply(this, args);
  };
}

/** The header by which a call to the outside says the line of the user's that makes it. */
function fromLine() {
  const line = lineAt(deepStack());
  return line === undefined ? {} : { "x-job-harness-line": `${line[1]} ${encodeURI(line[0])}` };
}

function hashed(text) {
  return crypto.createHash("sha256").update(text).digest().readUInt32BE();
}

// Only the first process of a command that loads this is at work: a launcher's children have no channel of their own.
if (process.env.JOB_HARNESS_PEER !== undefined) await begin();
