-- Make both rows of every job agree again; answers the ids of the jobs that were changed. Two rows are partners where
-- tool_job."pgBossJobId" is the queue row's id and "toolSlug" its name. The cases:
--
--   partners, tool_job terminal        the queue row takes its state: what a user saw as final stays final
--   partners, only the queue terminal  tool_job takes its status, with an error that says so
--   partners, both unfinished          tool_job takes status and attempts from the queue row
--   partners, data spoilt              data is written anew; it names the tool_job
--   tool_job alone, terminal           gets a queue row in the same terminal state
--   tool_job alone, attempts left      gets a queue row and is PENDING: at once if it was, after the retry delay if it ran
--   tool_job alone, none left          FAILED, with a queue row
--   tool_job alone, no partition       is left alone until its tool is registered
--   queue row alone                    is deleted: no user could ever see it run
--
-- A new queue row gets an id made from the job's id and its old link, so that chance has no part in it, and carries on
-- from the token in tool_job: a claim on the lost row stays fenced. Both rows are locked and looked at again before
-- they are changed, rows in someone's hands are skipped, so that two at once never mend one job twice.
WITH moment AS MATERIALIZED (
  SELECT coalesce(:now::timestamptz, now()) AS at
),
partners AS MATERIALIZED (
  SELECT
    t."id" AS job_id, t."status", t."completedAt" AS completed_at, t."expiresAt" AS expires_at, t."output", t."error",
    q."name", q."id" AS queue_id, q."state", q."retry_count", q."token", q."started_on", q."completed_on", q."keep",
    coalesce(t."status" IN ('COMPLETED', 'FAILED', 'CANCELLED'), false) AS final
  FROM "public"."tool_job" t
  -- IS TRUE hides the name from the planner: the one index left to it leads from the queue row to its only partner.
  JOIN "pgboss"."job" q ON t."pgBossJobId" = q."id"::text AND (t."toolSlug" = q."name") IS TRUE
  WHERE "pgboss".partner_status(q."state") IS DISTINCT FROM t."status"
     OR q."data"->>'toolJobId' IS DISTINCT FROM t."id"
     OR (t."status" IN ('PENDING', 'PROCESSING')
         AND t."attempts" IS DISTINCT FROM CASE WHEN q."state" = 'created' THEN 0 ELSE q."retry_count" + 1 END)
  FOR UPDATE OF q, t SKIP LOCKED
),
queue_mended AS (
  UPDATE "pgboss"."job" q
  SET "data" = jsonb_build_object('toolJobId', p.job_id),
      "state" = CASE WHEN p.final THEN "pgboss".partner_state(p."status") ELSE q."state" END,
      "completed_on" = CASE WHEN p.final THEN coalesce(q."completed_on", p.completed_at, moment.at)
                            ELSE q."completed_on" END,
      "lease_until" = CASE WHEN p.final THEN NULL ELSE q."lease_until" END,
      "worker" = CASE WHEN p.final THEN NULL ELSE q."worker" END
  FROM partners p, moment
  WHERE q."name" = p."name" AND q."id" = p.queue_id
  RETURNING p.job_id
),
shown_mended AS (
  UPDATE "public"."tool_job" t
  SET "status" = "pgboss".partner_status(p."state"),
      "attempts" = CASE WHEN p."state" = 'created' THEN 0
                        WHEN p."state" IN ('retry', 'active') THEN p."retry_count" + 1
                        ELSE t."attempts" END,
      "token" = greatest(t."token", p."token"),
      "output" = CASE WHEN p."state" = 'completed' THEN coalesce(p."output", 'null'::jsonb) END,
      "error" = CASE WHEN p."state" = 'failed'
                     THEN coalesce(p."error", 'Reconciled: the queue had given this job up.')
                     WHEN p."state" = 'completed' THEN NULL ELSE p."error" END,
      "startedAt" = CASE WHEN p."state" = 'active' THEN p."started_on" ELSE t."startedAt" END,
      "completedAt" = CASE WHEN p."state" IN ('completed', 'failed', 'cancelled')
                           THEN coalesce(p."completed_on", moment.at) END,
      "expiresAt" = CASE WHEN p."state" IN ('completed', 'failed', 'cancelled')
                         THEN coalesce(p."completed_on", moment.at) + p."keep" END,
      "updatedAt" = moment.at
  FROM partners p, moment
  WHERE t."id" = p.job_id AND NOT p.final
  RETURNING t."id"
),
dated AS (
  UPDATE "public"."tool_job" t
  SET "completedAt" = coalesce(t."completedAt", moment.at),
      "expiresAt" = coalesce(t."expiresAt", coalesce(t."completedAt", moment.at) + p."keep"),
      "updatedAt" = moment.at
  FROM partners p, moment
  WHERE t."id" = p.job_id AND p.final AND (t."completedAt" IS NULL OR t."expiresAt" IS NULL)
  RETURNING t."id"
),
unqueued AS MATERIALIZED (
  SELECT t."id" AS job_id, t."pgBossJobId" AS link
  FROM "public"."tool_job" t
  WHERE NOT EXISTS (
    SELECT FROM "pgboss"."job" q WHERE q."name" = t."toolSlug" AND q."id" = "pgboss".queue_id(t."pgBossJobId")
  )
),
lonely AS MATERIALIZED (
  SELECT
    t.*, md5(t."id" || ':' || coalesce(t."pgBossJobId", ''))::uuid AS queue_id,
    CASE WHEN t."status" IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN t."status"
         WHEN coalesce(t."attempts", 0) < coalesce(t."maxAttempts", 3) THEN 'PENDING' ELSE 'FAILED'
    END::"public"."ToolJobStatus" AS outcome
  FROM "public"."tool_job" t
  JOIN unqueued u ON u.job_id = t."id" AND t."pgBossJobId" IS NOT DISTINCT FROM u.link
  WHERE to_regclass(format('"pgboss".%I', "pgboss".partition_name(t."toolSlug"))) IS NOT NULL
  FOR UPDATE OF t SKIP LOCKED
),
ranked AS MATERIALIZED (
  SELECT lonely.*, row_number() OVER (ORDER BY "id" COLLATE "C") - 1 AS k FROM lonely
),
unseen AS MATERIALIZED (
  SELECT q."name", q."id"
  FROM "pgboss"."job" q
  WHERE NOT EXISTS (
    SELECT FROM "public"."tool_job" t WHERE t."pgBossJobId" = q."id"::text AND t."toolSlug" = q."name"
  )
  FOR UPDATE OF q SKIP LOCKED
),
dropped AS (
  DELETE FROM "pgboss"."job" q USING unseen WHERE q."name" = unseen."name" AND q."id" = unseen."id"
  RETURNING coalesce(q."data"->>'toolJobId', q."id"::text) AS id
),
queued AS (
  INSERT INTO "pgboss"."job" (
    "id", "name", "data", "state", "priority", "retry_limit", "retry_count", "start_after", "expire_in", "token",
    "created_on", "started_on", "completed_on"
  )
  SELECT
    r.queue_id, r."toolSlug", jsonb_build_object('toolJobId', r."id"),
    CASE WHEN r.outcome = 'PENDING' AND coalesce(r."attempts", 0) > 0 THEN 'retry'
         ELSE "pgboss".partner_state(r.outcome) END,
    coalesce(r."priority", 0), coalesce(r."maxAttempts", 3) - 1, greatest(coalesce(r."attempts", 0) - 1, 0),
    CASE WHEN r."status" = 'PROCESSING' AND r.outcome = 'PENDING'
         THEN moment.at + "pgboss".retry_after(INTERVAL '00:01:00', true, INTERVAL '01:00:00',
                            greatest(coalesce(r."attempts", 0) - 1, 0),
                            "pgboss".spread(:jitter::double precision, r.k))
         ELSE moment.at END,
    INTERVAL '00:11:00', r."token", coalesce(r."createdAt", moment.at), r."startedAt",
    CASE WHEN r.outcome <> 'PENDING' THEN coalesce(r."completedAt", moment.at) END
  FROM ranked r, moment
  -- A link that is lost twice in the same way leads to the same id: the row of the first time has to be gone by then.
  WHERE (SELECT count(*) FROM dropped) >= 0
  ON CONFLICT ("name", "id") DO NOTHING
  RETURNING "id", "state", "completed_on", "keep"
),
linked AS (
  UPDATE "public"."tool_job" t
  SET "pgBossJobId" = queued."id"::text,
      "status" = r.outcome,
      "error" = CASE WHEN r."status" IS NOT DISTINCT FROM r.outcome THEN t."error"
                     ELSE 'Reconciled: the queue had lost this job.' END,
      "completedAt" = CASE WHEN r.outcome <> 'PENDING' THEN queued."completed_on" END,
      "expiresAt" = CASE WHEN r.outcome <> 'PENDING'
                         THEN coalesce(t."expiresAt", queued."completed_on" + queued."keep") END,
      "updatedAt" = moment.at
  FROM queued JOIN ranked r ON r.queue_id = queued."id", moment
  WHERE t."id" = r."id"
  RETURNING t."id"
),
changed AS (
  SELECT job_id AS id FROM queue_mended
  UNION SELECT "id" FROM linked
  UNION SELECT id FROM dropped
)
SELECT id AS job_id FROM changed ORDER BY id COLLATE "C"
