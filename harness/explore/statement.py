"""What an exhaustive search may claim: its scope in full, how much was looked at, and what it stands on."""

from __future__ import annotations

from collections.abc import Iterator

from harness.explore.exhaustive import Explorer
from harness.model.duration import format_duration
from harness.model.settings import Settings


def statement(explorer: Explorer, seconds: float, *, interrupted: bool = False) -> list[str]:
    """Answer the lines of the verdict. Only a search that left nothing to look at is called complete."""
    progress = explorer.progress
    spent = f"{progress.states} states, {progress.transitions} transitions, depth {progress.depth}, {seconds:.1f} s"
    return [_verdict(explorer, spent, interrupted=interrupted), *_scope(explorer), *_standing(explorer)]


def _verdict(explorer: Explorer, spent: str, *, interrupted: bool) -> str:
    engine, found = explorer.engine.info.name, explorer.sightings
    if explorer.complete and not found:
        return f"complete: no anomaly on {engine} within the scope: {spent}."
    if explorer.complete:
        return f"complete: {len(found)} named anomalies on {engine} within the scope: {spent}."
    if found:
        return f"Searched until {'Ctrl-C' if interrupted else explorer.stopped_by}: {spent}."
    by = "Ctrl-C" if interrupted else explorer.stopped_by
    return f"inconclusive: stopped by {by}, no anomaly on {engine} so far: {spent}."


def _scope(explorer: Explorer) -> Iterator[str]:
    scope = explorer.scope
    if not explorer.complete and not explorer.sightings:
        progress = explorer.progress
        yield f"  Every run of up to {max(0, progress.depth)} moves was looked at; {progress.frontier} states wait."
    yield f"  Scope: {scope.sentence()}"
    stalls = "any number of" if scope.stalls is None else f"at most {scope.stalls}"
    yield f"  Stalls, time passing by somebody who is ready until he acts: {stalls}"
    yield f"  Job kinds: {'; '.join(map(str, scope.kinds))}"
    if scope.priorities != (0,):
        yield f"  Priorities: {', '.join(map(str, scope.priorities))}"
    if scope.unique:
        yield "  All jobs share one unique key."
    if scope.settings.retry_backoff:
        yield f"  Retry delays take {scope.jitters} of 4 values of their jitter."
    yield f"  Settings: {', '.join(_settings(scope.settings))}; a crashed process is back after " + format_duration(
        scope.restart_after
    )


def _settings(settings: Settings) -> Iterator[str]:
    lengths, default = Settings.duration_names(), Settings()
    for name in Settings.names():
        value = getattr(settings, name)
        if value != getattr(default, name):
            yield f"{name} {format_duration(value) if name in lengths else str(value).lower()}"


def _standing(explorer: Explorer) -> Iterator[str]:
    if explorer.engine.info.stepped is not None:
        yield "  The workers are the stock ones: the engine's own cannot be set back; the sampled search runs those."
    if explorer.scope.symmetry:
        yield "  Workers, and jobs of one kind, are taken to be interchangeable."
    if explorer.reexecuted:
        yield "  The queue cannot be set back: runs were done again from the start. Jobs that look alike were taken"
        yield "  for equal: what the queue keeps and does not show was not told apart."
