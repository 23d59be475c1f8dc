-- Make the tool's partition; false where it exists.
SELECT "pgboss".register_tool(:slug) AS registered
