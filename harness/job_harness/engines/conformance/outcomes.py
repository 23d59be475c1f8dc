"""What a queue makes of an outcome that its store cannot hold: a NUL, half of a surrogate pair, NaN, a cycle.

A job is claimed, and its attempt ends so; a bystander is claimed and completed after it. What is
then in the rows, at once and after the lease has run out, is one cell of a table. It knows no
engine by name, and nothing of terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from job_harness.core.history import Outcome, OutcomeKind
from job_harness.core.model import MILLISECOND, MINUTE, JobView, Settings, Status
from job_harness.core.port import Claim, Engine, JobRequest
from job_harness.core.sim import Clocks
from job_harness.errors import EnvironmentUnavailable, UsageError, did_you_mean

MARK: Final = "$job-harness"
"""A value `{MARK: kind}` is one that JSON cannot say; the process that runs another project's queue makes it."""
MEGABYTES: Final = 8
JOB, BYSTANDER, WORKER = "a", "z", "w1"
ENOUGH: Final = 4
"""So often a lease runs out and is looked for, since some queues need a second look."""


def _cyclic() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


@dataclass(frozen=True, slots=True)
class OutcomeCase:
    """One way in which an attempt ends."""

    name: str
    about: str
    error: str | None = None
    """The text of its error; None: it returns a value."""
    value: Callable[[], Any] = lambda: None

    @property
    def kind(self) -> str:
        """What the value is called between processes."""
        return self.name.removeprefix("return ")


CASES: Final[Mapping[str, OutcomeCase]] = {
    case.name: case
    for case in (
        OutcomeCase("raise NUL", "an error whose text holds U+0000", error="boom\x00"),
        OutcomeCase("raise surrogate", "an error whose text holds half of a surrogate pair", error="boom \ud800"),
        OutcomeCase("raise bytes", "an error made of bytes that are no UTF-8 (surrogateescape)", error="boom \udcff"),
        OutcomeCase("raise huge", f"an error of {MEGABYTES} MB", error="boom" * (MEGABYTES * 250_000)),
        OutcomeCase("return NUL", "a value whose text holds U+0000", value=lambda: {"text": "a\x00b"}),
        OutcomeCase("return surrogate", "a value with half of a surrogate pair", value=lambda: {"text": "\ud800"}),
        OutcomeCase("return bytes", "bytes that are no UTF-8", value=lambda: b"\xff"),
        OutcomeCase("return NaN", "a number that JSON has no word for", value=lambda: {"score": float("nan")}),
        OutcomeCase("return cycle", "a value that contains itself", value=_cyclic),
        OutcomeCase("return huge", f"a text of {MEGABYTES} MB", value=lambda: "x" * (MEGABYTES * 1_000_000)),
    )
}


def case_named(name: str) -> OutcomeCase:
    """Return a case. Raises UsageError for a name that is none."""
    if name not in CASES:
        near = did_you_mean(name, list(CASES))
        raise UsageError(f"no such outcome: {name!r}{near}", hint=f"There are: {', '.join(CASES)}.")
    return CASES[name]


@dataclass(slots=True)
class OutcomeCell:
    """What became of one job on one engine."""

    engine: str
    case: OutcomeCase
    word: str = ""
    story: list[str] = field(default_factory=list)

    def tell(self, line: str) -> None:
        """Add a line to what happened."""
        self.story.append(line)


class _OutcomeTrial:
    """One job, its bystander, and a clock."""

    def __init__(self, engine: Engine, case: OutcomeCase) -> None:
        self.cell = OutcomeCell(engine.info.name, case)
        self._case = case
        self._results = engine.info.capabilities.results
        self._made_there = engine.info.makes_values
        self._settings = engine.info.contract.effective(Settings(heartbeat_interval=0))
        self._clock = Clocks()
        self._queue: Any = engine.open(self._settings, self._clock, lambda: 0.0)

    def run(self) -> OutcomeCell:
        """Let the job end as the case says, and see what becomes of it and of its bystander."""
        try:
            self._run()
        except EnvironmentUnavailable as lost:
            self.cell.tell(str(lost))
            self.cell.word = "ends the process"
        finally:
            self._queue.close()
        return self.cell

    def _run(self) -> None:
        for name in (JOB, BYSTANDER):
            sent: Outcome = self._queue.enqueue(JobRequest(name))
            if not sent.done:
                raise UsageError(f"{self.cell.engine} took no job: {_word_outcome(sent)}")
        self._clock.now += MILLISECOND
        claims = self._claims()
        outcome = self._end(claims[JOB])
        self.cell.word = self._word(outcome, self._look("at once"))
        self._bystander(claims[BYSTANDER])

    def _claims(self) -> dict[str, Claim]:
        claims: dict[str, Claim] = {}
        for asked_for in (1, 2):
            taken: Outcome = self._queue.claim(WORKER, 1)
            claims.update({claim.job: claim for claim in taken.value or ()})
            if len(claims) < asked_for:
                raise UsageError(
                    f"{self.cell.engine} gave {WORKER} no job, although one was due: {_word_outcome(taken)}",
                    hint="Find out what is wrong with its claim first: job-harness conform --level core.",
                )
        return claims

    def _end(self, claim: Claim) -> Outcome:
        case = self._case
        verb = "fail" if case.error is not None else "complete"
        outcome: Outcome
        try:
            if case.error is not None:
                outcome = self._queue.fail(claim, case.error, False)
            else:
                outcome = self._queue.complete(claim, {MARK: case.kind} if self._made_there else case.value())
        except EnvironmentUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a queue raises is what is asked for here
            outcome = Outcome.unknown(f"{type(error).__name__}: {error}")
        self.cell.tell(f"{verb} ({case.about}): {_word_outcome(outcome)}")
        return outcome

    def _look(self, when: str) -> JobView:
        view: JobView = self._queue.jobs()[JOB]
        kept = f", output {str(view.output)[:60]!r}" if view.output is not None else ""
        error = f", error {view.error[:60]!r}" if view.error else ""
        self.cell.tell(f"{when}: {view.status}, attempt {view.attempts}{kept}{error}")
        return view

    def _word(self, outcome: Outcome, view: JobView) -> str:
        if outcome.kind is OutcomeKind.REFUSED and view.status is Status.PROCESSING:
            return "refused"
        if view.status is Status.PROCESSING:
            return self._after_the_lease()
        if view.status is Status.FAILED and view.attempts < view.max_attempts:
            return "given up"
        if self._case.error is not None:
            same = view.error is not None and self._case.error in view.error  # Some keep it at the end of a traceback.
            return self._kept(same, view.error, whole=self._case.error)
        if view.status is not Status.COMPLETED:
            return "fails the job"
        return self._kept(view.output == self._case.value(), view.output)

    def _kept(self, same: bool, kept: object, *, whole: str = "") -> str:
        if kept is None and not self._results:
            return "not stored"
        if same:
            return "kept"
        if isinstance(kept, str) and len(kept) < len(whole) and whole.startswith(kept[: len(kept) // 2]):
            return "shortened"
        return "lost" if kept is None else "changed"

    def _after_the_lease(self) -> str:
        for _ in range(ENOUGH):
            self._clock.now += self._settings.lease + MINUTE
            self._queue.expire()
            if self._queue.jobs()[JOB].status is not Status.PROCESSING:
                self._look(f"after a lease of {self._settings.lease // MINUTE} minutes")
                return "outcome lost"
        self._look("after four leases")
        return "stuck for good"

    def _bystander(self, claim: Claim) -> None:
        if self.cell.word in ("outcome lost", "stuck for good"):
            return  # Its own lease is over too.
        outcome: Outcome = self._queue.complete(claim, None)
        status = self._queue.jobs()[BYSTANDER].status
        self.cell.tell(f"the job behind it: {outcome.kind}, {status}")
        if status is not Status.COMPLETED:
            self.cell.word += ", and so is the job behind it"


def _word_outcome(outcome: Outcome) -> str:
    return f"{outcome.kind}, {outcome.reason[:200]}" if outcome.reason else str(outcome.kind)


def ask_engine(engine: Engine, case: OutcomeCase) -> OutcomeCell:
    """Return what an engine makes of one case."""
    return _OutcomeTrial(engine, case).run()
