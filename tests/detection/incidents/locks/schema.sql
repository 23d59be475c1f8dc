CREATE TABLE job (id text PRIMARY KEY, state text NOT NULL DEFAULT 'queued', attempts int NOT NULL DEFAULT 0, lock text,
  run_at timestamptz NOT NULL DEFAULT now(), lease_until timestamptz, error text, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE unique_lock (digest text PRIMARY KEY, job text NOT NULL);
