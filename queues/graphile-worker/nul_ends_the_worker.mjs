// graphile-worker 0.18.0: an error message with a NUL ends the worker's process, and its jobs stay locked for four hours.
//
//   npm install graphile-worker
//   DATABASE_URL=postgresql://... node nul_ends_the_worker.mjs
//
// All settings are the defaults, but for two jobs at once. Time is real. The worker is a process of its own, and
// nothing stops or kills it.
import { spawn } from "node:child_process";
import { Logger, makeWorkerUtils, run } from "graphile-worker";

const connectionString = process.env.DATABASE_URL;
const began = Number((process.env.BEGAN ??= String(Date.now())));
const say = (text) => console.log(`t+${Math.round((Date.now() - began) / 1000)}s  ${text}`);
const logger = new Logger(() => () => {});
const taskList = {
  readsBytes: async () => {
    say("readsBytes runs, and throws");
    throw new Error("unexpected byte \0");
  },
  sendsMail: async () => {
    say("sendsMail runs");
    await new Promise((resolve) => setTimeout(resolve, 5000));
    say("sendsMail succeeds");
  },
};

async function work() {
  const runner = await run({ connectionString, logger, concurrency: 2, taskList });
  await runner.promise;
}

async function main() {
  const utils = await makeWorkerUtils({ connectionString, logger });
  await utils.migrate();
  await utils.addJob("sendsMail", {});
  await utils.addJob("readsBytes", {});
  for (const number of [1, 2]) {
    say(`worker ${number} starts`);
    const worker = spawn(process.execPath, [process.argv[1], "work"], { stdio: ["ignore", "inherit", "ignore"] });
    const ended = new Promise((resolve) => worker.on("exit", resolve));
    const code = await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 15_000, "none: it waits"))]);
    say(`worker ${number}: exit code ${code}`);
    worker.kill();
  }
  const { rows } = await utils.withPgClient((client) =>
    client.query(`SELECT task_identifier, attempts, last_error, locked_at IS NOT NULL AS locked
      FROM graphile_worker.jobs ORDER BY id`),
  );
  rows.forEach((row) => say(JSON.stringify(row)));
  process.exit();
}

await (process.argv[2] === "work" ? work() : main());
