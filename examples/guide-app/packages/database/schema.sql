CREATE FUNCTION cuid() RETURNS TEXT LANGUAGE sql AS $$ SELECT 'c' || replace(gen_random_uuid()::text, '-', '') $$;

CREATE TYPE "ToolJobStatus" AS ENUM ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED');

CREATE TABLE "user" ("id" TEXT PRIMARY KEY DEFAULT cuid());

CREATE TABLE "tool_job" (
  "id"           TEXT PRIMARY KEY DEFAULT cuid(),
  "toolSlug"     TEXT NOT NULL,
  "status"       "ToolJobStatus" DEFAULT 'PENDING',
  "priority"     INTEGER DEFAULT 0,
  "input"        JSONB NOT NULL,
  "output"       JSONB,
  "error"        TEXT,
  "userId"       TEXT REFERENCES "user"("id"),
  "sessionId"    TEXT,
  "pgBossJobId"  TEXT UNIQUE,
  "attempts"     INTEGER DEFAULT 0,
  "maxAttempts"  INTEGER DEFAULT 3,
  "startedAt"    TIMESTAMPTZ,
  "completedAt"  TIMESTAMPTZ,
  "expiresAt"    TIMESTAMPTZ,
  "createdAt"    TIMESTAMPTZ DEFAULT NOW(),
  "updatedAt"    TIMESTAMPTZ DEFAULT CURRENT_TIMESTAMP
);
