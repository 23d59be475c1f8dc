-- The index of the claim, with start_after at its end: jobs that wait for later are passed over within the index. Without
-- it each was fetched from the table, so that 20 000 jobs put off by a day made a claim twenty times as long.
DROP INDEX "pgboss"."job_claim";
CREATE INDEX "job_claim" ON "pgboss"."job" ("priority" DESC, "created_on", "id", "start_after")
  WHERE "state" IN ('created', 'retry');
