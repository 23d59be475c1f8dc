// Records the runs of pg-boss's and BullMQ's jobs as OpenTelemetry spans in a file.
//
//     const record = recorder("/var/log/worker-1.jsonl", "worker-1");
//     await boss.work("mail", record.batch("mail", handler));              // pg-boss: the handler gets a batch
//     new Worker("mail", record.job("mail", processor), { connection });   // BullMQ: the processor gets a job
//
// A run is written when it ends, one line each, so a run of a process that was killed is not in the file. Neither inputs
// nor results nor errors are written. Beyond `keepBytes` the file is begun anew, and the one before is kept.
// `job-harness audit` and `job-harness reproduce` read the file.
import { appendFileSync, existsSync, renameSync, statSync } from "node:fs";

export function recorder(file, worker, { keepBytes = 50_000_000 } = {}) {
  let number = 0;
  let written = existsSync(file) ? statSync(file).size : 0;
  const now = () => String(BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n);
  const attributes = (values) => Object.entries(values).map(([key, stringValue]) => ({ key, value: { stringValue } }));

  function write(id, tool, began, failed) {
    const span = {
      traceId: id, spanId: `${worker}-${began}-${++number}`, name: tool, kind: 5, startTimeUnixNano: began,
      endTimeUnixNano: now(), status: { code: failed ? 2 : 1 },
      attributes: attributes({ "messaging.message.id": id, "messaging.destination.name": tool }),
    };
    const resource = { attributes: attributes({ "service.instance.id": worker }) };
    const line = JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ spans: [span] }] }] }) + "\n";
    if (written > keepBytes) {
      renameSync(file, `${file}.1`);
      written = 0;
    }
    appendFileSync(file, line);
    written += line.length;
  }

  async function run(ids, tool, work) {
    const began = now();
    let failed = true;
    try {
      const result = await work();
      failed = false;
      return result;
    } finally {
      for (const id of ids) write(id, tool, began, failed);
    }
  }

  return {
    batch: (tool, handler) => (jobs) => run(jobs.map((job) => String(job.id)), tool, () => handler(jobs)),
    job: (tool, processor) => (job, ...rest) => run([`${tool}:${job.id}`], tool, () => processor(job, ...rest)),
  };
}
