-- What correctness needs beyond the guide's columns.

-- A claim is a worker, a lease and a token. The token rises with every claim and never goes back: a verb that
-- presents an old one changes nothing. tool_job remembers it too, so that a queue row made anew carries on from it.
ALTER TABLE "pgboss"."job"
  ADD COLUMN "token"            BIGINT NOT NULL DEFAULT 0,
  ADD COLUMN "worker"           TEXT,
  ADD COLUMN "lease_until"      TIMESTAMPTZ,
  ADD COLUMN "retry_delay"      INTERVAL NOT NULL DEFAULT '00:01:00',
  ADD COLUMN "retry_backoff"    BOOLEAN NOT NULL DEFAULT true,
  ADD COLUMN "retry_delay_max"  INTERVAL NOT NULL DEFAULT '01:00:00',
  ADD COLUMN "unique_key"       TEXT,
  ADD COLUMN "created_on"       TIMESTAMPTZ NOT NULL DEFAULT now(),
  ADD COLUMN "started_on"       TIMESTAMPTZ,
  ADD COLUMN "completed_on"     TIMESTAMPTZ,
  ADD COLUMN "keep"             INTERVAL NOT NULL DEFAULT '168:00:00';  -- how long a terminal job is kept

ALTER TABLE "public"."tool_job" ADD COLUMN "token" BIGINT NOT NULL DEFAULT 0;

-- The state of "state" is never null in practice; an index predicate and a claim rely on it.
ALTER TABLE "pgboss"."job" ALTER COLUMN "state" SET NOT NULL;

-- The queue row that a tool_job names, or null where the text is no UUID: a spoilt link must not raise.
CREATE FUNCTION "pgboss".queue_id(link TEXT) RETURNS UUID LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN link ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN link::uuid END
$$;

-- The terminal and the waiting partner of a status.
CREATE FUNCTION "pgboss".partner_state(status "public"."ToolJobStatus") RETURNS "pgboss"."job_state"
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE status WHEN 'PENDING' THEN 'created' WHEN 'PROCESSING' THEN 'active' WHEN 'COMPLETED' THEN 'completed'
                     WHEN 'FAILED' THEN 'failed' WHEN 'CANCELLED' THEN 'cancelled' END::"pgboss"."job_state"
$$;

CREATE FUNCTION "pgboss".partner_status(state "pgboss"."job_state") RETURNS "public"."ToolJobStatus"
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE state WHEN 'created' THEN 'PENDING' WHEN 'retry' THEN 'PENDING' WHEN 'active' THEN 'PROCESSING'
                    WHEN 'completed' THEN 'COMPLETED' WHEN 'failed' THEN 'FAILED'
                    WHEN 'cancelled' THEN 'CANCELLED' END::"public"."ToolJobStatus"
$$;

-- How long a job waits after its failure number c (from 0) of this budget: delay * 2^c * (1 + jitter), at most
-- delay_max; without backoff exactly the delay. The exponent is cut where the cap has long won, so that no c overflows.
CREATE FUNCTION "pgboss".retry_after(
  delay INTERVAL, backoff BOOLEAN, delay_max INTERVAL, c INTEGER, jitter DOUBLE PRECISION
) RETURNS INTERVAL LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN NOT backoff THEN delay ELSE
    least(
      floor(
        (extract(epoch FROM delay) * 1000000)::double precision
        * power(2::double precision, least(greatest(c, 0), 63)::double precision)
        * (1::double precision + jitter)
      ),
      (extract(epoch FROM delay_max) * 1000000)::double precision
    ) * INTERVAL '1 microsecond'
  END
$$;

-- Row k (from 0) of one statement takes its own share of the one number drawn for it.
CREATE FUNCTION "pgboss".spread(jitter DOUBLE PRECISION, k BIGINT) RETURNS DOUBLE PRECISION
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT (jitter + k::double precision * 0.6180339887498949::double precision)
       - floor(jitter + k::double precision * 0.6180339887498949::double precision)
$$;

-- A partition's name: readable, and its digest keeps any two slugs apart and any slug within 63 bytes.
CREATE FUNCTION "pgboss".partition_name(slug TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT 'job_' || left(regexp_replace(lower(slug), '[^a-z0-9]+', '_', 'g'), 20) || '_' || md5(slug)
$$;

-- Makes the partition of a tool. Attached rather than created in place: running jobs are not locked out. Two at once
-- take turns, and the second finds the partition of the first.
CREATE FUNCTION "pgboss".register_tool(slug TEXT) RETURNS BOOLEAN LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  partition TEXT := "pgboss".partition_name(slug);
BEGIN
  IF to_regclass(format('"pgboss".%I', partition)) IS NOT NULL THEN
    RETURN false;
  END IF;
  -- A lock on the table rather than an advisory one: taking it is what makes this session see the other's partition.
  LOCK TABLE ONLY "pgboss"."job" IN SHARE UPDATE EXCLUSIVE MODE;
  IF to_regclass(format('"pgboss".%I', partition)) IS NOT NULL THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE "pgboss".%I (LIKE "pgboss"."job" INCLUDING DEFAULTS)', partition);
  EXECUTE format('ALTER TABLE "pgboss"."job" ATTACH PARTITION "pgboss".%I FOR VALUES IN (%L)', partition, slug);
  RETURN true;
END
$$;
