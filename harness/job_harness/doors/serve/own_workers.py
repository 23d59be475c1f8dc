"""A test whose workers are the user's own: `boss.work(...)`, `run({...})`, whatever it starts in its process.

They have a PostgreSQL whose clock is ours, and their timers fire when the test lets time pass. What
becomes of jobs is read from the library's table, and from a log of its changes, which is judged as
an audit is. Hides the database, how time goes from timer to timer, what rows say. Must not know:
lines, processors, faults.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeAlias

import psycopg

from job_harness.core.model import DAY, SECOND, Duration, Instant, JobId, Status, format_duration
from job_harness.doors.serve.conversation import Conversation
from job_harness.errors import EnvironmentUnavailable, LimitReached, UsageError, did_you_mean
from job_harness.report.screen import first_screen, screen_text
from job_harness.review.audit.database import LOG, LOGGED, LogPlan, log_evidence, run_sql, snapshot
from job_harness.review.audit.job_table import HASHED, DescribedTable, job_table
from job_harness.review.audit.judging import Auditor
from job_harness.subjects.processors.length import read_length
from job_harness.subjects.systems.database import SystemDatabase
from job_harness.worlds.patience import Deadline
from job_harness.worlds.peers.peer import Report
from job_harness.worlds.postgres.provider import DSN_VARIABLE
from job_harness.worlds.postgres.virtual_clock import check
from job_harness.worlds.wire.database import exact_milliseconds_of, instant_at

LONGEST: Final[Duration] = 90 * DAY
"""Virtual time of one `run_until_idle`."""
MOST_TICKS: Final = 200_000
"""Timers of one verb."""
STILL_TICKS: Final = 5_000
"""Timers of a `run_until_idle` without any change of a job: nearly three hours of a poll every two seconds."""
DUE_TICKS: Final = 500
"""Timers without any change after which a job that is due, while none runs, counts as forgotten: sixteen minutes of a
poll every two seconds. 5 000 of them took 97 s with pg-boss; a test runner gives up before that and cannot say why."""
TELLS_EVERY_SECONDS: Final = 10.0
"""Real seconds of one verb after which it says how far it has come: a test runner gives up without a word of that."""
GONE_SECONDS: Final = 5.0
"""Real seconds within which PostgreSQL ends the sessions of a worker that died."""
ENDED: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
Standing: TypeAlias = dict[JobId, Status | None]
"""The status of each job; None where that says nothing."""
ON_REDIS: Final = ("bull", "bullmq", "bee-queue", "bee")


class LoggedLife(NamedTuple):
    """What the log says about one job: its last row, and the statuses that it went through."""

    entry: dict[str, Any]
    path: list[Status]


class OwnWorkers:
    """One database for all tests of a client, and a fresh clone of it for each."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._database: SystemDatabase | None = None
        self._table: DescribedTable | None = None
        self._now: Instant = 0
        self._logged = False
        self._told: dict[JobId, dict[str, Any]] = {}
        self._deleted: Standing = {}
        """How jobs ended whose rows are gone."""
        self._broken: list[str] = []
        """What a check of the test's own found wrong, in words."""
        self.title = ""

    def open(self, queue: str, *, title: str) -> dict[str, Any]:
        """Begin at the instant 0 with an empty database, where `queue` is the table of jobs by name or by its file.

        Raises UsageError for a queue that cannot be seen, EnvironmentUnavailable without
        PostgreSQL.
        """
        table = table_of(queue)
        if self._database is None:
            self._database = SystemDatabase(tcp=True)
        server = psycopg.conninfo.conninfo_to_dict(self._database.cluster.url(tcp=True))
        if str(server.get("host") or "/").startswith("/"):
            raise EnvironmentUnavailable(
                "this PostgreSQL is reached only over its Unix socket, where a test cannot see who waits for it",
                hint=f"Let {DSN_VARIABLE} name it by host and port, or leave that out: then one is started.",
            )
        self._database.renew()
        self._now, self._logged, self.title = 0, False, title
        self._told, self._deleted, self._broken = {}, {}, []
        self._conversation.between_turns()  # Of workers of the test before.
        self._table = table
        return {"now": self.now_ms, "engine": table.name, "url": self._url}

    @property
    def is_open(self) -> bool:
        """Whether a test is at work."""
        return self._table is not None

    @property
    def now_ms(self) -> float:
        """The virtual time of day in milliseconds since 1970."""
        return exact_milliseconds_of(self._now)

    @property
    def _at(self) -> SystemDatabase:
        assert self._database is not None, "it was opened"
        return self._database

    @property
    def _jobs(self) -> DescribedTable:
        assert self._table is not None, "it was opened"
        return self._table

    @property
    def _url(self) -> str:
        return self._at.cluster.url(self._at.name, tcp=True)

    # time -----------------------------------------------------------------------------------------------------------

    def advance(self, by: Any) -> None:
        """Let time pass and every timer fire that is due meanwhile."""
        self._move_to(self._now + read_length(by))

    def run_until_idle(self) -> None:
        """Let time pass until no job waits or runs. Raises LimitReached where none changes any more."""
        why = self._run_until(self._now + LONGEST, until=lambda standing: not _unfinished(standing), still=STILL_TICKS)
        if left := _unfinished(self._standing()):
            why = why or "no timer is set any more"
            raise LimitReached(f"still not idle, {why}: {self._words(left)}", hint=_WHO_WORKS)

    def wait_for(self, job: JobId, status: str | None = None, *, within: Any = "1d") -> None:
        """Let time pass until a job has ended, or has a status. Raises LimitReached where no worker takes a due job."""
        wanted = ENDED if status is None else {self._status(status)}
        if job not in (known := self._standing()):
            raise UsageError(
                f"wait_for: there is no job {job!r} in {self._jobs.table}{did_you_mean(job, known)}",
                hint="Await what sends it.",
            )
        why = self._run_until(self._now + read_length(within), until=lambda standing: standing.get(job) in wanted)
        if why:
            raise LimitReached(f"{self._words([job])}: {why}", hint=_WHO_WORKS)
        if self._standing().get(job) not in wanted:
            what = "did not end" if status is None else f"did not become {status}"
            raise AssertionError(f"{self._words([job])}: it {what} within {within}")

    def _run_until(self, end: Instant, *, until: Callable[[Standing], bool], still: int | None = None) -> str:
        """Let time pass until something holds; return why that is given up, as after `still` timers of no change."""
        seen: Standing = {}
        ticks, why = 0, ""

        def over() -> bool:
            nonlocal seen, ticks, why
            standing = self._standing()
            ticks, seen = (ticks + 1 if standing == seen else 0), standing
            if until(standing):
                return True
            if ticks and ticks % DUE_TICKS == 0 and self._overlooked():
                why = f"a job is due, and no worker took it while {ticks} timers fired"
            elif still is not None and ticks > still:
                why = f"in {still} timers no job changed"
            return bool(why)

        self._move_to(end, until=over)
        return why

    def _move_to(self, end: Instant, *, until: Callable[[], bool] | None = None) -> None:
        """Go from timer to timer up to an instant; with `until` no further than it holds, or than anything happens."""
        began, telling = self._now, Deadline(TELLS_EVERY_SECONDS)
        due = self._tick(self._now)
        for ticks in range(MOST_TICKS):
            self.watch()
            if telling.passed:
                telling = Deadline(TELLS_EVERY_SECONDS)
                passed = format_duration((self._now - began) // SECOND * SECOND)
                self._conversation.tell(
                    f"job-harness: {self.title}: {passed} of virtual time so far, in which {ticks} timers fired; each "
                    "waits for its query. A worker that polls less often is faster"
                )
            if until is not None and until():
                return
            if due is None or due > end:
                if until is None:
                    self._tick(end)
                    self.watch()
                return
            due = self._tick(max(due, self._now))
        raise LimitReached(f"more than {MOST_TICKS} timers fired", hint="Look for a timer that sets itself again.")

    def _tick(self, now: Instant) -> Instant | None:
        """Let the client's timers fire that are due; return when the next one is."""
        self._now = now
        self._at.set_now(now)
        return self._heard(self._conversation.time(self.now_ms))

    def _heard(self, said: Sequence[Report]) -> Instant | None:
        """Begin anew all who have died in a turn, or since the one before; return when the next timer fires."""
        reports = deque([*self._conversation.between_turns(), *said])
        due = None
        while reports:
            report = reports.popleft()
            if report.get("effect") == "died":
                reports.extend(self._begun_anew(report["actor"], report["data"]["ports"]))
            elif "idle" in report:
                due = report.get("next")
        return None if due is None else instant_at(due)

    def died(self, worker: str, ports: Sequence[int]) -> None:
        """Let what a dead worker held open be rolled back, and a new one begin."""
        self._heard(self._begun_anew(worker, ports))

    def _begun_anew(self, worker: str, ports: Sequence[int]) -> Sequence[Report]:
        self._wait_for_gone(ports)
        return self._conversation.go("again", actor=worker, now=self.now_ms)

    def _wait_for_gone(self, ports: Sequence[int]) -> None:
        patience = Deadline(GONE_SECONDS)
        listed = ", ".join(str(int(port)) for port in ports) or "0"
        query = f"SELECT FROM pg_stat_activity WHERE client_port IN ({listed})"
        while self._at.rows(query) and not patience.passed:
            patience.pause(0.002)

    # rows -----------------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Let changes of jobs be written down from here on, once the library has made its tables."""
        if self._logged or not self._exists():
            return
        table = self._jobs
        run_sql(self._url, LogPlan(table).install_sql())
        entry = f"{LOG}_entry(job)"
        rows = f"SELECT {entry} ->> 'id', {entry} FROM {table.table} AS job ORDER BY 1"
        self._at.rows(f"INSERT INTO {LOG} (job, after) {rows} RETURNING job")
        self._logged = True
        with psycopg.connect(self._url, autocommit=True) as session:
            check(session)
        self._at.set_now(self._now + 1)  # The check has moved the clock, unseen.
        self._at.set_now(self._now)

    def _exists(self) -> bool:
        return bool(self._at.rows(f"SELECT WHERE to_regclass('{self._jobs.table}') IS NOT NULL"))

    def _standing(self) -> Standing:
        """Return the status of each job."""
        with self._explain_missing():
            columns = self._jobs.columns
            found = self._at.rows(
                f"SELECT ({columns['id']})::text AS id, ({columns['status']})::text AS status "
                f"FROM {self._jobs.rows} AS job"
            )
        return {**self._ended(), **{row["id"]: self._jobs.status.get(row["status"]) for row in found}}

    def _ended(self) -> Standing:
        """Return how jobs ended whose rows the library deletes with that."""
        if not (self._logged and self._jobs.deletes):
            return {}
        gone = {row["job"] for row in self._at.rows(f"SELECT job FROM {LOG} WHERE after IS NULL")}
        if gone - self._deleted.keys():
            self._deleted = {job: life.path[-1] for job, life in self._lives().items() if job in gone and life.path}
        return self._deleted

    @contextmanager
    def _explain_missing(self) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.UndefinedTable:
            raise UsageError(
                f"there is no table {self._jobs.table} in the database of this test",
                hint="Let the library make it first: await boss.start(), with harness.databaseUrl.",
            ) from None
        except psycopg.errors.UndefinedColumn as error:
            raise UsageError(
                f"{self._jobs.name}: {str(error).splitlines()[0]}",
                hint="The name is for another release: `pgboss10` is pg-boss 10, `pgboss` 11 and 12.",
            ) from None

    def _overlooked(self) -> bool:
        """Whether a job is due and none runs."""
        columns, status = self._jobs.columns, self._jobs.status
        due = (
            f"COALESCE(({columns['start_after']})::timestamptz <= now(), true)" if "start_after" in columns else "true"
        )
        found = self._at.rows(
            f"SELECT ({columns['status']})::text AS status, {due} AS due FROM {self._jobs.rows} AS job"
        )
        told = {(status.get(row["status"]), row["due"]) for row in found}
        return (Status.PENDING, True) in told and all(each is not Status.PROCESSING for each, _ in told)

    def _words(self, jobs: Collection[JobId]) -> str:
        standing = self._standing()
        told = [f"{job} is {standing.get(job) or 'gone'}" for job in sorted(jobs)]
        return ", ".join(told[:3]) + (f" and {len(told) - 3} more" if len(told) > 3 else "")

    def _status(self, name: str) -> Status:
        try:
            return Status(name)
        except ValueError:
            raise UsageError(f"there is no status {name!r}{did_you_mean(name, Status)}") from None

    def news(self) -> dict[str, Any]:
        """Return the time, and the jobs that changed since this was last called."""
        fresh = [job for job in self._rows() if self._told.get(job["id"]) != job] if self._logged else []
        self._told.update({job["id"]: job for job in fresh})
        return {"now": self.now_ms, "jobs": fresh, "effects": []}

    def _rows(self) -> list[dict[str, Any]]:
        table, lives = self._jobs, self._lives()
        raw = {name: f"to_jsonb({table.columns[name]})" if name in table.columns else "NULL" for name in HASHED}
        with self._explain_missing():
            found = self._at.rows(
                f"SELECT {table.entry()} AS entry, {raw['output']} AS output, {raw['error']} AS error "
                f"FROM {table.rows} AS job"
            )
        told = [
            self._job(row["entry"], row["output"], row["error"], lives.pop(row["entry"]["id"], None)) for row in found
        ]
        # What a library deletes once it is done has its last row in the log.
        return [*told, *(self._job(life.entry, None, None, life) for life in lives.values())]

    def _job(self, entry: dict[str, Any], output: Any, error: Any, life: LoggedLife | None) -> dict[str, Any]:
        status = self._jobs.status.get(str(entry["status"])) if life is None or not life.path else life.path[-1]
        failed = status is Status.FAILED and error is None
        path = [] if life is None else life.path
        return {
            "id": str(entry["id"]),
            "runs": path.count(Status.PROCESSING),
            "tool": entry.get("tool"),
            "status": status,
            "attempts": entry.get("attempts", 0),
            "maxAttempts": entry.get("max_attempts"),
            "output": None if failed else output,
            "error": _text(output if failed else error),
            "path": path,
        }

    def _lives(self) -> dict[JobId, LoggedLife]:
        """Return what the log says about each job; a claim right after a claim is one more."""
        lives: dict[JobId, LoggedLife] = {}
        for row in self._at.rows(f"SELECT job, after FROM {LOG} WHERE {LOGGED} ORDER BY id"):
            entry = row["after"]
            life = lives.setdefault(row["job"], LoggedLife({}, []))
            if entry is None:
                if end := self._jobs.deletion_of(life.path[-1] if life.path else None):
                    life.path.append(end)
                continue
            status = self._jobs.status.get(str(entry["status"]))
            claims = status is Status.PROCESSING and any(
                entry.get(name) != life.entry.get(name) for name in ("attempts", "started_at")
            )
            if status is not None and (not life.path or life.path[-1] is not status or claims):
                life.path.append(status)
            life.entry.clear()
            life.entry.update(entry)
        return lives

    # the end --------------------------------------------------------------------------------------------------------

    def finish(self, *, looked: Collection[str], judge: bool) -> dict[str, Any]:
        """Judge what was written down, in words; the database is given up."""
        try:
            if not judge:
                return {"problems": [], "notes": [], "unjudged": []}
            self.watch()
            judged, gap = self._judge(looked) if self._logged else (list(self._unjudged()), "")
            problems = [*self._broken, *judged]
            return {"problems": problems, "notes": [], "unjudged": [gap] if gap and not problems else []}
        finally:
            self._table = None

    def report(self, name: str, message: str) -> None:
        """Remember that a check of the test's own does not hold."""
        at = format_duration(self._now)
        self._broken.append(f"invariant_violated: A check of your own failed.\nHere: t+{at}: {name}: {message}")

    def _unjudged(self) -> Iterator[str]:
        """Say that the table of jobs is not there, where the test has made others."""
        made = self._at.rows(
            "SELECT schemaname AS schema, tablename AS name FROM pg_tables "
            "WHERE schemaname !~ '^(pg_catalog|information_schema|job_harness.*)$' ORDER BY 1, 2"
        )
        if not made:
            return
        *_, wanted = self._jobs.table.replace('"', "").split(".")
        near = [f"{row['schema']}.{row['name']}" for row in made if row["name"] == wanted]
        found = f"; there is {', '.join(near)}: describe that table in a file, and name it as the queue" if near else ""
        yield f"nothing was judged: there is no table {self._jobs.table} in the database of this test{found}"

    def _judge(self, looked: Collection[str]) -> tuple[list[str], str]:
        """Return what is wrong, and what the log lacks, in words."""
        with snapshot(self._url, ours=True) as session:
            evidence = log_evidence(session)
            auditor = Auditor(evidence)
            auditor.take(evidence.read(None))
            audit = auditor.finish()
        screens = [
            screen_text(first_screen(each.story, title=self.title, lead=each.name)).rstrip() for each in audit.findings
        ]
        failed = sorted(job["id"] for job in self._rows() if job["status"] is Status.FAILED and job["id"] not in looked)
        if failed:
            screens.append(
                f"a job ended FAILED and the test never looked at its status, error or path: {', '.join(failed)}"
            )
        return screens, evidence.gap

    def close(self) -> None:
        """End the database. Never raises."""
        if self._database is not None:
            self._database.close()


_WHO_WORKS: Final = (
    'Is its worker at work? Begin it in the test: harness.start("worker", () => startWorker(harness.databaseUrl)). '
    "advance() lets more time pass."
)


def _unfinished(standing: Standing) -> list[JobId]:
    return [job for job, status in standing.items() if status not in ENDED and status is not None]


def table_of(queue: str) -> DescribedTable:
    """Return where a queue has its jobs. Raises UsageError for one whose workers cannot be run so."""
    if queue.partition("@")[0] in ON_REDIS:
        raise UsageError(
            f"workers of {queue} cannot run on the virtual time of a test",
            hint="They wait in a blocking command of Redis, which looks like a reply that is still on its way. "
            "Register the processor with jobHarness(), or search the queue: job-harness explore bullmq-redis.",
        )
    table = job_table(queue)
    if table.changes:
        raise UsageError(f"{queue} is a log of changes, not a table of jobs", hint="Name the table of jobs.")
    return table


def _text(value: Any) -> str | None:
    """Return an error as a library keeps it: as text, or as the fields of an Error."""
    if value is None or isinstance(value, str):
        return value
    message = value.get("message") if isinstance(value, dict) else None
    return str(value if message is None else message)
