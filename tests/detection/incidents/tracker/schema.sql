CREATE TABLE tracker (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL,
  status text NOT NULL DEFAULT 'Starting', started_at timestamptz);
CREATE TABLE execution (tracker bigint NOT NULL, state text NOT NULL DEFAULT 'ready', owner text,
  beat timestamptz);
