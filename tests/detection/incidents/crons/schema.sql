CREATE TABLE task (name text PRIMARY KEY, next_run timestamptz NOT NULL);
INSERT INTO task VALUES ('digest', 'epoch');
CREATE TABLE run (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, task text, name text, slot timestamptz,
  state text NOT NULL DEFAULT 'queued', created_at timestamptz NOT NULL DEFAULT now());
