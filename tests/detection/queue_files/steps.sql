CREATE TABLE step (
  id text PRIMARY KEY,
  state text NOT NULL DEFAULT 'waiting',
  needs text[] NOT NULL DEFAULT '{}',
  bundle text,
  bundle_size int NOT NULL DEFAULT 0,
  follows text UNIQUE,
  attempts int NOT NULL DEFAULT 0,
  max_attempts int NOT NULL,
  error text,
  output text,
  held_until timestamptz,
  made timestamptz NOT NULL,
  due timestamptz NOT NULL,
  begun timestamptz,
  ended timestamptz
);
CREATE FUNCTION step_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.bundle IS NOT NULL AND NEW.state IN ('done', 'failed', 'cancelled') THEN
    PERFORM pg_advisory_xact_lock(hashtext(NEW.bundle));
    IF (SELECT count(*) FROM step WHERE bundle = NEW.bundle AND state IN ('done', 'failed', 'cancelled'))
      >= NEW.bundle_size THEN
      INSERT INTO step (id, follows, max_attempts, made, due)
        VALUES (NEW.bundle || '-callback', NEW.bundle, NEW.max_attempts, NEW.ended, NEW.ended) ON CONFLICT DO NOTHING;
    END IF;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER step_ended AFTER UPDATE OF state ON step FOR EACH ROW EXECUTE FUNCTION step_ended();
