-- Settle the attempt as failed, for the holder of the newest token only: back to PENDING with a delay while attempts
-- are left, FAILED otherwise or where the error is final.
WITH moment AS MATERIALIZED (
  SELECT coalesce(:now::timestamptz, now()) AS at
),
settled AS (
  UPDATE "pgboss"."job" q
  SET "state" = (CASE WHEN q."retry_count" < q."retry_limit" AND NOT :final::boolean
                      THEN 'retry' ELSE 'failed' END)::"pgboss"."job_state",
      "start_after" = CASE WHEN q."retry_count" < q."retry_limit" AND NOT :final::boolean
                           THEN moment.at + "pgboss".retry_after(q."retry_delay", q."retry_backoff",
                                              q."retry_delay_max", q."retry_count", :jitter::double precision)
                           ELSE q."start_after" END,
      "completed_on" = CASE WHEN q."retry_count" < q."retry_limit" AND NOT :final::boolean THEN NULL ELSE moment.at END,
      "lease_until" = NULL,
      "worker" = NULL
  FROM moment
  WHERE q."name" = :tool AND q."id" = :queue_id::uuid AND q."state" = 'active' AND q."token" = :token::bigint
    AND EXISTS (
      SELECT FROM "public"."tool_job" t WHERE t."pgBossJobId" = q."id"::text AND t."status" = 'PROCESSING'
    )
  RETURNING q."id", q."state", q."completed_on", q."keep", moment.at
)
UPDATE "public"."tool_job" t
SET "status" = "pgboss".partner_status(settled."state"),
    "error" = :error,
    "completedAt" = settled."completed_on",
    "expiresAt" = settled."completed_on" + settled."keep",
    "updatedAt" = settled.at
FROM settled
WHERE t."pgBossJobId" = settled."id"::text
RETURNING t."status"::text AS status
