"""Mail and messages: what goes to a mail server, a channel or a queue."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final

from job_harness.subjects.processors.observed.account import (
    Describe,
    ObservedEffect,
    as_text,
    ignore_answer,
    replace,
    shortened,
    watched_call,
    watched_coroutine,
)


def _sent(server: Any, sender: Any, to: Any, message: Any, *rest: Any, **options: Any) -> ObservedEffect:
    return _mail(to, message)


def tell_smtplib(smtplib: ModuleType) -> None:
    """See mail that blocking code sends."""
    replace(smtplib.SMTP, "sendmail", lambda real: watched_call(real, _sent, ignore_answer))


def tell_aiosmtplib(aiosmtplib: ModuleType) -> None:
    """See mail that coroutines send."""
    replace(aiosmtplib.SMTP, "sendmail", lambda real: watched_coroutine(real, _sent, ignore_answer))


def tell_django_mail(mail: ModuleType) -> None:
    """See mail that Django sends, whatever its backend."""

    def describe(message: Any, *rest: Any, **options: Any) -> ObservedEffect:
        return ObservedEffect(
            "mail", "mail to", ", ".join(message.recipients()), shortened(f"Subject: {message.subject}")
        )

    replace(mail.EmailMessage, "send", lambda real: watched_call(real, describe, ignore_answer))


def _mail(to: Any, message: Any) -> ObservedEffect:
    text = as_text(message)
    subject = re.search(r"(?im)^subject:[^\n]*", text)
    return ObservedEffect(
        "mail",
        "mail to",
        to if isinstance(to, str) else ", ".join(map(str, to)),
        shortened(subject[0] if subject else text),
    )


_SENDS: Final = frozenset({"PUBLISH", "SPUBLISH", "LPUSH", "RPUSH", "XADD"})


def tell_redis(redis: ModuleType) -> None:
    """See what is published, and what is put into lists and streams."""

    def describe(client: Any, *words: Any, **options: Any) -> ObservedEffect | None:
        command = str(words[0]).upper() if words else ""
        if command not in _SENDS:
            return None
        return ObservedEffect(
            "message", command, as_text(words[1]), shortened(" ".join(as_text(word) for word in words[2:]))
        )

    def describe_all(pipeline: Any, *rest: Any, **options: Any) -> list[ObservedEffect]:
        found = (describe(pipeline, *words) for words in _queued(pipeline))
        return [effect for effect in found if effect is not None]

    def tell(owner: Any, name: str, wrapped: Callable[..., Any], says: Describe) -> None:
        replace(owner, name, lambda real: wrapped(real, says, ignore_answer))

    for name, wrapped in (("redis", watched_call), ("redis.asyncio", watched_coroutine)):
        client, cluster = (importlib.import_module(f"{name}.{part}") for part in ("client", "cluster"))
        tell(client.Redis, "execute_command", wrapped, describe)
        tell(client.Pipeline, "immediate_execute_command", wrapped, describe)
        tell(client.Pipeline, "execute", wrapped, describe_all)
        tell(cluster.RedisCluster, "execute_command", wrapped, describe)
        tell(cluster.ClusterPipeline, "execute", wrapped, describe_all)


def _queued(pipeline: Any) -> list[Sequence[Any]]:
    """List the commands that a pipeline is about to send: tuples with their options, or commands of a cluster."""
    strategy = getattr(pipeline, "_execution_strategy", None)  # of a cluster, from redis 6 on
    stack = getattr(pipeline, "command_stack", ()) if strategy is None else strategy._command_queue
    return [each[0] if isinstance(each, tuple) else each.args for each in stack]


def tell_kombu(kombu: ModuleType) -> None:
    def describe(producer: Any, body: Any, routing_key: Any = None, *rest: Any, **options: Any) -> ObservedEffect:
        headers = options.get("headers") or {}
        target = headers.get("task") or routing_key or getattr(producer, "routing_key", "") or "a queue"
        return ObservedEffect("message", "publish", str(target), shortened(str(body)))

    replace(kombu.Producer, "publish", lambda real: watched_call(real, describe, ignore_answer))
