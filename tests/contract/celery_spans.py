"""A Celery application with OpenTelemetry's instrumentation: each process appends its spans to its own file.

`celery_spans.py send` sends one task; `celery -A celery_spans worker` runs it for longer than its message is invisible.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_process_init
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

app = Celery("shop", broker=os.environ["BROKER"])
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_default_queue="invoices",
    broker_transport_options={"visibility_timeout": 3, "unacked_restore_interval": 0.3},
)


class AppendedSpans(SpanExporter):
    """What the collector's file exporter does, without a collector."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with (Path(os.environ["SPANS"]) / f"{os.getpid()}.pb").open("ab") as file:
            file.write(encode_spans(spans).SerializeToString())
        return SpanExportResult.SUCCESS


@app.task(name="invoice")  # type: ignore[untyped-decorator]
def invoice() -> None:
    """Take longer than the message is invisible to other workers."""
    time.sleep(12)  # noqa: TID251 - what users write


@worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
def trace_this(**_: Any) -> None:
    """Trace this process."""
    provider = TracerProvider(resource=Resource.create({"service.instance.id": f"{os.environ['NAME']}:{os.getpid()}"}))
    provider.add_span_processor(SimpleSpanProcessor(AppendedSpans()))
    trace.set_tracer_provider(provider)
    CeleryInstrumentor().instrument()


if __name__ == "__main__" and sys.argv[1:] == ["send"]:
    trace_this()
    print(invoice.delay().id)
