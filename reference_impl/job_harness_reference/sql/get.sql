-- Read one job as its user sees it.
SELECT
  "id", "toolSlug" AS tool_slug, "status"::text AS status, "priority", "input"::text AS input, "output"::text AS output,
  "error", "userId" AS user_id, "sessionId" AS session_id, "pgBossJobId" AS pgboss_job_id, "attempts",
  "maxAttempts" AS max_attempts, "startedAt" AS started_at, "completedAt" AS completed_at, "expiresAt" AS expires_at,
  "createdAt" AS created_at, "updatedAt" AS updated_at
FROM "public"."tool_job"
WHERE "id" = :job_id
