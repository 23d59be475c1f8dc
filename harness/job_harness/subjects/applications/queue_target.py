"""A factory that returns a `QueueUnderTest` becomes an engine: one class is enough, a second need not be written.

The factory is called once for every run, with those of `settings`, `clocks` and `jitter` that it names as parameters:
`clocks.store()` is the time, `jitter()` draws from 0 to 1.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from job_harness.core.model import Instant, Settings
from job_harness.core.port import Capabilities, Engine, EngineClocks, EngineInfo, as_engine, refuse_incomplete
from job_harness.core.sim import Clocks as StoppedClocks
from job_harness.engines.two_tables import TableStore
from job_harness.errors import UsageError, did_you_mean
from job_harness.subjects.applications.engine import NEEDED, ApplicationEngine, where_of

OFFERED = ("settings", "clocks", "jitter")
ACCEPTED = "An engine (info, open, close), a queue (see job_harness.core.port.QueueUnderTest) or an application."


def offered(factory: Callable[..., Any], *, name: str) -> tuple[str, ...]:
    """Return the parameters by which a factory is called. Raises UsageError where it asks for another."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return ()
    named = [item for item in parameters if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)]
    unknown = [item.name for item in named if item.name not in OFFERED and item.default is item.empty]
    if unknown:
        near = did_you_mean(unknown[0], OFFERED)
        raise UsageError(
            f"{name} asks for {', '.join(unknown)}{near}",
            hint=f"A factory is called with those of {', '.join(OFFERED)} that it names, and with nothing else.",
        )
    return tuple(item.name for item in named if item.name in OFFERED)


def looks_like_a_queue(made: object) -> bool:
    """Whether something has a verb that only a queue has, or says what it can do."""
    return isinstance(getattr(made, "capabilities", None), Capabilities) or any(
        callable(getattr(made, verb, None)) for verb in ("enqueue", "claim", "complete")
    )


def is_application(made: object) -> bool:
    """Whether something has both methods of an application, whatever verbs it has beside them."""
    return all(callable(getattr(made, method, None)) for method in NEEDED)


class QueueEngine:
    """Opens the queues that a factory makes."""

    def __init__(self, factory: Callable[..., Any], *, name: str) -> None:
        """Make one, to see what it can do. Raises UsageError that names the verbs it lacks."""
        self._name = name
        self._factory = factory
        self._wanted = offered(factory, name=name)
        probe = self._made(Settings(), StoppedClocks(), lambda: 0.0)
        capabilities = _capabilities_of(probe, name)
        refuse_incomplete(probe, capabilities, made_by=name)
        upkeep = callable(getattr(probe, "next_upkeep", None))
        self.info = EngineInfo(name, capabilities, next_upkeep=_next_upkeep if upkeep else None)
        getattr(probe, "close", _nothing)()

    def _made(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> Any:
        values = {"settings": settings, "clocks": clocks, "jitter": jitter}
        try:
            return self._factory(**{name: values[name] for name in self._wanted})
        except UsageError:
            raise
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{self._name}() raised {type(error).__name__}: {error} ({where_of(error)})",
                hint="It is called once for every run.",
            ) from error

    def open(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> Any:
        """Return a queue, with what it may leave out filled in."""
        queue = self._made(settings, clocks, jitter)
        if callable(getattr(queue, "changed", None)) and callable(getattr(queue, "close", None)):
            return queue
        return _Completed(queue)

    def close(self) -> None:
        """Nothing to give back."""


class _Completed:
    """A queue with `changed` and `close`, which it may leave out."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self.close = getattr(queue, "close", _nothing)
        self.changed = getattr(queue, "changed", _nothing)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


def _nothing() -> None:
    return None


def _next_upkeep(queue: Any) -> Instant | None:
    due: Instant | None = queue.next_upkeep()
    return due


def _capabilities_of(probe: object, name: str) -> Capabilities:
    capabilities = getattr(probe, "capabilities", None)
    if not isinstance(capabilities, Capabilities):
        raise UsageError(
            f"{name} returned {type(probe).__name__}, which has no `capabilities`",
            hint="Say what the queue can do: capabilities = Capabilities(heartbeat=True, ...), from job_harness.",
        )
    return capabilities


def engine_from(
    factory: Callable[..., Any],
    *,
    name: str,
    safeguards: Sequence[str] = (),
    store: TableStore | None = None,
    asked: str = "",
) -> Engine:
    """Make an engine of what a factory makes: an engine, a queue or an application, this with its safeguards.

    `store` is where an application's tables are, and `asked` what the user called that. Raises UsageError for what is
    none of the three.
    """
    if offered(factory, name=name):
        return _without_store(QueueEngine(factory, name=name), asked)
    made = _made(factory, name)
    if callable(getattr(made, "open", None)):
        return _without_store(_engine(made, name), asked)
    if not is_application(made) and looks_like_a_queue(made):
        return _without_store(QueueEngine(factory, name=name), asked)
    if not any(hasattr(made, method) for method in NEEDED):
        raise UsageError(
            f"{name} returned {_with_article(type(made).__name__)}; expected an engine, a queue or an application",
            hint=ACCEPTED,
        )
    application = ApplicationEngine(factory, name=f"{name}@{asked}" if asked else name, store=store)
    for safeguard in safeguards:
        application = application.guarded(safeguard)
    application.owns_store = True
    return application


def _with_article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _without_store(engine: Engine, asked: str) -> Engine:
    if asked:
        raise UsageError(
            f"{engine.info.name} has no two tables that could be on {asked}",
            hint="Only an application, which has actors(stage) and send(stage, job), is put on a store.",
        )
    return engine


def _engine(made: Any, where: str) -> Engine:
    try:
        return as_engine(made)
    except UsageError as error:
        raise UsageError(f"{where} made no engine: {error.message}", hint=ACCEPTED) from error
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{where}: the info of its {type(made).__name__} raised {type(error).__name__}: {error} "
            f"(at {where_of(error)})",
            hint="The info of an engine must be complete before it opens a queue.",
        ) from error


def _made(factory: Callable[[], Any], where: str) -> Any:
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{where}() raised {type(error).__name__}: {error} ({where_of(error)})",
            hint="It is called without arguments, once for every run.",
        ) from error
