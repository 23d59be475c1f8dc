-- Write both rows of many jobs at once; answers the ids of those that were written. A job whose unique key or id is
-- taken is left out: ask for it by itself. Rows are written in the order of what may be taken, so that two batches never
-- wait for each other in a ring.
WITH moment AS MATERIALIZED (
  SELECT coalesce(:now::timestamptz, now()) AS at
),
wanted AS MATERIALIZED (
  SELECT * FROM unnest(
    :ids::text[], :tools::text[], :inputs::text[], :queue_ids::uuid[], :user_ids::text[], :session_ids::text[],
    :priorities::integer[], :max_attempts::integer[], :start_afters::timestamptz[], :unique_keys::text[],
    :leases::bigint[], :retry_delays::bigint[], :retry_backoffs::boolean[], :retry_delays_max::bigint[],
    :retentions::bigint[]
  ) AS w(id, tool, input, queue_id, user_id, session_id, priority, max_attempts, start_after, unique_key,
         lease, retry_delay, retry_backoff, retry_delay_max, retention)
  WHERE NOT EXISTS (SELECT FROM "public"."tool_job" t WHERE t."id" = w.id)
),
owner AS (
  INSERT INTO "public"."user" ("id", "createdAt")
  SELECT DISTINCT user_id, at FROM wanted, moment WHERE user_id IS NOT NULL ORDER BY user_id
  ON CONFLICT DO NOTHING
),
queued AS (
  INSERT INTO "pgboss"."job" (
    "id", "name", "data", "state", "priority", "retry_limit", "start_after", "expire_in",
    "retry_delay", "retry_backoff", "retry_delay_max", "unique_key", "created_on", "keep"
  )
  SELECT
    queue_id, tool, jsonb_build_object('toolJobId', id), 'created', priority, max_attempts - 1,
    coalesce(start_after, at), lease * INTERVAL '1 microsecond', retry_delay * INTERVAL '1 microsecond',
    retry_backoff, retry_delay_max * INTERVAL '1 microsecond', unique_key, at, retention * INTERVAL '1 microsecond'
  FROM wanted, moment
  ORDER BY tool, unique_key, id
  ON CONFLICT DO NOTHING
  RETURNING "id", "name", "created_on", "start_after"
),
written AS (
  INSERT INTO "public"."tool_job" (
    "id", "toolSlug", "status", "priority", "input", "userId", "sessionId", "pgBossJobId", "attempts", "maxAttempts",
    "createdAt", "updatedAt"
  )
  SELECT
    w.id, w.tool, 'PENDING', w.priority, w.input::jsonb, w.user_id, w.session_id, w.queue_id::text, 0, w.max_attempts,
    queued."created_on", queued."created_on"
  FROM wanted w JOIN queued ON queued."id" = w.queue_id AND queued."name" = w.tool
  ORDER BY w.id
  RETURNING "id", "createdAt"
),
woken AS MATERIALIZED (
  SELECT count(pg_notify('job_harness_wakeup', tool)) AS tools
  FROM (SELECT DISTINCT "name" AS tool FROM queued WHERE "start_after" <= "created_on") AS due
)
SELECT written."id", written."createdAt" AS created_at FROM written, woken
