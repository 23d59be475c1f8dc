// Virtual time in the process of a test: while a harness is open, every clock and timer of this realm is the harness's.
// Must not know: processors, messages.
"use strict";
const crypto = require("node:crypto");
const { syncBuiltinESMExports } = require("node:module");
const timers = require("node:timers");
const timersPromises = require("node:timers/promises");
const { promisify } = require("node:util");
const { seededCrypto } = require("./shared/chance.cjs");
const { Clock, seeded, timeoutSignal, timersOf, virtualDate } = require("./shared/clock.cjs");

const NAMES = ["setTimeout", "setInterval", "clearTimeout", "clearInterval"];

class BothClocks extends Error {
  /**
   * `before` says that they were on as the test began; `test` is the one that left them on, where that is known. `date`
   * says that only the Date is another.
   */
  constructor(whose, { before = false, test = null, date = false } = {}) {
    const runner = whose === "Vitest's" ? "vi" : "jest";
    const what = date ? `a Date that ${whose.slice(0, -2)} put in its place` : `${whose} fake timers`;
    const call = date ? "setSystemTime" : "useFakeTimers";
    const left = test === null ? "a hook, a setup file or an earlier test turned them on" : `the test ${JSON.stringify(test)} left them on`;
    super(
      `two clocks are on: ${what} and the virtual time of job-harness\n` +
        (before
          ? `  They were on when this test began: ${left}. Call ${runner}.useRealTimers() in an afterEach there.`
          : `  There is one time in a test: leave out ${runner}.${call}(), and move time with harness.advance("15m").`),
    );
    this.name = "BothClocks";
  }
}

/** One for each realm. Timers that modules took hold of before a harness was open lead to its clock, too. */
class VirtualTime {
  constructor() {
    this.clock = null;
    this.fakes = null;
    this.real = Object.fromEntries(NAMES.map((name) => [name, globalThis[name]]));
    const { setTimeout, setInterval, scheduler } = timersPromises;
    this.realPromises = { setTimeout, setInterval, wait: scheduler.wait.bind(scheduler) };
    this.switches = this.made();
    this.undo = [];
    this.taken = [];
    /** The test at whose end other fake timers were on. */
    this.leftOn = null;
    Object.assign(globalThis, this.switches);
    this.enter();
  }

  /** Functions that lead to virtual time while it is on, and to the machine's otherwise. */
  made() {
    const switches = {};
    for (const name of NAMES) {
      switches[name] = { [name]: (...given) => (this.fakes ?? this.real)[name](...given) }[name];
    }
    switches.setTimeout[promisify.custom] = (...given) => this.promises().setTimeout(...given);
    return switches;
  }

  promises() {
    return this.fakes?.promises ?? this.realPromises;
  }

  /** Lead the timers of Node's own modules to this realm: Jest's realms, one for each test file, share these modules. */
  enter() {
    if (this.taken.length > 0) return;
    for (const name of NAMES) this.take(timers, name, this.switches[name]);
    for (const name of ["setTimeout", "setInterval"]) this.take(timersPromises, name, (...given) => this.promises()[name](...given));
    this.take(timersPromises.scheduler, "wait", (...given) => this.promises().wait(...given));
    syncBuiltinESMExports();
  }

  take(object, name, value) {
    const before = Object.getOwnPropertyDescriptor(object, name);
    object[name] = value;
    const giveBack = () => (before ? Object.defineProperty(object, name, before) : delete object[name]);
    this.taken.push(() => object[name] === value && giveBack());
  }

  /** Give them back once the file is over: its realm would be kept forever, with all that the file has loaded. */
  leave() {
    for (const giveBack of this.taken.splice(0)) giveBack();
    syncBuiltinESMExports();
  }

  /** Begin at a time of day, in milliseconds. `owner` says whose a timer is, `place` and `line` where it is set. */
  on({ now, seed, owner, place, line = () => undefined }) {
    this.refuseOthers();
    this.off();
    const clock = (this.clock = new Clock());
    clock.begin(now);
    clock.owner = owner;
    clock.place = place;
    clock.line = line;
    this.fakes = timersOf(clock);
    const elapsed = () => BigInt(Math.round((clock.now - clock.start) * 1e6));
    const hrtime = (since) => {
      const passed = elapsed() - (since ? BigInt(since[0]) * 1_000_000_000n + BigInt(since[1]) : 0n);
      return [Number(passed / 1_000_000_000n), Number(passed % 1_000_000_000n)];
    };
    hrtime.bigint = elapsed;
    const chance = seeded(seed);
    const random = (length) => Array.from({ length }, () => Math.floor(chance() * 16).toString(16)).join("");
    const uuid = () => `${random(8)}-${random(4)}-4${random(3)}-8${random(3)}-${random(12)}`;
    const RealDate = globalThis.Date;
    const construct = RealDate.prototype.constructor;
    this.set(globalThis, "Date", virtualDate(clock));
    this.undo.push(() => (RealDate.prototype.constructor = construct));
    this.set(Math, "random", chance);
    const { getRandomValues, ...drawing } = { ...seededCrypto(seed ?? 0), randomUUID: uuid };
    for (const [name, value] of Object.entries(drawing)) this.set(crypto, name, value);
    for (const web of new Set([crypto.webcrypto, globalThis.crypto ?? crypto.webcrypto])) {
      this.set(web, "randomUUID", uuid);
      this.set(web, "getRandomValues", getRandomValues);
    }
    this.set(performance, "now", () => clock.now - clock.start);
    this.set(process, "hrtime", hrtime);
    this.set(AbortSignal, "timeout", (milliseconds) => timeoutSignal(clock, milliseconds));
    this.date = globalThis.Date;
    syncBuiltinESMExports();
  }

  set(object, name, value) {
    const before = Object.getOwnPropertyDescriptor(object, name);
    Object.defineProperty(object, name, { value, configurable: true, writable: true, enumerable: before?.enumerable ?? true });
    this.undo.push(() => (before ? Object.defineProperty(object, name, before) : delete object[name]));
  }

  /** Give the machine's time back. */
  off() {
    for (const undo of this.undo.splice(0).reverse()) undo();
    this.clock = this.fakes = null;
    syncBuiltinESMExports();
  }

  /** Throw where the fake timers of the runner are on as a test begins. */
  refuseLeftOn() {
    this.refuseOthers({ before: true, test: this.leftOn });
    this.leftOn = null;
  }

  /** Throw where they were not turned off at the end of a test. */
  refuseLeaving(test) {
    this.leftOn = test;
    this.refuseOthers();
    this.leftOn = null;
  }

  isOfOtherClock(name) {
    const timer = globalThis[name];
    if (timer === this.switches[name]) return false;
    // Jest's legacy timers are mock functions, all of them; a spy on one that clears is none.
    return timer.clock !== undefined || /clock/.test(String(timer)) || (name === "setTimeout" && timer._isMockFunction === true);
  }

  /** Throw where the fake timers of the runner are on, by themselves or over ours. */
  refuseOthers(when) {
    const fake = NAMES.some((name) => this.isOfOtherClock(name));
    const date = this.clock !== null && globalThis.Date !== this.date;
    if (!fake && !date && !globalThis.Date.isFake) return;
    throw new BothClocks(typeof globalThis.jest === "object" || globalThis.__vitest_worker__ === undefined ? "Jest's" : "Vitest's", { ...when, date: !fake });
  }
}

module.exports = { BothClocks, VirtualTime };
