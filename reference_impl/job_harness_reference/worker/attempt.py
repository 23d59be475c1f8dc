"""One claimed job under its worker's eyes: run, heartbeat, timeout, lost lease, release. Settles nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from job_harness_reference.config import Config
from job_harness_reference.models import Claim, JobProcessor
from job_harness_reference.store import Store
from job_harness_reference.worker.execution import Execution, RunBlocking
from job_harness_reference.worker.journal import Journal
from job_harness_reference.worker.lease import Lease
from job_harness_reference.worker.verdict import Failed, Returned, Succeeded, Verdict, describe_error, judge

_BEATS_WITHIN_A_LEASE = 3
"""Where the store was slow to answer the claim, the first heartbeat comes early enough to save what is left."""


@dataclass(frozen=True, slots=True)
class Released:
    """The worker shuts down: the attempt is given back."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The claim was taken back: nothing may be settled."""

    why: str


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The worker shuts down and the processor does not stop: the claim stands, so no other worker runs the job."""


Ending: TypeAlias = Verdict | Released | Lost | Abandoned


class _Reason(Enum):
    """Why a running processor has to stop."""

    LOST = auto()
    LEASE_OVER = auto()
    """By this worker's own clock: the store may still hold the claim, and then hears of the failure."""
    TIMED_OUT = auto()
    RELEASED = auto()


class Attempt:
    """Watches over one processor from its start to its ending."""

    def __init__(
        self,
        claim: Claim,
        lease: Lease,
        *,
        store: Store,
        config: Config,
        journal: Journal,
        run_blocking: RunBlocking,
        on_abandoned: Callable[[Execution], None],
    ) -> None:
        self.claim = claim
        self.lease = lease
        self._store = store
        self._config = config
        self._journal = journal
        self._run_blocking = run_blocking
        self._on_abandoned = on_abandoned
        self._attention = asyncio.Event()
        self._release_asked = False
        self._lost: str | None = None
        """Why the store says that the claim is another worker's, or no worker's."""
        self._beat: asyncio.Task[None] | None = None
        self._next_beat = 0.0

    def ask_release(self) -> None:
        """Stop the processor and give the job back, unless it ends first."""
        self._release_asked = True
        self._attention.set()

    def too_late_to_start(self) -> bool:
        """Whether the store's answer took so long that the lease may be over: the job is better given back unrun."""
        return asyncio.get_running_loop().time() >= self.lease.until

    async def run(self, processor: JobProcessor) -> Ending:
        """Run the processor to its end, or until it has to stop."""
        loop = asyncio.get_running_loop()
        timeout_at = loop.time() + self._config.job_timeout.total_seconds()
        left = max(0.0, self.lease.until - loop.time())
        self._next_beat = loop.time() + min(self._config.heartbeat_seconds, left / _BEATS_WITHIN_A_LEASE)
        execution = Execution(processor, self.claim.job, on_end=self._attention.set, run_blocking=self._run_blocking)
        try:
            ending = await self._watch(execution, timeout_at=timeout_at)
        finally:  # Nothing is awaited here, so that a closed frame stays closed.
            execution.cancel()
            if self._beat is not None:
                self._beat.cancel()
        if self._beat is not None and not self._beat.done():
            await asyncio.wait((self._beat,), timeout=self._config.processor_cancel_grace_seconds)
        return ending

    async def _watch(self, execution: Execution, *, timeout_at: float) -> Ending:
        loop = asyncio.get_running_loop()
        while True:
            self._attention.clear()
            if execution.answer is not None:
                return judge(execution.answer)
            reason = self._reason_to_stop(loop.time(), timeout_at=timeout_at)
            if reason is not None:
                return await self._stop(execution, reason)
            self._beat_if_due(loop.time())
            await self._rest(until=min(timeout_at, self.lease.until, self._next_beat))

    def _reason_to_stop(self, now: float, *, timeout_at: float) -> _Reason | None:
        if self._lost is not None:
            return _Reason.LOST
        if now >= self.lease.until:
            return _Reason.LEASE_OVER
        if now >= timeout_at:
            return _Reason.TIMED_OUT
        return _Reason.RELEASED if self._release_asked else None

    async def _rest(self, *, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._attention.wait()
        except TimeoutError:
            return

    async def _stop(self, execution: Execution, reason: _Reason) -> Ending:
        ended = await execution.stop(grace_seconds=self._config.processor_cancel_grace_seconds)
        if not ended:
            self._journal.alarm("processor.abandoned", claim=self.claim, reason=reason.name.lower())
            self._on_abandoned(execution)
        match reason:
            case _Reason.LOST:
                return Lost(self._lost or "the claim was taken back")
            case _Reason.LEASE_OVER:
                return Failed("no heartbeat reached the store before the lease ran out")
            case _Reason.RELEASED:
                return _finished_after_all(execution) or (Released() if ended else Abandoned())
            case _Reason.TIMED_OUT:
                return Failed(self._timeout_text(ended=ended))

    def _timeout_text(self, *, ended: bool) -> str:
        milliseconds = self._config.job_timeout_ms
        text = f"timed out after {milliseconds / 1000:g} s (JOB_TIMEOUT_MS={milliseconds})"
        return text if ended else f"{text}; the processor did not stop when cancelled and was abandoned"

    def _beat_if_due(self, now: float) -> None:
        if now < self._next_beat:
            return
        seconds = self._config.heartbeat_seconds
        self._next_beat = now + seconds
        if self._beat is not None and self._beat.cancel():
            self._journal.warn("heartbeat.failed", claim=self.claim, error=f"no answer within {seconds:g} s")
        self._beat = asyncio.create_task(self._heartbeat(), name=f"heartbeat {self.claim.job.id}")

    async def _heartbeat(self) -> None:
        asked_at = asyncio.get_running_loop().time()
        try:
            stands = await self._store.heartbeat(self.claim)
        except Exception as error:  # noqa: BLE001 - whatever the store raises, the job runs on within its lease
            self._next_beat = asked_at + self._config.heartbeat_seconds / 4
            self._journal.warn("heartbeat.failed", claim=self.claim, error=describe_error(error))
        else:
            if stands:
                self.lease.renew(asked_at=asked_at)
            else:
                self._lost = "the store refused the heartbeat: the job was cancelled or taken back"
        self._attention.set()


def _finished_after_all(execution: Execution) -> Verdict | None:
    """Keep the success of a processor that came to its end while it was being stopped."""
    if not isinstance(execution.answer, Returned):
        return None
    verdict = judge(execution.answer)
    return verdict if isinstance(verdict, Succeeded) else None
