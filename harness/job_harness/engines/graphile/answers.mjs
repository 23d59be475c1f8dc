// Runs in a Node child that has graphile-worker: the harness's questions, asked of the functions that its worker and
// its WorkerUtils call. Knows no harness.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

export class Refused extends Error {}

const DATA_EXCEPTION = "22";

export class Answers {
  constructor(folder) {
    this.root = dirname(createRequire(`${folder}/`).resolve("graphile-worker"));
  }

  async part(path) {
    const loaded = await import(pathToFileURL(join(this.root, path)).href);
    return { ...loaded.default, ...loaded };
  }

  /**
   * Return the function by which the worker pool of a release puts results together, and its options. It is not
   * exported, so it is read from the text. It waits for nothing here: time stands still while a verb runs.
   */
  async batching() {
    const text = readFileSync(join(this.root, "main.js"), "utf8");
    const found = text.match(/^function batch\([\s\S]*?^}$/m);
    const options = text.match(/^const BATCH_RETRY_OPTIONS = ({[\s\S]*?^});$/m);
    if (!found || !options) throw new Error("main.js of this release has no batch() that can be read");
    const known = await this.part("lib.js");
    const { default: defer } = await import(pathToFileURL(join(this.root, "deferred.js")).href);
    const names = ["RETRYABLE_ERROR_CODES", "calculateDelay", "coerceError"];
    const made = new Function("defer", "setTimeout", "sleep", ...names, `return [(${found[0]}), (${options[1]})]`);
    return made(defer, queueMicrotask, () => Promise.resolve(), ...names.map((name) => known[name]));
  }

  /** Connect, and create the schema. `batched`: report results as with `completeJobBatchDelay: 0`. */
  async open({ url, batched }) {
    const { makeWorkerUtils, Logger } = await this.part("index.js");
    const { getUtilsAndReleasersFromOptions } = await this.part("lib.js");
    const { batchGetJobs } = await this.part("sql/getJobs.js");
    const { batchCompleteJobs } = await this.part("sql/completeJobs.js");
    const { batchFailJobs } = await this.part("sql/failJobs.js");
    const { resetLockedAt } = await this.part("sql/resetLockedAt.js");
    Object.assign(this, { batchGetJobs, batchCompleteJobs, batchFailJobs, resetLockedAt });
    Object.assign(this, { makeWorkerUtils, getUtilsAndReleasersFromOptions });
    if (batched) [this.batch, this.batchOptions] = await this.batching();
    this.logger = new Logger(() => () => {});
    await this.connect(url);
    await this.utils.migrate();
    await this.reset();
  }

  /** Answer another one over a connection of its own, which shares what claims were issued. */
  async session({ url }) {
    const other = Object.assign(Object.create(Answers.prototype), this);
    await other.connect(url);
    return other;
  }

  async connect(url) {
    const options = { connectionString: url, maxPoolSize: 1, logger: this.logger };
    this.utils = await this.makeWorkerUtils(options);
    [this.shared] = await this.getUtilsAndReleasersFromOptions(options);
  }

  /** Forget what is known of the run before; the tables are emptied by the parent. */
  async reset() {
    for (const name of ["holding", "lives", "claimed"]) {
      this[name] ??= new Map();
      this[name].clear();
    }
  }

  /** Add a job; answers its number, and which job of the caller's has it. */
  async enqueue({ tool, payload, spec }) {
    try {
      const { runAt, ...rest } = spec;
      const when = runAt === null ? {} : { runAt: new Date(runAt) };
      const { id, payload: kept } = await this.utils.addJob(tool, payload, { ...rest, ...when });
      return { id: String(id), job: kept.job };
    } catch (error) {
      if (error?.code?.startsWith?.(DATA_EXCEPTION)) throw new Refused(`invalid input: ${error.message}`);
      throw error;
    }
  }

  /** Claim up to `limit` jobs for a pool. One that asks for more while it holds a job has died meanwhile. */
  async claim({ worker, tools, limit }) {
    if (tools.length === 0) return [];
    if (this.holding.get(worker)?.size) this.lives.set(worker, (this.lives.get(worker) ?? 0) + 1);
    const pool = this.pool(worker);
    const tasks = Object.fromEntries(tools.map((tool) => [tool, () => {}]));
    const jobs = await this.batchGetJobs(this.shared, this.shared.withPgClient, tasks, pool, null, limit);
    this.holding.set(worker, new Set(jobs.map((job) => String(job.id))));
    for (const job of jobs) this.claimed.set(`${job.id}/${job.attempts}`, { job, pool, worker });
    return jobs.map((job) => ({ job: job.payload.job, attempts: job.attempts, tool: job.task_identifier }));
  }

  pool(worker) {
    return `${worker}/${this.lives.get(worker) ?? 0}`;
  }

  async complete({ claim }) {
    const { job, pool } = this.ended(claim);
    await this.reported("completeJobs", this.batchCompleteJobs, pool, job);
  }

  async fail({ claim, message }) {
    const { job, pool } = this.ended(claim);
    await this.reported("failJobs", this.batchFailJobs, pool, { job, message });
  }

  /** Report a result; in a batch the worker that reports is told nothing, and its pool stops where that went wrong. */
  async reported(name, report, pool, one) {
    const send = (all) => report(this.shared, this.shared.withPgClient, pool, all);
    if (!this.batch) return send([one]);
    await new Promise((ended) => {
      const sent = async (all) => {
        await send(all);
        ended();
      };
      this.batch(name, 0, sent, ended, this.batchOptions).fn(one);
    });
  }

  ended(claim) {
    const claimed = this.claimed.get(claim);
    this.holding.get(claimed.worker)?.delete(String(claimed.job.id));
    return claimed;
  }

  /** Delete a job that does not run: what an operator has in the place of a cancel. */
  async cancel({ id }) {
    const rows = await this.utils.completeJobs([id]);
    if (rows.length === 0) throw new Refused("graphile-worker deleted no row");
  }

  /** Give a job that failed for good this number of attempts in total. */
  async retry({ id, most, runAt }) {
    const rows = await this.utils.rescheduleJobs([id], { maxAttempts: most, runAt: new Date(runAt) });
    if (rows.length === 0) throw new Refused("graphile-worker changed no row");
  }

  /** Do what a pool's own timer would have it do: unlock what has been locked for four hours. */
  async expire() {
    await this.resetLockedAt(this.shared, this.shared.withPgClient);
  }
}
