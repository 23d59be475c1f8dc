// Every clock, sleep, timer and source of chance of Node, once, or in four worker threads with the argument "threads".
import { execFileSync, spawn } from 'node:child_process'
import crypto from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { performance } from 'node:perf_hooks'
import { setImmediate as soon, setInterval as every, setTimeout as sleep } from 'node:timers/promises'
import { Worker, isMainThread, threadId, workerData } from 'node:worker_threads'

const say = (...what) => fs.writeSync(1, `${workerData ?? 0} ${what.join(' ')}\n`)

function clocks () {
  say('dates', Date.now(), new Date().toISOString(), new Date().toString(), Intl.DateTimeFormat('en', { timeStyle: 'long' }).format())
  say('ns', process.hrtime(), process.hrtime.bigint(), performance.now(), performance.timeOrigin, process.uptime(), os.uptime())
  const { user, system } = process.cpuUsage()
  say('cpu', user, system, JSON.stringify(performance.eventLoopUtilization().idle >= 0))
}

async function timed (name, asked, way) {
  const begun = performance.now()
  await way()
  const passed = (performance.now() - begun) / 1000
  say(`${name} asked ${asked.toFixed(3)} passed ${passed.toFixed(3)}`)
}

async function sleeps () {
  const server = net.createServer(() => {}).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const socket = net.connect(server.address().port, '127.0.0.1')
  await timed('setTimeout', 3600, () => sleep(3_600_000))
  await timed('Atomics.wait', 7, () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 7000))
  await timed('socket timeout', 9, () => new Promise(resolve => socket.setTimeout(9000, resolve)))
  await timed('AbortSignal.timeout', 12, () => new Promise(resolve => AbortSignal.timeout(12_000).addEventListener('abort', resolve)).finally(() => {}))
  await timed('a child', 2, () => execFileSync('sleep', ['2']))
  await timed('a child, awaited', 3, () => once(spawn('sleep', ['3']), 'exit'))
  await timed('fs', 0, () => fs.promises.readFile(process.execPath).then(() => soon()))
  socket.destroy()
  server.close()
}

async function timers () {
  await timed('setInterval', 50, async () => {
    let times = 0
    for await (const _ of every(10_000)) if (++times === 5) break
  })
  const order = []
  await timed('many timers', 5, () => Promise.all([3, 1, 4, 1, 5, 2].map(n => sleep(n * 1000).then(() => order.push(n)))))
  setImmediate(() => order.push('immediate'))
  process.nextTick(() => order.push('tick'))
  queueMicrotask(() => order.push('microtask'))
  await soon()
  say(order)
}

async function chance () {
  say('random', Math.random(), crypto.randomUUID(), crypto.randomBytes(8).toString('hex'), crypto.getRandomValues(new Uint32Array(2)))
  say('more', crypto.randomInt(1e6), await new Promise(resolve => crypto.randomFill(Buffer.alloc(4), (_, b) => resolve(b.toString('hex')))))
  const key = crypto.generateKeySync('hmac', { length: 64 }).export().toString('hex')
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'every-'))
  say('ids', key, path.basename(folder), process.pid, threadId)
  fs.rmdirSync(folder)
}

if (isMainThread && process.argv[2] === 'threads') {
  const workers = [1, 2, 3, 4].map(n => new Worker(new URL(import.meta.url), { workerData: n }))
  await Promise.all(workers.map(worker => once(worker, 'exit')))
} else {
  for (const part of [clocks, chance, sleeps, timers, chance, clocks]) await part()
}
