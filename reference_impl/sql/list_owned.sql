-- Read the jobs of one owner, newest first: by user, by session, or by both where both are given.
SELECT
  "id", "toolSlug" AS tool_slug, "status"::text AS status, "priority", "input"::text AS input, "output"::text AS output,
  "error", "userId" AS user_id, "sessionId" AS session_id, "pgBossJobId" AS pgboss_job_id, "attempts",
  "maxAttempts" AS max_attempts, "startedAt" AS started_at, "completedAt" AS completed_at, "expiresAt" AS expires_at,
  "createdAt" AS created_at, "updatedAt" AS updated_at
FROM "public"."tool_job"
WHERE (:user_id::text IS NOT NULL OR :session_id::text IS NOT NULL)
  AND (:user_id::text IS NULL OR "userId" = :user_id)
  AND (:session_id::text IS NULL OR "sessionId" = :session_id)
ORDER BY "createdAt" DESC, "id" COLLATE "C" DESC
LIMIT :limit
