"""A server that accepts prompts, with a thread that runs them, after Comfy-Org/ComfyUI#16312 (September 2026).

Errors of a node become the error of its prompt. An error beside the nodes, as in the cache of their outputs, ends the
thread: the server goes on accepting prompts and runs none of them. The repaired thread records any error and goes on.
"""

import json
import os
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import psycopg

REPAIRED = os.environ.get("REPAIRED") == "true"
NODE_SECONDS = 600

CLAIM = """
UPDATE prompt SET status = 'running', started_at = now()
WHERE id = (SELECT id FROM prompt WHERE status = 'queued' ORDER BY id LIMIT 1) RETURNING id, text
"""
END = "UPDATE prompt SET status = %s, output = %s, error = %s, ended_at = now() WHERE id = %s AND status = 'running'"


def connect():
    return psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)


def open_queue():
    db = connect()
    # Only this thread runs prompts, so whatever is running was interrupted.
    db.execute("UPDATE prompt SET status = 'queued', started_at = NULL WHERE status = 'running'")
    return db


def run_node(text):
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request("https://gpu.example.com/sample", data=body, method="POST")
    with urllib.request.urlopen(request, timeout=NODE_SECONDS) as response:
        return response.read()


def execute(text, cache):
    try:
        output = run_node(text)
    except Exception as error:
        return "error", None, str(error).replace("\0", "")
    cache[text] = json.loads(output)
    return "success", json.dumps(cache[text]), None


def execute_guarded(text, cache):
    try:
        return execute(text, cache)
    except Exception as error:
        if not REPAIRED:
            raise
        return "error", None, str(error).replace("\0", "")


def prompt_worker():
    db, cache = None, {}
    while True:
        try:
            db = db or open_queue()
            row = db.execute(CLAIM).fetchone()
            if row is None:
                time.sleep(1)
                continue
            prompt, text = row
            db.execute(END, [*execute_guarded(text, cache), prompt])
        except psycopg.OperationalError:
            if not REPAIRED:
                raise
            db = None
            time.sleep(1)


class Server(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {"ok": True})

    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["content-length"])))["text"]
        with connect() as db:
            row = db.execute("INSERT INTO prompt (text) VALUES (%s) RETURNING id", [text]).fetchone()
        self.answer(200, {"prompt_id": row[0]})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    threading.Thread(target=prompt_worker, daemon=True).start()
    HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Server).serve_forever()
