-- Take back every claim whose lease has run out, at most :limit: take_back.sql follows. Two at once share
-- the work.
WITH moment AS MATERIALIZED (
  SELECT coalesce(:now::timestamptz, now()) AS at
),
overdue AS MATERIALIZED (
  SELECT q."name", q."id", t."id" AS job_id, q."worker",
         'The lease of worker %s ran out in attempt %s of %s.' AS why
  FROM "pgboss"."job" q
  JOIN "public"."tool_job" t
    ON t."pgBossJobId" = q."id"::text AND t."toolSlug" = q."name" AND t."status" = 'PROCESSING'
  WHERE q."state" = 'active' AND q."lease_until" <= coalesce(:now::timestamptz, now())
  ORDER BY q."lease_until", q."id"
  LIMIT :limit
  FOR UPDATE OF q, t SKIP LOCKED
),
