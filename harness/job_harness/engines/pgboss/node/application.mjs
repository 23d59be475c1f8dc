// Runs in a Node peer that has pg-boss, as an application does: its own statements and the library's calls on one
// connection, given to each call as `db`, so that one transaction has both. Knows no harness.
import { createRequire } from "node:module";
import { Answers as Library, Refused, answering, byAge } from "./answers.mjs";

export { Refused };

export class Answers extends Library {
  async open(told) {
    await super.open(told);
    const boss = createRequire(`${this.folder}/`).resolve("pg-boss");
    const { Client } = createRequire(boss)("pg");
    this.client = new Client({ connectionString: told.url });
    await this.client.connect();
    this.ours = { db: { executeSql: (text, values) => this.client.query(text, values) } };
  }

  /** Whether a job, given in place of its id, limits a call to the attempt that was fetched. */
  fences() {
    return this.fenced;
  }

  /** Run one of the application's statements. */
  async say({ text, values }) {
    const { rows } = await this.client.query(text, values);
    return rows;
  }

  /** Send to a queue, created first where it is new; false where a row has this id. */
  async send({ queue, made, data, options }) {
    return answering(async () => {
      await this.created(queue, made);
      return (await this.boss.send(queue, data, { ...options, ...this.ours })) !== null;
    });
  }

  async fetch({ queue, made, limit }) {
    await this.created(queue, made);
    const rows = await this.boss.fetch(queue, { batchSize: limit, includeMetadata: true, ...this.ours });
    return rows.sort(byAge).map(({ id, data, retryCount }) => ({ id, data, retryCount }));
  }

  /** Settle by ids, or by the attempts that were fetched; the number of rows that changed. */
  async settle({ verb, queue, what }) {
    const output = verb === "complete" || verb === "fail" ? [null] : [];
    const { affected } = await this.boss[verb](queue, what, ...output, this.ours);
    return affected;
  }
}
