CREATE TABLE run (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, trace text NOT NULL,
  state text NOT NULL DEFAULT 'waiting', worker text, attempts int NOT NULL DEFAULT 0);
