"""Mistakes in asking whether a claim still stands."""

from __future__ import annotations

from typing import ClassVar, Final

from harness.adapters.memory import MemoryQueue
from harness.mistakes.mistake import Edit, Mistake
from harness.model.job import JobView
from harness.model.lifecycle import Status
from harness.port import Claim


class Lenient(MemoryQueue):
    """Lets one verb pass in statuses that it must not touch, whatever the token."""

    verb: ClassVar[str]
    statuses: ClassVar[frozenset[Status]] = frozenset({Status.PROCESSING})

    def held(self, claim: Claim, verb: str) -> JobView | None:
        row = self.rows.get(claim.job)
        if verb == self.verb and row is not None and row.status in self.statuses:
            return row
        return super().held(claim, verb)


class StaleComplete(Lenient):
    verb = "complete"


class StaleFail(Lenient):
    verb = "fail"


class StaleRelease(Lenient):
    verb = "release"


class StaleHeartbeat(Lenient):
    verb = "heartbeat"


class ResultOverwritten(Lenient):
    verb = "complete"
    statuses = frozenset({Status.COMPLETED})


class LateFailureRevives(Lenient):
    verb = "fail"
    statuses = frozenset({Status.COMPLETED, Status.FAILED})


class TokenNotRaised(MemoryQueue):
    def raised(self, row: JobView) -> int:
        return max(row.token, 1)


NO_TOKEN: Final = Edit(""" AND q."token" = :token::bigint""", "")

MISTAKES: Final = (
    Mistake(
        name="stale-complete",
        sentence="Complete asks for the job and its status, not for the token of the claim.",
        source="pg-boss#555",
        finds=("stale_complete",),
        queue=StaleComplete,
        statements={"complete": (NO_TOKEN,)},
    ),
    Mistake(
        name="stale-fail",
        sentence="Fail asks for the job and its status, not for the token of the claim.",
        source="delayed_job#554",
        finds=("stale_fail",),
        queue=StaleFail,
        statements={"fail": (NO_TOKEN,)},
    ),
    Mistake(
        name="stale-release",
        sentence="Release gives back whatever claim stands on the job: a stopping worker unlocks another's.",
        source="delayed_job#554, delayed_job_active_record#193",
        finds=("stale_release",),
        queue=StaleRelease,
        statements={"release": (NO_TOKEN,)},
    ),
    Mistake(
        name="stale-heartbeat",
        sentence="A heartbeat extends whatever lease stands on the job, so its worker never learns of the loss.",
        source="good_job#989",
        finds=("stale_heartbeat",),
        queue=StaleHeartbeat,
        statements={"heartbeat": (NO_TOKEN,)},
    ),
    Mistake(
        name="result-overwritten",
        sentence="Complete is let through on a COMPLETED job as if it were a repetition: the last writer wins.",
        source="pg-boss#555",
        finds=("terminal_job_rewritten", "stale_complete"),
        queue=ResultOverwritten,
        statements={
            "complete": (
                Edit(
                    """q."state" = 'active' AND q."token" = :token::bigint""",
                    """q."state" IN ('active', 'completed')""",
                ),
                Edit("""t."status" = 'PROCESSING'""", """t."status" IN ('PROCESSING', 'COMPLETED')"""),
            )
        },
    ),
    Mistake(
        name="late-failure-revives",
        sentence="Fail matches a finished job: a worker that comes late brings it back to life.",
        source="bullmq#4311, procrastinate#1131",
        finds=("terminal_job_revived", "stale_fail"),
        queue=LateFailureRevives,
        statements={
            "fail": (
                Edit(
                    """q."state" = 'active' AND q."token" = :token::bigint""",
                    """q."state" IN ('active', 'completed', 'failed')""",
                ),
                Edit("""t."status" = 'PROCESSING'""", """t."status" IN ('PROCESSING', 'COMPLETED', 'FAILED')"""),
            )
        },
    ),
    Mistake(
        name="token-not-raised",
        sentence="A job keeps its first token over all its claims.",
        source="no fencing token at all: pg-boss#555, good_job#989",
        finds=("token_reused",),
        queue=TokenNotRaised,
        statements={"claim": (Edit(""""token" = q."token" + 1""", """"token" = greatest(q."token", 1)"""),)},
    ),
)
