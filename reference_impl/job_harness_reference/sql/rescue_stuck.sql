-- Take back jobs PROCESSING for at least :stuck_after: take_back.sql follows. Two at once share
-- the work.
WITH moment AS MATERIALIZED (
  SELECT coalesce(:now::timestamptz, now()) AS at
),
overdue AS MATERIALIZED (
  SELECT q."name", q."id", t."id" AS job_id, q."worker",
         'Stuck: worker %s did not settle attempt %s of %s in time.' AS why
  FROM "pgboss"."job" q
  JOIN "public"."tool_job" t
    ON t."pgBossJobId" = q."id"::text AND t."toolSlug" = q."name" AND t."status" = 'PROCESSING'
  WHERE q."state" = 'active' AND q."started_on" <= coalesce(:now::timestamptz, now()) - :stuck_after::bigint * INTERVAL '1 microsecond'
  ORDER BY q."started_on", q."id"
  FOR UPDATE OF q, t SKIP LOCKED
),
