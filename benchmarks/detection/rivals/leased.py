"""One small lease queue as an asyncio program, with one mistake to switch on; every rival runs this same program.

It imports nothing of this project and nothing of the rivals: what a rival offers (chance, hops) is handed in.
Two workers take two jobs under a lease, a supervisor takes back what is overdue, and the store judges itself at every
verb. A breach ends the run: the supervisor raises `Breach`, whose text is the name of the anomaly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

LEASE = 2.0
MAX_ATTEMPTS = 3
TIME_LIMIT = 120.0

MISTAKES = {
    "stale-complete": "complete asks for the job and its status, not for the token of the claim",
    "claim-read-then-write": "claim reads a waiting job, answers, and writes a step later",
    "expire-ignores-max-attempts": "taking a claim back always gives the job another attempt",
    "expire-too-early": "a claim is taken back at half its lease",
    "expire-never": "nothing takes back the job of a worker that died",
}
RIGHT = "none"


class Breach(AssertionError):
    """What must hold does not."""


class Surroundings(Protocol):
    """What a rival hands in."""

    def below(self, bound: int) -> int:
        """Draw a whole number from 0 to bound - 1."""
        ...

    async def hop(self) -> None:
        """Let a message travel: others may act meanwhile."""
        ...


@dataclass
class Job:
    """One job; `token` rises with each claim."""

    name: str
    takes: float
    status: str = "PENDING"
    attempts: int = 0
    token: int = 0
    lease_until: float = 0.0


@dataclass
class Store:
    """The queue. Each verb is one step of the store, with a message before and one after it."""

    mistake: str
    around: Surroundings
    now: Callable[[], float]
    jobs: dict[str, Job] = field(default_factory=dict)
    breach: str | None = None
    """The first thing that must not be, and was."""

    async def claim(self, worker: str) -> tuple[Job, int] | None:
        """Take the first waiting job."""
        await self.around.hop()
        job = next((job for job in self.jobs.values() if job.status == "PENDING"), None)
        if job is None:
            return None
        if self.mistake == "claim-read-then-write":
            await self.around.hop()
        if job.status == "PROCESSING":
            self.judge("double_claim")
        job.status = "PROCESSING"
        job.attempts += 1
        job.token += 1
        job.lease_until = self.now() + LEASE
        if job.attempts > MAX_ATTEMPTS:
            self.judge("attempt_overrun")
        token = job.token
        await self.around.hop()
        return job, token

    async def complete(self, job: Job, token: int) -> bool:
        """Settle a job; refused where the claim was taken back."""
        await self.around.hop()
        stale = job.token != token
        if job.status != "PROCESSING" or (stale and self.mistake != "stale-complete"):
            return False
        job.status = "COMPLETED"
        if stale:
            self.judge("stale_complete")
        await self.around.hop()
        return True

    def expire(self) -> None:
        """Take back what is overdue."""
        early = LEASE / 2 if self.mistake == "expire-too-early" else 0.0
        for job in self.jobs.values():
            if job.status != "PROCESSING" or self.mistake == "expire-never":
                continue
            if job.lease_until - early <= self.now():
                if job.lease_until > self.now():
                    self.judge("taken_back_early")
                over = job.attempts >= MAX_ATTEMPTS and self.mistake != "expire-ignores-max-attempts"
                job.status = "FAILED" if over else "PENDING"

    def judge(self, anomaly: str) -> None:
        """Note a breach; the first one counts."""
        self.breach = self.breach or anomaly

    @property
    def settled(self) -> bool:
        """Whether every job ended, or a breach ended the run."""
        return self.breach is not None or all(job.status in ("COMPLETED", "FAILED") for job in self.jobs.values())


async def worker(store: Store, name: str) -> None:
    """Claim, work, complete, until everything is settled."""
    while not store.settled:
        taken = await store.claim(name)
        if taken is None:
            await asyncio.sleep(0.5)
            continue
        job, token = taken
        await asyncio.sleep(job.takes)
        await store.complete(job, token)


async def supervisor(store: Store) -> None:
    """Take back what is overdue, once a second, until everything is settled or nothing moves any more."""
    while not store.settled:
        if store.now() > TIME_LIMIT:
            raise Breach("job_stuck")
        await asyncio.sleep(1.0)
        store.expire()
    if store.breach is not None:
        raise Breach(store.breach)


def store_of(mistake: str, around: Surroundings, now: Callable[[], float], *, drawn: bool) -> Store:
    """Return a store with two jobs: of half a lease, or, where `drawn`, of half, one or two leases."""
    store = Store(mistake, around, now)
    for name in ("a", "b"):
        takes = (0.5, 1.0, 2.0)[around.below(3)] * LEASE if drawn else 0.5 * LEASE
        store.jobs[name] = Job(name, takes)
    return store
