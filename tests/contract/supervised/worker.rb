require "pg"
require "net/http"
require "json"
db = PG.connect(ENV.fetch("DATABASE_URL"))
CLAIM = <<~SQL
  UPDATE mail SET status = 'sending', attempts = attempts + 1, locked_at = now() WHERE id = (
    SELECT id FROM mail WHERE (status = 'queued' AND run_after <= now())
      OR (status = 'sending' AND locked_at < now() - interval '5 minutes') ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
  ) RETURNING id, recipient, attempts
SQL
loop do
  row = db.exec(CLAIM).first
  next sleep 2 unless row
  uri = URI("https://mail.example.com/send")
  begin
    http = Net::HTTP.new(uri.host, uri.port)
    http.use_ssl = true
    http.read_timeout = 3600
    reply = http.post(uri.path, JSON.dump(to: row["recipient"]), "content-type" => "application/json")
    raise "status #{reply.code}" unless reply.code == "200"
    db.exec_params("UPDATE mail SET status = 'sent', done_at = now() WHERE id = $1", [row["id"]])
  rescue SystemCallError, IOError, RuntimeError, Timeout::Error => error
    status = row["attempts"].to_i < 3 ? "queued" : "failed"
    db.exec_params("UPDATE mail SET status = $2, error = $3, run_after = now() + interval '30 seconds' WHERE id = $1",
                   [row["id"], status, error.message.delete("\0")])
  end
end
