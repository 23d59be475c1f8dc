CREATE TABLE job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL,
  state text NOT NULL DEFAULT 'ready', process text, started_at timestamptz);
CREATE TABLE semaphore (free int NOT NULL);
INSERT INTO semaphore VALUES (1);
CREATE TABLE process (name text PRIMARY KEY, seen_at timestamptz NOT NULL DEFAULT clock_timestamp());
