"""The worker of examples/python-app, whose mail server is a local one: python mail.py FOLDER PORT [NAME SPANS]."""

import json
import sys
import urllib.request

sys.path.insert(0, sys.argv[1])
import app
from spans import Spans

SPANS = Spans(sys.argv[4], sys.argv[3]) if len(sys.argv) > 4 else None


def send(recipient):
    body = json.dumps({"to": recipient}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{sys.argv[2]}/send", data=body, method="POST")
    if SPANS is None:
        return answer(request)
    with SPANS.run(recipient, "mail"):
        return answer(request)


def answer(request):
    with urllib.request.urlopen(request) as response:
        return json.load(response)


app.send = send
app.worker()
