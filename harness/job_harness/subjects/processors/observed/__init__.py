"""What a processor does to the world outside, seen without its author's help: HTTP, SQL, files, mail, messages.

`watch()` makes the libraries that are imported in this process, now or later, tell; a library that is not imported is
left alone. What they do is written down where it belongs to a delivery that observes (`Delivery.observed`), and passes
untouched everywhere else. Each call is seen once, at the library that the user's code calls: what that one does further
down is its own affair. A call is a moment too: a worker may die right after it, and, where something was committed
just before, right before it.

An `ObservedEffect` says what was done, to what, by which idempotency key, and whether it stands: an
open transaction may still be rolled back, a request may be refused. What a repetition means is
judged in `contract.repetition`.

Leans on names of httpx 0.23 to 0.28, requests 2, urllib3 1.26 and 2, aiohttp 3, psycopg 3.2 and
3.3, asyncpg 0.29 to 0.32, SQLAlchemy 2, redis 5 to 8, kombu 5. SQLite is followed by the trace
callback of a connection, files by audit events, which no `from x import y` of the user's escapes.
"""

from __future__ import annotations

import importlib.abc
import sys
import weakref
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from job_harness.subjects.processors.observed.account import Observations, ObservedEffect, shortened
from job_harness.subjects.processors.observed.databases import (
    Connection,
    ran_statement,
    sql_effect,
    tell_asyncpg,
    tell_psycopg,
    tell_sqlalchemy,
    tell_sqlite3,
)
from job_harness.subjects.processors.observed.files import hear_audit_event, paths_of
from job_harness.subjects.processors.observed.http_calls import (
    answered,
    http_effect,
    tell_aiohttp,
    tell_http_client,
    tell_httpx,
    tell_requests,
    tell_urllib3,
)
from job_harness.subjects.processors.observed.messages import (
    tell_aiosmtplib,
    tell_django_mail,
    tell_kombu,
    tell_redis,
    tell_smtplib,
)
from job_harness.subjects.processors.sql_statement import Nature

_LIBRARIES: Final[Mapping[str, Callable[[ModuleType], None]]] = {
    "httpx": tell_httpx,
    "requests": tell_requests,
    "urllib3": tell_urllib3,
    "aiohttp": tell_aiohttp,
    "http.client": tell_http_client,
    "psycopg": tell_psycopg,
    "asyncpg": tell_asyncpg,
    "sqlalchemy": tell_sqlalchemy,
    "sqlite3": tell_sqlite3,
    "smtplib": tell_smtplib,
    "aiosmtplib": tell_aiosmtplib,
    "django.core.mail": tell_django_mail,
    "redis": tell_redis,
    "kombu": tell_kombu,
}
"""A library as it is imported -> what lets it tell."""


def watch() -> None:
    """Let the libraries of this process tell, each once; those that are imported later, then.

    Others may take our finder away, as a test does that puts `sys.meta_path` back; an audit hook
    stays for good.
    """
    if any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        return
    if not _PATCHED:
        _PATCHED.add(sys)  # by the hook
        sys.addaudithook(hear_audit_event)
    for name in _LIBRARIES:
        if name in sys.modules:
            _tell(sys.modules[name], name)
    sys.meta_path.insert(0, _AfterImport())


_PATCHED: Final[weakref.WeakSet[ModuleType]] = weakref.WeakSet()
"""The modules that tell: our patches stay in them."""


def _tell(module: ModuleType, name: str) -> None:
    if module not in _PATCHED:
        _PATCHED.add(module)
        _LIBRARIES[name](module)


class _AfterImport(importlib.abc.MetaPathFinder):
    """Lets a library tell as soon as it has been imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in _LIBRARIES:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                if spec.loader is not None:
                    spec.loader = _Told(spec.loader, name)
                return spec
        return None


class _Told(importlib.abc.Loader):
    def __init__(self, loader: Any, name: str) -> None:
        self._loader = loader
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _tell(module, self._name)


def hear(observed: Observations, what: Mapping[str, Any]) -> None:
    """Write down what another process reports, each under a number that it is answered by."""
    observed.reached_out, paths = True, paths_of(observed)
    match what["kind"]:
        case "http":
            headers = what.get("headers") or {}
            effect = http_effect(what["method"], what["url"], headers, what.get("body"))
            observed.numbered[what["number"]] = observed.add(effect)
        case "answered" if what["number"] in observed.numbered:
            answered(observed.numbered[what["number"]], what["status"])
        case "sql":
            said = sql_effect(what["sql"], what["values"])
            if said is not None:
                source = observed.source(what["connection"], lambda: Connection(observed))
                assert isinstance(source, Connection)
                ran_statement(source, observed, said, what["rows"])
        case "file":
            nature = Nature.ADDS if what["verb"] == "append to" else Nature.SETS
            observed.add(
                ObservedEffect(
                    "file", what["verb"], paths.called(what["path"]), shortened(what["detail"]), nature=nature
                )
            )
        case "moved":
            paths.moved(paths.called(what["path"]), paths.called(what["to"]))
        case "mail":
            observed.add(ObservedEffect("mail", "mail to", what["to"], shortened(what["detail"])))
