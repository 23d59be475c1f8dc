"""The application of a Celery worker: celery -A celery_app worker -P solo."""

import os
import sys
import time
from pathlib import Path

from celery import Celery

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "examples" / "recorders"))
from celery_spans import record

app = Celery("incident", broker=os.environ["BROKER"])
app.conf.update(
    broker_transport_options={"visibility_timeout": int(os.environ.get("VISIBILITY", "8"))},
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
)
record(os.environ["SPANS"], worker=os.environ["NAME"])


@app.task(name="work")
def work(ms):
    time.sleep(ms / 1000)
