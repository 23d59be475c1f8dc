// Takes orders, and leaves the charge to a worker.
import http from "node:http";
import { Queue } from "bullmq";

const queue = new Queue("payments", { connection: { host: "localhost", port: 6379 } });
queue.on("error", (error) => console.error(error.message));
const enqueue = (order) => queue.add("charge", { order }, { attempts: 3, backoff: { type: "fixed", delay: 5000 } });

http.createServer(async (request, response) => {
  if (request.method !== "POST") return response.writeHead(204).end();
  let text = "";
  for await (const part of request) text += part;
  const { order } = JSON.parse(text);
  if (process.env.MISTAKE === "loses a job") {
    response.writeHead(202).end(); // Accepted, before any queue has it.
    await new Promise((resolve) => setTimeout(resolve, 2000));
    await enqueue(order);
  } else {
    await enqueue(order);
    response.writeHead(202).end();
  }
}).listen(Number(process.env.PORT), "127.0.0.1");
