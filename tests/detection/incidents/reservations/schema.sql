CREATE TABLE job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, title text NOT NULL DEFAULT '',
  status text NOT NULL DEFAULT 'pending', token text NOT NULL DEFAULT '', runs int NOT NULL DEFAULT 0,
  reserved_at timestamptz, result text);
