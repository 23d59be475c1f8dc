"""What a processor does to the world outside, seen without its author's help: HTTP, SQL, files, mail, messages.

`watch()` makes the libraries that are imported in this process, now or later, tell; a library that is not imported is
left alone. What they do is written down where it belongs to a delivery that observes (`Delivery.observed`), and passes
untouched everywhere else. Each call is seen once, at the library that the user's code calls: what that one does further
down is its own affair. A call is a moment too: a worker may die right after it, and, where something was committed
just before, right before it.

An `ObservedEffect` says what was done, to what, by which idempotency key, and whether it stands: an open transaction
may still be rolled back, a request may be refused. What a repetition means is judged in `contract.repetition`.

Leans on names of httpx 0.23 to 0.28, requests 2, urllib3 1.26 and 2, aiohttp 3, psycopg 3.2 and 3.3, asyncpg 0.29 to
0.32, SQLAlchemy 2, redis 5 to 8, kombu 5. SQLite is followed by the trace callback of a connection, files by audit
events, which no `from x import y` of the user's escapes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import hashlib
import importlib
import importlib.abc
import json
import os
import re
import socket
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import MappingProxyType, ModuleType
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from harness.patience import ready
from harness.processors.delivery import AROUND, Delivery, current
from harness.processors.sql_statement import Nature, SqlStatement, statement_of
from harness.sim.lifetime import Lifetime, Severed

_LOCAL_PORT: Final = re.compile(r"(?<=//)(localhost|127\.0\.0\.1|\[::1\]):\d+")
LONGEST_SHOWN: Final = 160
"""Characters of a body or of a statement's values that a finding shows."""


class Stands(StrEnum):
    """What became of a side effect."""

    DONE = "done"
    OPEN = "open"
    """In a transaction that is not committed."""
    GONE = "gone"
    """Rolled back, refused, or never sent."""


@dataclass(slots=True)
class ObservedEffect:
    """One thing that was done outside; `stands` is settled while the delivery goes on."""

    kind: str
    """`http`, `sql`, `file`, `mail` or `message`."""
    verb: str
    target: str
    """A URL without its query, a table, a path, recipients, a channel."""
    detail: str = ""
    """The body or the values, shortened."""
    shape: str = ""
    """The keys of a JSON body: two calls of one shape differ in their values only."""
    key: str | None = None
    """The idempotency key that was sent along."""
    nature: str = Nature.ADDS
    stands: str = Stands.DONE
    declared: bool = False
    """Whether a fake declared, by `effect`, what it made of this call."""

    @property
    def name(self) -> str:
        """What a contract's `idempotent=` calls it: `POST https://api.pay.test/charges`, `INSERT payments`."""
        return f"{self.verb} {self.target}"

    @property
    def place(self) -> str:
        """What a gate right after it is called: the same in each run, whatever port its server happens to have."""
        return _LOCAL_PORT.sub(r"\1", self.name)

    @property
    def words(self) -> str:
        """The whole call, as a finding shows it."""
        key = "" if self.key is None else f" (Idempotency-Key {self.key})"
        return f"{self.name}{key}{f' {self.detail}' if self.detail else ''}"

    def as_json(self) -> dict[str, Any]:
        """Say it for another process."""
        return asdict(self)


# a delivery's own account ---------------------------------------------------------------------------------------------


class Observations:
    """What one delivery did outside, in order, and which transactions of it are open."""

    def __init__(
        self, life: Lifetime, *, rest: Callable[[], None], folders: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Let `rest` come to a moment in code that cannot wait; it raises Severed where the worker died there.

        `folders` are paths that are others in each session, with the names that they go by.
        """
        self._folders = folders
        self._temporary: set[str] = set()
        """The paths that `tempfile` has made up."""
        self._own: dict[str, bool] = {}
        """Whether what lies at a path, and below it, was made by this delivery: then its removal is no deed."""
        self._trees: dict[str, str | None] = {}
        """What `shutil.rmtree` is removing, and the deed as which it is yet to be written down."""
        self.effects: list[ObservedEffect] = []
        self.reached_out = False
        """Whether anything was called that is watched, be it only to look."""
        self._life = life
        self._rest = rest
        self._fresh = -1
        """How many moments there had been when something last came to stand."""
        self._sources: dict[int, _Source] = {}
        self._numbered: dict[Any, ObservedEffect] = {}

    def add(self, effect: ObservedEffect) -> ObservedEffect:
        """Write one down."""
        self.effects.append(effect)
        return effect

    def source(self, key: int, make: Callable[[], _Source]) -> _Source:
        """Return what settles the effects of a connection or of a file, made once for each."""
        if key not in self._sources:
            self._sources[key] = make()
        return self._sources[key]

    def called(self, path: str) -> str:
        """Say a path as a person would, and as in every other session: it is part of the name of a gate."""
        if path in self._temporary:
            path = os.path.join(os.path.dirname(path), "a temporary file")
        for folder, name in self._folders.items():
            if path.startswith(folder + os.sep):
                return name + path[len(folder) :]
        return _relative(path)

    def made_up(self, path: str) -> None:
        """Hear that `tempfile` has chosen this path, by chance."""
        self._temporary.add(path)

    def hear(self, what: Mapping[str, Any]) -> None:
        """Write down what another process reports, each under a number that it is answered by."""
        self.reached_out = True
        match what["kind"]:
            case "http":
                headers = what.get("headers") or {}
                effect = http_effect(what["method"], what["url"], headers, what.get("body"))
                self._numbered[what["number"]] = self.add(effect)
            case "answered" if what["number"] in self._numbered:
                answered(self._numbered[what["number"]], what["status"])
            case "sql":
                said = _sql_effect(what["sql"], what["values"])
                if said is not None:
                    source = self.source(what["connection"], lambda: _Connection(self))
                    assert isinstance(source, _Connection)
                    _ran(source, self, said, what["rows"])
            case "file":
                nature = Nature.ADDS if what["verb"] == "append to" else Nature.SETS
                self.add(
                    ObservedEffect(
                        "file", what["verb"], self.called(what["path"]), _short(what["detail"]), nature=nature
                    )
                )
            case "moved":
                self.moved(self.called(what["path"]), self.called(what["to"]))
            case "mail":
                self.add(ObservedEffect("mail", "mail to", what["to"], _short(what["detail"])))

    def made(self, path: str) -> None:
        """Hear that something is about to be made at this path."""
        if not os.path.lexists(path):
            self._own[path] = True

    def _made_it(self, path: str) -> bool:
        return next((self._own[each] for each in _upwards(path) if each in self._own), False)

    def moved(self, name: str, target: str | None) -> None:
        """Forget what was written into a file or a folder that is gone by now, or into a temporary file."""
        for effect in self.effects:
            within = effect.target == name or effect.target.startswith(name + os.sep)
            if effect.kind == "file" and effect.verb != "remove" and within:
                effect.nature = Nature.LOOKS
        if target is not None:
            self._changed("write", target)

    def _changed(self, verb: str, target: str) -> None:
        self.add(ObservedEffect("file", verb, target, nature=Nature.SETS))
        self._fresh = self._life.moments

    def renamed(self, path: str, to: str) -> None:
        """Hear that this path is about to become that one."""
        if os.path.lexists(path):
            self._own[to] = self._made_it(path) and (self._made_it(to) or not os.path.lexists(to))
            self._own.pop(path, None)
            self.moved(self.called(path), self.called(to))

    def clears(self, tree: str) -> None:
        """Hear that `shutil.rmtree` begins: however much is in the tree, it is one deed."""
        self._trees[tree] = None if self._made_it(tree) else self.called(tree)

    @property
    def clearing(self) -> bool:
        """Whether `shutil.rmtree` is at work."""
        return bool(self._trees)

    def cleared_with(self, path: str) -> str | None:
        """Name the tree that `shutil.rmtree` is removing and that this path belongs to."""
        return next((each for each in _upwards(path) if each in self._trees), None)

    def removed(self, path: str) -> None:
        """Hear that this path is about to be removed."""
        there = os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path) or not os.listdir(path))
        deed = None if self._made_it(path) or not there else self.called(path)
        tree = self.cleared_with(path)
        if tree is not None and not self._made_it(tree):
            deed = self._trees[tree] if there else None
            self._trees[tree] = None if there else self._trees[tree]
        self.moved(self.called(path), None)
        if deed is not None:
            self._changed("remove", deed)
        if path == tree:
            del self._trees[tree]

    def settle(self) -> None:
        """Find out what stands by now; what came to stand just now asks for a moment."""
        for source in self._sources.values():
            if source.settle():
                self._fresh = self._life.moments

    def before(self) -> None:
        """Come to a moment where something stands since the last one: a worker may die between two deeds."""
        self.settle()
        if self._fresh == self._life.moments:
            self._rest()

    def after(self) -> None:
        """Come to a moment: what was asked for is done, and nothing is known of it here yet."""
        self._rest()

    def die(self) -> None:
        """Give up what was open, as the death of its process does; what a server was asked for, it still does."""
        for source in list(self._sources.values()):
            source.hear_out(self)
        self.settle()
        for source in self._sources.values():
            source.give_up()
        for effect in self.effects:
            if effect.stands == Stands.OPEN:
                effect.stands = Stands.GONE

    @property
    def place(self) -> str:
        """Name the gate that comes now: by the last deed that stands, and not by what was only looked at since."""
        stand = [effect for effect in self.effects if effect.stands == Stands.DONE and effect.nature != Nature.LOOKS]
        last = (stand or self.effects)[-1]
        if last.kind == "file" and self.left.get(last.target) == 0:
            return f"opening {last.target}"
        return last.place

    @property
    def open(self) -> bool:
        """Whether a transaction is open that holds something back."""
        self.settle()
        held = any(source.holds for source in self._sources.values())
        return held or any(effect.stands == Stands.OPEN for effect in self.effects)

    @property
    def left(self) -> dict[str, int]:
        """How many bytes each file has by now that was written."""
        files = (source for source in self._sources.values() if isinstance(source, _File))
        return {file.effect.target: file.left for file in files}

    @property
    def asked(self) -> list[Any]:
        """What servers of databases were asked for and have not answered yet."""
        return [source.asked for source in list(self._sources.values()) if source.asked is not None]

    def abort(self) -> None:
        """Cut the connections with an open transaction, as a server does once it misses their other end."""
        for source in list(self._sources.values()):
            source.abort()


@contextlib.contextmanager
def unobserved() -> Iterator[None]:
    """Do what is the harness's own doing."""
    token = AROUND.set(_NOBODY)
    try:
        yield
    finally:
        AROUND.reset(token)


_NOBODY: Final = ObservedEffect("", "", "")


class _Source:
    """Where effects come from that are settled later: a connection, a file."""

    asked: Any = None
    """The statement that runs there now."""
    holds = False
    """Whether a transaction is open there, on whose locks others may wait."""

    def hear_out(self, observed: Observations) -> None:
        """Learn what a server still did, where it was asked and its answer has not been heard."""

    def abort(self) -> None:
        """Cut it off where it holds something."""

    def settle(self) -> bool:
        """Find out what stands; say whether something came to stand just now."""
        return False

    def give_up(self) -> None:
        """Do what the death of the process does."""


def observing() -> Observations | None:
    """Return the account to write in, where this code belongs to a delivery that has one and is in no observed call.

    Raises Severed where its worker is dead: then nothing happens any more.
    """
    delivery = current()
    observed = _account(delivery)
    if observed is not None and delivery is not None:
        observed.reached_out = True
        if delivery.life.over:
            raise Severed(f"{delivery.life.name} is dead")
    return observed


def _account(delivery: Delivery | None) -> Observations | None:
    if delivery is None or AROUND.get() is not None:
        return None
    observed: Observations | None = delivery.observed
    return observed


Describe = Callable[..., "ObservedEffect | Sequence[ObservedEffect] | None"]
"""Takes the arguments of a call; None, or an empty list, where it is none of ours."""


def _described(
    describe: Describe, arguments: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Observations | None, Sequence[ObservedEffect]]:
    observed = observing()
    found = None if observed is None else describe(*arguments, **options)
    return observed, [found] if isinstance(found, ObservedEffect) else found or ()


def _plain(real: Callable[..., Any], describe: Describe, settle: Callable[[ObservedEffect, Any], None]) -> Any:
    """Wrap a plain call."""

    @functools.wraps(real)
    def call(*arguments: Any, **options: Any) -> Any:
        observed, effects = _described(describe, arguments, options)
        if observed is None or not effects:
            return real(*arguments, **options)
        observed.before()
        observed.effects.extend(effects)
        with _inside(*effects):
            answer = real(*arguments, **options)
        for effect in effects:
            settle(effect, answer)
        observed.after()
        return answer

    return _marked(call)


def _awaited(
    real: Callable[..., Awaitable[Any]], describe: Describe, settle: Callable[[ObservedEffect, Any], None]
) -> Any:
    """Wrap a coroutine function."""

    @functools.wraps(real)
    async def call(*arguments: Any, **options: Any) -> Any:
        observed, effects = _described(describe, arguments, options)
        if observed is None or not effects:
            return await real(*arguments, **options)
        observed.before()
        observed.effects.extend(effects)
        with _inside(*effects):
            answer = await real(*arguments, **options)
        for effect in effects:
            settle(effect, answer)
        await asyncio.sleep(0)  # A moment: the reply is there.
        return answer

    return _marked(call)


@contextlib.contextmanager
def _inside(*effects: ObservedEffect) -> Iterator[None]:
    token = AROUND.set(effects[0])
    try:
        yield
    except Exception as error:
        if _never_happened(error):
            for effect in effects:
                effect.stands = Stands.GONE
        raise
    finally:
        with contextlib.suppress(ValueError):  # Closed in another context, after its worker's death.
            AROUND.reset(token)


_NOT_SENT: Final = frozenset(
    {"ConnectError", "ConnectTimeout", "ClientConnectorError", "NewConnectionError", "ConnectionRefusedError"}
    | {"WatchError", "ExecAbortError"}
)
"""What httpx, aiohttp, urllib3 (requests: ConnectTimeout) and sockets raise where no connection was made, and redis
where a transaction was not begun."""


def _never_happened(error: BaseException) -> bool:
    """Whether a call that raised this never reached the other side."""
    return any(kind.__name__ in _NOT_SENT for kind in type(error).__mro__)


def _marked(call: Any) -> Any:
    call._observes_effects = True
    return call


def _replace(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    real = getattr(owner, name, None)
    if real is not None and not getattr(real, "_observes_effects", False):
        setattr(owner, name, wrap(real))


# which libraries ------------------------------------------------------------------------------------------------------


def watch() -> None:
    """Let the libraries of this process tell, each once; those that are imported later, then.

    Others may take our finder away, as a test does that puts `sys.meta_path` back; an audit hook stays for good.
    """
    if any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        return
    if not _PATCHED:
        _PATCHED.add(sys)  # by the hook
        sys.addaudithook(_audit)
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


def follow_open_databases() -> None:
    """Follow SQLite connections that were opened before `watch`, such as those of a test's module."""
    if (sqlite := sys.modules.get("sqlite3")) is not None:
        for thing in gc.get_objects():
            if issubclass(type(thing), sqlite.Connection):  # isinstance would ask a lazy object to load what it is
                _follow(thing)


def in_transaction() -> bool:
    """Whether a connection of SQLite's has an open transaction: its locks are this process's."""
    if (sqlite := sys.modules.get("sqlite3")) is None:
        return False
    for thing in gc.get_objects():
        if issubclass(type(thing), sqlite.Connection):
            with contextlib.suppress(sqlite.ProgrammingError):  # it is closed
                if thing.in_transaction:
                    return True
    return False


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


# HTTP -----------------------------------------------------------------------------------------------------------------


KEY_HEADERS: Final = ("idempotency-key", "x-idempotency-key", "idempotence-key", "paypal-request-id")
KEY_FIELDS: Final = (
    "idempotency_key",
    "idempotencyKey",
    "client_token",
    "clientToken",
    "ClientRequestToken",
    "MessageDeduplicationId",
)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
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
    method, text = str(method).upper(), _text(body)
    named = {str(name).lower(): str(value) for name, value in headers.items()}
    target, _, _ = str(url).partition("?")
    data = _json(text)
    nature, verb = _nature(method, target, named, text, data)
    key = next((named[name] for name in KEY_HEADERS if name in named), None)
    if key is None and isinstance(data, dict):
        key = next((str(data[name]) for name in KEY_FIELDS if data.get(name)), None)
    shape = json.dumps(sorted(data)) if isinstance(data, dict) else ""
    return ObservedEffect("http", verb, target, _short(text), shape, key, nature)


def _nature(method: str, url: str, headers: Mapping[str, str], text: str, data: Any) -> tuple[Nature, str]:
    if _TELEMETRY.search(url):
        return Nature.TELLS, method
    if method in _SAFE:
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


def _tell_httpx(httpx: ModuleType) -> None:
    def describe(client: Any, request: Any, **options: Any) -> ObservedEffect:
        return http_effect(request.method, str(request.url), request.headers, _content(request))

    def settle(effect: ObservedEffect, answer: Any) -> None:
        answered(effect, answer.status_code)

    _replace(httpx.Client, "send", lambda real: _plain(real, describe, settle))
    _replace(httpx.AsyncClient, "send", lambda real: _awaited(real, describe, settle))


def _content(request: Any) -> bytes | None:
    try:
        return request.content  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 - a stream, which is read once and by whom it is for
        return None


def _tell_requests(requests: ModuleType) -> None:
    def describe(session: Any, request: Any, **options: Any) -> ObservedEffect:
        body = request.body if isinstance(request.body, bytes | str) else None
        return http_effect(request.method, request.url, request.headers, body)

    _replace(
        requests.Session,
        "send",
        lambda real: _plain(real, describe, lambda effect, answer: answered(effect, answer.status_code)),
    )


def _tell_urllib3(urllib3: ModuleType) -> None:
    def describe(
        pool: Any, method: str, url: str, body: Any = None, headers: Any = None, *rest: Any, **options: Any
    ) -> Any:
        port = "" if pool.port in (None, 80, 443) else f":{pool.port}"
        whole = url if "://" in url else f"{pool.scheme}://{pool.host}{port}{url}"
        return http_effect(method, whole, headers or {}, body if isinstance(body, bytes | str) else None)

    _replace(
        urllib3.HTTPConnectionPool,
        "urlopen",
        lambda real: _plain(real, describe, lambda effect, answer: answered(effect, answer.status)),
    )


def _tell_http_client(client: ModuleType) -> None:
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
            return response

        return _marked(getresponse)

    _replace(client.HTTPConnection, "request", lambda real: _plain(real, describe, _nothing))
    _replace(client.HTTPConnection, "getresponse", answering)


_AIOHTTP_VERBS: Final = ("post", "put", "patch", "delete", "get", "head", "options")


def _tell_aiohttp(aiohttp: ModuleType) -> None:
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

    def watched(real: Any, method: str | None) -> Any:
        @functools.wraps(real)
        def call(session: Any, *arguments: Any, **options: Any) -> Any:
            asked = real(session, *arguments, **options)
            inner = getattr(asked, "_coro", None)
            if inner is not None and observing() is not None:
                named = arguments if method is None else (method, *arguments)
                send = _awaited(lambda *_, **__: inner, lambda *_, **__: describe(session, *named, **options), _status)
                asked._coro = send()
            return asked

        return _marked(call)

    def _status(effect: ObservedEffect, answer: Any) -> None:
        answered(effect, int(getattr(answer, "status", 200)))

    _replace(aiohttp.ClientSession, "request", lambda real: watched(real, None))
    for verb in _AIOHTTP_VERBS:
        _replace(aiohttp.ClientSession, verb, lambda real, verb=verb: watched(real, verb.upper()))  # type: ignore[misc]


# SQL ------------------------------------------------------------------------------------------------------------------


class _LastWords(NamedTuple):
    """What a server answered to one that died while it waited for it."""

    did: Mapping[str, int | None]
    """`INSERT`, `COMMIT` and the like that succeeded -> how many rows each changed."""
    idle: bool
    """Whether no transaction is open now."""

    @classmethod
    def of_tags(cls, tags: Iterable[str], *, idle: bool) -> _LastWords:
        """Read PostgreSQL's command tags, such as `INSERT 0 1`."""
        words = [tag.split() for tag in tags if tag]
        return cls({each[0]: int(each[-1]) if each[-1].isdigit() else None for each in words}, idle)


LAST_WORDS_SECONDS: Final = 1.0
"""Real seconds for which the server of a dead delivery may still work at what it was asked for."""


class _Connection(_Source):
    """What one delivery did through one connection, and how much of it is committed."""

    def __init__(
        self,
        about: Any,
        *,
        in_transaction: Callable[[], bool] | None = None,
        roll_back: Callable[[], None] = lambda: None,
        last_words: Callable[[], _LastWords | None] | None = None,
        descriptor: Callable[[], int] | None = None,
    ) -> None:
        """Follow `about`, which lives on; without `in_transaction`, the statements that were heard say so.

        `last_words` waits for what its server is about to answer, where `descriptor` is the socket to it.
        """
        self._about = about
        self.asked: tuple[SqlStatement, ObservedEffect] | None = None
        self.task: asyncio.Task[Any] | None = None
        """Who waits for the answer, where that is a task."""
        self._last_words = last_words
        self._descriptor = descriptor
        self._begun = False
        self._in_transaction = in_transaction or (lambda: self._begun)
        self._roll_back = roll_back
        self._open: list[ObservedEffect] = []
        self._points: list[tuple[str, int]] = []
        self._committed = False

    def control(self, what: str) -> None:
        """Begin, commit, roll back, or do one of these with a savepoint."""
        word, _, name = what.partition(" ")
        self._begun = word == "begin" or (self._begun and word not in ("commit", "rollback"))
        if word == "rollback":
            self._drop(0)
        elif word == "commit":
            self._commit()
        elif word == "savepoint":
            self._points.append((name, len(self._open)))
        elif word == "to":
            for index in range(len(self._points) - 1, -1, -1):
                if self._points[index][0] == name:
                    self._drop(self._points[index][1])
                    del self._points[index + 1 :]
                    break

    @contextlib.contextmanager
    def asking(self, said: tuple[SqlStatement, ObservedEffect]) -> Iterator[None]:
        """Run a statement: until it has been answered, what its server did is not known here."""
        self.asked = said
        try:
            yield
        finally:
            self.asked = None

    @property
    def holds(self) -> bool:  # type: ignore[override]  # what others never do, this one finds out
        return self._descriptor is not None and (self.asked is not None or self._busy())

    def hear_out(self, observed: Observations) -> None:
        words = None if self._last_words is None else self._last_words()
        said, self.asked = self.asked, None
        if words is None:
            return
        self._begun, self._in_transaction = not words.idle, lambda: self._begun
        if "ROLLBACK" in words.did:
            self._drop(0)
        if said is not None and said[0].verb in words.did:
            _ran(self, observed, said, words.did[said[0].verb])

    def abort(self) -> None:
        if self._descriptor is None or not self.holds:
            return
        with contextlib.suppress(OSError, ValueError), socket.socket(fileno=os.dup(self._descriptor())) as end:
            end.shutdown(socket.SHUT_RDWR)
        self._drop(0)

    def hold(self, effect: ObservedEffect) -> None:
        """Keep one until its transaction ends."""
        effect.stands = Stands.OPEN
        self._open.append(effect)

    def settle(self) -> bool:
        if self._open and not self._busy():
            self._commit()
        committed, self._committed = self._committed, False
        return committed

    def give_up(self) -> None:
        if self._open:
            with contextlib.suppress(Exception):
                self._roll_back()
        self._drop(0)

    def _busy(self) -> bool:
        try:
            return self._in_transaction()
        except Exception:  # noqa: BLE001 - it was closed: what was open is rolled back
            self._drop(0)
            return False

    def _commit(self) -> None:
        for effect in self._open:
            if effect.stands == Stands.OPEN:
                effect.stands = Stands.DONE
                self._committed = self._committed or effect.nature != Nature.LOOKS
        self._open.clear()
        self._points.clear()

    def _drop(self, first: int) -> None:
        for effect in self._open[first:]:
            effect.stands = Stands.GONE
        del self._open[first:]


class _Sqlite(_Connection):
    """A connection whose statements are heard before they run: whether they changed anything shows afterwards."""

    def __init__(self, database: Any) -> None:
        super().__init__(
            database, in_transaction=lambda: bool(database.in_transaction), roll_back=lambda: database.rollback()
        )
        self._database = database
        self._running: ObservedEffect | None = None
        self._changes = 0

    def begin(self, effect: ObservedEffect) -> None:
        """A statement is about to run."""
        self._running, self._changes = effect, self._database.total_changes
        self.hold(effect)

    def settle(self) -> bool:
        running, self._running = self._running, None
        if running is not None:
            with contextlib.suppress(Exception):  # It was closed meanwhile.
                if self._database.total_changes == self._changes and running in self._open:
                    running.stands = Stands.GONE  # It failed, or it found nothing to do.
                    self._open.remove(running)
        return super().settle()


def _follow(database: Any) -> None:
    def hear(sql: str) -> None:
        if sql.startswith("--"):
            return  # of a trigger
        try:
            observed = observing()
        except Severed:
            database.interrupt()
            return
        if observed is None or (does := statement_of(sql)) is None:
            return
        source: Any = observed.source(id(database), lambda: _Sqlite(database))
        if does.control:
            source.settle()
            source.control(does.control)
            return
        try:
            observed.before()
        except Severed:  # It cannot be raised through SQLite; the statement ends before it does anything.
            database.interrupt()
            return
        effect = observed.add(ObservedEffect("sql", does.verb, does.table, _short(sql), nature=does.nature))
        if does.verb != "SELECT":
            source.begin(effect)

    with contextlib.suppress(Exception):  # It was closed.
        database.set_trace_callback(hear)


def _tell_sqlite3(sqlite: ModuleType) -> None:
    def opening(real: Any) -> Any:
        @functools.wraps(real)
        def connect(*arguments: Any, **options: Any) -> Any:
            database = real(*arguments, **options)
            _follow(database)
            return database

        return _marked(connect)

    _replace(sqlite, "connect", opening)
    _replace(sqlite.dbapi2, "connect", opening)


def _sql_effect(sql: Any, values: Any) -> tuple[SqlStatement, ObservedEffect] | None:
    text = sql.decode("utf-8", "replace") if isinstance(sql, bytes) else sql if isinstance(sql, str) else _composed(sql)
    does = statement_of(text)
    if does is None:
        return None
    shown = _short(text) if not values else _short(f"{' '.join(text.split())} {values!r}")
    return does, ObservedEffect("sql", does.verb, does.table, shown, nature=does.nature)


def _composed(sql: Any) -> str:
    try:
        return str(sql.as_string(None))
    except Exception:  # noqa: BLE001 - whatever a library takes as a statement
        return str(sql)


def _ran(
    source: _Connection, observed: Observations, said: tuple[SqlStatement, ObservedEffect], rows: int | None
) -> None:
    """Write down a statement that ran without an error."""
    does, effect = said
    if does.control:
        source.control(does.control)
        return
    observed.add(effect)
    if does.verb != "SELECT" and rows != 0:
        source.hold(effect)
    elif does.verb != "SELECT":
        effect.stands = Stands.GONE
    source.settle()
    observed.settle()


def _psycopg_source(observed: Observations, connection: Any) -> _Connection:
    from psycopg.pq import ExecStatus, TransactionStatus

    def roll_back() -> None:
        if connection.pgconn.transaction_status == TransactionStatus.ACTIVE:
            connection.pgconn.finish()
        else:
            connection.pgconn.exec_(b"ROLLBACK")

    def last_words() -> _LastWords | None:
        pgconn, tags = connection.pgconn, []
        if pgconn.transaction_status != TransactionStatus.ACTIVE or pgconn.flush() != 0:
            return None
        while pgconn.transaction_status == TransactionStatus.ACTIVE:
            while pgconn.is_busy():
                if not ready([pgconn.socket], seconds=LAST_WORDS_SECONDS)[0]:
                    return None
                pgconn.consume_input()
            if (result := pgconn.get_result()) is None or result.status in (ExecStatus.COPY_IN, ExecStatus.COPY_OUT):
                break  # Of a COPY the rest is outstanding, and it says so forever.
            tags.append((result.command_status or b"").decode())
        return _LastWords.of_tags(tags, idle=pgconn.transaction_status == TransactionStatus.IDLE)

    def make() -> _Connection:
        return _Connection(
            connection,
            in_transaction=lambda: connection.pgconn.transaction_status != TransactionStatus.IDLE,
            roll_back=roll_back,
            last_words=last_words,
            descriptor=lambda: connection.pgconn.socket,
        )

    return observed.source(id(connection), make)  # type: ignore[return-value]


def _tell_psycopg(psycopg: ModuleType) -> None:
    def executing(real: Any) -> Any:
        @functools.wraps(real)
        def run(cursor: Any, query: Any, params: Any = None, *rest: Any, **options: Any) -> Any:
            observed = observing()
            said = None if observed is None else _sql_effect(query, params)
            if observed is None or said is None:
                return (yield from real(cursor, query, params, *rest, **options))
            observed.before()
            source = _psycopg_source(observed, cursor._conn)
            with source.asking(said):
                answer = yield from real(cursor, query, params, *rest, **options)
            _ran(source, observed, said, cursor.rowcount)
            return answer

        return _marked(run)

    def commanding(real: Any) -> Any:
        @functools.wraps(real)
        def run(connection: Any, command: Any, *rest: Any, **options: Any) -> Any:
            answer = yield from real(connection, command, *rest, **options)
            observed = observing()
            said = None if observed is None else _sql_effect(command, None)
            if observed is not None and said is not None and said[0].control:
                _psycopg_source(observed, connection).control(said[0].control)
            return answer

        return _marked(run)

    def begun(cursor: Any, statement: Any) -> Callable[[], None]:
        """Come to the moment before a COPY; return what is to be called after it."""
        observed = observing()
        said = None if observed is None else _sql_effect(statement, None)
        if observed is None or said is None:
            return lambda: None
        observed.before()
        source = _psycopg_source(observed, cursor._conn)
        return lambda: _ran(source, observed, said, cursor.rowcount)

    def copying(real: Any) -> Any:
        @contextlib.contextmanager
        @functools.wraps(real)
        def copy(cursor: Any, statement: Any, *rest: Any, **options: Any) -> Iterator[Any]:
            ran = begun(cursor, statement)
            with real(cursor, statement, *rest, **options) as open_copy:
                yield open_copy
            ran()

        return _marked(copy)

    def copying_async(real: Any) -> Any:
        @contextlib.asynccontextmanager
        @functools.wraps(real)
        async def copy(cursor: Any, statement: Any, *rest: Any, **options: Any) -> AsyncIterator[Any]:
            ran = begun(cursor, statement)
            async with real(cursor, statement, *rest, **options) as open_copy:
                yield open_copy
            ran()

        return _marked(copy)

    _replace(psycopg.Cursor, "copy", copying)
    _replace(psycopg.AsyncCursor, "copy", copying_async)
    base = importlib.import_module("psycopg._cursor_base").BaseCursor
    for name in ("_execute_gen", "_executemany_gen_no_pipeline", "_executemany_gen_pipeline"):
        _replace(base, name, executing)
    _replace(importlib.import_module("psycopg._connection_base").BaseConnection, "_exec_command", commanding)


def _socket_of(connection: Any) -> Any:
    return connection._transport.get_extra_info("socket")


_READY: Final = b"Z\0\0\0\5"
"""PostgreSQL's ReadyForQuery; one byte follows, which says whether a transaction is open."""
_TAG: Final = re.compile(rb"C\0\0.{2}((?:INSERT|UPDATE|DELETE|MERGE|COPY|COMMIT|ROLLBACK)[ \d]*)\0", re.DOTALL)


def _last_words_of_asyncpg(connection: Any, source: _Connection) -> _LastWords | None:
    """Read from the socket what asyncpg has not: it parses all that it has read. Nothing is heard through TLS."""
    waiting = getattr(source.task, "_fut_waiter", None)
    if source.asked is None or waiting is None or connection._transport.get_extra_info("sslcontext") is not None:
        return None
    if waiting.done():  # The answer is there, and the dead processor has not seen it.
        given = None if waiting.cancelled() or waiting.exception() is not None else waiting.result()
        parts = given if isinstance(given, tuple) else (given,)
        texts = [part.decode() if isinstance(part, bytes) else part for part in parts if isinstance(part, bytes | str)]
        return _LastWords.of_tags(texts, idle=not connection.is_in_transaction())
    heard, end = b"", _socket_of(connection)
    while heard[-6:-1] != _READY:
        if not ready([end.fileno()], seconds=LAST_WORDS_SECONDS)[0]:
            return None
        with socket.socket(fileno=os.dup(end.fileno())) as reader:
            more = reader.recv(2**16)
        if not more:
            return None
        heard += more
    return _LastWords.of_tags([tag.decode() for tag in _TAG.findall(heard)], idle=heard.endswith(b"I"))


def _tell_asyncpg(asyncpg: ModuleType) -> None:
    def source_of(observed: Observations, connection: Any) -> _Connection:
        def make() -> _Connection:
            return _Connection(
                connection,
                in_transaction=connection.is_in_transaction,
                last_words=lambda: _last_words_of_asyncpg(connection, source),
                descriptor=lambda: _socket_of(connection).fileno(),
            )

        source: Any = observed.source(id(connection), make)
        return source  # type: ignore[no-any-return]

    def running(text_of: Callable[[Any, tuple[Any, ...]], tuple[Any, Any, Any]]) -> Callable[[Any], Any]:
        def wrap(real: Any) -> Any:
            @functools.wraps(real)
            async def run(owner: Any, *arguments: Any, **options: Any) -> Any:
                observed = observing()
                connection, sql, values = text_of(owner, arguments)
                said = None if observed is None else _sql_effect(sql, values)
                if observed is None or said is None:
                    return await real(owner, *arguments, **options)
                observed.before()
                source = source_of(observed, connection)
                source.task = asyncio.current_task()
                with _inside(said[1]), source.asking(said):
                    answer = await real(owner, *arguments, **options)
                rows = re.search(r" (\d+)$", answer) if isinstance(answer, str) else None
                _ran(source, observed, said, int(rows[1]) if rows else None)
                return answer

            return _marked(run)

        return wrap

    def of_connection(owner: Any, arguments: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        return owner, arguments[0] if arguments else "", arguments[1:]

    def of_statement(owner: Any, arguments: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        return owner._connection, owner._query, arguments

    def of_copy(owner: Any, arguments: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        return owner, f"COPY {arguments[0]} FROM STDIN" if arguments else "", ()

    for name in ("copy_to_table", "copy_records_to_table"):
        _replace(asyncpg.Connection, name, running(of_copy))
    prepared = importlib.import_module("asyncpg.prepared_stmt").PreparedStatement
    for name in ("execute", "fetch", "fetchrow", "fetchval", "fetchmany", "executemany"):
        _replace(asyncpg.Connection, name, running(of_connection))
        _replace(prepared, name, running(of_statement))


_FOLLOWED_DRIVERS: Final = frozenset({"pysqlite", "aiosqlite", "psycopg", "psycopg_async", "asyncpg"})


def _tell_sqlalchemy(sqlalchemy: ModuleType) -> None:
    """Watch the engines whose driver is not watched itself, such as psycopg2 and the MySQL ones."""
    engine = importlib.import_module("sqlalchemy.engine").Engine

    def source_of(observed: Observations, connection: Any) -> _Connection:
        def make() -> _Connection:
            return _Connection(connection, in_transaction=lambda: True, roll_back=lambda: None)

        return observed.source(id(connection), make)  # type: ignore[return-value]

    def ran(connection: Any, cursor: Any, sql: str, values: Any, context: Any, many: bool) -> None:
        observed = observing()
        said = None if observed is None or connection.dialect.driver in _FOLLOWED_DRIVERS else _sql_effect(sql, values)
        if observed is None or said is None:
            return
        source = source_of(observed, connection)
        _ran(source, observed, said, cursor.rowcount)
        if connection._is_autocommit_isolation():  # SQLAlchemy rolls back all the same, which changes nothing.
            source.control("commit")
            observed.settle()

    def ending(what: str) -> Callable[[Any], None]:
        def ended(connection: Any, *rest: Any) -> None:
            observed = observing()
            if observed is not None and connection.dialect.driver not in _FOLLOWED_DRIVERS:
                source_of(observed, connection).control(what)

        return ended

    sqlalchemy.event.listen(engine, "after_cursor_execute", ran)
    sqlalchemy.event.listen(engine, "commit", ending("commit"))
    sqlalchemy.event.listen(engine, "rollback", ending("rollback"))


# mail and messages ----------------------------------------------------------------------------------------------------


def _nothing(effect: ObservedEffect, answer: Any) -> None:
    return


def _tell_smtplib(smtplib: ModuleType) -> None:
    def describe(server: Any, sender: Any, to: Any, message: Any, *rest: Any, **options: Any) -> ObservedEffect:
        return _mail(to, message)

    _replace(smtplib.SMTP, "sendmail", lambda real: _plain(real, describe, _nothing))


def _tell_aiosmtplib(aiosmtplib: ModuleType) -> None:
    def describe(server: Any, sender: Any, to: Any, message: Any, *rest: Any, **options: Any) -> ObservedEffect:
        return _mail(to, message)

    _replace(aiosmtplib.SMTP, "sendmail", lambda real: _awaited(real, describe, _nothing))


def _tell_django_mail(mail: ModuleType) -> None:
    def describe(message: Any, *rest: Any, **options: Any) -> ObservedEffect:
        return ObservedEffect("mail", "mail to", ", ".join(message.recipients()), _short(f"Subject: {message.subject}"))

    _replace(mail.EmailMessage, "send", lambda real: _plain(real, describe, _nothing))


def _mail(to: Any, message: Any) -> ObservedEffect:
    text = _text(message)
    subject = re.search(r"(?im)^subject:[^\n]*", text)
    return ObservedEffect(
        "mail",
        "mail to",
        to if isinstance(to, str) else ", ".join(map(str, to)),
        _short(subject[0] if subject else text),
    )


_SENDS: Final = frozenset({"PUBLISH", "SPUBLISH", "LPUSH", "RPUSH", "XADD"})


def _tell_redis(redis: ModuleType) -> None:
    def describe(client: Any, *words: Any, **options: Any) -> ObservedEffect | None:
        command = str(words[0]).upper() if words else ""
        if command not in _SENDS:
            return None
        return ObservedEffect("message", command, _text(words[1]), _short(" ".join(_text(word) for word in words[2:])))

    def describe_all(pipeline: Any, *rest: Any, **options: Any) -> list[ObservedEffect]:
        found = (describe(pipeline, *words) for words in _queued(pipeline))
        return [effect for effect in found if effect is not None]

    def tell(owner: Any, name: str, wrapped: Callable[..., Any], says: Describe) -> None:
        _replace(owner, name, lambda real: wrapped(real, says, _nothing))

    for name, wrapped in (("redis", _plain), ("redis.asyncio", _awaited)):
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


def _tell_kombu(kombu: ModuleType) -> None:
    def describe(producer: Any, body: Any, routing_key: Any = None, *rest: Any, **options: Any) -> ObservedEffect:
        headers = options.get("headers") or {}
        target = headers.get("task") or routing_key or getattr(producer, "routing_key", "") or "a queue"
        return ObservedEffect("message", "publish", str(target), _short(str(body)))

    _replace(kombu.Producer, "publish", lambda real: _plain(real, describe, _nothing))


# files ----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _File(_Source):
    """A file that was opened to be written: what was added shows in its size."""

    path: str
    effect: ObservedEffect
    size: int
    fresh: bool = True
    """Whether nothing of it has come to stand yet."""
    settled: bool = False

    def settle(self) -> bool:
        if self.settled:
            return False
        grown = max(0, self.left - self.size)
        if self.effect.verb == "append to":
            return bool(grown) and self._appended()
        emptied, self.fresh = self.fresh, False
        self.settled = bool(grown)  # It stands from its opening on, and once more when it is filled.
        self.effect.stands = Stands.DONE
        return emptied or bool(grown)

    def _appended(self) -> bool:
        self.settled, self.effect.stands = True, Stands.DONE
        with contextlib.suppress(OSError), unobserved(), open(self.path, "rb") as file:
            file.seek(self.size)
            self.effect.detail = _short(_text(file.read(4 * LONGEST_SHOWN)))
        return True

    @property
    def left(self) -> int:
        """How many bytes it has by now; -1 where it is gone."""
        try:
            return os.stat(self.path).st_size
        except OSError:
            return -1


_NOT_OUTSIDE: Final = ("/dev/", "/proc/", "/sys/")


TOUCHED: Final[Mapping[str, tuple[tuple[int, int], ...]]] = MappingProxyType(
    {
        "os.rename": ((0, 2), (1, 3)),
        "os.remove": ((0, 1),),
        "os.rmdir": ((0, 1),),
        "os.mkdir": ((0, 2),),
        "os.chmod": ((0, 2),),
        "os.link": ((1, 3), (0, 2)),
        "os.symlink": ((1, 2),),
        "shutil.rmtree": ((0, 1),),
    }
)
"""An audit event -> which of its arguments are paths that change, and which the open folders that these start from.

What is written by the new name of a link is written by the old one, too.
"""


def touched(event: str, arguments: tuple[Any, ...]) -> list[str]:
    """List the paths that change. Raises OSError where this system does not tell which folder it is that is open."""
    folders = dict(enumerate(arguments))
    return [_located(arguments[path], folders.get(folder)) for path, folder in TOUCHED[event]]


def _located(path: Any, folder: int | None) -> str:
    name = os.fsdecode(path)
    if folder is not None and folder >= 0 and not os.path.isabs(name):
        name = os.path.join(_path_of(folder), name)
    return os.path.abspath(name)


def _path_of(folder: int) -> str:
    if sys.platform == "darwin":
        import fcntl

        return os.fsdecode(fcntl.fcntl(folder, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))
    return os.readlink(f"/proc/self/fd/{folder}")


def _upwards(path: str) -> Iterator[str]:
    """Name a path and each folder above it."""
    while True:
        yield path
        above = os.path.dirname(path)
        if above == path:
            return
        path = above


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Hear CPython's audit events. It must not raise: the caller would be told that the event is forbidden."""
    if event not in _HEARD or current() is None:
        return
    with contextlib.suppress(Exception):  # A path that is none, a folder that is gone: the call itself will say so.
        if (observed := _account(current())) is not None:
            _HEARD[event](observed, event, arguments)


def _opened(observed: Observations, event: str, arguments: tuple[Any, ...]) -> None:
    path, mode, flags = arguments
    if isinstance(path, int):
        return
    name = os.path.abspath(os.fsdecode(path))
    mode, flags = mode if isinstance(mode, str) else "", flags if isinstance(flags, int) else 0
    verb = _file_verb(mode, flags)
    if name.startswith(_NOT_OUTSIDE) or "__pycache__" in name or os.path.isdir(name):
        return
    if verb == "read":
        if not mode and observed.clearing and not os.path.isabs(os.fsdecode(path)):
            return  # rmtree opens a folder within the one that it is in.
        if flags & os.O_CREAT:
            observed.made(name)
        observed.add(ObservedEffect("file", verb, observed.called(name), nature=Nature.LOOKS))
        return
    try:
        observed.before()
    except Severed:
        return  # It goes on to its next await, as after `effect`.
    nature = Nature.ADDS if verb == "append to" and not name.endswith(".log") else Nature.SETS
    effect = ObservedEffect("file", verb, observed.called(name), nature=nature, stands=Stands.GONE)
    size = os.stat(name).st_size if verb == "append to" and os.path.exists(name) else 0
    observed.made(name)
    observed.add(effect)
    observed.source(id(effect), lambda: _File(name, effect, size))
    if ("w" in mode or flags & os.O_TRUNC) and (os.path.isfile(name) or ("w" in mode and not os.path.exists(name))):
        _empty(name, observed)  # What os.open is to make, it makes itself: with its own rights, or not at all.


def _empty(name: str, observed: Observations) -> None:
    """Come to the moment at which a file has been opened and is still empty.

    There is no event after an open, so its first deed is done here, and done again by the call itself.
    """
    with unobserved(), open(name, "ab") as file:  # FileJournal has kept it, or hears of this call first.
        file.truncate(0)
    with contextlib.suppress(Severed):  # It goes on to its next await.
        observed.before()


def _file_verb(mode: str, flags: int) -> str:
    if "a" in mode or flags & os.O_APPEND:
        return "append to"
    if "x" in mode or flags & os.O_EXCL:
        return "create"
    writes = any(letter in mode for letter in "w+") or flags & (os.O_WRONLY | os.O_RDWR)
    return "write" if writes else "read"


def _changed(observed: Observations, event: str, arguments: tuple[Any, ...]) -> None:
    paths = touched(event, arguments)
    if paths[-1].startswith(_NOT_OUTSIDE) or "__pycache__" in paths[-1]:
        return
    if observed.cleared_with(paths[0]) is None:
        with contextlib.suppress(Severed):  # It goes on to its next await.
            observed.before()
    if event == "os.rename":
        observed.renamed(paths[0], paths[1])
    else:
        observed.removed(paths[0])


def _cleared(observed: Observations, event: str, arguments: tuple[Any, ...]) -> None:
    with contextlib.suppress(Severed):
        observed.before()
    observed.clears(touched(event, arguments)[0])


def _made(observed: Observations, event: str, arguments: tuple[Any, ...]) -> None:
    observed.made(touched(event, arguments)[0])


def _made_up(observed: Observations, event: str, arguments: tuple[Any, ...]) -> None:
    with contextlib.suppress(Severed):
        observed.before()
    path = os.path.abspath(os.fsdecode(arguments[0]))
    observed.made_up(path)
    observed.moved(observed.called(path), None)


_HEARD: Final[Mapping[str, Callable[[Observations, str, tuple[Any, ...]], None]]] = {
    "open": _opened,
    "os.rename": _changed,
    "os.remove": _changed,
    "os.rmdir": _changed,
    "shutil.rmtree": _cleared,
    "os.mkdir": _made,
    "os.link": _made,
    "os.symlink": _made,
    "sqlite3.connect": lambda observed, event, arguments: observed.made(os.path.abspath(os.fsdecode(arguments[0]))),
    "tempfile.mkstemp": _made_up,
}


def _relative(path: str) -> str:
    """Say a path as a person would: below the working directory, from there."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here)


# small things ---------------------------------------------------------------------------------------------------------


def _text(body: Any) -> str:
    return body.decode("utf-8", "replace") if isinstance(body, bytes | bytearray) else "" if body is None else str(body)


def _json(text: str) -> Any:
    if not text.startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _short(text: str) -> str:
    line = " ".join(text.split())
    if len(line) <= LONGEST_SHOWN:
        return line
    return f"{line[:LONGEST_SHOWN]}... (sha256 {hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]})"


_LIBRARIES: Final[Mapping[str, Callable[[ModuleType], None]]] = {
    "httpx": _tell_httpx,
    "requests": _tell_requests,
    "urllib3": _tell_urllib3,
    "aiohttp": _tell_aiohttp,
    "http.client": _tell_http_client,
    "psycopg": _tell_psycopg,
    "asyncpg": _tell_asyncpg,
    "sqlalchemy": _tell_sqlalchemy,
    "sqlite3": _tell_sqlite3,
    "smtplib": _tell_smtplib,
    "aiosmtplib": _tell_aiosmtplib,
    "django.core.mail": _tell_django_mail,
    "redis": _tell_redis,
    "kombu": _tell_kombu,
}
"""A library as it is imported -> what lets it tell."""
