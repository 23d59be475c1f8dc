-- Take up to :limit due jobs, the highest priority first, then the oldest. Counts the attempt, raises the token, opens
-- the lease. Rows that another claim holds are skipped, and so is a row whose partner is missing or disagrees: it
-- waits for reconcile and harms no neighbour. :limit is written out as a number, since a prepared LIMIT is planned anew.
WITH moment AS MATERIALIZED (
  SELECT coalesce(:now::timestamptz, now()) AS at
),
due AS MATERIALIZED (
  SELECT q."name", q."id"
  FROM "pgboss"."job" q
  JOIN "public"."tool_job" t
    ON t."pgBossJobId" = q."id"::text AND t."toolSlug" = q."name" AND t."status" = 'PENDING'
  WHERE q."name" = ANY(:tools::text[])
    AND q."state" IN ('created', 'retry')
    AND q."start_after" <= coalesce(:now::timestamptz, now())
  ORDER BY q."priority" DESC, q."created_on", q."id"
  LIMIT :limit
  FOR UPDATE OF q SKIP LOCKED
),
taken AS (
  UPDATE "pgboss"."job" q
  SET "state" = 'active',
      "retry_count" = CASE WHEN q."state" = 'retry' THEN q."retry_count" + 1 ELSE 0 END,
      "token" = q."token" + 1,
      "worker" = :worker,
      "started_on" = moment.at,
      "lease_until" = moment.at + q."expire_in"
  FROM due, moment
  WHERE q."name" = due."name" AND q."id" = due."id"
  RETURNING q."id", q."token", q."lease_until", q."retry_count", q."started_on", q."priority", q."created_on"
),
shown AS (
  UPDATE "public"."tool_job" t
  SET "status" = 'PROCESSING',
      "attempts" = taken."retry_count" + 1,
      "token" = taken."token",
      "startedAt" = taken."started_on",
      "updatedAt" = taken."started_on"
  FROM taken
  WHERE t."pgBossJobId" = taken."id"::text
  RETURNING
    t."id", t."toolSlug" AS tool_slug, t."status"::text AS status, t."priority", t."input"::text AS input,
    t."output"::text AS output, t."error", t."userId" AS user_id, t."sessionId" AS session_id,
    t."pgBossJobId" AS pgboss_job_id, t."attempts", t."maxAttempts" AS max_attempts, t."startedAt" AS started_at,
    t."completedAt" AS completed_at, t."expiresAt" AS expires_at, t."createdAt" AS created_at,
    t."updatedAt" AS updated_at, taken."token", taken."lease_until", taken."priority" AS queue_priority,
    taken."created_on", taken."id" AS queue_id
)
SELECT * FROM shown ORDER BY queue_priority DESC, created_on, queue_id
