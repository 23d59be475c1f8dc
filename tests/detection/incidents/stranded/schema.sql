CREATE TABLE event (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, transaction_id text NOT NULL UNIQUE,
  state text NOT NULL DEFAULT 'created', created_at timestamptz NOT NULL DEFAULT clock_timestamp());
