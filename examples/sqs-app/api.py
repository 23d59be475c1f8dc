"""Takes orders, and leaves the charge to a worker."""

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

import boto3

sqs = boto3.client("sqs")
queue = os.environ["QUEUE_URL"]


class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply({})

    def do_POST(self):
        order = json.loads(self.rfile.read(int(self.headers["content-length"])))["order"]
        sent = sqs.send_message(QueueUrl=queue, MessageBody=json.dumps({"order": order}))
        self.reply({"id": sent["MessageId"]})

    def reply(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever(3600)
