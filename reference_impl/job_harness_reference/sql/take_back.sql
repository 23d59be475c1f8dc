-- The end of expire and of rescue_stuck: what becomes of the jobs that `overdue` took back, by the arrows of fail.
ranked AS MATERIALIZED (
  SELECT overdue.*, row_number() OVER (ORDER BY job_id COLLATE "C") - 1 AS k FROM overdue
),
settled AS (
  UPDATE "pgboss"."job" q
  SET "state" = (CASE WHEN q."retry_count" < q."retry_limit" THEN 'retry' ELSE 'failed' END)::"pgboss"."job_state",
      "start_after" = CASE WHEN q."retry_count" < q."retry_limit"
                           THEN moment.at + "pgboss".retry_after(q."retry_delay", q."retry_backoff",
                                              q."retry_delay_max", q."retry_count",
                                              "pgboss".spread(:jitter::double precision, ranked.k))
                           ELSE q."start_after" END,
      "completed_on" = CASE WHEN q."retry_count" < q."retry_limit" THEN NULL ELSE moment.at END,
      "lease_until" = NULL,
      "worker" = NULL
  FROM ranked, moment
  WHERE q."name" = ranked."name" AND q."id" = ranked."id"
  RETURNING q."id", q."state", q."completed_on", q."keep", q."retry_count", q."retry_limit", ranked."worker", ranked.why,
            moment.at
),
shown AS (
  UPDATE "public"."tool_job" t
  SET "status" = "pgboss".partner_status(settled."state"),
      "error" = format(settled.why, coalesce(settled."worker", 'unknown'), settled."retry_count" + 1,
                       settled."retry_limit" + 1),
      "completedAt" = settled."completed_on",
      "expiresAt" = settled."completed_on" + settled."keep",
      "updatedAt" = settled.at
  FROM settled
  WHERE t."pgBossJobId" = settled."id"::text
  RETURNING t."id" AS job_id
)
SELECT job_id FROM shown ORDER BY job_id COLLATE "C"
