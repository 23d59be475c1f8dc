<?php
$db = pg_connect(getenv("DATABASE_URL"));
while (true) {
    $claimed = pg_query($db, "UPDATE mail SET status = 'sending', attempts = attempts + 1, locked_at = now() WHERE id = (
        SELECT id FROM mail WHERE (status = 'queued' AND run_after <= now())
          OR (status = 'sending' AND locked_at < now() - interval '5 minutes') ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
      ) RETURNING id, recipient, attempts");
    if (!$claimed) exit(1);
    $row = pg_fetch_assoc($claimed);
    if (!$row) { sleep(2); continue; }
    $options = ["http" => ["method" => "POST", "content" => json_encode(["to" => $row["recipient"]]), "timeout" => 3600,
                           "header" => "content-type: application/json"]];
    $reply = @file_get_contents("https://mail.example.com/send", false, stream_context_create($options));
    if ($reply !== false && json_decode($reply) !== null) {
        pg_query_params($db, "UPDATE mail SET status = 'sent', done_at = now() WHERE id = $1", [$row["id"]]) || exit(1);
    } else {
        $status = $row["attempts"] < 3 ? "queued" : "failed";
        pg_query_params($db, "UPDATE mail SET status = $2, error = 'refused', run_after = now() + interval '30 seconds' WHERE id = $1",
                        [$row["id"], $status]) || exit(1);
    }
}
