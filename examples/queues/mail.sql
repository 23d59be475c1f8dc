CREATE TABLE mail_jobs (
  id           bigserial PRIMARY KEY,
  name         text NOT NULL UNIQUE,
  payload      jsonb NOT NULL,
  status       text NOT NULL DEFAULT 'queued',
  attempts     int NOT NULL DEFAULT 0,
  max_attempts int NOT NULL DEFAULT 3,
  run_at       timestamptz NOT NULL DEFAULT now(),
  locked_by    text,
  lock_token   uuid,
  locked_until timestamptz,
  result       jsonb,
  last_error   text,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  finished_at  timestamptz
);

CREATE INDEX mail_jobs_due ON mail_jobs (created_at, id) WHERE status = 'queued';
