// Runs in a Node child that has pg-boss: the harness's questions in pg-boss's own API. Knows no harness.
import { AssertionError } from "node:assert";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

export class Refused extends Error {}

// A class of SQLSTATE: what a column cannot hold. The statement did nothing.
const DATA_EXCEPTION = "22";

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
    this.boss = new PgBoss({
      connectionString: url,
      schema,
      max: 1,
      supervise: false,
      schedule: false,
      monitorIntervalSeconds: 1,
      maintenanceIntervalSeconds: 1,
      registerInstance: false,
      monitorVacuum: false,
      reindex: false,
    });
    this.boss.on("error", (error) => console.error(error));
    await this.boss.start();
    this.queues = new Set();
  }

  /** Forget the queues of the run before; the tables are emptied by the parent. */
  async reset({ keep }) {
    if (!keep) this.queues.clear();
  }

  /** Send a job to the queue of its tool, created first where it is new. */
  async enqueue({ tool, data, options, queue }) {
    return answering(async () => {
      if (!this.queues.has(tool)) {
        await this.boss.createQueue(tool, { policy: "standard", ...queue });
        this.queues.add(tool);
      }
      const id = await this.boss.send(tool, data, options);
      if (id === null) throw new Refused("send answered null");
      return id;
    });
  }

  /** Fetch from one queue after the other until there are enough. */
  async claim({ tools, limit }) {
    const claimed = [];
    for (const tool of tools) {
      if (claimed.length >= limit) break;
      const options = { batchSize: limit - claimed.length, includeMetadata: true };
      for (const { id, data, retryCount } of await this.boss.fetch(tool, options)) {
        claimed.push({ id, tool, job: data.job, retryCount });
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

  /** Resume what was cancelled, retry what failed; answers which of the two it was. */
  async retry({ tool, id }) {
    for (const verb of ["resume", "retry"]) {
      if (typeof this.boss[verb] !== "function") continue;
      const { affected } = await this.boss[verb](tool, id);
      if (affected) return verb;
    }
    throw new Refused("pg-boss changed no row");
  }

  /** Do what its own timer would have it do: fail what is overdue, delete what was kept for long enough. */
  async expire() {
    if (typeof this.boss.supervise === "function") await this.boss.supervise();
    else await this.boss.maintain();
  }

  async changed(verb, ...args) {
    const { affected } = await this.boss[verb](...args);
    if (!affected) throw new Refused("pg-boss changed no row");
  }
}

/** Tell apart a value that was refused, so that nothing was done, from what broke. */
async function answering(ask) {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof AssertionError) throw new Refused(`invalid input: ${error.message}`);
    if (error?.code?.startsWith?.(DATA_EXCEPTION)) throw new Refused(`invalid input: ${error.message}`);
    throw error;
  }
}
