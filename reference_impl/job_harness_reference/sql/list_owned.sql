-- Read the jobs of one owner, newest first: a user's, a user's of one session where both are given, or those that a
-- session made while no user was signed in. Two branches, since one condition with OR could use neither owner's index;
-- each with its own LIMIT, since above both none would reach the index, and all jobs of the owner would be sorted.
WITH owned AS (
  (
    SELECT t.* FROM "public"."tool_job" t
    WHERE t."userId" = :user_id::text AND (:session_id::text IS NULL OR t."sessionId" = :session_id::text)
    ORDER BY t."createdAt" DESC, t."id" COLLATE "C" DESC
    LIMIT :limit
  )
  UNION ALL
  (
    SELECT t.* FROM "public"."tool_job" t
    WHERE :user_id::text IS NULL AND t."sessionId" = :session_id::text AND t."userId" IS NULL
    ORDER BY t."createdAt" DESC, t."id" COLLATE "C" DESC
    LIMIT :limit
  )
)
SELECT
  "id", "toolSlug" AS tool_slug, "status"::text AS status, "priority", "input"::text AS input, "output"::text AS output,
  "error", "userId" AS user_id, "sessionId" AS session_id, "pgBossJobId" AS pgboss_job_id, "attempts",
  "maxAttempts" AS max_attempts, "startedAt" AS started_at, "completedAt" AS completed_at, "expiresAt" AS expires_at,
  "createdAt" AS created_at, "updatedAt" AS updated_at
FROM owned
ORDER BY "createdAt" DESC, "id" COLLATE "C" DESC
