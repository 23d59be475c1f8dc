// Two BullMQ workers on a Valkey server of their own: delays, retries with backoff, blocking commands.
import { spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { setTimeout as sleep } from 'node:timers/promises'

const [folder, serverCommand] = process.argv.slice(2)
const require = createRequire(`${folder}/package.json`)
const { Queue, Worker, QueueEvents } = require('bullmq')
const port = 63799
const server = spawn(serverCommand, ['--port', String(port), '--save', '', '--appendonly', 'no', '--dir', folder], { stdio: 'ignore' })
const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null }
await sleep(1000)
const begun = Date.now()
const queue = new Queue('work', { connection })
const events = new QueueEvents('work', { connection })
await queue.waitUntilReady()
await events.waitUntilReady()
const done = new Promise(resolve => {
  let finished = 0
  for (const name of ['completed', 'failed'])
    events.on(name, ({ jobId, failedReason }) => {
      console.log(Date.now() - begun, name, jobId, failedReason ?? '')
      if (++finished === 12) resolve()
    })
})
const processor = name => async job => {
  await sleep(200 + Math.random() * 2000)
  console.log(Date.now() - begun, name, job.id, job.attemptsMade)
  if (job.data.fails > job.attemptsMade) throw new Error(`no ${job.attemptsMade}`)
}
const workers = ['a', 'b'].map(name => new Worker('work', processor(name), { connection, concurrency: 2 }))
for (let n = 0; n < 12; n++)
  await queue.add('job', { fails: n % 4 }, { delay: (n % 3) * 20_000, attempts: 3, backoff: { type: 'exponential', delay: 5000 } })
await done
console.log(Date.now() - begun, await queue.getJobCounts())
await Promise.all(workers.map(worker => worker.close()))
await events.close()
await queue.close()
server.kill('SIGTERM')
await new Promise(resolve => server.on('exit', resolve))
console.log(new Date().toISOString())
