"""The work of the queue: charge an order."""

import json
import os
import urllib.request

from celery import Celery

REPAIRED = os.environ.get("PAYMENTS_REPAIRED") == "true"

app = Celery("payments", broker="redis://localhost:6379/0", backend="redis://localhost:6379/0")
app.conf.update(
    task_track_started=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_transport_options={"visibility_timeout": 60},
    result_backend_transport_options={"visibility_timeout": 60},
    broker_connection_retry_on_startup=True,
    worker_cancel_long_running_tasks_on_connection_loss=True,
)


@app.task(name="charge", autoretry_for=(OSError, ValueError), max_retries=2, default_retry_delay=5, retry_backoff=False)
def charge(order):
    headers = {"content-type": "application/json"}
    if REPAIRED:  # The host recognises a second request for the same order.
        headers["idempotency-key"] = order
    body = json.dumps({"order": order}).encode()
    request = urllib.request.Request("http://pay.example.com/charge", body, headers)
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.load(reply)
