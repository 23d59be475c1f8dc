// What the rules about BullMQ claim, asked of one release with a Redis of its own.

import { alone, load, raised, release, sleep, tell, until } from "./claims.mjs";

const { Queue, Worker, FlowProducer } = load("bullmq");
const IORedis = load("ioredis");
const Redis = IORedis.default ?? IORedis;
const url = new URL(process.env.REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port) };
const five = release[0] >= 5;
const six = release[0] >= 6; // where `repeat` is gone
const own = [];
let made = 0;
const queue = (options = {}) => {
  made += 1;
  const one = new Queue(`q${made}`, { connection, ...options });
  one.on("error", () => undefined);
  own.push(one);
  return one;
};
const worker = (of, run, options = {}) => {
  const one = new Worker(of.name ?? of, run, { connection, ...options });
  one.on("error", () => undefined);
  own.push(one);
  return one;
};
const ended = (job) => until(async () => ["completed", "failed"].includes(await job.getState()));

const scheduled = {
  async queue_scheduler_missing() {
    const q = queue();
    let runs = 0;
    worker(q, async () => (runs += 1));
    await q.add("x", {}, { delay: 100 });
    await sleep(2000);
    const without = runs;
    const { QueueScheduler } = load("bullmq");
    own.push(new QueueScheduler(q.name, { connection }));
    await until(() => runs === 1);
    return [without === 0 && runs === 1, `after 2 s: ${without} runs; with a QueueScheduler ${runs}`];
  },
};
const started = `
  const IORedis = load("ioredis");
  const url = new URL(process.env.REDIS_URL);
  const connection = { host: url.hostname, port: Number(url.port) };
  const row = new (IORedis.default ?? IORedis)(connection);
  const short = { connection, lockDuration: 1000, stalledInterval: 500 };
`;
/** What begins a process of its own, which `alone` runs. */
const claims = {
  async queue_never_stopped() {
    const told = [];
    for (const stops of [false, true]) {
      const q = queue();
      const job = await q.add("x", {});
      const work = `const worker = new (load("bullmq").Worker)("${q.name}", async () => {
        console.log("at work");
        await sleep(1500);
      }, short);`;
      await alone(`${started}${work}${stops ? 'process.once("SIGTERM", () => worker.close().then(() => process.exit()));' : ""}`);
      told.push(await job.getState());
    }
    return [String(told) === "active,completed", `after SIGTERM the job is ${told[0]}; with close() on it ${told[1]}`];
  },
  async flag_left_by_crash() {
    const q = queue();
    const job = await q.add("x", {});
    const work = `new (load("bullmq").Worker)("${q.name}", async () => {
      await row.set("refreshing", "true");
      die();
    }, short);`;
    await alone(`${started}${work}`);
    const row = new Redis(connection);
    let worked = 0;
    const run = async () => (await row.get("refreshing")) ?? (worked += 1);
    worker(q, run, { lockDuration: 1000, stalledInterval: 500 });
    await ended(job);
    const state = await job.getState();
    row.disconnect();
    return [state === "completed" && worked === 0, `the job is ${state}, and was worked ${worked} times`];
  },
  async backoff_without_attempts() {
    const q = queue();
    let [once, thrice] = [0, 0];
    worker(q, async (job) => {
      if (job.name === "once") once += 1;
      else thrice += 1;
      throw new Error("no");
    });
    const first = await q.add("once", {}, { backoff: 10 });
    const other = await q.add("thrice", {}, { backoff: 10, attempts: 3 });
    await ended(first);
    await until(async () => thrice === 3);
    await sleep(200);
    return [once === 1 && thrice === 3, `${once} run, with attempts: 3 ${thrice}`];
  },
  async job_sent_before_commit() {
    const q = queue();
    let [committed, early] = [false, false];
    worker(q, async () => (early = !committed));
    await q.add("x", {});
    await until(() => early);
    committed = true;
    return [early, early ? "a worker runs it before what adds it goes on" : "it waits"];
  },
  async queue_defaults_differ() {
    const first = queue({ defaultJobOptions: { attempts: 3 } });
    const other = new Queue(first.name, { connection, defaultJobOptions: { attempts: 5 } });
    own.push(other);
    const tries = [];
    for (const one of [first, other]) tries.push((await first.getJob((await one.add("x", {})).id)).opts.attempts);
    return [String(tries) === "3,5", `attempts of a job of either object: ${tries.join(" and ")}`];
  },
  async handler_promise_left() {
    const q = queue();
    let done = false;
    const mail = async () => {
      await sleep(3000);
      done = true;
    };
    worker(q, async () => {
      mail();
    });
    const job = await q.add("x", {});
    await ended(job);
    const state = await job.getState();
    return [state === "completed" && !done, `the job is ${state} while its work still runs`];
  },
  async bullmq_option_ignored() {
    const again = queue();
    let repeated = 0;
    if (six) {
      worker(again, async () => (repeated += 1));
      await again.add("x", {}, { repeat: { every: 200 } });
      await sleep(1500);
    }
    const q = queue({ attempts: 3 });
    let runs = 0;
    worker(q, async () => {
      runs += 1;
      throw new Error("no");
    });
    await ended(await q.add("x", {}));
    const slow = queue();
    worker(slow, async () => sleep(300));
    const job = await slow.add("x", {}, { timeout: 50 });
    await ended(job);
    const state = await job.getState();
    return [
      runs === 1 && state === "completed" && repeated === (six ? 1 : 0),
      `attempts of the Queue: ${runs} run; timeout: 50 of 300 ms: ${state}${six ? `; repeat: ${repeated} run` : ""}`,
    ];
  },
  async lock_renewed_too_late() {
    const q = queue();
    const run = (renew) => ({ lockDuration: 600, lockRenewTime: renew, stalledInterval: 300, maxStalledCount: 5 });
    let runs = 0;
    const process = async () => {
      runs += 1;
      await sleep(2500);
    };
    const workers = [worker(q, process, run(5000)), worker(q, process, run(5000))];
    await q.add("x", {});
    await until(async () => runs >= 2, 4000);
    const late = runs;
    await Promise.all(workers.map((one) => one.close(true)));
    const right = queue();
    runs = 0;
    const two = [worker(right, process, run(200)), worker(right, process, run(200))];
    await right.add("x", {});
    await sleep(2800);
    await Promise.all(two.map((one) => one.close(true)));
    return [late >= 2 && runs === 1, `renewed too late: ${late} runs; in time: ${runs}`];
  },
  async redis_retries_refused() {
    const plain = new Redis({ ...connection });
    const right = new Redis({ ...connection, maxRetriesPerRequest: null });
    const error = await raised(async () => worker("r1", async () => undefined, { connection: plain }));
    const fine = await raised(async () => worker("r2", async () => undefined, { connection: right }));
    return [Boolean(error) === five && !fine, `${error || "taken"}; null: ${fine || "taken"}`];
  },
  async job_id_blocks_repeats() {
    const q = queue();
    let runs = 0;
    const ready = worker(q, async () => {
      runs += 1;
    });
    await ready.waitUntilReady();
    await ended(await q.add("x", {}, { jobId: "page-1" }));
    await q.add("x", {}, { jobId: "page-1" });
    await sleep(300);
    const kept = runs;
    const gone = { jobId: "page-2", removeOnComplete: true, removeOnFail: true };
    await q.add("x", {}, gone);
    await until(async () => runs === 2);
    await sleep(200);
    await q.add("x", {}, gone);
    await until(async () => runs === 3);
    const removed = runs - 1;
    const colon = await raised(() => q.add("x", {}, { jobId: "a:b" }));
    const number = await raised(() => q.add("x", {}, { jobId: "17" }));
    return [
      kept === 1 && removed === 2 && Boolean(colon) === five && Boolean(number) === five,
      `${kept} run of two, removed ones ${removed}; a colon: ${colon || "taken"}; a number: ${number || "taken"}`,
    ];
  },
  async job_removed_before_read() {
    const q = queue({ defaultJobOptions: { removeOnComplete: true } });
    const kept = queue();
    worker(q, async () => undefined);
    worker(kept, async () => undefined);
    const job = await q.add("x", {});
    const other = await kept.add("x", {});
    await until(async () => !(await q.getJob(job.id)));
    await ended(other);
    const seen = [await q.getJob(job.id), await kept.getJob(other.id)].map((one) => (one ? "there" : "gone"));
    return [seen[0] === "gone" && seen[1] === "there", `after it completed: ${seen[0]}; kept: ${seen[1]}`];
  },
  async redis_key_prefix_refused() {
    const prefixed = new Redis({ ...connection, maxRetriesPerRequest: null, keyPrefix: "a:" });
    const handed = await raised(async () => queue({ connection: prefixed }));
    const q = queue({ connection: { ...connection, keyPrefix: "b:" } });
    let runs = 0;
    const told = await raised(async () => {
      worker(q, async () => (runs += 1));
      await q.add("x", {});
      await sleep(500);
    });
    return [Boolean(handed) && Boolean(told || runs !== 1), `a connection: ${handed}; its options: ${told || `${runs} runs`}`];
  },
  async queue_name_refused() {
    const error = await raised(async () => own.push(new Queue("mail:out", { connection })));
    return [Boolean(error) === five, error || "taken"];
  },
  async repeat_left_behind() {
    const q = queue();
    await q.add("x", {}, { repeat: { pattern: "0 3 * * *" } });
    await q.add("x", {}, { repeat: { pattern: "0 4 * * *" } });
    const many = (await q.getRepeatableJobs()).length;
    let one = "";
    if (q.upsertJobScheduler) {
      const other = queue();
      await other.upsertJobScheduler("x", { pattern: "0 3 * * *" });
      await other.upsertJobScheduler("x", { pattern: "0 4 * * *" });
      one = `; upserted: ${(await other.getJobSchedulers()).length}`;
    }
    return [many === 2 && (one === "" || one.endsWith(" 1")), `after an edit: ${many} schedules${one}`];
  },
  async bullmq_add_refused() {
    const q = queue();
    const told = {
      every: await raised(() => q.add("x", {}, { repeat: { every: 60_000, pattern: "0 3 * * *" } })),
      priority: await raised(() => q.add("x", {}, { priority: 1.5 })),
      jitter: await raised(() => q.add("x", {}, { attempts: 2, backoff: { type: "fixed", delay: 9, jitter: 2 } })),
    };
    const wanted = { every: !six, priority: true, jitter: five };
    const holds = Object.keys(told).every((name) => Boolean(told[name]) === wanted[name]);
    return [holds, Object.entries(told).map(([name, error]) => `${name}: ${error ? "raises" : "taken"}`).join(", ")];
  },
  async code_cron_invalid() {
    const q = queue();
    const wrong = "0 25 * * *";
    const error = await raised(() =>
      six ? q.upsertJobScheduler("x", { pattern: wrong }) : q.add("x", {}, { repeat: { pattern: wrong } }),
    );
    return [Boolean(error), error || "taken"];
  },
};
if (six) delete claims.repeat_left_behind;
await tell(release[0] === 1 ? scheduled : claims);
