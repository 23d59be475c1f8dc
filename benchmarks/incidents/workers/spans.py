"""Writes a span of OTLP for each run, when it ends: what a process does that is killed is in no span."""

import json
import time
from contextlib import contextmanager


class Spans:
    def __init__(self, path, worker):
        self.file, self.worker, self.number = open(path, "a", encoding="utf-8", buffering=1), worker, 0

    @contextmanager
    def run(self, job, tool):
        began = time.time_ns()
        failed = True
        try:
            yield
            failed = False
        finally:
            self.write(job, tool, began, time.time_ns(), failed=failed)

    def write(self, job, tool, began, ended, *, failed=False, kind=5):
        self.number += 1
        named = {"messaging.message.id": job, "messaging.destination.name": tool}
        span = {
            "traceId": job,
            "spanId": f"{self.worker}-{self.number}",
            "name": f"run {tool}",
            "kind": kind,
            "startTimeUnixNano": str(began),
            "endTimeUnixNano": str(ended),
            "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in named.items()],
            "status": {"code": 2 if failed else 1},
        }
        own = [{"key": "service.instance.id", "value": {"stringValue": self.worker}}]
        document = {"resourceSpans": [{"resource": {"attributes": own}, "scopeSpans": [{"spans": [span]}]}]}
        self.file.write(json.dumps(document) + "\n")
