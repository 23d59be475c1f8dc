-- Extend the lease by its full length from now, for the holder of the newest token only.
UPDATE "pgboss"."job" q
SET "lease_until" = coalesce(:now::timestamptz, now()) + q."expire_in"
WHERE q."name" = :tool AND q."id" = :queue_id::uuid AND q."state" = 'active' AND q."token" = :token::bigint
RETURNING q."lease_until"
