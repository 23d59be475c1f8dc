// Takes orders, and leaves the charge to a worker.
import http from "node:http";
import { Queue } from "bullmq";

const queue = new Queue("payments", { connection: { host: "localhost", port: 6379 } });
queue.on("error", (error) => console.error(error.message));

http.createServer(async (request, response) => {
  if (request.method !== "POST") return response.writeHead(204).end();
  let text = "";
  for await (const part of request) text += part;
  const job = await queue.add("charge", JSON.parse(text), { attempts: 3, backoff: { type: "fixed", delay: 5000 } });
  response.writeHead(202, { "content-type": "application/json" }).end(JSON.stringify({ id: `bull:payments:${job.id}` }));
}).listen(Number(process.env.PORT), "127.0.0.1");
