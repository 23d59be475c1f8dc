"""Writes an ending into the store, and insists while the store does not answer, for as long as the lease."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeVar, assert_never

from job_harness_reference.clock import Jitter
from job_harness_reference.config import Config
from job_harness_reference.json_values import encode, error_text
from job_harness_reference.models import Claim, JsonValue, ToolJob, ToolJobStatus
from job_harness_reference.store import Store
from job_harness_reference.worker.attempt import Abandoned, Ending, Lost, Released
from job_harness_reference.worker.journal import Journal
from job_harness_reference.worker.lease import Lease
from job_harness_reference.worker.verdict import Failed, Succeeded, describe_error, shorten

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0
"""Also how long a worker insists whose lease is over by its own clock."""

_AFTER_FAILING = (ToolJobStatus.PENDING, ToolJobStatus.FAILED)

T = TypeVar("T")


class Outcome(StrEnum):
    """What became of one claimed job."""

    COMPLETED = "completed"
    RETRIED = "retried"
    FAILED = "failed"
    RELEASED = "released"
    LOST = "lost"
    """The claim was taken back first: cancelled, expired or rescued."""
    UNSETTLED = "unsettled"
    """The store did not answer within the lease, or the processor could not be stopped: expiry takes the job back."""


class _GaveUpError(Exception):
    """The lease is over and the store has not answered."""


class Settlement:
    """Settles endings for one worker."""

    def __init__(self, store: Store, *, config: Config, jitter: Jitter, journal: Journal) -> None:
        self._store = store
        self._config = config
        self._jitter = jitter
        self._journal = journal

    async def write_ending(self, claim: Claim, ending: Ending, *, lease: Lease) -> Outcome:
        """Write the ending. Never raises what the store raises."""
        try:
            outcome = await self._write(claim, ending, lease=lease)
        except _GaveUpError:
            self._journal.alarm("job.unsettled", claim=claim, why="the store did not answer within the lease")
            return Outcome.UNSETTLED
        why = ending.why if isinstance(ending, Lost) else None
        error = ending.error if isinstance(ending, Failed) else None
        self._journal.note(f"job.{outcome}", claim=claim, error=error, why=why)
        return outcome

    async def _write(self, claim: Claim, ending: Ending, *, lease: Lease) -> Outcome:
        match ending:
            case Succeeded(output):
                return await self._complete(claim, output, lease=lease)
            case Failed():
                return await self._fail(claim, ending, lease=lease)
            case Released():
                done = await self._insist(lambda: self._store.release(claim), claim=claim, lease=lease)
                return Outcome.RELEASED if done else Outcome.LOST
            case Lost():
                return Outcome.LOST
            case Abandoned():
                return Outcome.UNSETTLED
            case _:
                assert_never(ending)

    async def _complete(self, claim: Claim, output: JsonValue, *, lease: Lease) -> Outcome:
        refusal = _refusal(output, limit=self._config.job_output_limit_bytes)
        if refusal is None:
            try:
                done = await self._insist(
                    lambda: self._store.complete(claim, output),
                    found=lambda job: job.status is ToolJobStatus.COMPLETED,
                    claim=claim,
                    lease=lease,
                )
            except (ValueError, TypeError, RecursionError) as error:  # InvalidJsonError is a ValueError.
                refusal = describe_error(error)
            else:
                return Outcome.COMPLETED if done else Outcome.LOST
        failure = Failed(shorten(f"the processor's output cannot be stored as JSON: {refusal}"))
        return await self._fail(claim, failure, lease=lease)

    async def _fail(self, claim: Claim, failure: Failed, *, lease: Lease) -> Outcome:
        try:
            status = await self._fail_with(failure.error, claim=claim, final=failure.final, lease=lease)
        except (ValueError, TypeError, RecursionError):  # The text itself is refused: a plain one never is.
            plain = shorten(ascii(failure.error))
            status = await self._fail_with(plain, claim=claim, final=failure.final, lease=lease)
        match status:
            case None:
                return Outcome.LOST
            case ToolJobStatus.PENDING:
                return Outcome.RETRIED
            case _:
                return Outcome.FAILED

    async def _fail_with(self, error: str, *, claim: Claim, final: bool, lease: Lease) -> ToolJobStatus | None:
        kept = error_text(error)
        return await self._insist(
            lambda: self._store.fail(claim, error, final=final),
            found=lambda job: job.status if job.error == kept and job.status in _AFTER_FAILING else None,
            claim=claim,
            lease=lease,
        )

    async def _insist(
        self,
        verb: Callable[[], Awaitable[T]],
        *,
        found: Callable[[ToolJob], T] | None = None,
        claim: Claim,
        lease: Lease,
    ) -> T:
        """Call the verb until the store answers, for as long as the lease and at least for some seconds.

        The store's own lease may be longer than this one, which counts from when the claim was
        asked for. Where a try whose answer was lost is followed by a refusal, `found` reads in the
        job's row whether that try had settled it.
        """
        unheard = False
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE_SECONDS
        patience = max(lease.until, loop.time() + _LONGEST_PAUSE_SECONDS)
        while True:
            try:
                async with asyncio.timeout_at(patience):
                    answer = await verb()
                    job = await self._read(claim) if unheard and not answer else None
                    return answer if job is None or found is None else found(job)
            except (ValueError, TypeError, RecursionError):
                raise
            except Exception as error:  # noqa: BLE001 - drivers raise many kinds; each means: not settled yet
                unheard = True
                self._journal.warn("settle.failed", claim=claim, error=describe_error(error))
            wait = pause * (1 + self._jitter())
            if loop.time() + wait >= patience:
                raise _GaveUpError
            await asyncio.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _read(self, claim: Claim) -> ToolJob | None:
        """Read the job while it is still in the attempt of this claim; `None` too where it cannot be read."""
        try:
            job = await self._store.get(claim.job.id)
        except Exception as error:  # noqa: BLE001 - only what is counted hangs on it
            self._journal.warn("read.failed", claim=claim, error=describe_error(error))
            return None
        return job if job is not None and job.attempts == claim.job.attempts else None


def _refusal(output: JsonValue, *, limit: int) -> str | None:
    """Say why the output is no JSON, or too long, before the store is asked."""
    try:
        size = len(encode(output).encode())
    except Exception as error:  # noqa: BLE001 - the output is the user's object and may raise anything when read
        return describe_error(error)
    if size > limit:
        return f"it is {size} bytes of JSON, and JOB_OUTPUT_LIMIT_BYTES={limit}"
    return None
