// Says when this process has nothing left to do by itself: no microtask, no immediate, no real I/O in flight.
// Must not know: processors, messages.
import { createHook } from "node:async_hooks";
import { realMilliseconds, realSetImmediate, realSetTimeout } from "./clock.mjs";
import { Connections } from "./connections.mjs";

const QUIET_ROUNDS = 3;
const ALIVE_EVERY_MS = 250;
const POLL_MS = 1;
const IMPATIENT_ROUNDS = 20;
// Work on Node's own threads that the list of active resources leaves out: hashes, key derivation, compression.
const ON_THREADS = /REQUEST$|JOB$/;
// A job without a callback is done when its constructor's caller goes on, unless `crypto.subtle` made it.
const PROMISED = "at jobPromise (node:internal/crypto/";
const PROMISED_WITHIN = 6;
const COMPRESSOR = /^(ZLIB|BROTLI|ZSTD)/;
// How long work is waited for that goes on when nothing is being run any more: the processor has answered.
const LEFT_MS = 500;
// What may be there without anything ever coming of it; what is sent by UDP is listed as long as it is on its way.
export const SILENT = new Set([
  ...["Immediate", "Timeout", "TCPServerWrap", "UDPWrap", "FSEventWrap", "StatWatcher", "SignalWrap", "TTYWrap"],
]);

export class Rest {
  constructor() {
    this.connections = new Connections();
    this.jobs = new Map();
    this.compressors = new Map();
    this.baseline = new Map();
    this.starting = new Set();
    this.alive = () => {};
    /** Says what else is in flight. */
    this.more = () => [];
    /** Hears what Node makes, by the name that its hooks have for it. */
    this.made = () => {};
    /** Says whether anything is being run. */
    this.atWork = () => true;
    createHook({
      trackPromises: false, // Where Node knows it (24.11): a hook for every promise is most of what watching costs.
      init: (id, type, _, resource) => {
        this.made(type);
        if (ON_THREADS.test(type)) this.jobs.set(id, { type, resource, promised: isPromised() });
        else if (COMPRESSOR.test(type)) this.compressors.set(id, new WeakRef(resource));
      },
      after: (id) => {
        this.jobs.delete(id);
      },
      destroy: (id) => {
        this.jobs.delete(id);
        this.compressors.delete(id);
      },
    }).enable();
  }

  /** Watch connections, and count worker threads as work until they are up. */
  install() {
    this.connections.install();
    process.on("worker", (worker) => {
      this.starting.add(worker);
      for (const end of ["online", "exit"]) worker.once(end, () => this.starting.delete(worker));
    });
  }

  /** Take what is active now, our own channel, as nothing to wait for. */
  begin() {
    this.baseline = counted(process.getActiveResourcesInfo());
    this.jobs.clear();
  }

  /** Real work that is in flight, by its kind. */
  outstanding() {
    const { waiting, open } = this.connections.counted();
    const kinds = [...this.onThreads(), ...waiting, ...[...this.starting].map(() => "Worker"), ...this.more()];
    for (const [kind, count] of counted(process.getActiveResourcesInfo())) {
      const idle = (this.baseline.get(kind) ?? 0) + (open.get(kind) ?? 0);
      if (!SILENT.has(kind) && count > idle) kinds.push(kind);
    }
    return kinds;
  }

  /** What Node's own threads are at. The synchronous functions make the same objects, which live until they are collected. */
  onThreads() {
    const kinds = [];
    for (const [id, { type, resource, promised }] of this.jobs) {
      if (promised || typeof resource.ondone === "function") kinds.push(type);
      else this.jobs.delete(id);
    }
    for (const [id, handle] of this.compressors) {
      const compressor = handle.deref();
      if (compressor === undefined) this.compressors.delete(id);
      else if (compressor.buffer && !isFull(compressor)) kinds.push("ZLIB");
    }
    return kinds;
  }

  /** Resolve once nothing moves any more. An endless chain of immediates never gets there: the parent notices. */
  async reached() {
    let quiet = 0;
    let told = realMilliseconds();
    let idleSince = null;
    for (let round = 0; quiet < QUIET_ROUNDS; round++) {
      await new Promise((resolve) => realSetImmediate(resolve));
      const kinds = this.outstanding();
      const moving = kinds.length > 0 || process.getActiveResourcesInfo().includes("Immediate");
      quiet = moving ? 0 : quiet + 1;
      if (kinds.length === 0) continue;
      if (this.atWork() || this.starting.size > 0) idleSince = null;
      else if (realMilliseconds() - (idleSince ??= realMilliseconds()) > LEFT_MS) return this.begin();
      if (round > IMPATIENT_ROUNDS) await new Promise((resolve) => realSetTimeout(resolve, POLL_MS));
      if (realMilliseconds() - told > ALIVE_EVERY_MS) {
        told = realMilliseconds();
        this.alive(kinds);
      }
    }
  }
}

function counted(kinds) {
  const counts = new Map();
  for (const kind of kinds) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return counts;
}

/** Whether a compressor, which keeps what it was given until it is through, waits for a reader of what it has made. */
function isFull(compressor) {
  const owner = Object.getOwnPropertySymbols(compressor).find((symbol) => symbol.description === "owner_symbol");
  const stream = compressor[owner];
  return stream !== undefined && stream.readableLength >= stream.readableHighWaterMark;
}

/** Whether the job that is being made answers a promise: of `crypto.subtle`, which on Node 24 sets no callback on it. */
function isPromised() {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = PROMISED_WITHIN;
  const stack = String(new Error().stack);
  Error.stackTraceLimit = limit;
  return stack.includes(PROMISED);
}
