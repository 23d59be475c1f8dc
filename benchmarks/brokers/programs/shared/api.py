"""Takes orders, and leaves the charge to a worker."""

import json
import os
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import jobs


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply()

    def do_POST(self):
        order = json.loads(self.rfile.read(int(self.headers["content-length"])))["order"]
        if os.environ["MISTAKE"] == "loses a job":
            self.reply()  # Accepted, before any queue has it.
            time.sleep(2)
            jobs.enqueue(order)
        else:
            jobs.enqueue(order)
            self.reply()

    def reply(self):
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()
        self.wfile.flush()

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever(3600)
