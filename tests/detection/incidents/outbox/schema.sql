CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event text NOT NULL, published_at timestamptz,
  failures int NOT NULL DEFAULT 0);
