-- Write both rows, or find the job that stands in their place: the one of this id, or the unfinished holder of the
-- unique key. No row at all: a holder was committed after this statement's snapshot; ask again.
WITH moment AS MATERIALIZED (
  SELECT coalesce(:now::timestamptz, now()) AS at
),
standing AS MATERIALIZED (
  SELECT t.* FROM "public"."tool_job" t WHERE t."id" = :id
  UNION
  SELECT t.*
  FROM "pgboss"."job" q
  JOIN "public"."tool_job" t ON t."pgBossJobId" = q."id"::text AND t."toolSlug" = q."name"
  WHERE q."name" = :tool AND q."unique_key" = :unique_key AND q."state" IN ('created', 'retry', 'active')
),
owner AS (
  INSERT INTO "public"."user" ("id", "createdAt")
  SELECT :user_id, at FROM moment
  WHERE :user_id::text IS NOT NULL AND NOT EXISTS (SELECT FROM standing)
  ON CONFLICT DO NOTHING
),
queued AS (
  INSERT INTO "pgboss"."job" (
    "id", "name", "data", "state", "priority", "retry_limit", "start_after", "expire_in",
    "retry_delay", "retry_backoff", "retry_delay_max", "unique_key", "created_on", "keep"
  )
  SELECT
    :queue_id::uuid, :tool, jsonb_build_object('toolJobId', :id::text), 'created', :priority::integer,
    :max_attempts::integer - 1, coalesce(:start_after::timestamptz, at), :lease::bigint * INTERVAL '1 microsecond',
    :retry_delay::bigint * INTERVAL '1 microsecond', :retry_backoff::boolean,
    :retry_delay_max::bigint * INTERVAL '1 microsecond', :unique_key::text, at,
    :retention::bigint * INTERVAL '1 microsecond'
  FROM moment
  WHERE NOT EXISTS (SELECT FROM standing)
  ON CONFLICT DO NOTHING
  RETURNING "id", "created_on", "start_after"
),
written AS (
  INSERT INTO "public"."tool_job" (
    "id", "toolSlug", "status", "priority", "input", "userId", "sessionId", "pgBossJobId", "attempts", "maxAttempts",
    "createdAt", "updatedAt"
  )
  SELECT
    :id, :tool, 'PENDING', :priority::integer, :input::jsonb, :user_id::text, :session_id::text, queued."id"::text, 0,
    :max_attempts::integer, queued."created_on", queued."created_on"
  FROM queued
  RETURNING *
),
answer AS (
  SELECT true AS "created", written.* FROM written
  UNION ALL
  SELECT false, standing.* FROM standing
)
SELECT
  answer."created", answer."id", "toolSlug" AS tool_slug, "status"::text AS status, "priority", "input"::text AS input,
  "output"::text AS output, "error", "userId" AS user_id, "sessionId" AS session_id, "pgBossJobId" AS pgboss_job_id,
  "attempts", "maxAttempts" AS max_attempts, "startedAt" AS started_at, "completedAt" AS completed_at,
  "expiresAt" AS expires_at, "createdAt" AS created_at, "updatedAt" AS updated_at,
  CASE WHEN answer."created" AND queued."start_after" <= queued."created_on"
       THEN pg_notify('job_harness_wakeup', "toolSlug") IS NULL END AS woken
FROM answer LEFT JOIN queued ON true
ORDER BY answer."id" = :id DESC, answer."id" COLLATE "C"
LIMIT 1
