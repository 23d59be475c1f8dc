"""What 11 virtual minutes of pg-boss's own work() loop cost, against its polls sent bare and with nothing around them.

Usage: .venv/bin/python benchmarks/pgboss_work.py [ROUNDS]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script runs from a checkout
import psycopg
from paired import interleave, seconds_of, show

from job_harness.core.model.duration import MINUTE, SECOND
from job_harness.engines.pgboss.package import NEWEST_OF_10, load
from job_harness.engines.pgboss.translation import uuid_of
from job_harness.engines.pgboss.work import SUPERVISION, WorkProcess, WorkTurn, next_due, poll_of

NEWEST_OF_12: Final = "12.38.0"
SECONDS: Final = 60
LENGTH: Final = 11 * MINUTE
POLL: Final = 2 * SECOND
QUEUE: Final = "mail"
DUE: Final = 10 * MINUTE
WANTED_SECONDS: Final = 1.0
EVERY: Final[Mapping[str, int]] = {}
EMPTY_LEFT_OUT: Final[Mapping[str, int]] = {poll_of(QUEUE): DUE, SUPERVISION: LENGTH}


def loop(process: WorkProcess, skip: Mapping[str, int]) -> Callable[[], float]:
    """Let a job wait for ten minutes, run it, and let time pass to the end."""

    def measure() -> float:
        process.begin()
        assert process.ask("create", 0, queue=QUEUE, options={}).outcome.done
        options = {"batchSize": 5, "pollingIntervalSeconds": POLL // SECOND}
        process.ask("work", 0, queue=QUEUE, options=options, period=POLL // 1000)
        job = {"id": uuid_of("a"), "startAfter": "2030-01-01T00:10:00Z"}
        turn = process.send(0, queue=QUEUE, data={"job": "a", "input": None}, options=job)
        ran = 0

        def work(turn: WorkTurn) -> None:
            nonlocal ran
            while (now := next_due(turn.timers, skip)) is not None and now <= LENGTH:
                turn = process.tick(now, skip=skip)
                for call in turn.calls:
                    ran += 1
                    turn = process.reply(call.number, now)

        taken = seconds_of(lambda: work(turn))
        assert ran == 1, f"the job ran {ran} times"
        return taken

    return measure


def bare(process: WorkProcess, session: psycopg.Connection[Any]) -> Callable[[], float]:
    """Move the database's clock and send pg-boss's statement, once for each poll."""
    fetch = str(load(NEWEST_OF_10).statements["fetch"]).encode()

    def measure() -> float:
        process.tables.empty()

        def work() -> None:
            for now in range(0, LENGTH + 1, POLL):
                process.database.set_now(now)
                session.execute(fetch, [QUEUE, 5], prepare=True).fetchall()

        return seconds_of(work)

    return measure


def main(rounds: int) -> None:
    """Print the table and what the aim came to."""
    with ExitStack() as stack:
        processes = {version: WorkProcess(version) for version in (NEWEST_OF_10, NEWEST_OF_12)}
        for process in processes.values():
            stack.callback(process.close)
            process.begin()
        old = processes[NEWEST_OF_10]
        factory = psycopg.RawCursor
        session = stack.enter_context(psycopg.connect(old.database.url, autocommit=True, cursor_factory=factory))
        measures = {"the polls alone, bare": bare(old, session)}
        for version, process in processes.items():
            measures[f"pg-boss {version}, every round"] = loop(process, EVERY)
            measures[f"pg-boss {version}, empty rounds left out"] = loop(process, EMPTY_LEFT_OUT)
        rows = interleave(measures, rounds=rounds, seconds=SECONDS)
    polls = LENGTH // POLL + 1
    note = f"A poll is due every 2 s, {polls} in all; bare, each moves the database's clock and sends one statement."
    note += " Tests leave empty rounds out."
    show("11 virtual minutes of work()", rows, base="the polls alone, bare", unit="s", note=note)
    for name, values in rows.items():
        if "pg-boss" in name:
            seconds = median(values)
            met = "Met" if seconds <= WANTED_SECONDS else "**Missed**"
            print(f"\nAim: at most {WANTED_SECONDS:g} s for {name!r}. {met}: {seconds:.2f} s.")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
