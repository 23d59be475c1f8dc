#!/bin/sh
# A worker of psql and curl: each statement is a process and a session of its own.
sql() { psql -qAtX -v ON_ERROR_STOP=1 -F ' ' "$DATABASE_URL" -c "$1" || exit 1; }
while :; do
  set -- $(sql "UPDATE mail SET status = 'sending', attempts = attempts + 1, locked_at = now() WHERE id = (
    SELECT id FROM mail WHERE (status = 'queued' AND run_after <= now())
      OR (status = 'sending' AND locked_at < now() - interval '5 minutes') ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
  ) RETURNING id, recipient, attempts")
  if [ -z "$1" ]; then sleep 2; continue; fi
  if curl -sf -o /dev/null -H 'content-type: application/json' -d "{\"to\": \"$2\"}" https://mail.example.com/send; then
    sql "UPDATE mail SET status = 'sent', done_at = now() WHERE id = $1"
  elif [ "$3" -lt 3 ]; then
    sql "UPDATE mail SET status = 'queued', error = 'refused', run_after = now() + interval '30 seconds' WHERE id = $1"
  else
    sql "UPDATE mail SET status = 'failed', error = 'refused' WHERE id = $1"
  fi
done
