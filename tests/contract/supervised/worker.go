// A worker with a ticker: it polls every two seconds.
package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"strings"
	"time"

	_ "github.com/lib/pq"
)

const claim = `UPDATE mail SET status = 'sending', attempts = attempts + 1, locked_at = now() WHERE id = (
  SELECT id FROM mail WHERE (status = 'queued' AND run_after <= now())
    OR (status = 'sending' AND locked_at < now() - interval '5 minutes') ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING id, recipient, attempts`

func send(recipient string) error {
	body, _ := json.Marshal(map[string]string{"to": recipient})
	reply, err := http.Post("https://mail.example.com/send", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	var told map[string]any
	if reply.StatusCode != 200 {
		return errors.New(reply.Status)
	}
	return json.NewDecoder(reply.Body).Decode(&told)
}

func work(db *sql.DB) bool {
	var id, attempts int
	var recipient string
	if err := db.QueryRow(claim).Scan(&id, &recipient, &attempts); errors.Is(err, sql.ErrNoRows) {
		return false
	} else if err != nil {
		log.Fatal(err)
	}
	query, told := "UPDATE mail SET status = 'sent', error = $2, done_at = now() WHERE id = $1", ""
	if err := send(recipient); err != nil {
		told = strings.ReplaceAll(err.Error(), "\x00", "")
		query = "UPDATE mail SET status = 'queued', error = $2, run_after = now() + interval '30 seconds' WHERE id = $1"
		if attempts >= 3 {
			query = "UPDATE mail SET status = 'failed', error = $2 WHERE id = $1"
		}
	}
	if _, err := db.Exec(query, id, told); err != nil {
		log.Fatal(err)
	}
	return true
}

func main() {
	db, err := sql.Open("postgres", os.Getenv("DATABASE_URL")+"?sslmode=disable")
	if err != nil {
		log.Fatal(err)
	}
	for range time.Tick(2 * time.Second) {
		for work(db) {
		}
	}
}
