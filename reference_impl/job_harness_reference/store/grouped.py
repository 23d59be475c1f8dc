"""The store of a worker that ends many jobs at once: what is completed in one turn of the loop goes in one statement.

Nothing waits for a statement that is on its way: one that hangs on a lock holds up its own jobs
alone. One that fails says nothing about its jobs, so each then has one of its own: an output that
PostgreSQL refuses must not keep its neighbours from settling.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from job_harness_reference.models import Claim, JsonValue
from job_harness_reference.store.batch import Settlement
from job_harness_reference.store.database import Database
from job_harness_reference.store.postgres import PostgresStore


class GroupingStore(PostgresStore):
    """`complete` as in `PostgresStore`, in as few statements as there can be."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._waiting: list[tuple[Settlement, asyncio.Future[bool]]] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def complete(self, claim: Claim, output: JsonValue) -> bool:
        """Settle the job as COMPLETED, with all that end in this turn."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((Settlement(claim, output), answer))
        if len(self._waiting) == 1:
            sending = asyncio.create_task(self._send(), name="completions")
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        return await answer

    async def _send(self) -> None:
        group, self._waiting = self._waiting, []
        heard = [each for each in group if not each[1].done()]  # Who was cancelled meanwhile wants no answer.
        answers = await self._complete([settlement for settlement, _ in heard])
        for (_, answer), told in zip(heard, answers, strict=True):
            if answer.done():
                continue
            if isinstance(told, BaseException):
                answer.set_exception(told)
            else:
                answer.set_result(told)

    async def _complete(self, settlements: Sequence[Settlement]) -> Sequence[bool | BaseException]:
        if len(settlements) > 1:
            try:
                return await self.complete_many(settlements)
            except Exception:  # noqa: BLE001 - drivers raise many kinds; each job then asks for itself
                pass
        one_by_one = (PostgresStore.complete(self, each.claim, each.output) for each in settlements)
        return await asyncio.gather(*one_by_one, return_exceptions=True)
