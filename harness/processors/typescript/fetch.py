"""What a test answers in place of the network, as the child makes a `Response` of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.errors import UsageError, did_you_mean

KEYS = ("status", "headers", "body", "json")


def response_of(answer: Any) -> dict[str, Any]:
    """Answer status, headers and body. An int is a status, text a body; a dict has `status, headers, body, json`.

    Raises UsageError for anything else, and the answer itself where it is an exception.
    """
    if isinstance(answer, Exception):
        raise answer
    if isinstance(answer, int) and not isinstance(answer, bool):
        answer = {"status": answer}
    elif isinstance(answer, str):
        answer = {"body": answer}
    if not isinstance(answer, Mapping):
        raise UsageError(f"fetch was answered with {answer!r}", hint="Answer a status, a text, or a dict.")
    unknown = [key for key in answer if key not in KEYS]
    if unknown:
        hint = did_you_mean(str(unknown[0]), KEYS)
        raise UsageError(f"fetch was answered with the key {unknown[0]!r}{hint}; there are {', '.join(KEYS)}")
    headers = {str(name): str(value) for name, value in dict(answer.get("headers") or {}).items()}
    body = answer.get("body", "")
    if "json" in answer:
        body = json.dumps(answer["json"])
        headers.setdefault("content-type", "application/json")
    return {"status": answer.get("status", 200), "headers": headers, "body": body}
