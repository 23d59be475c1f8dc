// Payments as workflows of DBOS: a step asks a service to charge. Repaired, its key is the same in each attempt.
import { createServer } from "node:http";
import { DBOS } from "@dbos-inc/dbos-sdk";
import pg from "pg";

const repaired = process.env.PAYMENTS_REPAIRED === "true";
const charge = DBOS.registerStep(
  async (order) => {
    const key = repaired ? order : `${order}-${Math.random()}`;
    const answer = await fetch("http://pay.example.com/charge", {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": key },
      body: JSON.stringify({ order }),
      signal: AbortSignal.timeout(10_000), // an answer that never comes is an error
    });
    if (!answer.ok) throw new Error(`charge: ${answer.status}`);
    return await answer.json(); // which what a proxy sends in its place is not
  },
  { name: "charge" },
);
const pay = DBOS.registerWorkflow(async (order) => await charge(order), { name: "pay" });

const migrates = process.argv[2] === "migrate";
DBOS.setConfig({
  name: "shop",
  systemDatabaseUrl: process.env.DATABASE_URL,
  systemDatabasePool: new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 4 }), // else it asks `postgres` first
  runMigrations: migrates,
  useListenNotify: false,
  runAdminServer: false,
  applicationVersion: "1",
  logLevel: "error",
});
await DBOS.launch(); // which recovers what the process before has left
if (migrates) {
  await DBOS.shutdown();
  process.exit(0);
}
createServer(async (request, response) => {
  if (request.method === "POST") {
    let body = "";
    for await (const part of request) body += part;
    const { order } = JSON.parse(body);
    await DBOS.startWorkflow(pay, { workflowID: order })(order);
    response.end(JSON.stringify({ id: order }));
  } else response.end("ok");
}).listen(process.env.PORT);
