"""Mistakes with what a job that failed for good leaves behind."""

from __future__ import annotations

from typing import Final

from harness.adapters.memory import MemoryQueue
from harness.mistakes.mistake import Mistake
from harness.model.job import JobId, JobView


class ForgottenByReaper(MemoryQueue):
    """bullmq-dedup-key-leak's family: the terminal path through the reaper forgets what the normal one does."""

    def dead_letters(self, row: JobView, verb: str) -> list[JobView]:
        return super().dead_letters(row, verb) if verb == "fail" else []


class SentTwice(MemoryQueue):
    def dead_letters(self, row: JobView, verb: str) -> list[JobView]:
        return [*super().dead_letters(row, verb), self.dead_letter(row, f"{row.id}-dead-again-{row.token}")]


class Emptied(MemoryQueue):
    def dead_letter(self, row: JobView, job: JobId) -> JobView:
        return super().dead_letter(row._replace(input=None), job)


MISTAKES: Final = (
    Mistake(
        name="dead-letter-forgotten-by-reaper",
        sentence="A job whose last attempt was taken back leaves no dead letter, one whose worker failed it does.",
        source="bullmq#4311: what the normal path does and the reaper forgets",
        finds=("dead_letter_missing",),
        queue=ForgottenByReaper,
    ),
    Mistake(
        name="dead-letter-sent-twice",
        sentence="Worker and queue each send the dead letter.",
        source="two places that both mean to be the only one",
        finds=("dead_letter_doubled",),
        queue=SentTwice,
    ),
    Mistake(
        name="dead-letter-emptied",
        sentence="A dead letter does not carry the input of the job that failed.",
        source="a copy of the row that leaves out its data",
        finds=("dead_letter_changed",),
        queue=Emptied,
    ),
)
