// What the rules about graphile-worker claim, asked of one release on a database of its own.

import { load, raised, release, sleep, tell, until } from "./claims.mjs";

const { run, runOnce, makeWorkerUtils, parseCrontab, Logger } = load("graphile-worker");
const { Pool } = load("pg");
const connectionString = process.env.DATABASE_URL;
const warnings = [];
const logger = new Logger(() => (level, message) => {
  if (level === "warning") warnings.push(message);
});
const base = { connectionString, logger, parsedCronItems: [], noHandleSignals: true };
const utils = await makeWorkerUtils({ connectionString, logger });
await utils.migrate();
const pool = new Pool({ connectionString });
const rows = async (text, values) => (await pool.query(text, values)).rows;
const jobs = async (task) => rows("SELECT * FROM graphile_worker.jobs WHERE task_identifier = $1 ORDER BY id", [task]);
const started = async (options) => {
  const runner = await run({ ...base, pollInterval: 100, ...options });
  return runner;
};

const claims = {
  async graphile_option_unknown() {
    await utils.addJob("unknown", {}, { attempts: 3 });
    await utils.addJob("known", {}, { maxAttempts: 3 });
    const most = [(await jobs("unknown"))[0].max_attempts, (await jobs("known"))[0].max_attempts];
    return [most[0] === 25 && most[1] === 3, `attempts: 3 gives ${most[0]}, maxAttempts: 3 gives ${most[1]}`];
  },
  async graphile_crontab_refused() {
    const wrong = await raised(() => parseCrontab("0 25 * * * sweep"));
    const option = await raised(() => parseCrontab("0 3 * * * sweep ?maxAttempts=3"));
    const twice = await raised(() => parseCrontab("0 3 * * * sweep\n0 4 * * * sweep"));
    const right = await raised(() => parseCrontab("0 3 * * * sweep ?max=3"));
    return [Boolean(wrong && option && twice) && !right, `${wrong ? "an hour 25, " : ""}${option ? "an option, " : ""}${twice ? "an identifier twice" : ""} raise`];
  },
  async job_key_mode_inert() {
    for (let n = 0; n < 2; n += 1) await utils.addJob("unkeyed", {}, { jobKeyMode: "replace" }).catch(() => undefined);
    for (let n = 0; n < 2; n += 1) await utils.addJob("keyed", {}, { jobKey: "k", jobKeyMode: "replace" });
    const many = [(await jobs("unkeyed")).length, (await jobs("keyed")).length];
    return [many[0] === 2 && many[1] === 1, `two calls make ${many[0]} without a key, ${many[1]} with one`];
  },
  async graphile_task_unknown() {
    await utils.addJob("mial", {});
    await runOnce({ ...base, taskList: { mail: async () => undefined } });
    const [job] = await jobs("mial");
    return [job.attempts === 0, `what no list has: ${job.attempts} attempts`];
  },
  async handler_promise_left() {
    let done = false;
    const mail = async () => {
      await sleep(3000);
      done = true;
    };
    const left = async () => {
      mail();
    };
    await utils.addJob("left", {});
    await runOnce({ ...base, taskList: { left } });
    const jobsLeft = (await jobs("left")).length;
    return [jobsLeft === 0 && !done, `the job is ${jobsLeft ? "kept" : "gone"} while its work still runs`];
  },
  async graphile_signals_ignored() {
    const before = process.listenerCount("SIGTERM");
    const deaf = await started({ taskList: { none: async () => undefined } });
    const without = process.listenerCount("SIGTERM") - before;
    await deaf.stop();
    const hearing = await started({ taskList: { none: async () => undefined }, noHandleSignals: false });
    const heard = process.listenerCount("SIGTERM") - before;
    await hearing.stop();
    return [without === 0 && heard > 0, `listeners for SIGTERM: ${without}, by default ${heard}`];
  },
  async graphile_options_conflict() {
    const both = { taskList: { none: async () => undefined }, taskDirectory: process.cwd() };
    const error = await raised(async () => (await started(both)).stop());
    const crons = await raised(async () =>
      (await run({ ...base, taskList: both.taskList, crontab: "* * * * * none", parsedCronItems: [] })).stop(),
    );
    return [Boolean(error && crons), `tasks: ${error || "taken"}; crontabs: ${crons || "taken"}`];
  },
  async max_attempts_zero() {
    await utils.addJob("zero", {}, { maxAttempts: 0 });
    const most = (await jobs("zero"))[0].max_attempts;
    return [most === 25, `maxAttempts: 0 gives ${most}`];
  },
  async job_key_mode_refused() {
    const error = await raised(() => utils.addJob("moded", {}, { jobKey: "m", jobKeyMode: "debounce" }));
    return [Boolean(error) && (await jobs("moded")).length === 0, error || "taken"];
  },
  async concurrency_above_pool() {
    let most = 0;
    let now = 0;
    const hold = async (_, helpers) =>
      helpers.withPgClient(async (client) => {
        now += 1;
        most = Math.max(most, now);
        await client.query("SELECT pg_sleep(0.2)");
        now -= 1;
      });
    for (let n = 0; n < 6; n += 1) await utils.addJob("hold", {});
    const runner = await started({ taskList: { hold }, concurrency: 6, maxPoolSize: 3 });
    await until(async () => (await jobs("hold")).length === 0);
    await runner.stop();
    return [most > 0 && most <= 3, `6 jobs at a time, 3 connections: ${most} ran together`];
  },
  async cron_not_filled() {
    const { parseCronItems } = load("graphile-worker");
    const past = new Date(Date.now() - 3 * 60_000).toISOString();
    const tasks = { late: async () => undefined, filled: async () => undefined };
    const items = parseCronItems([
      { task: "late", match: "* * * * *", identifier: "late", options: {} },
      { task: "filled", match: "* * * * *", identifier: "filled", options: { backfillPeriod: 3_600_000 } },
    ]);
    for (const identifier of ["late", "filled"]) {
      await pool.query(`INSERT INTO ${await crontabTable()} (identifier, known_since, last_execution) VALUES ($1, $2, $2)`, [
        identifier,
        past,
      ]);
    }
    const runner = await run({ ...base, taskList: { other: async () => undefined }, parsedCronItems: items });
    await until(async () => (await jobs("filled")).length > 1);
    await sleep(300);
    const many = [(await jobs("late")).length, (await jobs("filled")).length];
    await runner.stop();
    return [many[0] <= 1 && many[1] >= 2, `3 minutes without a worker: ${many[0]} runs made up for, with fill ${many[1]}`];
  },
};
if (release[1] < 17) delete claims.cron_not_filled; // their table of crontabs cannot be aged from outside
await tell(claims);

async function crontabTable() {
  const [found] = await rows(
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'graphile_worker' AND table_name LIKE '%known_crontabs'",
  );
  return `graphile_worker.${found.table_name}`;
}
