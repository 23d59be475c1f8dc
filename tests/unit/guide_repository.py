"""A repository with the settings of the guide "Creating a New Job Processor", as it writes them, and repaired."""

from __future__ import annotations

from pathlib import Path

TOOL_JOB = """\
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
  "pgBossJobId"  TEXT UNIQUE,  -- Links to pg-boss job
  "attempts"     INTEGER DEFAULT 0,
  "maxAttempts"  INTEGER DEFAULT 3,
  "startedAt"    TIMESTAMPTZ,
  "completedAt"  TIMESTAMPTZ,
  "expiresAt"    TIMESTAMPTZ,
  "createdAt"    TIMESTAMPTZ DEFAULT NOW(),
  "updatedAt"    TIMESTAMPTZ DEFAULT NOW()
);
"""
QUEUE = """\
CREATE TABLE "pgboss"."job" (
  "id"           UUID PRIMARY KEY DEFAULT gen_random_uuid(),
  "name"         TEXT NOT NULL,  -- Queue name (tool slug)
  "data"         JSONB,          -- { toolJobId: "..." }
  "state"        "pgboss"."job_state" DEFAULT 'created',
  "priority"     INTEGER DEFAULT 0,
  "retry_limit"  INTEGER DEFAULT 3,
  "retry_count"  INTEGER DEFAULT 0,
  "start_after"  TIMESTAMPTZ DEFAULT NOW(),
  "expire_in"    INTERVAL DEFAULT '00:10:00',
  ...
) PARTITION BY LIST ("name");
"""
API_SERVER = """\
# CRITICAL: Workers won't run without this!
USE_PGBOSS_WORKERS=true

# Required
DATABASE_URL=postgresql://...

# Optional
PGBOSS_BATCH_SIZE=5
PGBOSS_POLLING_INTERVAL=2
"""
WEB = """\
# Required for cron authentication
CRON_SECRET=your-secret-here
"""
VERCEL = """\
{
  "crons": [
    {
      "path": "/api/cron/job-maintenance",
      "schedule": "* * * * *"
    }
  ]
}
"""
JOB_CONFIG = """\
export const JOB_TIMEOUT_MS = 10 * 60 * 1000;
export const JOB_TIMEOUT_SECONDS = JOB_TIMEOUT_MS / 1000;
export const STUCK_JOB_TIMEOUT_MINUTES = 30;
"""
REGISTER = """\
import { registerProcessor } from "../jobs/lib/processor-registry";
import { processMyTool } from "./processor";

export function registerMyToolProcessor(): void {
  registerProcessor("my-tool", processMyTool);
}
"""
WORKER = """\
import { registerMyToolProcessor } from "@repo/api/modules/my-tool/lib/register";

const TOOL_SLUGS = [
  // ... existing tools
  "my-tool",
] as const;

function initializeProcessors(): void {
  registerAllProcessors();
  registerMyToolProcessor(); // Add new processor
}
"""

GUIDE = {
    "packages/database/tool_job.sql": TOOL_JOB,
    "packages/database/pgboss.sql": QUEUE,
    "apps/api-server/.env": API_SERVER,
    "apps/web/.env": WEB,
    "apps/web/vercel.json": VERCEL,
    "packages/api/modules/jobs/lib/job-config.ts": JOB_CONFIG,
    "packages/api/modules/my-tool/lib/register.ts": REGISTER,
    "apps/api-server/src/workers/index.ts": WORKER,
}
"""Every file by its path."""

REPAIRED = {
    **GUIDE,
    "packages/database/pgboss.sql": QUEUE.replace("INTEGER DEFAULT 3", "INTEGER DEFAULT 2").replace(
        "'00:10:00'", "'00:11:00'"
    ),
    "apps/api-server/.env": API_SERVER.replace("BATCH_SIZE=5", "BATCH_SIZE=1"),
}
"""The same without its contradictions."""


def write(root: Path, files: dict[str, str]) -> Path:
    """Write files below a folder; answers the folder."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    return root
