import { createServer } from "node:http";
import { setTimeout } from "node:timers/promises";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";

const sqs = new SQSClient({});

createServer(async (request, response) => {
  if (request.method !== "POST") return response.writeHead(204).end();
  let body = "";
  for await (const chunk of request) body += chunk;
  const message = new SendMessageCommand({ QueueUrl: process.env.QUEUE_URL, MessageBody: body });
  if (process.env.MISTAKE === "loses a job") {
    response.writeHead(202).end(); // Accepted, before any queue has it.
    await setTimeout(2_000);
    await sqs.send(message);
  } else {
    await sqs.send(message);
    response.writeHead(202).end();
  }
}).listen(Number(process.env.PORT));
