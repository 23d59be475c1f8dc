-- Settle the job as COMPLETED, for the holder of the newest token only. The queue row is locked first, always.
WITH moment AS MATERIALIZED (
  SELECT coalesce(:now::timestamptz, now()) AS at
),
settled AS (
  UPDATE "pgboss"."job" q
  SET "state" = 'completed', "completed_on" = moment.at, "lease_until" = NULL, "worker" = NULL
  FROM moment
  WHERE q."name" = :tool AND q."id" = :queue_id::uuid AND q."state" = 'active' AND q."token" = :token::bigint
    AND EXISTS (
      SELECT FROM "public"."tool_job" t WHERE t."pgBossJobId" = q."id"::text AND t."status" = 'PROCESSING'
    )
  RETURNING q."id", q."completed_on", q."keep"
)
UPDATE "public"."tool_job" t
SET "status" = 'COMPLETED',
    "output" = :output::jsonb,
    "error" = NULL,
    "completedAt" = settled."completed_on",
    "expiresAt" = settled."completed_on" + settled."keep",
    "updatedAt" = settled."completed_on"
FROM settled
WHERE t."pgBossJobId" = settled."id"::text
RETURNING t."id"
