-- Open a new attempt budget for a FAILED or CANCELLED job: PENDING at once, attempts 0, the token kept. Refused while
-- another unfinished job holds its unique key.
WITH moment AS MATERIALIZED (
  SELECT coalesce(:now::timestamptz, now()) AS at
),
reopened AS (
  UPDATE "pgboss"."job" q
  SET "state" = 'created', "retry_count" = 0, "start_after" = moment.at, "started_on" = NULL, "completed_on" = NULL
  FROM moment, "public"."tool_job" t
  WHERE t."id" = :job_id AND t."status" IN ('FAILED', 'CANCELLED')
    AND q."name" = t."toolSlug" AND q."id" = "pgboss".queue_id(t."pgBossJobId")
    AND q."state" IN ('failed', 'cancelled')
    AND NOT EXISTS (
      SELECT FROM "pgboss"."job" other
      WHERE other."name" = q."name" AND other."unique_key" = q."unique_key" AND other."id" <> q."id"
        AND other."state" IN ('created', 'retry', 'active')
    )
  RETURNING q."id", moment.at
),
shown AS (
  UPDATE "public"."tool_job" t
  SET "status" = 'PENDING', "attempts" = 0, "output" = NULL, "error" = NULL, "startedAt" = NULL, "completedAt" = NULL,
      "expiresAt" = NULL, "updatedAt" = reopened.at
  FROM reopened
  WHERE t."pgBossJobId" = reopened."id"::text
  RETURNING t."id", t."toolSlug" AS tool
)
SELECT shown."id", pg_notify('job_harness_wakeup', shown.tool) IS NULL AS woken FROM shown
