-- Tell when the next job can be claimed: the start_after of the first due one, else the earliest that still waits.
SELECT coalesce(
  (
    SELECT q."start_after"
    FROM "pgboss"."job" q
    JOIN "public"."tool_job" t
      ON t."pgBossJobId" = q."id"::text AND t."toolSlug" = q."name" AND t."status" = 'PENDING'
    WHERE q."name" = ANY(:tools::text[])
      AND q."state" IN ('created', 'retry')
      AND q."start_after" <= coalesce(:now::timestamptz, now())
    ORDER BY q."priority" DESC, q."created_on", q."id"
    LIMIT 1
  ),
  (
    SELECT min(q."start_after")
    FROM "pgboss"."job" q
    JOIN "public"."tool_job" t
      ON t."pgBossJobId" = q."id"::text AND t."toolSlug" = q."name" AND t."status" = 'PENDING'
    WHERE q."name" = ANY(:tools::text[]) AND q."state" IN ('created', 'retry')
  )
) AS next_due
