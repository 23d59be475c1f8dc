CREATE TABLE job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL,
  state text NOT NULL DEFAULT 'waiting', attempts int NOT NULL DEFAULT 0, token int NOT NULL DEFAULT 0, error text,
  taken_at timestamptz, started_at timestamptz);
