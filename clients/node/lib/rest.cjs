// Says when a processor has nothing left to do by itself: no microtask, no immediate, no real I/O in flight. The process
// is a test runner's, which has sockets, pipes and timers of its own. Must not know: processors, messages.
"use strict";
const { createHook } = require("node:async_hooks");
const net = require("node:net");
const { realMilliseconds, realSetImmediate, realSetTimeout } = require("./shared/clock.cjs");
const { hearReads, isReady, opensPostgres } = require("./shared/replies.cjs");

const QUIET_ROUNDS = 3;
const ALIVE_EVERY_MS = 250;
const POLL_MS = 1;
const IMPATIENT_ROUNDS = 20;
// A run that waits for none of our timers and gates waits for something real that no list shows: a reply on a socket
// that was open before, a module that the runner loads.
const GRACE_MS = 1_000;
// A chain of immediates is followed for that long; then it counts as one without an end.
const CHAIN_MS = 1_000;
// A socket on which something was sent waits for a reply for that long; then it counts as one that only sends.
const REPLY_MS = 5_000;
// A reply that another run may hold up, by a lock of a database of which only the bytes are seen, is waited for that long.
const LOCK_MS = 1_000;
// And the rest of an answer of PostgreSQL that does not end as one ends.
const MORE_MS = 250;
const ON_THREADS = /REQUEST$|JOB$/;
// What may be there without anything ever coming of it; a socket is told by what went over it, and what is sent by UDP is
// listed as long as it is on its way.
const SILENT = new Set([
  ...["Immediate", "Timeout", "TCPServerWrap", "TCPSocketWrap", "PipeWrap", "UDPWrap"],
  ...["FSEventWrap", "StatWatcher", "SignalWrap", "TTYWrap"],
]);

/** Marks a socket of the harness's own: what is said on it is no work of the test's. */
const OF_HARNESS = Symbol("of the harness");

/** Where no reply is a gate. */
const NO_REPLIES = { pending: () => 0, knows: () => false, mayWait: () => false, made: () => {} };

class Rest {
  /** `replies` know more of some connections than their bytes say. */
  constructor(replies = NO_REPLIES) {
    this.replies = replies;
    this.threads = new Map();
    this.baseline = new Map();
    this.sockets = new WeakMap();
    /** Those of which it was told that no reply came. */
    this.told = new WeakSet();
    this.undo = [];
    /** How many replies have come. */
    this.replied = 0;
    /** Since when there has been an immediate at each look. */
    this.chain = null;
    this.hook = createHook({
      init: (id, type, _, resource) => {
        this.replies.made(type);
        if (ON_THREADS.test(type)) this.threads.set(id, { type, resource, promised: isPromised() });
      },
      after: (id) => void this.threads.delete(id),
      destroy: (id) => void this.threads.delete(id),
    });
  }

  begin() {
    this.hook.enable();
    this.threads.clear();
    this.watch();
  }

  end() {
    this.hook.disable();
    this.threads.clear();
    for (const undo of this.undo.splice(0)) undo();
  }

  /**
   * Hear of what is sent and read on each connection as it happens. Between two looks at its bytes an answer may be read
   * and the next question sent, or a question sent and answered. The counts cannot tell which, and only the first waits.
   */
  watch() {
    const rest = this;
    const { prototype } = net.Socket;
    const { _write, _writev, push } = prototype;
    const watching = {
      _write(data, ...more) {
        rest.sent(this, data);
        return _write.call(this, data, ...more);
      },
      _writev(chunks, ...more) {
        rest.sent(this, chunks[0]?.chunk);
        return _writev.call(this, chunks, ...more);
      },
      push(chunk, ...more) {
        rest.heard(this, chunk);
        return push.call(this, chunk, ...more);
      },
    };
    for (const [name, made] of Object.entries(watching)) {
      const before = Object.getOwnPropertyDescriptor(prototype, name);
      Object.defineProperty(prototype, name, { value: made, writable: true, configurable: true, enumerable: before?.enumerable ?? false });
      this.undo.push(() => prototype[name] === made && (before ? Object.defineProperty(prototype, name, before) : delete prototype[name]));
    }
  }

  /** What is known of a connection: since when a reply is waited for, how long, and whether it is PostgreSQL's. */
  known(socket) {
    const known = this.sockets.get(socket) ?? { since: realMilliseconds(), patience: REPLY_MS, postgres: false };
    this.sockets.set(socket, known);
    return known;
  }

  sent(socket, data) {
    hearReads(this, socket, (chunk, pass) => {
      this.heard(socket, chunk);
      return pass();
    });
    const known = this.known(socket);
    known.postgres ||= Buffer.isBuffer(data) && opensPostgres(data);
    known.since = realMilliseconds();
    known.patience = REPLY_MS;
  }

  heard(socket, chunk) {
    const known = this.known(socket);
    if (known.since !== null && !socket.server && !socket[OF_HARNESS]) this.replied += 1;
    const more = known.since !== null && known.postgres && chunk !== null && !isReady(chunk);
    known.since = more ? realMilliseconds() : null;
    known.patience = MORE_MS;
  }

  /** Take what is active now, the runner's own, as nothing to wait for. */
  look() {
    this.baseline = counted(process.getActiveResourcesInfo());
    for (const socket of sockets()) {
      // It has waited for another run, and may do so no more.
      this.known(socket).since = this.replies.mayWait(socket) ? realMilliseconds() : null;
    }
  }

  /** Real work that is in flight, by its kind. */
  outstanding() {
    const kinds = this.onThreads();
    for (let number = this.replies.pending(); number > 0; number--) kinds.push("a reply of PostgreSQL");
    for (const [kind, count] of counted(process.getActiveResourcesInfo())) {
      if (!SILENT.has(kind) && count > (this.baseline.get(kind) ?? 0)) kinds.push(kind);
    }
    for (const socket of sockets()) if (!this.replies.knows(socket) && this.awaits(socket)) kinds.push("a reply on a socket");
    return kinds;
  }

  /** What Node's own threads are at. The synchronous functions make the same objects, which live until they are collected. */
  onThreads() {
    const kinds = [];
    for (const [id, { type, resource, promised }] of this.threads) {
      if (promised || typeof resource.ondone === "function") kinds.push(type);
      else this.threads.delete(id);
    }
    return kinds;
  }

  /** Whether a reply is on its way. A connection that is new is about to be written to, or to be greeted. */
  awaits(socket) {
    const known = this.known(socket);
    if (known.since === null) return false;
    const patience = this.replies.mayWait(socket) ? LOCK_MS : known.patience;
    if (realMilliseconds() - known.since < patience) return true;
    known.since = null;
    if (patience !== REPLY_MS) return false;
    if (!this.told.has(socket)) process.stderr.write(`job-harness: no reply ${REPLY_MS / 1000} s of real time after something was sent to ${called(socket)}: time goes on\n`);
    this.told.add(socket);
    return false;
  }

  /** Whether an immediate is still to come, unless they have followed one another for long. */
  goesOn(now) {
    if (!process.getActiveResourcesInfo().includes("Immediate")) this.chain = null;
    else this.chain ??= now;
    return this.chain !== null && now - this.chain < CHAIN_MS;
  }

  /** Resolve once nothing moves any more; `waiting` says whether a run waits for nothing that is known, `alive` is told. */
  async reached({ waiting, alive }) {
    const began = realMilliseconds();
    let told = began;
    let moved = began;
    for (let round = 0, quiet = 0; quiet < QUIET_ROUNDS || (waiting() && realMilliseconds() - moved < GRACE_MS); round++) {
      const { replied } = this;
      await new Promise((resolve) => realSetImmediate(resolve));
      const kinds = this.outstanding();
      const now = realMilliseconds();
      // A question may have been sent and answered between two looks, each time.
      const moves = kinds.length > 0 || this.replied > replied;
      quiet = moves || this.goesOn(now) ? 0 : quiet + 1;
      if (moves) moved = now;
      if (round > IMPATIENT_ROUNDS) await new Promise((resolve) => realSetTimeout(resolve, POLL_MS));
      if (now - told > ALIVE_EVERY_MS) {
        told = now;
        alive(kinds.length > 0 ? kinds : ["a promise"]);
      }
    }
  }
}

/** Connections that this process has made; one that a server of its own has accepted waits for no reply. */
function sockets() {
  const open = process._getActiveHandles?.() ?? [];
  return open.filter((handle) => typeof handle?.bytesRead === "number" && (handle.remoteAddress || isPipe(handle)) && !handle.server && !handle[OF_HARNESS]);
}

function called({ remoteAddress, remotePort }) {
  return remoteAddress === undefined ? "a Unix socket" : `${remoteAddress}:${remotePort}`;
}

/** Whether it is a Unix socket, on which a reply may come, and not what this process prints to. */
function isPipe(handle) {
  return handle._handle?.constructor.name === "Pipe" && handle.readable;
}

/** Whether the job that is being made answers a promise: of `crypto.subtle`, which on Node 24 sets no callback on it. */
function isPromised() {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 6;
  const stack = String(new Error().stack);
  Error.stackTraceLimit = limit;
  return stack.includes("at jobPromise (node:internal/crypto/");
}

function counted(kinds) {
  const counts = new Map();
  for (const kind of kinds) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return counts;
}

module.exports = { OF_HARNESS, Rest };
