CREATE TABLE message (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL,
  state text NOT NULL DEFAULT 'queued',
  attempts int NOT NULL DEFAULT 0,
  error text,
  taken_at timestamptz,
  due_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE provider (failures int NOT NULL DEFAULT 0);
INSERT INTO provider DEFAULT VALUES;
