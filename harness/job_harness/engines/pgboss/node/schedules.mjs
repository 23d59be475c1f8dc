// Schedules of pg-boss, asked of its own timekeeper: two instances of the library on one database. Knows no harness.
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const BATCH = 50;

/** Answer the timekeeper's class of an installed package. */
async function timekeeperOf(folder) {
  const found = createRequire(`${folder}/`).resolve("pg-boss");
  const loaded = await import(pathToFileURL(join(dirname(found), "timekeeper.js")).href);
  return loaded.default;
}

/** One instance that sends what schedules ask for; its timers do not fire: what they would do is asked for. */
class Instance {
  constructor(boss) {
    this.boss = boss;
  }

  /** Start as an application does, and keep hold of what the timers would call. */
  async start(Timekeeper) {
    const instance = this;
    const { start } = Timekeeper.prototype;
    Timekeeper.prototype.start = async function () {
      instance.timekeeper = this;
      const { work } = this.manager;
      this.manager.work = async (queue, _options, forward) => Object.assign(instance, { queue, forward });
      this.onCron = async () => {};
      await start.call(this);
      this.manager.work = work;
    };
    try {
      await this.boss.start();
    } finally {
      Timekeeper.prototype.start = start;
    }
    // The first pass of its own comes with the next turn of the event loop, and is left to the first tick.
    await new Promise((resolve) => setImmediate(resolve));
    delete this.timekeeper.onCron;
  }

  /** Compare clocks, and make a pass over the schedules. */
  async look() {
    await this.timekeeper.cacheClockSkew();
    await this.timekeeper.onCron();
  }

  /** Do what its worker does with the jobs that a pass sent. */
  async forwardAll() {
    for (;;) {
      const jobs = await this.boss.fetch(this.queue, { batchSize: BATCH });
      if (!jobs?.length) return;
      const ids = jobs.map(({ id }) => id);
      try {
        await this.forward(jobs);
        await this.boss.complete(this.queue, ids);
      } catch (error) {
        await this.boss.fail(this.queue, ids, error);
      }
    }
  }
}

export class Schedules {
  /** `make` answers a new pg-boss with the options given. */
  constructor(folder, url, make) {
    const { Pool } = createRequire(createRequire(`${folder}/`).resolve("pg-boss"))("pg");
    const pool = new Pool({ connectionString: url, max: 1 });
    const executeSql = (text, values) => pool.query(text, values);
    // 11.0.0 takes no session but one that looks like its own.
    this.session = { executeSql, _pgbdb: true, opened: true, events: {} };
    this.folder = folder;
    this.make = make;
    this.instances = new Map();
  }

  reset() {
    this.instances.clear();
  }

  async look(name) {
    let instance = this.instances.get(name);
    if (instance === undefined) {
      instance = new Instance(this.make({ db: this.session, schedule: true }));
      await instance.start(await timekeeperOf(this.folder));
      this.instances.set(name, instance);
    }
    await instance.look();
  }

  async forward(name) {
    await this.instances.get(name).forwardAll();
  }
}
