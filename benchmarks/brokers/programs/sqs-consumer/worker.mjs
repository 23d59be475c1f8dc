import { DeleteMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";

const mistake = process.env.MISTAKE;
const queueUrl = process.env.QUEUE_URL;
const sqs = new SQSClient({});

Consumer.create({
  queueUrl,
  sqs,
  visibilityTimeout: { "twice by timeout": 2, "stuck after a kill": 43_200 }[mistake] ?? 30,
  handleMessage: async (message) => {
    const { order } = JSON.parse(message.Body);
    if (mistake === "acknowledges first")
      await sqs.send(new DeleteMessageCommand({ QueueUrl: queueUrl, ReceiptHandle: message.ReceiptHandle }));
    const headers = { "content-type": "application/json" };
    if (!["charges twice", "twice by timeout"].includes(mistake)) headers["idempotency-key"] = order;
    const reply = await fetch("http://pay.example.com/charge", {
      method: "POST",
      headers,
      body: JSON.stringify({ order }),
      signal: AbortSignal.timeout(20_000), // Shorter than the visibility timeout.
    });
    if (!reply.ok) throw new Error(`the payment failed: ${reply.status}`);
    await reply.json();
    return message; // Without it, the message is not deleted.
  },
})
  .on("error", (error) => console.log(error.message))
  .on("processing_error", (error) => console.log(error.message))
  .start();
