CREATE TABLE digest (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text,
  slot timestamptz,
  state text NOT NULL DEFAULT 'queued',
  attempts int NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz
);
CREATE UNIQUE INDEX one_of_a_slot ON digest (slot);
