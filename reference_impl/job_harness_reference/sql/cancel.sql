-- Move a PENDING or PROCESSING job to CANCELLED. A worker that holds it finds its claim taken back.
WITH moment AS MATERIALIZED (
  SELECT coalesce(:now::timestamptz, now()) AS at
),
settled AS (
  UPDATE "pgboss"."job" q
  SET "state" = 'cancelled', "completed_on" = moment.at, "lease_until" = NULL, "worker" = NULL
  FROM moment, "public"."tool_job" t
  WHERE t."id" = :job_id AND t."status" IN ('PENDING', 'PROCESSING')
    AND q."name" = t."toolSlug" AND q."id" = "pgboss".queue_id(t."pgBossJobId")
    AND q."state" IN ('created', 'retry', 'active')
  RETURNING q."id", q."completed_on", q."keep"
)
UPDATE "public"."tool_job" t
SET "status" = 'CANCELLED',
    "completedAt" = settled."completed_on",
    "expiresAt" = settled."completed_on" + settled."keep",
    "updatedAt" = settled."completed_on"
FROM settled
WHERE t."pgBossJobId" = settled."id"::text
RETURNING t."id"
