import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'

const begun = performance.timeOrigin
if (isMainThread) {
  const workers = [1, 2, 3].map(n => new Worker(new URL(import.meta.url), { workerData: n }))
  for (const worker of workers) worker.on('message', text => console.log(Date.now() - Math.floor(begun), text))
  await Promise.all(workers.map(worker => once(worker, 'exit')))
  const child = spawn(process.execPath, ['-e', 'setTimeout(() => console.log("child", Date.now(), Math.random()), 5000)'])
  for await (const chunk of child.stdout) process.stdout.write(chunk)
  console.log(Date.now(), Math.random())
} else {
  for (let i = 0; i < 5; i++) {
    await sleep(Math.random() * 1000)
    parentPort.postMessage(`worker ${workerData} step ${i} ${Math.random()}`)
  }
}
