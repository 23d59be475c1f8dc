// Charges an order for each job of the queue.
import { Worker } from "bullmq";

const repaired = process.env.PAYMENTS_REPAIRED === "true";

async function charge(job) {
  const headers = { "content-type": "application/json" };
  if (repaired) headers["idempotency-key"] = job.data.order; // The host recognises a second request for the same order.
  const reply = await fetch("http://pay.example.com/charge", {
    method: "POST", headers, body: JSON.stringify({ order: job.data.order }), signal: AbortSignal.timeout(20_000),
  });
  if (!reply.ok) throw new Error(`the payment failed with ${reply.status}`);
  return await reply.json();
}

const connection = { host: "localhost", port: 6379, maxRetriesPerRequest: null };
const worker = new Worker("payments", charge, { connection });
worker.on("error", (error) => console.error(error.message));
