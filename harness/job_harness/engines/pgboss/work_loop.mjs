// Runs as a peer: pg-boss with its own work() loop, its own timers and its own supervision, on a clock of ours.
//
// `node work_loop.mjs FOLDER`: FOLDER's node_modules has pg-boss. A turn lets one timer fire, or carries out a request;
// it ends when every statement is answered and nothing is left to do at that instant. A handler that pg-boss calls is a
// gate: what a job does is decided by the harness.
import { AsyncLocalStorage } from "node:async_hooks";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { Clock, install, realSetImmediate } from "../../worlds/peers/clock.mjs";
import { Peer, outcomeOf } from "../../worlds/peers/peer.mjs";

const QUIET_ROUNDS = 3;
// Of pg-boss's own rounds none is shorter; a shorter timer belongs to something that is under way.
const SHORTEST_ROUND_MS = 500;
const SOON_MS = 1e-3;

const peer = new Peer({ clock: true });
const clock = new Clock();
/** Whose doing the present code is: a worker's loop, or the supervision. */
const doing = new AsyncLocalStorage();

// what is under way --------------------------------------------------------------------------------------------------

const sql = {
  outstanding: 0,
  /** Whether a statement was answered that may have changed a job. */
  stirred: false,
  clients: new Set(),

  /** Count a statement from here until it is answered. */
  began() {
    let open = true;
    const round = doing.getStore();
    sql.outstanding++;
    return (answer) => {
      if (!open) return;
      open = false;
      sql.outstanding--;
      const foundNothing = round?.kind === "poll" && !round.settles && answer?.rowCount === 0;
      if (!foundNothing) sql.stirred = true;
    };
  },

  watch({ Client }) {
    const { connect, query } = Client.prototype;
    Client.prototype.connect = function (...args) {
      sql.clients.add(this);
      return counted(this, connect, args);
    };
    Client.prototype.query = function (...args) {
      return counted(this, query, args);
    };
  },
};

function counted(client, method, args) {
  const answered = sql.began();
  const at = args.findLastIndex((argument) => typeof argument === "function");
  if (at >= 0) {
    const callback = args[at];
    args[at] = function (...told) {
      answered(told[1]);
      return callback.apply(this, told);
    };
    return method.apply(client, args);
  }
  const promise = method.apply(client, args);
  if (typeof promise?.then === "function") promise.then(answered, () => answered());
  else answered();
  return promise;
}

/** Resolve once every statement is answered and nothing moves any more. */
async function rest() {
  for (let quiet = 0; quiet < QUIET_ROUNDS; quiet++) {
    await new Promise((resolve) => realSetImmediate(resolve));
    if (sql.outstanding > 0) quiet = -1;
  }
}

// timers -------------------------------------------------------------------------------------------------------------

// A worker polls, and the supervision looks, in rounds; what else has a timer is told apart, for no round of it may be
// left out. The first timer that a worker sets once its handler is called ends the wait for that handler.
clock.owner = () => {
  const round = doing.getStore();
  if (round === undefined) return null;
  if (round.limits) {
    round.limits = false;
    return null;
  }
  if (round.kind === "poll") round.settles = false;
  return round;
};

function periodOf(timer) {
  if (timer.owner === null || timer.wait < SHORTEST_ROUND_MS) return null;
  return timer.owner.period ?? timer.wait;
}

/** Which round a timer is; "limit" is none. */
function roundOf(timer) {
  if (periodOf(timer) === null) return "limit";
  const { kind, queue } = timer.owner;
  return queue === undefined ? kind : `${kind} ${queue}`;
}

/** When each timer is due, its period where it is a round, and which one. */
function timers() {
  return [...clock.timers.values()].map((timer) => [timer.when, periodOf(timer), roundOf(timer)]);
}

// pg-boss ------------------------------------------------------------------------------------------------------------

class Refused extends Error {}

let boss = null;
/** What time the harness says it is. */
let asked = 0;
let workers = new Map();

function trouble(message) {
  peer.effect("trouble", { message });
}

function handlerOf(round) {
  return async (jobs) => {
    round.limits = true;
    round.settles = true;
    const value = await peer.gate(
      round.queue,
      jobs.map(({ data }) => data.job),
    );
    return value ?? undefined;
  };
}

const requests = {
  /** Start pg-boss as a process does, with no worker yet. */
  async open({ url, schema, seed, options }) {
    clock.begin(clock.now);
    install(clock, seed);
    const found = createRequire(`${folder}/`).resolve("pg-boss");
    sql.watch(createRequire(found)("pg"));
    const loaded = await import(pathToFileURL(found).href);
    const PgBoss = loaded.PgBoss ?? loaded.default;
    requests.made = () => new PgBoss({ connectionString: url, schema, max: 1, idleTimeoutMillis: 0, ...options });
    await requests.begin();
  },

  /** Forget the instance that was, as if its process had ended, and start another. */
  async reset({ seed }) {
    clock.timers.clear();
    for (const client of sql.clients) client.end().catch(() => {});
    sql.clients.clear();
    clock.begin(asked);
    install(clock, seed);
    await requests.begin();
  },

  async begin() {
    peer.gates.clear();
    peer.number = 0; // As in a process that has just started: what is repeated in another has the same numbers.
    workers = new Map();
    boss = requests.made();
    const mine = boss;
    boss.on("error", (error) => boss === mine && trouble(`${error?.message ?? error}`));
    boss.on("warning", (warning) => boss === mine && trouble(`${warning?.message ?? warning}`));
    await doing.run({ kind: "supervision" }, () => boss.start());
  },

  /** Make the queue where there is none. */
  async create({ queue, options }) {
    if ((await boss.getQueue(queue)) === null) await boss.createQueue(queue, options);
  },

  /** Let a worker of its own serve a queue. */
  async work({ queue, options, period }) {
    const round = { kind: "poll", queue, period, limits: false, settles: false };
    const id = await doing.run(round, () => boss.work(queue, options, handlerOf(round)));
    workers.set(queue, id);
  },

  async send({ queue, data, options }) {
    const id = await boss.send(queue, data, options);
    if (id === null) throw new Refused("send answered null");
    return id;
  },

  /** Fetch one job, which an application leaves to the loop; returns whether there was one. */
  async fetch({ queue }) {
    const jobs = await boss.fetch(queue);
    return (jobs ?? []).length > 0;
  },

  async cancel({ queue, id }) {
    await changed("cancel", queue, id);
  },

  /** Resume what was cancelled, retry what failed; returns which of the two it was. */
  async retry({ queue, id }) {
    for (const verb of ["resume", "retry"]) {
      if (typeof boss[verb] === "function" && (await boss[verb](queue, id)).affected) return verb;
    }
    throw new Refused("pg-boss changed no row");
  },

  /** Let the worker of a queue look now instead of at its next poll. */
  async wake({ queue }) {
    boss.notifyWorker(workers.get(queue));
  },
};

/** Let the first timer fire, and say which round it is; rounds before `skip`, which find nothing, are left out. */
function tick({ now, skip = {} }) {
  for (;;) {
    const timer = clock.earliest();
    if (timer === null || timer.when > now + SOON_MS) return null;
    const round = roundOf(timer);
    if (!(timer.when < skip[round])) {
      timer.fire();
      return round;
    }
    const period = periodOf(timer);
    const until = Math.min(skip[round], now + SOON_MS);
    timer.when += Math.max(Math.ceil((until - timer.when) / period), 1) * period;
  }
}

async function changed(verb, queue, id) {
  const { affected } = await boss[verb](queue, id);
  if (!affected) throw new Refused("pg-boss changed no row");
}

// turns --------------------------------------------------------------------------------------------------------------

const log = (error) => trouble(`${error?.stack ?? error}`);
process.on("uncaughtException", log);
process.on("unhandledRejection", log);

const [folder] = process.argv.slice(2);

peer.serve({
  act(message) {
    if (message.time === undefined) return outcomeOf(() => requests[message.do](message.with), Refused);
    return outcomeOf(() => tick(message), Refused);
  },
  /** Time goes back where a run begins anew. */
  now(now) {
    asked = now;
    clock.now = Math.max(clock.now, now);
  },
  rest,
  next() {
    if (sql.stirred) peer.effect("stirred");
    sql.stirred = false;
    return { next: clock.next(), timers: timers() };
  },
});
