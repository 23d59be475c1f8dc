CREATE TABLE step (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text,
  needs bigint[] NOT NULL DEFAULT '{}',
  state text NOT NULL DEFAULT 'queued',
  attempts int NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz
);
