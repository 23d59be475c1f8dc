// Sends jobs to pg-boss or graphile-worker, and prints the seconds in which one process of it has done them all.
// Usage: node drain.mjs pg-boss|graphile-worker FOLDER URL JOBS BATCH
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [name, folder, connectionString, count, batch] = process.argv.slice(2);
const [jobs, batchSize] = [Number(count), Number(batch)];
const load = (what) => import(pathToFileURL(createRequire(`${folder}/`).resolve(what)).href);
const { default: pg } = await load("pg");
const pool = new pg.Pool({ connectionString, max: 12 });
const left = { count: jobs };
const done = new Promise((resolve) => (left.none = resolve));
const drained = (some) => (left.count -= some) === 0 && left.none();

async function ofPgBoss() {
  const { PgBoss } = await load("pg-boss");
  const boss = new PgBoss({ connectionString, max: 12, supervise: false, schedule: false });
  await boss.start();
  await boss.createQueue("drain");
  for (let sent = 0; sent < jobs; sent += 1_000) {
    await boss.insert("drain", Array.from({ length: Math.min(1_000, jobs - sent) }, () => ({ name: "drain", data: { n: 1 } })));
  }
  await pool.query("ANALYZE");
  const began = performance.now(); // Its work() waits half a second after each batch, whatever is due: this is its fastest.
  for (let some; (some = await boss.fetch("drain", { batchSize })).length > 0; ) await boss.complete("drain", some.map(({ id }) => id));
  return performance.now() - began;
}

async function ofGraphile() {
  const { Logger, run, runMigrations } = await load("graphile-worker");
  await runMigrations({ connectionString });
  await pool.query("SELECT graphile_worker.add_jobs(array(SELECT ROW('drain', '{\"n\":1}'::json, NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec FROM generate_series(1, $1)))", [jobs]);
  await pool.query("ANALYZE");
  const began = performance.now();
  const preset = { worker: { connectionString, concurrentJobs: batchSize, maxPoolSize: 12, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0, logger: new Logger(() => () => {}) } };
  const runner = await run({ preset, noHandleSignals: true, taskList: { drain: () => drained(1) } });
  await done;
  for (;;) {
    const { rows } = await pool.query("SELECT count(*)::int AS n FROM graphile_worker._private_jobs");
    if (rows[0].n === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  const took = performance.now() - began;
  await runner.stop();
  return took;
}

const took = await { "pg-boss": ofPgBoss, "graphile-worker": ofGraphile }[name]();
console.log(took / 1_000);
process.exit(0);
