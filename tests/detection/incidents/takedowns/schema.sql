CREATE TABLE notice (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, domain text NOT NULL,
  state text NOT NULL DEFAULT 'queued', attempts int NOT NULL DEFAULT 0, taken_at timestamptz,
  due_at timestamptz NOT NULL DEFAULT clock_timestamp());
