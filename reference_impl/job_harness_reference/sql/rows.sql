-- Read both rows of every job side by side, in the order of creation. A row without partner stands alone.
SELECT
  coalesce(t."id", q."data"->>'toolJobId', q."id"::text) AS id,
  coalesce(t."toolSlug", q."name") AS tool_slug,
  t."status"::text AS status,
  q."state"::text AS queue_state,
  coalesce(t."priority", q."priority", 0) AS priority,
  coalesce(t."attempts", 0) AS attempts,
  coalesce(t."maxAttempts", q."retry_limit" + 1) AS max_attempts,
  greatest(coalesce(t."token", 0), coalesce(q."token", 0)) AS token,
  q."worker",
  t."output"::text AS output,
  t."error",
  q."unique_key",
  coalesce(t."createdAt", q."created_on") AS created_at,
  q."start_after",
  coalesce(t."startedAt", q."started_on") AS started_at,
  q."lease_until",
  coalesce(t."completedAt", q."completed_on") AS completed_at,
  t."expiresAt" AS expires_at
FROM "public"."tool_job" t
FULL JOIN "pgboss"."job" q ON t."pgBossJobId" = q."id"::text AND t."toolSlug" = q."name"
ORDER BY coalesce(t."createdAt", q."created_on"), coalesce(t."id", q."data"->>'toolJobId', q."id"::text) COLLATE "C"
