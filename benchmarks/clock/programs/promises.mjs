import { promises as fs } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'

const begun = performance.now()
const at = () => (performance.now() - begun).toFixed(3)
const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'clock-'))
await Promise.all(Array.from({ length: 8 }, async (_, n) => {
  const file = path.join(folder, `${n}.txt`)
  for (let round = 0; round < 4; round++) {
    await fs.appendFile(file, `${round}\n`)
    const text = await fs.readFile(file, 'utf8')
    console.log(at(), n, round, text.length)
    if (round === 1) await sleep(Math.random() * 1000)
  }
}))
await fs.rm(folder, { recursive: true })
const t = Date.now()
await sleep(3_600_000)
console.log(`node asked 3600.000 passed ${((Date.now() - t) / 1000).toFixed(3)}`)
console.log(at(), new Date().toISOString(), randomUUID(), Math.random(), process.pid)
