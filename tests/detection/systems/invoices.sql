CREATE TABLE invoice (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE mail (
  id bigint PRIMARY KEY REFERENCES invoice,
  state text NOT NULL DEFAULT 'queued',
  attempts int NOT NULL DEFAULT 0,
  error text,
  due_at timestamptz NOT NULL DEFAULT now(),
  taken_at timestamptz
);
