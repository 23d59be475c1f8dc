import pg from "pg"

const CLAIM = `UPDATE mail SET status = 'sending', attempts = attempts + 1, locked_at = now() WHERE id = (
  SELECT id FROM mail WHERE (status = 'queued' AND run_after <= now())
    OR (status = 'sending' AND locked_at < now() - interval '5 minutes') ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING id, recipient, attempts`
const db = new pg.Client(process.env.DATABASE_URL)
await db.connect()

async function work() {
  const { rows: [mail] } = await db.query(CLAIM)
  if (!mail) return false
  try {
    const body = JSON.stringify({ to: mail.recipient })
    const reply = await fetch("https://mail.example.com/send", { method: "POST", body })
    if (!reply.ok) throw new Error(await reply.text())
    await reply.json()
  } catch (error) {
    const status = mail.attempts < 3 ? "queued" : "failed"
    const told = String(error).replaceAll("\0", "")
    await db.query("UPDATE mail SET status = $2, error = $3, run_after = now() + interval '30 seconds' WHERE id = $1", [mail.id, status, told])
    return true
  }
  await db.query("UPDATE mail SET status = 'sent', done_at = now() WHERE id = $1", [mail.id])
  return true
}

for (;;) if (!(await work())) await new Promise((done) => setTimeout(done, 2000))
