// Runs in a Node peer that has pg-boss: the harness's requests in pg-boss's own API. Knows no harness.
import { AssertionError } from "node:assert";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { Schedules } from "./schedules.mjs";

export class Refused extends Error {}

// A class of SQLSTATE: what a column cannot hold. The statement did nothing.
const DATA_EXCEPTION = "22";
const UNIQUE_VIOLATION = "23505";
// An interval that no other timer has: by it the timer that refreshes what is known of the queues is told.
const QUEUE_CACHE_SECONDS = 61;

async function library(folder) {
  const found = createRequire(`${folder}/`).resolve("pg-boss");
  const loaded = await import(pathToFileURL(found).href);
  const types = join(dirname(found), "types.d.ts");
  const fenced = existsSync(types) && readFileSync(types, "utf8").includes("interface JobAttempt");
  return { PgBoss: loaded.PgBoss ?? loaded.default, fenced };
}

export class Answers {
  constructor(folder) {
    this.folder = folder;
  }

  /** Connect, create the schema, and start with everything off that would act by itself. */
  async open({ url, schema }) {
    const { PgBoss, fenced } = await library(this.folder);
    /** Whether a job, given in place of its id, limits a call to the attempt that was fetched. */
    this.fenced = fenced;
    this.make = (options) => {
      const boss = new PgBoss({
        schema,
        supervise: false,
        schedule: false,
        monitorIntervalSeconds: 1,
        maintenanceIntervalSeconds: 1,
        registerInstance: false,
        monitorVacuum: false,
        reindex: false,
        queueCacheIntervalSeconds: QUEUE_CACHE_SECONDS,
        ...options,
      });
      boss.on("error", (error) => console.error(error));
      return boss;
    };
    await this.connect(url);
    this.queues = new Set();
  }

  /** Answer another one over a connection of its own. */
  async session({ url }) {
    const other = Object.assign(new Answers(this.folder), { fenced: this.fenced, make: this.make });
    await other.connect(url, { migrate: false });
    other.queues = this.queues;
    return other;
  }

  /** Connect, and make the tables unless they are there: an instance that may make them looks, at times of its own, for more. */
  async connect(url, options = {}) {
    this.boss = this.make({ connectionString: url, max: 1, ...options });
    await this.started();
    this.schedules = new Schedules(this.folder, url, (given) => this.make({ ...given, migrate: false }));
  }

  /** Start, and keep what the timer would do that refreshes what is known of the queues: `expire` does it. */
  async started() {
    const park = globalThis.setInterval;
    globalThis.setInterval = (act, milliseconds) => {
      if (milliseconds === QUEUE_CACHE_SECONDS * 1000) this.refresh = act;
      return park(act, milliseconds);
    };
    await this.boss.start();
    globalThis.setInterval = park;
  }

  /** Forget the queues of the run before; the tables are emptied by the parent. */
  async reset({ keep }) {
    this.schedules.reset();
    if (keep) return;
    this.queues.clear();
    await this.refresh?.();
  }

  /** Send a job to the queue of its tool, created first where it is new. */
  async enqueue({ tool, data, options, queue }) {
    return answering(async () => {
      await this.created(tool, queue);
      const id = await this.boss.send(tool, data, options);
      if (id === null) throw new Refused("send answered null");
      return id;
    });
  }

  async created(tool, queue) {
    if (this.queues.has(tool)) return;
    await this.boss.createQueue(tool, queue);
    this.queues.add(tool);
  }

  /** Set the schedule of a queue. */
  async schedule({ tool, cron, data, options, queue }) {
    return answering(async () => {
      await this.created(tool, queue);
      await this.boss.schedule(tool, cron, data, options);
    });
  }

  async unschedule({ tool, key }) {
    await this.boss.unschedule(tool, key);
  }

  /** Let an instance compare clocks and look at the schedules, as its timers would have it do. */
  async look({ instance }) {
    await this.schedules.look(instance);
  }

  /** Let an instance forward what was sent to the queue between schedules and their queues. */
  async forward({ instance }) {
    await this.schedules.forward(instance);
  }

  /** Fetch from queues in turn, at most the given number from each, until there are enough. */
  async claim({ turns, limit, options }) {
    const claimed = [];
    for (const [tool, most] of turns) {
      const batchSize = Math.min(most, limit - claimed.length);
      if (batchSize < 1) break;
      const jobs = await this.boss.fetch(tool, { ...options, batchSize, includeMetadata: true });
      for (const { id, data, retryCount } of jobs.sort(byAge)) {
        claimed.push({ id, job: data.job ?? null, retryCount });
      }
    }
    return claimed;
  }

  async complete({ tool, attempt, output }) {
    return answering(() => this.changed("complete", tool, this.settled(attempt), output ?? undefined));
  }

  async fail({ tool, attempt, message }) {
    return this.changed("fail", tool, this.settled(attempt), new Error(message));
  }

  async touch({ tool, attempt }) {
    return this.changed("touch", tool, this.settled(attempt));
  }

  settled(attempt) {
    return this.fenced ? attempt : attempt.id;
  }

  async cancel({ tool, id }) {
    return this.changed("cancel", tool, id);
  }

  /** Resume what was cancelled, retry what failed; returns which of the two it was. */
  async retry({ tool, id }) {
    for (const verb of ["resume", "retry"]) {
      if (typeof this.boss[verb] !== "function") continue;
      const { affected } = await answering(() => this.boss[verb](tool, id), UNIQUE_VIOLATION);
      if (affected) return verb;
    }
    throw new Refused("pg-boss changed no row");
  }

  /** Do what its own timers would: fail what is overdue, delete what was kept for long enough, refresh the queues. */
  async expire() {
    if (typeof this.boss.supervise === "function") await this.boss.supervise();
    else await this.boss.maintain();
    await this.refresh?.();
  }

  async changed(verb, ...args) {
    const { affected } = await this.boss[verb](...args);
    if (!affected) throw new Refused("pg-boss changed no row");
  }
}

/** A statement returns its rows in whatever order it met them: within one fetch they are put in that of its queue. */
export function byAge(one, other) {
  const age = other.priority - one.priority || one.createdOn - other.createdOn;
  return age || (one.id < other.id ? -1 : 1);
}

/** Tell apart a value that was refused, so that nothing was done, from what broke. */
export async function answering(ask, conflict) {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof AssertionError) throw new Refused(`invalid input: ${error.message}`);
    if (error?.code?.startsWith?.(DATA_EXCEPTION)) throw new Refused(`invalid input: ${error.message}`);
    if (conflict && error?.code === conflict) throw new Refused(`the key is held: ${error.message}`);
    throw error;
  }
}
