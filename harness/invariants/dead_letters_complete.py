"""15: a job that failed for good leaves one dead letter, with its input, in the queue that was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from harness.history.event import Observed
from harness.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor, Reporter, Rules
from harness.model.job import JobId, JobView
from harness.model.lifecycle import Status


class DeadLettersComplete(Monitor):
    """Counts failures and dead letters of each job that has a dead letter tool."""

    only: ClassVar[Mapping[str, frozenset[str]]] = {"on_changed": frozenset({"fail", "expire", "rescue", "reconcile"})}

    def __init__(self, rules: Rules, breach: Reporter) -> None:
        super().__init__(rules, breach)
        self._failures: dict[JobId, list[JobView]] = {}
        self._letters: dict[JobId, list[JobView]] = {}

    def on_created(self, event: Observed) -> None:
        after = event.after
        if after is not None and after.dead_of is not None:
            self._letters.setdefault(after.dead_of, []).append(after)

    def on_changed(self, event: Observed) -> None:
        before, after = event.before, event.after
        if before is None or after is None or after.dead_letter is None or after.status is not Status.FAILED:
            return
        if before.status is not Status.FAILED:
            self._failures.setdefault(event.job, []).append(after)

    def at_rest(self, views: Mapping[JobId, JobView]) -> None:
        for job in dict.fromkeys((*self._failures, *self._letters)):
            failures, letters = self._failures.get(job, []), self._letters.get(job, [])
            if len(letters) < len(failures):
                self.breach("dead_letter_missing", f"{len(failures)} times FAILED, {len(letters)} letters", job=job)
            elif len(letters) > len(failures):
                self.breach("dead_letter_doubled", f"{len(failures)} times FAILED, {len(letters)} letters", job=job)
            for letter, failed in zip(letters, failures, strict=False):
                if (letter.tool, letter.input) != (failed.dead_letter, failed.input):
                    self.breach(
                        "dead_letter_changed",
                        f"its letter is for {letter.tool!r} with {letter.input!r:.80}, "
                        f"not for {failed.dead_letter!r} with {failed.input!r:.80}",
                        job=job,
                    )


INVARIANT = Invariant(
    id="dead_letters_complete",
    number=15,
    sentence="A job that failed for good leaves one dead letter, with its input, for the tool that was asked for.",
    kind=Kind.EVENTUALLY,
    anomalies=(
        AnomalyKind("dead_letter_missing", Guarantee.DEAD_LETTERS, "A job failed for good and left no dead letter."),
        AnomalyKind("dead_letter_doubled", Guarantee.DEAD_LETTERS, "A job left more dead letters than it failed."),
        AnomalyKind("dead_letter_changed", Guarantee.DEAD_LETTERS, "A dead letter is not what the job was."),
    ),
    make=DeadLettersComplete,
    capabilities=("dead_letters",),
)
