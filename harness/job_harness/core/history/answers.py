"""Which verbs ever did what they are there for, and what the others came to instead.

A verb that raises in every call leaves a search with nothing to judge of it: each of its outcomes is unknown, and an
unknown outcome breaks no promise. So a search has to know of it. Read off histories; it knows no engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from job_harness.core.history.event import Event, Observed, Return
from job_harness.core.history.outcome import REFUSED

ENOUGH: Final = 40
"""A verb that was refused so often, and never done, was not exercised; fewer refusals may be chance."""
OPERATED: Final = frozenset({"cancel", "retry"})
"""What an operator asks for: a scope that has it was searched for its sake."""


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
    dated: bool = False
    """Whether any job showed when it may be deleted."""

    def take(self, events: Iterable[Event]) -> None:
        """Add what verbs came to in a history; a call whose request or reply was lost says nothing."""
        worked = self.worked
        for event in events:
            if type(event) is not Return or event.verb in worked or not event.answered:
                if type(event) is Observed and event.after is not None and event.after.expires_at is not None:
                    self.dated = True
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
        self.dated |= later.dated
        self.calls.update(later.calls)
        self.raised = {**later.raised, **self.raised}
        self.refused = {**later.refused, **self.refused}
        for verb in self.worked:
            self._forget(verb)

    def _forget(self, verb: str) -> None:
        """Keep nothing of a verb that worked: what it came to before depends on the order of the histories."""
        for memory in (self.calls, self.raised, self.refused):
            memory.pop(verb, None)

    def unproven(self, *, often: bool = False, whole: bool = False, purges: bool = False) -> Iterator[str]:
        """Say which verbs raised and were never done.

        And which were refused each time: `often`, every verb that was refused so often that it is no chance; `whole`,
        in a scope that was searched completely, the operator's. And, of a queue that `purges`, that it never had to.
        """
        if purges and not self.dated and "purge" not in self.worked | self.calls.keys():
            yield "purge was never called, since no job shows expires_at: let jobs() show when each may be deleted"
        for verb in sorted(self.calls.keys() - self.worked):
            calls = self.calls[verb]
            count = "1 call" if calls == 1 else f"{calls} calls"
            if verb in self.raised:
                yield f"{verb} never succeeded in {count}; it raised {self.raised[verb]}"
            elif (often and calls >= ENOUGH) or (whole and verb in OPERATED):
                yield f"{verb} never succeeded in {count}; it was refused: {self.refused[verb]}"
