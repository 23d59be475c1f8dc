// Runs in a Node child that has BullMQ: the harness's questions, asked of its Queue, its Worker and its Job, which read
// the same on PostgreSQL and on Redis. Knows no harness.
import { createRequire } from "node:module";

export class Refused extends Error {}

const QUEUE = "jobs";
const DATA_EXCEPTION = "22"; // How the SQLSTATE of a value begins that PostgreSQL cannot hold.
const NOT_THIS_JOB = [-1, -2, -3, -6]; // Missing, not locked, not active, locked by another: nothing was done.

export class Answers {
  constructor(folder) {
    const require = createRequire(`${folder}/`);
    this.require = require;
    this.bullmq = require("bullmq");
    this.claimed = new Map();
  }

  /** Connect, and create the schema where there is one. `store` is `postgres` or `redis`. */
  async open({ url, store }) {
    this.store = store;
    await this.connect(url, { migrate: true });
  }

  /** Answer another one over connections of its own, which shares what claims were issued. */
  async session({ url }) {
    const other = Object.assign(Object.create(Answers.prototype), this);
    await other.connect(url, { migrate: false });
    return other;
  }

  async connect(url, { migrate }) {
    const [connection, ...factory] = this.connection(url, migrate);
    const { Queue, Worker } = this.bullmq;
    this.queue = new Queue(QUEUE, { connection }, ...factory);
    this.queue.on("error", () => {});
    await this.queue.waitUntilReady();
    const timers = { autorun: false, skipStalledCheck: true, skipLockRenewal: true, drainDelay: 1 };
    this.worker = new Worker(QUEUE, null, { connection, settings: { backoffStrategy }, ...timers }, ...factory);
    this.worker.on("error", () => {});
    await this.worker.waitUntilReady();
  }

  connection(url, migrate) {
    if (this.store === "redis") {
      const path = new URL(url).pathname;
      return [{ path, maxRetriesPerRequest: null, retryStrategy: () => null, enableReadyCheck: false }];
    }
    return [{ connectionString: url, max: 1, migrate }, this.bullmq.createPostgresBackend];
  }

  /** Forget what is known of the run before, and set what is the queue's own; the store is emptied by the parent. */
  async reset({ concurrency }) {
    this.claimed.clear();
    if (concurrency) await this.queue.setGlobalConcurrency(concurrency);
  }

  /** Add a job; answers the id of the job that holds its key, itself where it was added. */
  async enqueue({ tool, data, options }) {
    return holding(async () => ({ id: (await this.queue.add(tool, data, options)).id }));
  }

  /** Take up to as many jobs as there are tokens, as a worker's loop does: what stalled too often is failed unrun. */
  async claim({ tokens, worker }) {
    this.told(worker);
    const claimed = [];
    for (const token of tokens) {
      const job = await this.next(token);
      if (!job) break;
      this.claimed.set(token, job);
      const { data, name: tool, attemptsMade: made, stalledCounter: stalled } = job;
      claimed.push({ job: data.job, tool, made, stalled, token });
    }
    return claimed;
  }

  async next(token) {
    for (;;) {
      const job = await this.worker.getNextJob(token, { block: false });
      const stalled = job && this.worker.getUnrecoverableErrorMessage?.(job);
      if (!stalled) return job;
      const { UnrecoverableError } = this.bullmq;
      await job.moveToFailed(new UnrecoverableError(stalled), token, false).catch(quiet);
    }
  }

  /** Set what a worker is told when it is made; all share one, since names and tokens tell them apart. */
  told(options) {
    for (const owner of [this.worker, this.worker.backend, this.worker.scripts?.queue]) {
      if (owner?.opts) Object.assign(owner.opts, options);
    }
  }

  /** Complete; where that raises, fail with what was raised, as a worker's loop does. */
  async complete({ token, output }) {
    const job = this.claimed.get(token);
    try {
      await mine(() => job.moveToCompleted(output, token, false));
    } catch (error) {
      if (error instanceof Refused) throw error;
      await mine(() => job.moveToFailed(error, token, false));
      return { failed: error.message };
    }
  }

  async fail({ token, message, final }) {
    const kind = final ? this.bullmq.UnrecoverableError : Error;
    const error = new kind(message);
    error.stack = `${error.name}: ${message}`; // Where the harness stands is in no user's trace.
    await mine(() => this.claimed.get(token).moveToFailed(error, token, false));
  }

  async extend({ token, milliseconds }) {
    const extended = await mine(() => this.claimed.get(token).extendLock(token, milliseconds));
    if (Number(extended) !== 1) throw new Refused("the lock is lost");
  }

  /** Give back a job that was taken and not run. */
  async release({ token }) {
    await mine(() => this.claimed.get(token).moveToWait(token));
  }

  async cancel({ id }) {
    const job = await this.job(id);
    try {
      await job.remove();
    } catch (error) {
      if (/locked|could not be removed/i.test(error.message)) throw new Refused("the job is locked");
      throw error;
    }
  }

  async retry({ id }) {
    const job = await this.job(id);
    await mine(() => job.retry("failed", { resetAttemptsMade: true, resetAttemptsStarted: true }));
    const { attemptsMade: made, stalledCounter: stalled } = await this.job(id);
    return { made, stalled };
  }

  async job(id) {
    const job = await this.queue.getJob(id);
    if (!job) throw new Refused("there is no such job");
    return job;
  }

  /** Look for stalled jobs as a worker's timer does. */
  async expire({ worker }) {
    this.told(worker);
    await this.worker.moveStalledJobsToWait();
  }
}

function quiet() {}

/** A worker's own strategy, as the manual shows one: what is exponential, up to a longest wait. */
function backoffStrategy(made, _type, _error, job) {
  const { delay, longest } = job.opts.backoff;
  return Math.min(delay * 2 ** (made - 1), longest);
}

/** Tell apart a job that is no longer the caller's, so that nothing was done, from what broke. */
async function mine(ask) {
  try {
    return await ask();
  } catch (error) {
    if (NOT_THIS_JOB.includes(error?.code)) throw new Refused(error.message.split(".")[0]);
    throw error;
  }
}

/** Tell apart a value that the store cannot hold, so that nothing was added, from what broke. */
async function holding(ask) {
  try {
    return await ask();
  } catch (error) {
    if (error?.code?.startsWith?.(DATA_EXCEPTION)) throw new Refused(`invalid input: ${error.message}`);
    throw error;
  }
}
