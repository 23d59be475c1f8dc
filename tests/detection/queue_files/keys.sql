CREATE TABLE task (
  id text PRIMARY KEY,
  state text NOT NULL DEFAULT 'waiting',
  input jsonb NOT NULL,
  priority bigint NOT NULL,
  lock text,
  attempts int NOT NULL DEFAULT 0,
  claims int NOT NULL DEFAULT 0,
  error text,
  output jsonb,
  held_until timestamptz,
  made timestamptz NOT NULL,
  due timestamptz NOT NULL,
  begun timestamptz,
  ended timestamptz
);
CREATE TABLE held (lock text PRIMARY KEY, task text NOT NULL);
CREATE FUNCTION task_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.state IN ('done', 'failed', 'cancelled') THEN
    DELETE FROM held WHERE task = NEW.id;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER task_ended AFTER UPDATE OF state ON task FOR EACH ROW EXECUTE FUNCTION task_ended();
