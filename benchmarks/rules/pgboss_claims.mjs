// What the rules about pg-boss claim, asked of one release on a database of its own.

import { alone, load, raised, release, sleep, tell, until } from "./claims.mjs";

const loaded = load("pg-boss");
const PgBoss = loaded.PgBoss ?? loaded;
const connectionString = process.env.DATABASE_URL;
const boss = new PgBoss({ connectionString, supervise: false, schedule: false, noSupervisor: true, noScheduling: true });
boss.on("error", () => undefined);
await boss.start();
const [major, minor] = release;
const ten = major >= 10;
const DAY = 86_400;
let made = 0;
const queue = async (options) => {
  made += 1;
  const name = `q${made}`;
  if (ten) await boss.createQueue(name, { name, ...options });
  return name;
};
const soon = major >= 10 ? { pollingIntervalSeconds: 0.5 } : { newJobCheckInterval: 200 };
const twice = async (name, options) => {
  const ids = [await boss.send(name, {}, options), await boss.send(name, {}, options)];
  return ids.filter((id) => id !== null).length;
};

const started = `
  const loaded = load("pg-boss");
  const PgBoss = loaded.PgBoss ?? loaded;
  const options = { supervise: false, schedule: false, noSupervisor: true, noScheduling: true };
  const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, ...options });
  boss.on("error", () => undefined);
  await boss.start();
  const client = new (load("pg").Client)({ connectionString: process.env.DATABASE_URL });
  await client.connect();
  const db = { executeSql: (text, values) => client.query(text, values) };
`;
/** What begins a process with a pg-boss and a session of its own, which `alone` runs. */
const { Client } = load("pg");
const client = new Client({ connectionString });
await client.connect();
const stateOf = async (name, id) => (ten ? await boss.getJobById(name, id) : await boss.getJobById(id)).state;

await tell({
  async singleton_key_inert() {
    const plain = await twice(await queue(), { singletonKey: "k" });
    const timed = await twice(await queue(), { singletonKey: "k", singletonSeconds: 600 });
    const keyed = ten ? await twice(await queue({ policy: "short" }), { singletonKey: "k" }) : 1;
    const holds = plain === (ten ? 2 : 1) && timed === 1 && keyed === 1;
    return [holds, `two sends with a key: ${plain} jobs, with singletonSeconds ${timed}, with the policy short ${keyed}`];
  },
  async queue_never_created() {
    let sent = null;
    const error = await raised(async () => (sent = await boss.send("nobody-made-this", {})));
    const holds = ten ? (major === 10 ? sent === null && !error : Boolean(error)) : sent !== null;
    return [holds, error || (sent === null ? "send() answers null" : "taken")];
  },
  async expiry_refused() {
    const name = await queue();
    const told = [];
    for (const seconds of [DAY - 1, DAY, DAY + 1]) {
      told.push(Boolean(await raised(() => boss.send(name, {}, { expireInSeconds: seconds }))));
    }
    const exact = ten && (major < 12 || minor < 28);
    const wanted = [false, exact, ten];
    return [String(told) === String(wanted), `a day less 1 s, a day, a day and 1 s: ${told.map((no) => (no ? "raises" : "taken")).join(", ")}`];
  },
  async queue_options_never_arrive() {
    if (!ten) return [true, "has no createQueue"];
    const name = await queue({ retryLimit: 3 });
    await boss.createQueue(name, { name, retryLimit: 7 }).catch(() => undefined);
    const before = (await boss.getQueue(name)).retryLimit;
    await boss.updateQueue(name, { retryLimit: 7 });
    const after = (await boss.getQueue(name)).retryLimit;
    return [before === 3 && after === 7, `createQueue again: ${before}, updateQueue: ${after}`];
  },
  async dead_letter_never_created() {
    if (!ten) return [true, "has no createQueue"];
    const name = await queue();
    const made = await raised(() => boss.createQueue("with-letter", { name: "with-letter", deadLetter: "nobody" }));
    const updated = await raised(() => boss.updateQueue(name, { deadLetter: "nobody" }));
    const sent = await raised(() => boss.send(name, {}, { deadLetter: "nobody" }));
    const planned = await raised(() => boss.schedule("nobody-made-this", "* * * * *"));
    return [Boolean(made), `createQueue: ${made || "taken"}; updateQueue: ${updated || "taken"}; send: ${sent || "taken"}; schedule: ${planned || "taken"}`];
  },
  async handler_drops_jobs() {
    if (!ten) return [true, "hands over one job"];
    const name = await queue();
    const ids = [];
    for (let n = 0; n < 3; n += 1) ids.push(await boss.send(name, {}));
    let seen = 0;
    await boss.work(name, { batchSize: 3, ...soon }, async ([job]) => {
      if (job) seen += 1;
    });
    const state = async (id) => (await boss.getJobById(name, id)).state;
    const all = async () => (await Promise.all(ids.map(state))).filter((one) => one === "completed").length;
    for (let n = 0; n < 50 && (await all()) < 3; n += 1) await sleep(100);
    const completed = await all();
    return [seen === 1 && completed === 3, `of 3 jobs the handler saw ${seen}; completed: ${completed}`];
  },
  async policy_in_update() {
    if (!ten) return [true, "has no createQueue"];
    const name = await queue({ policy: "short" });
    const named = await raised(() => boss.updateQueue(name, { policy: "short", retryLimit: 3 }));
    await boss.updateQueue(name, { retryLimit: 3 });
    const { policy } = await boss.getQueue(name);
    const jobs = await twice(name, { singletonKey: "k" });
    const holds = major === 10 ? !named && policy === "standard" && jobs === 2 : Boolean(named) && policy === "short" && jobs === 1;
    return [holds, `updateQueue with the policy: ${named ? "raises" : "taken"}, without it: ${policy}, ${jobs} jobs of one key`];
  },
  async option_ignored() {
    const name = await queue();
    for (let n = 0; n < 3; n += 1) await boss.send(name, {});
    let together = 0;
    await boss.work(name, { teamSize: 3, teamConcurrency: 3, ...soon }, async () => {
      together += 1;
      await sleep(700);
      together -= 1;
    });
    await until(() => together > 0);
    await sleep(300);
    const seen = together;
    return [ten ? seen === 1 : seen === 3, `teamSize 3: ${seen} at a time`];
  },
  async handler_takes_one_job() {
    const name = await queue();
    await boss.send(name, { to: 7 });
    let handed;
    await boss.work(name, soon, async (job) => {
      handed = job;
    });
    await until(() => handed !== undefined);
    const array = Array.isArray(handed);
    return [array === ten && (handed.data === undefined) === ten, array ? "an array; its data is undefined" : "one job"];
  },
  async pgboss_milliseconds() {
    const name = await queue();
    const id = await boss.send(name, {}, { startAfter: 60_000, retryDelay: 120_000 });
    const job = ten ? await boss.getJobById(name, id, { includeMetadata: true }) : await boss.getJobById(id);
    const hours = (new Date(job.startAfter ?? job.startafter ?? job.start_after) - Date.now()) / 3_600_000;
    return [Math.round(hours * 10) === 167, `startAfter 60000: in ${hours.toFixed(1)} hours`];
  },
  async job_sent_before_commit() {
    const name = await queue();
    const asked = [];
    const executeSql = async (text) => {
      asked.push(text);
      return { rows: [], rowCount: 0 };
    };
    await boss.send(name, {}, { db: { executeSql } }).catch(() => undefined);
    const count = async () => [await boss.fetch(name)].flat().filter(Boolean).length;
    const over = await count();
    await boss.send(name, {});
    const beside = await count();
    const holds = asked.length > 0 && over === 0 && beside === 1;
    return [holds, `sent over db: ${asked.length} statements there, ${over} jobs here; without db ${beside} job at once`];
  },
  async handler_promise_left() {
    const name = await queue();
    const id = await boss.send(name, {});
    let done = false;
    const mail = async () => {
      await sleep(8000);
      done = true;
    };
    await boss.work(name, soon, async () => {
      mail();
    });
    const state = async () => (ten ? await boss.getJobById(name, id) : await boss.getJobById(id)).state;
    await until(async () => (await state()) === "completed");
    const now = await state();
    return [now === "completed" && !done, `the job is ${now} while its work still runs`];
  },
  async handler_outlives_expiry() {
    const name = await queue({ expireInSeconds: 1, retryLimit: 3 });
    await boss.send(name, {}, { expireInSeconds: 1, retryLimit: 3 });
    let runs = 0;
    const run = async () => {
      runs += 1;
      await sleep(4500);
    };
    await boss.work(name, soon, run);
    await boss.work(name, soon, run);
    await until(() => runs === 1);
    await sleep(1300);
    if (boss.supervise) await boss.supervise(name).catch(() => undefined);
    if (boss.maintain) await boss.maintain().catch(() => undefined);
    await until(() => runs === 2, 4000);
    return [runs >= 2, `a job of 4.5 s, taken back after 1 s: ${runs} runs at a time`];
  },
  async queue_never_stopped() {
    const told = [];
    for (const stops of [false, true]) {
      const name = await queue();
      const id = await boss.send(name, {});
      const stop = `process.once("SIGTERM", async () => {
        const stopped = new Promise((done) => boss.once("stopped", done));
        await boss.stop({ graceful: true, wait: true, timeout: 20_000 });
        await Promise.race([stopped, sleep(10_000)]);
        process.exit();
      });`;
      const work = `await boss.work("${name}", ${JSON.stringify(soon)}, async () => {
        console.log("at work");
        await sleep(1500);
      });`;
      await alone(`${started}${stops ? stop : ""}${work}`);
      told.push(await stateOf(name, id));
    }
    return [String(told) === "active,completed", `after SIGTERM the job is ${told[0]}; with stop() on it ${told[1]}`];
  },
  async row_written_before_send() {
    const seen = [];
    const row = `await client.query("INSERT INTO pages VALUES (1)");`;
    for (const kind of ["apart", "rolled back", "together"]) {
      await client.query("CREATE TABLE IF NOT EXISTS pages (id int); TRUNCATE pages");
      const name = await queue();
      const send = `await client.query("BEGIN"); ${row} await boss.send("${name}", { id: 1 }, { db });`;
      await alone(`${started}${kind === "apart" ? row : send}${kind === "together" ? 'await client.query("COMMIT");' : ""}die();`);
      const rows = (await client.query("SELECT FROM pages")).rowCount;
      seen.push(`${rows}:${[await boss.fetch(name)].flat().filter(Boolean).length}`);
    }
    const told = `rows and jobs after a crash: written apart ${seen[0]}, in a transaction ${seen[1]}, committed ${seen[2]}`;
    return [String(seen) === "1:0,0:0,1:1", told];
  },
  async flag_left_by_crash() {
    await client.query("CREATE TABLE flags (refreshing bool); INSERT INTO flags VALUES (false)");
    const name = await queue({ expireInSeconds: 1, retryLimit: 3 });
    const id = await boss.send(name, {}, { expireInSeconds: 1, retryLimit: 3 });
    const soonest = JSON.stringify(soon);
    const set = `await client.query("UPDATE flags SET refreshing = true");`;
    await alone(`${started}await boss.work("${name}", ${soonest}, async () => { ${set} die(); }); await sleep(9000);`);
    await sleep(1300);
    if (boss.expire) await boss.expire();
    if (boss.supervise) await boss.supervise(name).catch(() => undefined);
    if (boss.maintain) await boss.maintain().catch(() => undefined);
    let worked = 0;
    await boss.work(name, soon, async () => {
      if ((await client.query("SELECT refreshing FROM flags")).rows[0].refreshing) return;
      worked += 1;
    });
    await until(async () => (await stateOf(name, id)) === "completed");
    const state = await stateOf(name, id);
    return [state === "completed" && worked === 0, `the job is ${state}, and was worked ${worked} times`];
  },
  async code_cron_invalid() {
    const name = await queue();
    const error = await raised(() => boss.schedule(name, "0 25 * * *"));
    return [Boolean(error), error || "taken"];
  },
});
