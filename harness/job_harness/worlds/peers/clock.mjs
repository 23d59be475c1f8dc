// Virtual time inside a Node peer: Date, performance, timers. Time moves only when `moveTo` is called.
// Must not know: processors, messages, modules.
import { AsyncLocalStorage } from "node:async_hooks";
import { syncBuiltinESMExports } from "node:module";
import timers from "node:timers";
import timersPromises from "node:timers/promises";

const LONGEST_DELAY = 2 ** 31 - 1;
// Instants this close are one: milliseconds travel as decimals.
const SAME = 1e-3;
// How long the process has been up when virtual time begins: `performance.now()` is never 0 in life, and lru-cache takes
// an instant that is 0 for none.
const UP_MS = 1000;
// `util.promisify.custom`: to import all of `node:util` costs milliseconds.
const CUSTOM = Symbol.for("nodejs.util.promisify.custom");

const real = {
  Date: globalThis.Date,
  setImmediate: globalThis.setImmediate,
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  monotonic: performance.now.bind(performance),
};

export const realSetImmediate = real.setImmediate;
export const realSetTimeout = real.setTimeout;
export const realMilliseconds = real.monotonic;

export class Clock {
  constructor() {
    this.now = 0;
    this.start = 0;
    /** How far the time of day is ahead of what timers go by, in milliseconds. */
    this.skew = 0;
    this.timers = new Map();
    this.order = 0;
    /** Says who sets a timer. */
    this.owner = () => null;
    /** Says where in the user's code a timer is set; it costs a stack, so it is only called while runs are explored. */
    this.place = () => "";
    /** Says at which line that is, as [file, number]; undefined where that is not wanted. */
    this.line = () => undefined;
  }

  begin(now) {
    this.now = now;
    this.start = now - UP_MS;
  }

  /** When the next timer fires, or null. */
  next() {
    const timer = this.earliest();
    return timer === null ? null : timer.when;
  }

  earliest() {
    let first = null;
    for (const timer of this.timers.values()) {
      if (first === null || timer.when < first.when || (timer.when === first.when && timer.order < first.order)) {
        first = timer;
      }
    }
    return first;
  }

  /** Fire everything due until then, or only the `one` due first; `rest` is awaited after each, `broken` hears throws. */
  async moveTo(target, { rest, broken, one = false }) {
    this.now = Math.max(this.now, target);
    for (;;) {
      const timer = this.earliest();
      if (timer === null || timer.when > target + SAME) return;
      try {
        timer.fire();
      } catch (error) {
        broken(timer, error);
      }
      await rest();
      if (one) return;
    }
  }

  add(callback, delay, args, repeats) {
    const milliseconds = Number(delay);
    // PGlite, which was loaded before time was virtual, waits for an instant that is months ahead: a millisecond, in Node.
    const longest = milliseconds > LONGEST_DELAY && isCalledByLibrary() ? LONGEST_DELAY : 1;
    const wait = milliseconds >= 1 && milliseconds <= LONGEST_DELAY ? Math.trunc(milliseconds) : longest;
    const timer = new Timer(this, callback, wait, args, repeats);
    timer.schedule();
    return timer;
  }

  /**
   * The intervals whose owner `isOver`, in words. A timeout that is left ends by itself, and is nothing; an interval that
   * a package sets, such as the reaper of a pool, is that package's.
   */
  left(isOver) {
    const left = (timer) => timer.repeats && timer.kept && !timer.byLibrary && isOver(timer.owner);
    const timers = [...this.timers.values()].filter(left);
    return timers.map((timer) => `setInterval of ${timer.wait} ms`);
  }

  remove(timer) {
    if (timer === undefined || timer === null) return;
    if (typeof timer === "object" && !(timer instanceof Timer)) real.clearTimeout(timer);
    else (timer instanceof Timer ? timer : this.byId(timer))?.cancel();
  }

  byId(id) {
    for (const timer of this.timers.values()) if (String(timer.id) === String(id)) return timer;
    return null;
  }
}

class Timer {
  constructor(clock, callback, wait, args, repeats) {
    this.clock = clock;
    this.callback = callback;
    this.wait = wait;
    this.args = args;
    this.repeats = repeats;
    this.context = AsyncLocalStorage.snapshot();
    this.id = ++clock.order;
    this.owner = clock.owner();
    this.place = clock.place();
    this.line = clock.line();
    this.byLibrary = repeats && isCalledByLibrary();
    this.kept = true;
    this.cancelled = false;
  }

  schedule() {
    this.order = ++this.clock.order;
    this.when = this.clock.now + this.wait;
    this.clock.timers.set(this.id, this);
  }

  fire() {
    this.clock.timers.delete(this.id);
    if (this.repeats) this.schedule();
    this.context(Reflect.apply, this.callback, this, this.args);
  }

  cancel() {
    this.cancelled = true;
    this.clock.timers.delete(this.id);
  }

  close() {
    this.cancel();
    return this;
  }

  refresh() {
    if (!this.cancelled) this.schedule();
    return this;
  }

  ref() {
    this.kept = true;
    return this;
  }

  unref() {
    this.kept = false;
    return this;
  }

  hasRef() {
    return this.kept;
  }

  [Symbol.toPrimitive]() {
    return this.id;
  }

  [Symbol.dispose]() {
    this.cancel();
  }
}

/** Put virtual time in the place of the machine's, for globals and for the modules of Node. */
export function install(clock, seed) {
  globalThis.Date = virtualDate(clock);
  Math.random = seeded(seed);
  installTimers(clock);
  performance.now = () => clock.now - clock.start;
  Object.defineProperty(performance, "timeOrigin", { get: () => clock.start, configurable: true });
  const elapsed = () => BigInt(Math.round((clock.now - clock.start) * 1e6));
  process.hrtime = (since) => {
    const now = elapsed();
    const passed = since ? now - (BigInt(since[0]) * 1_000_000_000n + BigInt(since[1])) : now;
    return [Number(passed / 1_000_000_000n), Number(passed % 1_000_000_000n)];
  };
  process.hrtime.bigint = elapsed;
  process.uptime = () => (clock.now - clock.start) / 1000;
  AbortSignal.timeout = (milliseconds) => timeoutSignal(clock, milliseconds);
  syncBuiltinESMExports();
}

/** A signal as `AbortSignal.timeout` makes it: its timer keeps no process going. */
export function timeoutSignal(clock, milliseconds) {
  const controller = new AbortController();
  const expired = () => controller.abort(new DOMException("The operation was aborted due to timeout", "TimeoutError"));
  clock.add(expired, milliseconds, [], false).unref();
  return controller.signal;
}

export function virtualDate(clock) {
  const now = () => Math.floor(clock.now + clock.skew + SAME);
  const RealDate = real.Date;
  // A spy that a test puts in place of `Date.now` is heard, and the machine's Date keeps its own.
  const replaced = Object.defineProperty({}, "now", { value: now, writable: true, configurable: true });
  const holder = (target, key) => (key === "now" ? replaced : target);
  const FakeDate = new Proxy(RealDate, {
    construct: (target, args, newTarget) =>
      Reflect.construct(target, args.length ? args : [now()], newTarget === FakeDate ? target : newTarget),
    apply: () => new RealDate(now()).toString(),
    get: (target, key) => holder(target, key)[key],
    // What is set on a class of it, as fake timers make one, is of that class.
    set: (target, key, value, receiver) =>
      Reflect.set(holder(target, key), key, value, receiver === FakeDate ? holder(target, key) : receiver),
    getOwnPropertyDescriptor: (target, key) => Reflect.getOwnPropertyDescriptor(holder(target, key), key),
    defineProperty: (target, key, about) => Reflect.defineProperty(holder(target, key), key, about),
  });
  RealDate.prototype.constructor = FakeDate;
  return FakeDate;
}

function installTimers(clock) {
  const { promises, ...fakes } = timersOf(clock);
  Object.assign(globalThis, fakes);
  Object.assign(timers, fakes);
  const { wait, ...others } = promises;
  Object.assign(timersPromises, others);
  timersPromises.scheduler.wait = wait;
}

/** The functions of `node:timers` on this clock; in `promises`, those of `node:timers/promises` and `wait` of its `scheduler`. */
export function timersOf(clock) {
  const checked = (callback) => {
    if (typeof callback === "function") return callback;
    const error = new TypeError(`The "callback" argument must be of type function. Received ${String(callback)}`);
    error.code = "ERR_INVALID_ARG_TYPE";
    throw error;
  };
  const later = (delay, value, options) => waiting(clock, delay, value, options);
  const fakes = {
    setTimeout: (callback, delay, ...args) => {
      const callers = nearestCallers();
      if (UNDICI.test(callers)) return real.setTimeout(callback, delay, ...args);
      if (POSTGRES_CONNECTS.test(callers)) return real.setImmediate(callback, ...args);
      return clock.add(checked(callback), delay, args, false);
    },
    setInterval: (callback, delay, ...args) => clock.add(checked(callback), delay, args, true),
    clearTimeout: (timer) => clock.remove(timer),
    clearInterval: (timer) => clock.remove(timer),
  };
  fakes.setTimeout[CUSTOM] = later;
  const promises = {
    setTimeout: later,
    setInterval: async function* (delay, value, options) {
      for (;;) yield await later(delay, value, options);
    },
    wait: (delay, options) => later(delay, undefined, options),
  };
  return { ...fakes, promises };
}

// The nearest caller that is no line of this file.
function isCalledByLibrary() {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 8;
  const lines = String(new Error().stack).split("\n").slice(1);
  Error.stackTraceLimit = limit;
  const caller = lines.find((line) => !/[\\/](job_harness[\\/]worlds|job-harness[\\/]lib)[\\/]/.test(line)) ?? "";
  return /[\\/]node_modules[\\/]/.test(caller);
}

// The client behind `fetch` counts on the machine's time, and gets stuck without it.
const UNDICI = /node:internal\/deps\/undici|\/node_modules\/undici\//;
// postgres.js waits before it connects, for longer the more often its connections were closed: in an earlier run, too.
const POSTGRES_CONNECTS = /at reconnect \(.*\/node_modules\/postgres\/(?:cjs\/)?src\/connection\.js/;

function nearestCallers() {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 4; // This function, the timer's, perhaps what leads to it, and the caller.
  const callers = String(new Error().stack).split("\n").slice(3).join("\n");
  Error.stackTraceLimit = limit;
  return callers;
}

function waiting(clock, delay, value, options = {}) {
  const signal = options?.signal;
  const aborted = () => {
    const error = new Error("The operation was aborted", { cause: signal.reason });
    error.name = "AbortError";
    error.code = "ABORT_ERR";
    return error;
  };
  if (signal?.aborted) return Promise.reject(aborted());
  return new Promise((resolve, reject) => {
    const give = () => (signal?.removeEventListener("abort", abort), resolve(value));
    const abort = () => (timer.cancel(), reject(aborted()));
    const timer = clock.add(give, delay, [], false);
    if (options?.ref === false) timer.unref();
    signal?.addEventListener("abort", abort, { once: true });
  });
}

// Mulberry32: thirty-two bits are plenty where only sameness counts.
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
