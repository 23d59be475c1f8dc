-- Indexes are few on purpose: each is paid for by every claim and every completion.

-- Ordered exactly as the claim orders, so that the cost of a claim does not grow with what is due.
CREATE INDEX "job_claim" ON "pgboss"."job" ("priority" DESC, "created_on", "id")
  WHERE "state" IN ('created', 'retry');

-- Only what is running: the scan for overdue leases walks it from the left, the scan for stuck jobs walks all of it.
-- A row that is neither overdue nor stuck by any clock is no use to both; that it is left out also keeps the statements
-- that look for one active row by its key away from here: they would walk the dead entries of all that ended before.
CREATE INDEX "job_active" ON "pgboss"."job" ("lease_until", "started_on")
  WHERE "state" = 'active' AND ("lease_until" IS NOT NULL OR "started_on" IS NOT NULL);

CREATE UNIQUE INDEX "job_unique_key" ON "pgboss"."job" ("name", "unique_key")
  WHERE "unique_key" IS NOT NULL AND "state" IN ('created', 'retry', 'active');

-- The owners' lists. tool_job has no index on a column that a verb changes, and room on its pages: its updates stay HOT.
CREATE INDEX "tool_job_user" ON "public"."tool_job" ("userId", "createdAt" DESC) WHERE "userId" IS NOT NULL;
CREATE INDEX "tool_job_session" ON "public"."tool_job" ("sessionId", "createdAt" DESC) WHERE "sessionId" IS NOT NULL;
ALTER TABLE "public"."tool_job" SET (fillfactor = 50);
