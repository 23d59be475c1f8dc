"""The work of the queue: charge an order."""

import json
import os
import urllib.request

REPAIRED = os.environ.get("PAYMENTS_REPAIRED") == "true"


def charge(order: str) -> dict[str, object]:
    headers = {"content-type": "application/json"}
    if REPAIRED:  # The host recognises a second request for the same order.
        headers["idempotency-key"] = order
    body = json.dumps({"order": order}).encode()
    request = urllib.request.Request("http://pay.example.com/charge", body, headers)
    with urllib.request.urlopen(request, timeout=15) as reply:
        return json.load(reply)
