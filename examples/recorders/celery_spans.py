"""Records the runs of Celery's tasks as OpenTelemetry spans in a file, by Celery's own signals.

    from celery_spans import record
    record("/var/log/worker-1.jsonl", worker="worker-1")

A run is written when it ends, one line each, so a run of a process that was killed is not in the file. No argument
and no result is written. `job-harness audit` and `job-harness reproduce` read the file.
"""

import json
import os
import time

from celery import signals


def record(path, *, worker, keep_bytes=50_000_000):
    """Write the spans of this process to a file of its own; beyond `keep_bytes`, begin it anew and keep one before."""
    recorder = _Recorder(path, worker, keep_bytes)
    signals.task_prerun.connect(recorder.began, weak=False)
    signals.task_postrun.connect(recorder.ended, weak=False)
    signals.before_task_publish.connect(recorder.sent, weak=False)


class _Recorder:
    def __init__(self, path, worker, keep_bytes):
        self.path, self.worker, self.keep_bytes = path, worker, keep_bytes
        self.runs, self.number = {}, 0

    def sent(self, sender=None, headers=None, **_):
        now = time.time_ns()
        self.write((headers or {}).get("id", ""), str(sender), now, now, kind=4, failed=False)

    def began(self, task_id=None, **_):
        self.runs[task_id] = time.time_ns()

    def ended(self, task_id=None, task=None, state=None, **_):
        began = self.runs.pop(task_id, None)
        if began is not None:
            self.write(task_id, task.name, began, time.time_ns(), kind=5, failed=state not in (None, "SUCCESS"))

    def write(self, job, tool, began, ended, *, kind, failed):
        self.number += 1
        named = {"messaging.message.id": job, "celery.task_name": tool}
        span = {
            "traceId": job,
            "spanId": f"{self.worker}-{began}-{self.number}",
            "name": tool,
            "kind": kind,
            "startTimeUnixNano": str(began),
            "endTimeUnixNano": str(ended),
            "status": {"code": 2 if failed else 1},
            "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in named.items()],
        }
        own = [{"key": "service.instance.id", "value": {"stringValue": self.worker}}]
        spans = {"resourceSpans": [{"resource": {"attributes": own}, "scopeSpans": [{"spans": [span]}]}]}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(spans) + "\n")
            full = file.tell() > self.keep_bytes
        if full:
            os.replace(self.path, f"{self.path}.1")
