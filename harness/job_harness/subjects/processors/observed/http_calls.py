"""HTTP: what a request does, and the libraries that send it."""

from __future__ import annotations

import functools
import json
import re
import weakref
from collections.abc import Mapping
from types import ModuleType, SimpleNamespace
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from job_harness.core.faults.messages import LOSES_REPLY
from job_harness.subjects.processors.delivery import current
from job_harness.subjects.processors.observed.account import (
    CallErrors,
    ObservedEffect,
    Stands,
    as_text,
    failing,
    ignore_answer,
    mark,
    observing,
    replace,
    shortened,
    watched_call,
    watched_coroutine,
)
from job_harness.subjects.processors.sql_statement import Nature

KEY_HEADERS: Final = ("idempotency-key", "x-idempotency-key", "idempotence-key", "paypal-request-id")
KEY_FIELDS: Final = (
    "idempotency_key",
    "idempotencyKey",
    "client_token",
    "clientToken",
    "ClientRequestToken",
    "MessageDeduplicationId",
)
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SETS = frozenset({"PUT", "DELETE"})
"""RFC 9110, 9.2.2: repeated, they leave behind what one of them does."""
_TELEMETRY = re.compile(
    r"/v1/(traces|metrics|logs)$|/api/\d+/(envelope|store)/?$|/api/v2/(spans|zipkin)|/statsd|"
    r"^https?://[^/]*(sentry\.io|datadoghq\.|honeycomb\.io|nr-data\.net|newrelic\.com|segment\.(io|com)|posthog\.|"
    r"amplitude\.com|mixpanel\.com|logtail\.com|bugsnag\.com|rollbar\.com)"
)
_TOKEN = re.compile(r"/(oauth2?/)?(token|tokens/refresh|introspect)$", re.IGNORECASE)
_SEARCH = re.compile(r"(/|:)(_?m?search|_mget|_count|_query|query|lookup|batchGet|runQuery)$")
_READS = re.compile(r"\.(Get|List|Describe|Query|Scan|Batch_?Get|Head|Search|Lookup)\w*$")
_QUERY = re.compile(r"\s*(#[^\n]*\n\s*)*(query\b|subscription\b|fragment\b|\{)")
_MUTATION = re.compile(r"\bmutation\b\s*(\w*)")


def http_effect(method: str, url: str, headers: Mapping[str, str], body: bytes | str | None) -> ObservedEffect:
    """Say what a request does."""
    method, text = str(method).upper(), as_text(body)
    named = {str(name).lower(): str(value) for name, value in headers.items()}
    target, _, _ = str(url).partition("?")
    data = _json(text)
    nature, verb = _nature(method, target, named, text, data)
    key = next((named[name] for name in KEY_HEADERS if name in named), None)
    if key is None and isinstance(data, dict):
        key = next((str(data[name]) for name in KEY_FIELDS if data.get(name)), None)
    shape = json.dumps(sorted(data)) if isinstance(data, dict) else ""
    return ObservedEffect("http", verb, target, shortened(text), shape, key, nature)


def _nature(method: str, url: str, headers: Mapping[str, str], text: str, data: Any) -> tuple[Nature, str]:
    if _TELEMETRY.search(url):
        return Nature.TELLS, method
    if method in SAFE:
        return Nature.LOOKS, method
    if method in _SETS:
        return Nature.SETS, method
    query = data.get("query") if isinstance(data, dict) else None
    if isinstance(query, str) and (mutation := _MUTATION.search(query)):
        return Nature.ADDS, f"{method} mutation {mutation[1]}".rstrip()
    if isinstance(query, str) and _QUERY.match(query):
        return Nature.LOOKS, method
    form = dict(parse_qsl(text)) if text and data is None else data
    asks = isinstance(form, dict) and "grant_type" in form
    if asks or _TOKEN.search(urlsplit(url).path) or _SEARCH.search(url):
        return Nature.LOOKS, method
    if _READS.search(headers.get("x-amz-target", "")):
        return Nature.LOOKS, method
    return Nature.ADDS, method


def answered(effect: ObservedEffect, status: int) -> None:
    """Say how a request was answered: what is refused changes nothing."""
    if 400 <= status < 500 and effect.nature != Nature.LOOKS:
        effect.stands = Stands.GONE


def tell_httpx(httpx: ModuleType) -> None:
    def describe(client: Any, request: Any, **options: Any) -> ObservedEffect:
        return http_effect(request.method, str(request.url), request.headers, _content(request))

    def note_answer(effect: ObservedEffect, answer: Any) -> None:
        answered(effect, answer.status_code)

    errors = CallErrors(
        lambda client, request, **_: httpx.ConnectError(REFUSED_WORDS, request=request),
        lambda client, request, **_: httpx.ReadTimeout(UNANSWERED_WORDS, request=request),
    )
    replace(httpx.Client, "send", lambda real: watched_call(real, describe, note_answer, errors))
    replace(httpx.AsyncClient, "send", lambda real: watched_coroutine(real, describe, note_answer, errors))


def _content(request: Any) -> bytes | None:
    try:
        return request.content  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 - a stream, which is read once and by whom it is for
        return None


def tell_requests(requests: ModuleType) -> None:
    def describe(session: Any, request: Any, **options: Any) -> ObservedEffect:
        body = request.body if isinstance(request.body, bytes | str) else None
        return http_effect(request.method, request.url, request.headers, body)

    def note_answer(effect: ObservedEffect, answer: Any) -> None:
        answered(effect, answer.status_code)

    errors = CallErrors(
        lambda session, request, **_: requests.exceptions.ConnectionError(REFUSED_WORDS, request=request),
        lambda session, request, **_: requests.exceptions.ReadTimeout(UNANSWERED_WORDS, request=request),
    )
    replace(requests.Session, "send", lambda real: watched_call(real, describe, note_answer, errors))


def tell_urllib3(urllib3: ModuleType) -> None:
    def describe(
        pool: Any, method: str, url: str, body: Any = None, headers: Any = None, *rest: Any, **options: Any
    ) -> Any:
        port = "" if pool.port in (None, 80, 443) else f":{pool.port}"
        whole = url if "://" in url else f"{pool.scheme}://{pool.host}{port}{url}"
        return http_effect(method, whole, headers or {}, body if isinstance(body, bytes | str) else None)

    def note_answer(effect: ObservedEffect, answer: Any) -> None:
        answered(effect, answer.status)

    errors = CallErrors(
        lambda pool, *_, **__: urllib3.exceptions.NewConnectionError(pool, REFUSED_WORDS),
        lambda pool, method, url, *_, **__: urllib3.exceptions.ReadTimeoutError(pool, url, UNANSWERED_WORDS),
    )
    replace(urllib3.HTTPConnectionPool, "urlopen", lambda real: watched_call(real, describe, note_answer, errors))


def tell_http_client(client: ModuleType) -> None:
    """Watch what urllib.request sends, too."""
    asked: weakref.WeakKeyDictionary[Any, ObservedEffect] = weakref.WeakKeyDictionary()

    def describe(connection: Any, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> Any:
        scheme = "https" if isinstance(connection, client.HTTPSConnection) else "http"
        port = "" if connection.port == connection.default_port else f":{connection.port}"
        whole = url if "://" in url else f"{scheme}://{connection._tunnel_host or connection.host}{port}{url}"
        effect = http_effect(method, whole, headers or {}, body if isinstance(body, bytes | str) else None)
        asked[connection] = effect
        return effect

    def answering(real: Any) -> Any:
        @functools.wraps(real)
        def getresponse(connection: Any, *arguments: Any, **options: Any) -> Any:
            response = real(connection, *arguments, **options)
            if (effect := asked.pop(connection, None)) is not None:
                answered(effect, response.status)
                if failing(current(), effect.place, effect.nature, (LOSES_REPLY,)) is not None:
                    raise TimeoutError(UNANSWERED_WORDS)
            return response

        return mark(getresponse)

    errors = CallErrors(lambda *_, **__: ConnectionRefusedError(REFUSED_WORDS), None)
    replace(client.HTTPConnection, "request", lambda real: watched_call(real, describe, ignore_answer, errors))
    replace(client.HTTPConnection, "getresponse", answering)


REFUSED_WORDS: Final = "connection refused"
UNANSWERED_WORDS: Final = "timed out: no reply came"
_AIOHTTP_VERBS: Final = ("post", "put", "patch", "delete", "get", "head", "options")


def _refused(aiohttp: ModuleType, request: Any) -> BaseException:
    request.close()
    where = SimpleNamespace(host="", port=None, ssl=True)
    return aiohttp.ClientConnectorError(where, ConnectionRefusedError(REFUSED_WORDS))  # type: ignore[no-any-return]


def tell_aiohttp(aiohttp: ModuleType) -> None:
    """Watch the public verbs: libraries of stubs replace what is below them."""

    def describe(session: Any, method: str, url: Any, **options: Any) -> ObservedEffect:
        headers = {**dict(getattr(session, "headers", None) or {}), **dict(options.get("headers") or {})}
        body = options.get("data")
        if options.get("json") is not None:
            body = json.dumps(options["json"], default=str)
        elif isinstance(body, Mapping):
            body = "&".join(f"{name}={value}" for name, value in body.items())
        base = getattr(session, "_base_url", None)
        whole = str(url) if base is None else str(base.join(type(base)(str(url))))
        return http_effect(method, whole, headers, body if isinstance(body, bytes | str) else None)

    errors = CallErrors(
        lambda inner: _refused(aiohttp, inner), lambda inner: aiohttp.ServerTimeoutError(UNANSWERED_WORDS)
    )

    def watched(real: Any, method: str | None) -> Any:
        @functools.wraps(real)
        def call(session: Any, *arguments: Any, **options: Any) -> Any:
            asked = real(session, *arguments, **options)
            inner = getattr(asked, "_coro", None)
            if inner is not None and observing() is not None:
                named = arguments if method is None else (method, *arguments)
                send = watched_coroutine(
                    lambda _: inner, lambda _: describe(session, *named, **options), _status, errors
                )
                asked._coro = send(inner)
            return asked

        return mark(call)

    def _status(effect: ObservedEffect, answer: Any) -> None:
        answered(effect, int(getattr(answer, "status", 200)))

    replace(aiohttp.ClientSession, "request", lambda real: watched(real, None))
    for verb in _AIOHTTP_VERBS:
        replace(aiohttp.ClientSession, verb, lambda real, verb=verb: watched(real, verb.upper()))  # type: ignore[misc]


def _json(text: str) -> Any:
    if not text.startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
