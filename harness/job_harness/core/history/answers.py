"""Which verbs ever did what they are there for, and what the others came to instead.

A verb that raises in every call leaves a search with nothing to judge of it: each of its outcomes
is unknown, and an unknown outcome breaks no promise. So a search has to know of it. Read off
histories; it knows no engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from job_harness.core.history.event import Effect, Event, Observed, Return
from job_harness.core.history.outcome import REFUSED
from job_harness.core.model import PENDING, PROCESSING, Duration, Settings

LONGER: Final = "search longer"
ENOUGH: Final = 20
"""A verb that was refused so often, and never done, was not exercised; fewer refusals may be chance: of the retries
that a search asks of a right queue, 3 in 10 are done."""
OPERATED: Final = frozenset({"cancel", "retry"})
"""What an operator asks for: a scope that has it was searched for its sake."""


@dataclass(frozen=True, slots=True)
class DeclaredPart:
    """Something that a target says of itself: what no run comes to, no run has judged."""

    name: str
    shows: Callable[[Event], bool]
    """Whether an event is it."""
    how: str
    """What would let a run come to it, or how to leave it out."""
    owed: bool = True
    """Whether a search that never came to it is no pass; else it is only said."""


def declared_settings(given: Container[str], settings: Settings) -> Iterator[DeclaredPart]:
    """Return what a search comes to of the settings that a target gives; all but the retention are only said."""
    if "retention" in given:
        yield DeclaredPart("settings: retention", _deletes, f"no job was deleted: {LONGER}")
    if "max_attempts" in given:
        yield DeclaredPart("settings: max_attempts", _uses_up, f"no job used its attempts up: {LONGER}", owed=False)
    if "lease" in given:
        yield DeclaredPart("settings: lease", _runs_out, f"no job was taken over: {LONGER}", owed=False)
    if "job_timeout" in given:
        ends = partial(_was_held, settings.job_timeout, "fail")
        yield DeclaredPart("settings: job_timeout", ends, f"no attempt took so long: {LONGER}", owed=False)
    if "stuck_timeout" in given:
        frees = partial(_was_held, settings.stuck_timeout, "")
        yield DeclaredPart("settings: stuck_timeout", frees, f"no job ran or hung so long: {LONGER}", owed=False)


def _deletes(event: Event) -> bool:
    return type(event) is Observed and event.after is None


def _uses_up(event: Event) -> bool:
    return type(event) is Observed and event.after is not None and event.after.attempts >= event.after.max_attempts


def _runs_out(event: Event) -> bool:
    """Whether a job is claimed, or waits, that was held and whose lease was over."""
    if type(event) is not Observed or event.before is None or event.after is None:
        return False
    before, after = event.before, event.after
    over = before.lease_until is not None and before.lease_until <= event.clock
    return before.status is PROCESSING and over and (after.status is PENDING or after.attempts > before.attempts)


def _was_held(at_least: Duration, verb: str, event: Event) -> bool:
    """Whether a job that ran for so long runs no more, by this verb; an empty one is any."""
    if type(event) is not Observed or event.before is None or event.before.status is not PROCESSING:
        return False
    began, ended = event.before.started_at, event.after is None or event.after.status is not PROCESSING
    return ended and verb in ("", event.verb) and began is not None and event.clock - began >= at_least


@dataclass(slots=True)
class VerbAnswers:
    """Grows history by history; two can be put together."""

    worked: set[str] = field(default_factory=set)
    """Verbs that were done at least once."""
    calls: Counter[str] = field(default_factory=Counter)
    """By verb that is not one of these, how many of its calls were answered."""
    raised: dict[str, str] = field(default_factory=dict)
    """By verb that raised, what it raised first."""
    refused: dict[str, str] = field(default_factory=dict)
    """By verb that was refused, the first reason."""
    happened: set[str] = field(default_factory=set)
    """The side effects that there were, by name."""
    dated: bool = False
    """Whether any job showed when it may be deleted."""
    exercised: set[str] = field(default_factory=set)
    """What of a target's declared parts a run came to, by name."""
    acted: dict[str, bool] = field(default_factory=dict)
    """By process that an application brings along, whether it did anything in any run."""

    def exercise(self, parts: Sequence[DeclaredPart], events: Sequence[Event]) -> None:
        """Note which of these parts a history came to."""
        left = [part for part in parts if part.name not in self.exercised]
        self.exercised.update(part.name for part in left if any(map(part.shows, events)))

    def take_acted(self, acted: Mapping[str, bool]) -> None:
        """Note which processes of an application did something in a run."""
        for process, did in acted.items():
            self.acted[process] = did or self.acted.get(process, False)

    def take(self, events: Iterable[Event]) -> None:
        """Add what verbs came to in a history; a call whose request or reply was lost says nothing."""
        worked = self.worked
        for event in events:
            if type(event) is not Return or event.verb in worked or not event.answered:
                if type(event) is Observed and event.after is not None and event.after.expires_at is not None:
                    self.dated = True
                elif type(event) is Effect:
                    self.happened.add(event.name)
                continue
            verb, outcome = event.verb, event.outcome
            if outcome.done:
                worked.add(verb)
                self._forget(verb)
                continue
            self.calls[verb] += 1
            (self.refused if outcome.kind is REFUSED else self.raised).setdefault(verb, str(outcome.reason))

    def add(self, later: VerbAnswers) -> None:
        """Take over what later histories say."""
        self.worked |= later.worked
        self.happened |= later.happened
        self.exercised |= later.exercised
        self.dated |= later.dated
        self.take_acted(later.acted)
        self.calls.update(later.calls)
        self.raised = {**later.raised, **self.raised}
        self.refused = {**later.refused, **self.refused}
        for verb in self.worked:
            self._forget(verb)

    def _forget(self, verb: str) -> None:
        """Keep nothing of a verb that worked: what it came to before depends on the order of the histories."""
        for memory in (self.calls, self.raised, self.refused):
            memory.pop(verb, None)

    def idle(self) -> Iterator[str]:
        """Say which processes of an application did nothing in any run."""
        for process in sorted(process for process, did in self.acted.items() if not did):
            yield (
                f"process {process}: it took no step and changed nothing in any run, so it was not judged ({LONGER}, "
                "let it poll more often, or leave it out of what actors(stage) returns)"
            )

    def unproven(self, *, often: bool = False, whole: bool = False, purges: bool = False) -> Iterator[str]:
        """Say which verbs raised and were never done.

        And which were refused each time: `often`, every verb that was refused so often that it is
        no chance; `whole`, in a scope that was searched completely, the operator's. And, of a queue
        that `purges`, that it never had to.
        """
        if purges and not self.dated and "purge" not in self.worked | self.calls.keys():
            yield "purge was never called, since no job shows expires_at: let jobs() show when each may be deleted"
        for verb in sorted(self.calls.keys() - self.worked):
            calls = self.calls[verb]
            count = "1 call" if calls == 1 else f"{calls} calls"
            if verb in self.raised:
                refused = f", or was refused: {self.refused[verb]}" if verb in self.refused else ""
                yield f"{verb} never succeeded in {count}; it raised {self.raised[verb]}{refused}"
            elif (often and calls >= ENOUGH) or (whole and verb in OPERATED):
                yield f"{verb} never succeeded in {count}; it was refused: {self.refused[verb]}"
