// Charges an order for each job of the queue.
import { Worker } from "bullmq";

const mistake = process.env.MISTAKE;

async function charge(job) {
  const headers = { "content-type": "application/json" };
  // The host recognises a second request for the same order.
  if (mistake !== "charges twice" && mistake !== "twice by timeout") headers["idempotency-key"] = job.data.order;
  const reply = await fetch("http://pay.example.com/charge", {
    method: "POST", headers, body: JSON.stringify({ order: job.data.order }), signal: AbortSignal.timeout(60_000),
  });
  if (!reply.ok) throw new Error(`the payment failed with ${reply.status}`);
  return await reply.json();
}

const connection = { host: "localhost", port: 6379, maxRetriesPerRequest: null };
const options = {
  "twice by timeout": { lockDuration: 2000, lockRenewTime: 60_000, stalledInterval: 2000 },
  "stuck after a kill": { skipStalledCheck: true },
}[mistake] ?? {};
const worker = new Worker("payments", charge, { connection, ...options });
worker.on("error", (error) => console.error(error.message));
