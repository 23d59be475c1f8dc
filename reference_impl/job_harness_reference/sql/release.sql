-- Give the job back unrun, for the holder of the newest token only: PENDING at once, the attempt uncounted, the token
-- kept.
WITH moment AS MATERIALIZED (
  SELECT coalesce(:now::timestamptz, now()) AS at
),
released AS (
  UPDATE "pgboss"."job" q
  SET "state" = (CASE WHEN q."retry_count" > 0 THEN 'retry' ELSE 'created' END)::"pgboss"."job_state",
      "retry_count" = greatest(q."retry_count" - 1, 0),
      "start_after" = moment.at,
      "started_on" = NULL,
      "lease_until" = NULL,
      "worker" = NULL
  FROM moment
  WHERE q."name" = :tool AND q."id" = :queue_id::uuid AND q."state" = 'active' AND q."token" = :token::bigint
    AND EXISTS (
      SELECT FROM "public"."tool_job" t WHERE t."pgBossJobId" = q."id"::text AND t."status" = 'PROCESSING'
    )
  RETURNING q."id", q."state", q."retry_count", moment.at
),
shown AS (
  UPDATE "public"."tool_job" t
  SET "status" = 'PENDING',
      "attempts" = CASE WHEN released."state" = 'created' THEN 0 ELSE released."retry_count" + 1 END,
      "startedAt" = NULL,
      "updatedAt" = released.at
  FROM released
  WHERE t."pgBossJobId" = released."id"::text
  RETURNING t."id", t."toolSlug" AS tool
)
SELECT shown."id", pg_notify('job_harness_wakeup', shown.tool) IS NULL AS woken FROM shown
