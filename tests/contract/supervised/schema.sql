CREATE TABLE mail (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, recipient text NOT NULL, status text NOT NULL DEFAULT 'queued',
  attempts int NOT NULL DEFAULT 0, run_after timestamptz NOT NULL DEFAULT now(), created_at timestamptz NOT NULL DEFAULT now(),
  locked_at timestamptz, done_at timestamptz, error text
);
