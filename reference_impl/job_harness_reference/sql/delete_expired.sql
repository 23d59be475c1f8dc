-- Delete terminal jobs past expiresAt, both rows, at most :limit. Reads all of tool_job: an index on expiresAt would cost
-- every completion its HOT update.
WITH past AS MATERIALIZED (
  SELECT q."name", q."id", t."id" AS job_id
  FROM "public"."tool_job" t
  JOIN "pgboss"."job" q ON q."name" = t."toolSlug" AND q."id" = "pgboss".queue_id(t."pgBossJobId")
  WHERE t."status" IN ('COMPLETED', 'FAILED', 'CANCELLED')
    AND t."expiresAt" <= coalesce(:now::timestamptz, now())
    AND q."state" IN ('completed', 'failed', 'cancelled')
  ORDER BY t."expiresAt", t."id" COLLATE "C"
  LIMIT :limit
  FOR UPDATE OF q, t SKIP LOCKED
),
unqueued AS (
  DELETE FROM "pgboss"."job" q USING past WHERE q."name" = past."name" AND q."id" = past."id"
  RETURNING past.job_id
),
deleted AS (
  DELETE FROM "public"."tool_job" t USING unqueued WHERE t."id" = unqueued.job_id
  RETURNING t."id" AS job_id
)
SELECT job_id FROM deleted ORDER BY job_id COLLATE "C"
