"""A factory that answers a `QueueUnderTest` becomes an engine: nobody who has one class needs to write a second.

The factory is called once for every run, with those of `settings`, `clocks` and `jitter` that it names as parameters:
`clocks.store()` is the time, `jitter()` draws from 0 to 1.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from harness.application.driver import where_of
from harness.errors import UsageError, did_you_mean
from harness.model.settings import Settings
from harness.port import Capabilities, Clocks
from harness.sim.clock import Clocks as StoppedClocks

OFFERED = ("settings", "clocks", "jitter")
ALWAYS = ("enqueue", "claim", "complete", "fail", "expire", "jobs")
BY_CAPABILITY = {
    "heartbeat": ("heartbeat",),
    "release": ("release",),
    "cancel": ("cancel",),
    "retry": ("retry",),
    "maintenance": ("reconcile", "rescue", "purge"),
    "transactions": ("begin", "commit", "rollback"),
    "schedules": ("schedule", "unschedule", "tick"),
    "sessions": ("on_behalf", "sever", "made_at", "leftovers"),
}
ACCEPTED = "An engine (name, capabilities, open, close), a queue (see harness.port.QueueUnderTest) or an application."


def offered(factory: Callable[..., Any], *, name: str) -> tuple[str, ...]:
    """Answer the parameters by which a factory is called. Raises UsageError where it asks for another."""
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


class QueueEngine:
    """Opens the queues that a factory makes."""

    def __init__(self, factory: Callable[..., Any], *, name: str) -> None:
        """Make one, to see what it can do. Raises UsageError that names the verbs it lacks."""
        self.name = name
        self._factory = factory
        self._wanted = offered(factory, name=name)
        probe = self._made(Settings(), StoppedClocks(), lambda: 0.0)
        self.capabilities = _capabilities_of(probe, name)
        _refuse_without_verbs(probe, self.capabilities, name)
        getattr(probe, "close", _nothing)()

    def _made(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> Any:
        values = {"settings": settings, "clocks": clocks, "jitter": jitter}
        try:
            return self._factory(**{name: values[name] for name in self._wanted})
        except UsageError:
            raise
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"{self.name} cannot be made: {type(error).__name__}: {error} (at {where_of(error)})",
                hint="It is called once for every run.",
            ) from error

    def open(self, settings: Settings, clocks: Clocks, jitter: Callable[[], float]) -> Any:
        """Answer a queue, with what it may leave out filled in."""
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


def _capabilities_of(probe: object, name: str) -> Capabilities:
    capabilities = getattr(probe, "capabilities", None)
    if not isinstance(capabilities, Capabilities):
        raise UsageError(
            f"{name} answered {type(probe).__name__}, which has no `capabilities`",
            hint="Say what the queue can do: capabilities = Capabilities(heartbeat=True, ...), from harness.port.",
        )
    return capabilities


def _refuse_without_verbs(probe: object, capabilities: Capabilities, name: str) -> None:
    needed = dict.fromkeys(ALWAYS, "every queue")
    for capability, verbs in BY_CAPABILITY.items():
        if getattr(capabilities, capability):
            needed.update(dict.fromkeys(verbs, f"its capability {capability}"))
    missing = [verb for verb in needed if not callable(getattr(probe, verb, None))]
    if missing:
        own = [verb for verb in dir(probe) if not verb.startswith("_") and verb not in needed]
        told = ", ".join(f"{verb}, which {needed[verb]} needs{did_you_mean(verb, own)}" for verb in missing)
        raise UsageError(
            f"{name} answered {type(probe).__name__}, which lacks {told}",
            hint="Each verb answers an Outcome; jobs() answers a mapping of JobView. See docs/write_an_adapter.md.",
        )
