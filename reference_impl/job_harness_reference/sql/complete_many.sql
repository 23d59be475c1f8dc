-- Settle many jobs as COMPLETED in one statement; answers the queue ids of those that still held their token. Rows are
-- locked in the order of their ids, so that two batches never wait for each other in a ring.
WITH moment AS MATERIALIZED (
  SELECT coalesce(:now::timestamptz, now()) AS at
),
offered AS MATERIALIZED (
  SELECT * FROM unnest(:tools::text[], :queue_ids::uuid[], :tokens::bigint[], :outputs::text[])
    AS o(tool, queue_id, token, output)
),
held AS MATERIALIZED (
  SELECT q."name", q."id", o.output
  FROM offered o
  JOIN "pgboss"."job" q ON q."name" = o.tool AND q."id" = o.queue_id
  WHERE q."state" = 'active' AND q."token" = o.token
    AND EXISTS (
      SELECT FROM "public"."tool_job" t WHERE t."pgBossJobId" = q."id"::text AND t."status" = 'PROCESSING'
    )
  ORDER BY q."name", q."id"
  FOR UPDATE OF q
),
settled AS (
  UPDATE "pgboss"."job" q
  SET "state" = 'completed', "completed_on" = moment.at, "lease_until" = NULL, "worker" = NULL
  FROM held, moment
  WHERE q."name" = held."name" AND q."id" = held."id"
  RETURNING q."id", q."completed_on", q."keep", held.output
)
UPDATE "public"."tool_job" t
SET "status" = 'COMPLETED',
    "output" = settled.output::jsonb,
    "error" = NULL,
    "completedAt" = settled."completed_on",
    "expiresAt" = settled."completed_on" + settled."keep",
    "updatedAt" = settled."completed_on"
FROM settled
WHERE t."pgBossJobId" = settled."id"::text
RETURNING t."pgBossJobId" AS queue_id
