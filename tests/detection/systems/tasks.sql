CREATE TABLE task (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL,
  state text NOT NULL DEFAULT 'queued',
  priority int NOT NULL DEFAULT 0,
  key text,
  lane text,
  attempts int NOT NULL DEFAULT 0,
  held_by text,
  error text,
  created_at timestamptz NOT NULL DEFAULT now(),
  run_after timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  lease_until timestamptz,
  done_at timestamptz
);
CREATE UNIQUE INDEX one_of_a_key ON task (key) WHERE state IN ('queued', 'running');
CREATE UNIQUE INDEX one_of_a_lane ON task (lane) WHERE state = 'running';
CREATE TABLE claim (at timestamptz NOT NULL);
CREATE TABLE dead_letter (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  task bigint NOT NULL,
  name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
