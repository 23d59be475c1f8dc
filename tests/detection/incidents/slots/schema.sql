CREATE TABLE execution (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL,
  state text NOT NULL DEFAULT 'queued', started_at timestamptz);
CREATE TABLE flow (running int NOT NULL);
INSERT INTO flow VALUES (0);
