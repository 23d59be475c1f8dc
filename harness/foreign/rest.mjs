// Says when this process has nothing left to do by itself: no microtask, no immediate, no real I/O in flight.
// Must not know: processors, messages.
import { createHook } from "node:async_hooks";
import { realMilliseconds, realSetImmediate, realSetTimeout } from "./clock.mjs";

const QUIET_ROUNDS = 3;
const ALIVE_EVERY_MS = 250;
const POLL_MS = 1;
const IMPATIENT_ROUNDS = 20;
// Work on Node's own threads that the list of active resources leaves out: hashes, key derivation, compression.
const ON_THREADS = /REQUEST$|JOB$/;
// A compressor never says that it is done: it counts as busy for so long after it last did something.
const COMPRESSOR = /^(ZLIB|BROTLI|ZSTD)/;
const COMPRESSOR_MS = 50;
// How long work is waited for that goes on when nothing is being run any more: the processor has answered.
const LEFT_MS = 500;
// What may be there without anything ever coming of it.
export const SILENT = new Set(["Immediate", "Timeout", "TCPServerWrap", "FSEventWrap", "StatWatcher", "SignalWrap", "TTYWrap"]);

export class Rest {
  constructor() {
    this.threads = new Map();
    this.compressors = new Map();
    this.baseline = new Map();
    this.alive = () => {};
    /** Says what else is in flight. */
    this.more = () => [];
    /** Says whether anything is being run. */
    this.atWork = () => true;
    createHook({
      init: (id, type) => {
        if (ON_THREADS.test(type)) this.threads.set(id, type);
        else if (COMPRESSOR.test(type)) this.compressors.set(id, realMilliseconds());
      },
      after: (id) => {
        this.threads.delete(id);
        if (this.compressors.has(id)) this.compressors.set(id, realMilliseconds());
      },
      destroy: (id) => {
        this.threads.delete(id);
        this.compressors.delete(id);
      },
    }).enable();
  }

  /** Take what is active now, our own channel, as nothing to wait for. */
  begin() {
    this.baseline = counted(process.getActiveResourcesInfo());
    this.threads.clear();
  }

  /** Real work that is in flight, by its kind. */
  outstanding() {
    const kinds = [...this.threads.values(), ...this.more()];
    for (const [id, at] of this.compressors) {
      if (realMilliseconds() - at < COMPRESSOR_MS) kinds.push("ZLIB");
      else this.compressors.delete(id);
    }
    for (const [kind, count] of counted(process.getActiveResourcesInfo())) {
      if (!SILENT.has(kind) && count > (this.baseline.get(kind) ?? 0)) kinds.push(kind);
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
      if (this.atWork()) idleSince = null;
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
