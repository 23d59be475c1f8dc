-- Version 1: the schema of the guide "Creating a New Job Processor", word for word in columns, types and defaults.
-- Two repairs, without which it does not run: cuid() is not PostgreSQL's own, so it is shipped here, and a table that
-- is partitioned by "name" needs "name" in its primary key. What the guide leaves out ("...") follows in migrations/.

CREATE SCHEMA IF NOT EXISTS "pgboss";

-- Collision-resistant and roughly in the order of creation: "c", the millisecond in hex, 48 random bits.
CREATE FUNCTION "public".cuid() RETURNS TEXT LANGUAGE sql VOLATILE AS $$
  SELECT 'c' || lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0')
             || substr(replace(gen_random_uuid()::text, '-', ''), 1, 12)
$$;

CREATE TYPE "public"."ToolJobStatus" AS ENUM ('PENDING', 'PROCESSING', 'COMPLETED', 'FAILED', 'CANCELLED');

CREATE TYPE "pgboss"."job_state" AS ENUM ('created', 'retry', 'active', 'completed', 'cancelled', 'failed');

CREATE TABLE "public"."user" (
  "id"           TEXT PRIMARY KEY DEFAULT cuid(),
  "createdAt"    TIMESTAMPTZ DEFAULT NOW()
);

CREATE TABLE "public"."tool_job" (
  "id"           TEXT PRIMARY KEY DEFAULT cuid(),
  "toolSlug"     TEXT NOT NULL,
  "status"       "ToolJobStatus" DEFAULT 'PENDING',
  "priority"     INTEGER DEFAULT 0,
  "input"        JSONB NOT NULL,
  "output"       JSONB,
  "error"        TEXT,
  "userId"       TEXT REFERENCES "user"("id"),
  "sessionId"    TEXT,
  "pgBossJobId"  TEXT UNIQUE,  -- Links to pg-boss job
  "attempts"     INTEGER DEFAULT 0,
  "maxAttempts"  INTEGER DEFAULT 3,
  "startedAt"    TIMESTAMPTZ,
  "completedAt"  TIMESTAMPTZ,
  "expiresAt"    TIMESTAMPTZ,
  "createdAt"    TIMESTAMPTZ DEFAULT NOW(),
  "updatedAt"    TIMESTAMPTZ DEFAULT NOW()
);

CREATE TABLE "pgboss"."job" (
  "id"           UUID DEFAULT gen_random_uuid(),
  "name"         TEXT NOT NULL,  -- Queue name (tool slug)
  "data"         JSONB,          -- { toolJobId: "..." }
  "state"        "pgboss"."job_state" DEFAULT 'created',
  "priority"     INTEGER DEFAULT 0,
  "retry_limit"  INTEGER DEFAULT 3,
  "retry_count"  INTEGER DEFAULT 0,
  "start_after"  TIMESTAMPTZ DEFAULT NOW(),
  "expire_in"    INTERVAL DEFAULT '00:10:00',
  PRIMARY KEY ("name", "id")
) PARTITION BY LIST ("name");
