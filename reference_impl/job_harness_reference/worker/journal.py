"""What a worker tells its log: `event key=value ...`, and the same as `event` and `fields` of the record."""

from __future__ import annotations

import logging

from job_harness_reference.models import Claim

_LONGEST_VALUE = 500
"""Characters of one value; the whole error stands in the job's row."""

_LOGGER = logging.getLogger("job_harness_reference.worker")


class Journal:
    """Structured log lines of one worker."""

    def __init__(self, worker: str) -> None:
        self._worker = worker

    def note(self, event: str, /, *, level: int = logging.INFO, claim: Claim | None = None, **fields: object) -> None:
        """Log one event, with its job where it has one."""
        if not _LOGGER.isEnabledFor(level):
            return
        known: dict[str, object] = {"worker": self._worker}
        if claim is not None:
            job = claim.job
            known |= {"job": job.id, "tool": job.tool_slug, "attempt": job.attempts, "token": claim.token}
        known |= {key: value for key, value in fields.items() if value is not None}
        text = " ".join(f"{key}={_write_value(value)}" for key, value in known.items())
        _LOGGER.log(level, "%s %s", event, text, extra={"event": event, "fields": known})

    def warn(self, event: str, /, *, claim: Claim | None = None, **fields: object) -> None:
        """Log something worth a look some day."""
        self.note(event, level=logging.WARNING, claim=claim, **fields)

    def alarm(self, event: str, /, *, claim: Claim | None = None, **fields: object) -> None:
        """Log something that needs a look now."""
        self.note(event, level=logging.ERROR, claim=claim, **fields)


def _write_value(value: object) -> str:
    text = (value if isinstance(value, str) else str(value))[:_LONGEST_VALUE]
    plain = text.isascii() and text.isprintable() and " " not in text
    return text if text and plain else ascii(text)
