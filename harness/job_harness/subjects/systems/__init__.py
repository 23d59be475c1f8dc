"""Your own system, as it is: unmodified processes under the explorer, by a system file.

`SystemEngine` starts the commands of a file for each run, on a PostgreSQL and a clock of ours; every statement of every
connection, every call to the outside and every timer is a gate. Hides how that is done. Must not know who searches it.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from urllib.parse import unquote

from job_harness.core.history import ACCEPTED, DIFFER_OF, ROW_OF, Outcome, SideEffect, done
from job_harness.core.invariants.rows import ShownBy
from job_harness.core.model import PROCESSING, SECOND, Instant, JobId, JobView, Settings
from job_harness.core.own_code import CodeLine
from job_harness.core.port import (
    Capabilities,
    Claim,
    Contract,
    EngineClocks,
    EngineInfo,
    JobRequest,
    QueueUnderTest,
    Sent,
    ShownFacts,
    WrittenSource,
)
from job_harness.core.printable import printable
from job_harness.core.run.context import RunContext
from job_harness.core.run.stock import request_of, until_sent
from job_harness.core.scenario.job_plan import ERRORS, OUTPUTS, Ending, JobPlan
from job_harness.core.sim import (
    Carried,
    Clocks,
    Frame,
    HostCall,
    HostState,
    Kernel,
    Poll,
    Request,
    Sleep,
    State,
    VerbCall,
)
from job_harness.errors import EnvironmentUnavailable, HarnessError, NothingToJudge
from job_harness.report.blame import lines_of
from job_harness.subjects.systems.declared import declared_parts
from job_harness.subjects.systems.document import (
    ASKED,
    SQS,
    HttpRequest,
    SystemFile,
    SystemFileError,
    at_path,
    filled,
    read_system_file,
)
from job_harness.subjects.systems.http_wire import HttpMessage
from job_harness.subjects.systems.http_wire import request as http_request
from job_harness.subjects.systems.http_wire import response as http_response
from job_harness.subjects.systems.promises import broken, differing, first_row, promised

if TYPE_CHECKING:
    from job_harness.core.run.verdict import Run
    from job_harness.subjects.systems.group import ProcessGroup
    from job_harness.subjects.systems.jobs import JobReader
    from job_harness.subjects.systems.process import SystemProcess, Versions
    from job_harness.subjects.systems.runtime import ProcessEnd, SystemRun
    from job_harness.subjects.systems.stores import SystemStores
    from job_harness.subjects.systems.supervised import SupervisedWorld
    from job_harness.subjects.systems.traffic import OutsideCall

__all__ = ["SystemEngine"]

Upgrade: TypeAlias = "Callable[[SystemProcess], None]"
"""Lets the next start of a process be that of its next version."""

WORKERS: Final = ("w1", "w2", "w3")
_NUMBER: Final = re.compile(r"\d+")
CAPABILITIES: Final = Capabilities(
    release=True,
    signals=True,
    maintenance=True,
    virtual_time=True,
    final_errors=False,
    own_attempts=False,
    results=True,
)


class SystemEngine:
    """Runs the system of a file. Server and programs are found when the first run begins, and live until `close`."""

    def __init__(self, path: str, *, dsn: str | None = None, file: SystemFile | None = None) -> None:
        """Read the file at `path`; `dsn` names a server on which to make databases, instead of one started here.

        `file` is what is said in its place. Raises SystemFileError with `file:line` for what is wrong with the file.
        """
        self.file: SystemFile = read_system_file(path) if file is None else file
        self._dsn = dsn
        self._stores: SystemStores | None = None
        self._at_work: SystemRun | None = None
        """The run of the queue that was opened last."""
        self._processes: list[SystemProcess] = []
        self._world: SupervisedWorld | None = None
        self._group: Callable[..., ProcessGroup[Any]]
        """Puts the processes on the clocks of a run."""
        self._rehearsed = False
        self._columns: frozenset[str] = frozenset()
        """What `jobs` shows of a job, once it was looked at."""
        self._versions: Versions | None = None
        self._sources = StatementSources()
        self.info = self._describe(path)

    def _describe(self, path: str) -> EngineInfo:
        own = self.file.settings
        return EngineInfo(
            path,
            _capabilities(self.file),
            contract=Contract(
                documented={**_unseen(self.file), **self.file.without},
                intended=self.file.without,
                unseen=_unseen(self.file),
                file=path,
                operators=self.file.operators | {OPERATOR},
                designs=self.file.designs,
                schedules=self.file.schedules,
                fixed=frozenset(Settings.names()) - {"workers_enabled"},
                effective=lambda settings: own.changed(workers_enabled=settings.workers_enabled),
            ),
            settings=own,
            safeguards={what: partial(SystemEngine, path, file=file) for what, file in self.file.changes().items()},
            processes=lambda queue: queue.application,
            shows=self._shows,
            prepare=lambda: cast(None, self._ready()),
            provenance=self._provenance,
            confirm=self._confirm,
            promises=promised(self.file, self._look, self._read),
            written=self._sources.written,
            undisturbed=self._judge_undisturbed,
            statements=lambda queue: queue.statements(),
            fails_over=self._fail_over,
            declared=tuple(declared_parts(self.file)),
        )

    def _shows(self) -> ShownFacts:
        file = self.file
        told = file.given | ({"max_attempts"} if file.tells_max_attempts else set())
        return ShownFacts(
            self._columns, told, frozenset(file.actions), bool(file.schedules), bool(file.asks), file.also
        )

    def _provenance(self) -> str:
        return "" if self._stores is None else self._stores.provenance

    def _look(self, sql: str) -> list[dict[str, Any]]:
        return [] if self._stores is None else self._stores.look(sql)

    def _read(self, shown: ShownBy) -> list[dict[str, Any]]:
        return [] if self._stores is None else self._stores.read(shown)

    def _confirm(self) -> None:
        if self._stores is not None:
            self._stores.confirm()

    def _fail_over(self) -> None:
        if self._at_work is not None:
            self._at_work.fail_over()

    def _ready(self) -> SystemStores:
        if self._stores is None:
            from job_harness.subjects.systems.group import PreloadedGroup
            from job_harness.subjects.systems.migration import migrate
            from job_harness.subjects.systems.process import Versions
            from job_harness.subjects.systems.runtime import processes_of
            from job_harness.subjects.systems.stores import SystemStores

            stores = SystemStores(self.file, dsn=self._dsn)
            try:
                if stores.database is not None:
                    migrate(self.file, stores.database)
                if self.file.supervised or stores.database is None:
                    self._supervise(stores)
                else:
                    preloaded = processes_of(self.file, stores.database, WORKERS)
                    self._processes = list(preloaded)
                    self._group = partial(PreloadedGroup, self.file, stores, preloaded)
            except BaseException:
                stores.close()
                raise
            self._stores = stores
            self._versions = Versions(self.file, self._processes)
        return self._stores

    def _supervise(self, stores: SystemStores) -> None:
        from job_harness.subjects.systems.supervised import SupervisedGroup, SupervisedWorld, supervised_processes

        self._world = SupervisedWorld(self.file)
        supervised = supervised_processes(self.file, stores, WORKERS, self._world)
        self._processes = list(supervised)
        self._group = partial(SupervisedGroup, self.file, stores, supervised, world=self._world)

    def open(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> QueueUnderTest:
        """Return the system at its start, seen as a queue without verbs.

        Raises EnvironmentUnavailable without PostgreSQL or a program, SystemFileError where the
        system does not start.
        """
        from job_harness.subjects.systems.jobs import JobReader

        stores = self._ready()
        if not self._rehearsed:
            self._rehearse_send(stores)
            self._rehearse(stores, cast(Clocks, clocks))
            self._rehearsed = True
        stores.renew()
        for process in self._processes:
            self._known_versions.reset(process)
            process.prepare()
        run = self._at_work = self._run(cast(Clocks, clocks))
        try:
            reader = JobReader(self.file, stores, self.file.settings, worker=self._worker)
            self._columns = reader.columns
            if hidden := sorted({_SHOWN_AS.get(name, name) for name in self.file.asks} - self._columns):
                raise SystemFileError(
                    f"{self.file.place('jobs')}: `send` asks for {hidden[0]}, and `jobs` shows no such column",
                    hint=f"Show what was kept of it by AS {hidden[0]}: else nothing could be judged by it.",
                )
            for promise in self.file.no_row:
                first_row(promise, self._look)
            for pair in self.file.agree:
                differing(pair, self._read)
            return cast(
                QueueUnderTest, SystemQueue(self.file, run, reader, self._sources, self._known_versions.upgrade)
            )
        except BaseException:
            run.close()
            raise

    @property
    def _known_versions(self) -> Versions:
        assert self._versions is not None
        return self._versions

    def _run(self, clocks: Clocks) -> SystemRun:
        from job_harness.subjects.systems.runtime import SystemRun

        return SystemRun(self._group(clocks=clocks))

    def _judge_undisturbed(self, run: Run) -> None:
        from job_harness.subjects.systems.undisturbed import refuse

        failed = {each.name: each.output.failed for each in self._processes if each.output.failed}
        refuse(self.file, run, failed=failed, printed={each.name: each.printed.tail for each in self._processes})

    def _rehearse_send(self, stores: SystemStores) -> None:
        """Send a job by its statement. Raises SystemFileError where `jobs` does not show it: it could not be judged."""
        database = stores.database
        if not self.file.send_sql or database is None:
            return
        import psycopg

        from job_harness.subjects.systems.jobs import JobReader

        database.renew()
        database.set_now(0)
        reader = JobReader(self.file, stores, self.file.settings)
        reader.plan([REHEARSED])
        try:
            key = database.send(self.file.send_sql, REHEARSED)
        except psycopg.Error as error:
            message = f"{self.file.place('send')}: send: PostgreSQL refuses it: {str(error).splitlines()[0]}"
            raise SystemFileError(message, hint=f"It is run in the migrated database. {VALUE}") from None
        if key is not None:
            reader.learn(str(key), REHEARSED)
        if REHEARSED not in reader.look():
            raise SystemFileError(
                f"{self.file.place('send')}: send: `jobs` does not show the job that it inserts",
                hint=f"{VALUE} Return the row's id, or show the job as `name`.",
            )

    def _rehearse(self, stores: SystemStores, clocks: Clocks) -> None:
        """Start every process once, with nothing that goes wrong: see what it imports, and that requests are taken.

        All later starts of a Python process can be forks. Raises SystemFileError where a job that
        is sent, or a cron, could not do anything in any run.
        """
        from job_harness.subjects.systems.process import PreloadedProcess

        stores.renew()
        run = self._run(clocks)
        try:
            rehearsal = Rehearsal(self.file, stores, run)
            run.start()
            rehearsal.ask()
        except (EnvironmentUnavailable, NothingToJudge):
            raise  # No server, or no world, is left that could tell it in a run.
        except HarnessError:
            return  # What is wrong is told by the run itself, which starts them again.
        finally:
            run.close()
        rehearsal.judge()
        for process in self._processes:
            if isinstance(process, PreloadedProcess) and process.program.runtime == "python":
                process.launcher.fork_from_now_on(self._known_versions.parents)

    def _worker(self, text: str) -> str:
        """Return the worker that a row names, the same in each run: a process id in it becomes the process's name."""
        known = {pid: name for process in self._processes for pid, name in process.pids.items()}
        return _NUMBER.sub(lambda found: known.get(found[0], found[0]), text)

    def close(self) -> None:
        """Stop what was started. Never raises."""
        for process in self._processes:
            process.close()
        self._processes = []
        if self._world is not None:
            self._world.close()
            self._world = None
        if self._versions is not None:
            self._versions.close()
            self._versions = None
        self._rehearsed = False
        if self._stores is not None:
            self._stores.close()
            self._stores = None


class StatementSources:
    """Who sent each statement first, and from which line, by gate and text; for the screen of a finding."""

    def __init__(self) -> None:
        self._sent: dict[str, dict[str, Sent]] = {}

    def note(self, sent: Sent) -> None:
        """Keep how a statement is written; from where it is sent, once that is known."""
        known = self._sent.setdefault(sent.gate, {})
        if sent.sql not in known or (sent.place and not known[sent.sql].place):
            known[sent.sql] = sent

    def written(self, gate: str, sql: str) -> WrittenSource | None:
        """Show a statement by its text; or by its gate, and several that have the same gate in a line each."""
        known = self._sent.get(gate, {})
        if sql in known:
            where = f"{gate}, sent at {known[sql].place}" if known[sql].place else gate
            return WrittenSource(where, lines_of(sql))
        by = {text: f"{sent.actor} at {sent.place}" if sent.place else sent.actor for text, sent in known.items()}
        if len(by) > 1:
            return WrittenSource(
                f"{gate}: one of {len(by)} statements",
                tuple(f"{who}: {' '.join(text.split())}" for text, who in by.items()),
            )
        return next((WrittenSource(f"{gate}, sent by {who}", lines_of(text)) for text, who in by.items()), None)


REHEARSED: Final = "rehearsal"
"""The job of a rehearsal."""
OPERATOR: Final = "operator"
"""Who did what a process writes while an operator's request is with it."""
LINE: Final = "x-job-harness-line"
"""The header by which our preload says from which line of the user's a call comes."""
VALUE: Final = "`${job}` is a value: write it without quotes."


_SHOWN_AS: Final = {"children": "parent"}


def _capabilities(file: SystemFile) -> Capabilities:
    """Return what the system can do: what the file says of heartbeats and operators, and what `send` may ask for."""
    return replace(
        CAPABILITIES,
        heartbeat=bool(file.settings.heartbeat_interval),
        cancel="cancel" in file.actions,
        retry="retry" in file.actions,
        priorities="priority" in file.asks,
        unique="unique_key" in file.asks,
        serial_keys="serial_key" in file.asks,
        **file.settings.limits(),
        splits="children" in file.asks,
        replica=bool(file.replica),
        wide_values=not file.asks.isdisjoint(("priority", "unique_key")),
    )


def _line_of(message: HttpMessage) -> CodeLine | None:
    number, _, file = message.headers.get(LINE, "").partition(" ")
    return CodeLine(unquote(file), int(number)) if number.isdigit() and file else None


class Rehearsal:
    """What is asked of processes before any run, where nothing goes wrong: each cron once, then one job is sent."""

    def __init__(self, file: SystemFile, stores: SystemStores, run: SystemRun) -> None:
        from job_harness.subjects.systems.jobs import JobReader

        self._file = file
        self._run = run
        self._reader = JobReader(file, stores, file.settings)
        self._reader.plan([REHEARSED])
        self._answers: list[tuple[str, HttpRequest, HttpMessage | None]] = []
        self._before: frozenset[JobId] = frozenset()
        """The jobs that the migration made."""

    def ask(self) -> None:
        """Send the requests. Raises HarnessError where a process ends."""
        send = self._file.send
        self._before = frozenset(self._reader.look())
        asked = [("cron", each.name, each.request) for each in self._file.crons]
        for key, name, request in asked if send is None else [*asked, ("send", "", send)]:
            process = self._run.group.processes[self._run.requests.taker(request.to)]
            asks = request.about(REHEARSED)
            data = http_request(asks.method, asks.path, host="localhost", headers=asks.headers, body=asks.body)
            with suppress(OSError):  # It does not listen: that is told where it starts.
                message = self._run.ask_at_rest(process, data)
                self._answers.append(
                    (f"{self._file.place(key)}: {'.'.join(filter(None, (key, name)))}", request, message)
                )

    def judge(self) -> None:
        """Raise SystemFileError for a request that is refused, and for a job that no row is known to be."""
        for where, request, message in self._answers:
            if message is None:
                continue  # It waits for something that no rehearsal has, such as a host outside.
            sends = request is self._file.send
            if 300 <= message.status < (600 if sends else 500):
                raise SystemFileError(
                    f"{where}: {request.to} answers {request.name} with {message.status} {_begins(message)}".rstrip(),
                    hint="It was tried once, without faults. Look at the path, `headers` and `body`.",
                )
            if sends:
                self._find(where, message)

    def _find(self, where: str, message: HttpMessage) -> None:
        path = self._file.id_path
        key = at_path(message.json(), path) if path else None
        if path and key is None:
            at = ".".join(("$", *path))
            raise SystemFileError(
                f"{where}: id: the response has nothing at {at}: {_begins(message)}",
                hint="Say where it has the id of the job's row; without `id`, rows are known by `name`.",
            )
        found = set(self._reader.look()) - self._before
        if found and REHEARSED not in found:
            raise SystemFileError(
                f"{where}: `jobs` shows the job that was sent as {min(found)!r}, not by the name that ${{job}} "
                f"stands for",
                hint="Show the column that has this name as `name`, or the one that has it somewhere in it as `input`. "
                "Of a broker, let `send` make it an argument of the job, or let `jobs` be a SELECT of your own table.",
            )


def _begins(message: HttpMessage) -> str:
    """Return the beginning of what was answered, in one line."""
    return " ".join(message.body[:200].decode("utf-8", "replace").split())


def _unseen(file: SystemFile) -> Mapping[str, str]:
    """Return the anomalies that cannot be judged, each with the reason."""
    told: dict[str, str] = {}
    if not any(host.work is not None for host in file.outside.values()):
        told["silent_success"] = "no host under `outside` has `work`, so runs of jobs are not seen"
        told["bystander_harmed"] = "no host under `outside` has `work`, so how the work of a job ends is its own affair"
    if file.jobs == SQS and file.sqs is not None and not file.sqs.keeps_order:
        told["stale_complete"] = "a standard queue of SQS may delete a message that another process has received since"
    if not file.tells_max_attempts:
        told["attempt_overrun"] = "neither `settings` nor a column of `jobs` says max_attempts"
    return told


class SystemQueue:
    """What is seen of a system's rows; it has no verbs, for its own processes are at work."""

    def __init__(
        self, file: SystemFile, run: SystemRun, reader: JobReader, sources: StatementSources, upgrade: Upgrade
    ) -> None:
        self.capabilities: Capabilities = _capabilities(file)
        self._run = run
        self._reader = reader
        self._seen: dict[JobId, JobView] = {}
        self._revision = -1
        self._news = False
        self.application = SystemApplication(file, run, reader, sources, upgrade)

    def jobs(self) -> Mapping[JobId, JobView]:
        """Read all jobs, where a transaction may have ended since."""
        revision = self._run.changes.writes
        self._news = revision != self._revision
        if self._news:
            self._revision = revision
            seen = self._reader.look()
            if seen != self._seen:
                self._run.change(self._run.changes.writer)
            self._seen = seen
        return self._seen

    def statements(self) -> list[Sent]:
        """Return what processes sent since this was last asked."""
        return self._run.sent()

    def changed(self) -> list[JobId] | None:
        """Return nothing as long as nothing ended, and then None: changes are not tracked."""
        return None if self._news else []

    def close(self) -> None:
        """End the processes."""
        self._run.close()


class SystemApplication:
    """The processes, the crons and the clients of a system, as a session starts them: `SystemHooks`."""

    def __init__(
        self, file: SystemFile, run: SystemRun, reader: JobReader, sources: StatementSources, upgrade: Upgrade
    ) -> None:
        self._file = file
        self._upgrade = upgrade
        self._run = run
        self._reader = reader
        self._sources = sources
        self._runs: dict[JobId, int] = {}
        self._had: dict[tuple[JobId, str, int], tuple[int, Claim]] = {}
        """By job, process and its life, which delivery it last had a run of, and the run."""
        self._heirs: dict[JobId, JobId] = {}
        """By job that was split, which of its children works as was planned for it."""
        self._looked_at = -1
        self._crons: dict[str, tuple[int, Instant]] = {}
        """By cron, up to which change of the system its last request has looked at everything, and when."""
        self._on_behalf = defaultdict[str, list[str]](list)
        """By process, the operators whose requests it has: what it writes meanwhile is the doing of one of them."""
        self._broken: set[str] = set()
        """Promises that were broken when something was written last."""
        self._differ: dict[str, list[str]] = {}
        """By promise, the keys that two stores showed in different ways when something was done last."""
        shown = (side for each in file.agree for side in (each.each, each.other) if side.key)
        self._seen_calls = frozenset((*(each.call for each in file.at_most_once), *(side.text for side in shown)))
        self._keys: set[tuple[str, str]] = set()
        """Which idempotency keys a host knows, each with the call that it came with."""
        self._world: RunContext
        self._kernel: Kernel

    def clients(self, world: RunContext) -> Mapping[str, Callable[[], Frame]]:
        """Return a factory for each client; nothing of a client crashes."""
        self._take(world)
        return {
            f"client-{plan.name}": partial(self._client, plan) for plan in world.scenario.jobs if not plan.held_back
        }

    def actors(self, world: RunContext) -> Mapping[str, Callable[[], Frame]]:
        """Return what starts each process and each cron, by name."""
        workers = self._workers(world)
        for name in list(self._run.group.processes):
            process = self._run.group.processes[name]
            if process.program.kind.instances and name not in workers:
                del self._run.group.processes[name]
            else:
                world.on_stop[name] = process.terminate
                world.on_deploy[name] = partial(self._deploy, name)
        self._run.start()
        started: dict[str, Any] = {name: ProcessActor(self, name) for name in self._run.group.processes}
        crons = {cron.name: partial(self._cron, cron.name) for cron in self._file.crons}
        return {**started, **crons}

    def _workers(self, world: RunContext) -> tuple[str, ...]:
        kind = self._file.workers
        return () if kind is None else tuple(world.scenario.workers[: kind.instances])

    def _take(self, world: RunContext) -> None:
        self._world = world
        self._reader.plan(world.plans)

    def begin_statement(self, sent: Sent) -> None:
        """Keep how a statement is written."""
        self._sources.note(sent)

    def end_statement(self, sent: Sent) -> None:
        """Observe what a statement did, and keep how it is written."""
        self._sources.note(sent)
        process = self._run.group.processes.get(sent.actor)
        line = process.lines.line_of(sent.place) if process is not None else None
        self._world.observe([sent.actor, *self._on_behalf[sent.actor]][-1], sent.gate, line)
        self._keeps_promises(sent, line)

    def _keeps_promises(self, sent: Sent, line: CodeLine | None) -> None:
        """Look which SELECTs begin to return a row, and what begins to differ, where something was written."""
        if self._run.changes.writes == self._looked_at or not (self._file.no_row or self._file.agree):
            return
        self._looked_at = self._run.changes.writes
        self._compare(sent.actor)
        now = dict(broken(self._file, self._run.stores.look))
        for name in (name for name in now if name not in self._broken):
            data = {"after": sent.gate, "row": now[name], "at": sent.place, "sql": sent.sql}
            self._world.effect(sent.actor, Claim("", 0, 0, sent.actor, "", 0), ROW_OF + name, data, line)
        self._broken = set(now)

    def _compare(self, actor: str) -> None:
        """Look in which keys two stores begin or end to differ that may do so for a while only."""
        for pair in self._file.agree:
            if pair.within is not None:
                now = sorted(differing(pair, self._run.stores.read) or ())
                if now != self._differ.get(pair.name, []):
                    self._differ[pair.name] = now
                    self._world.effect(actor, Claim("", 0, 0, actor, "", 0), DIFFER_OF + pair.name, now)

    def join(self, kernel: Kernel, name: str) -> None:
        """Let a process be an actor of this kernel."""
        self._kernel = kernel
        self._run.join(kernel, self)
        kernel.spawn(name, self._run.life(name), process=True, carrier=self._run)

    def next_instant(self, after: Instant) -> Instant | None:
        """Tell when a job's row changes its meaning by time alone, after an instant."""
        from job_harness.subjects.systems.jobs import instants_of

        views = self._world.job_index.views.values()
        clocks = self._run.group.clocks
        ahead = {
            0,
            clocks.store_offset,
            *clocks.offsets().values(),
        }  # A statement or a process may compare by any of these.
        instants = [at - offset for at in instants_of(views, self._file.settings) for offset in ahead]
        if (ends := self._run.stores.next_change(after)) is not None:
            instants.append(ends)
        return min((at for at in instants if at > after), default=None)

    def end_process(self, process: SystemProcess, end: ProcessEnd) -> None:
        """Observe that a process was told to stop, or failed."""
        if end.told:
            self._world.stopped(process.name, code=end.code)
        else:
            self._world.raised(process.name, "running", _error_in(end.words), "", gone=not end.back)

    def _deploy(self, name: str) -> None:
        """See to it that a process which was told to stop is gone when its grace is over, and that a new one begins."""
        self._kernel.spawn(f"deploy {len(self._kernel.actors)} of {name}", partial(self._replaces, name))

    def _replaces(self, name: str) -> Frame:
        process, actor, kernel = self._run.group.processes[name], self._kernel.actors[name], self._kernel
        life, until = process.life, kernel.now + process.program.kind.grace

        def over() -> Instant:
            return until if process.alive and process.life == life else 0

        yield Poll(SECOND, over, origin=kernel.now, point=f"the grace of {name}")
        if process.alive and process.life == life:
            self._world.killed(name, actor.point)
            kernel.crash(actor)
        if process.life == life and actor.state in (State.CRASHED, State.ENDED):
            self._upgrade(process)
            kernel.start(actor)

    # who asks -------------------------------------------------------------------------------------------------------

    def _client(self, plan: JobPlan) -> Frame:
        name = f"client-{plan.name}"
        yield from until_sent(self._world, plan)
        for number, job in enumerate(plan.names()):
            if number and plan.every:
                yield Sleep(plan.every, f"waiting to send {job}")
            request = request_of(plan, job, self._world, name)
            send = self._send if self._file.send is not None else self._send_by_sql
            yield VerbCall("send", (request,), job, None, partial(send, name, request))
        for action, after in plan.operated():
            yield Sleep(after, f"waiting to {action} {plan.name}")
            yield VerbCall(action, (plan.name,), plan.name, None, partial(self._act, name, action, plan.name))

    def _act(self, client: str, action: str, job: JobId) -> Generator[Request, Any, Outcome]:
        """Do something to a job as an operator does."""
        key = self._reader.id_of(job)
        if key is None:
            return Outcome.refused("no row is known to be this job's")
        request = self._file.actions[action].about(job, id=key)
        data = http_request(request.method, request.path, host="localhost", headers=request.headers, body=request.body)
        taker = self._run.requests.taker(request.to)
        self._on_behalf[taker].append(OPERATOR)
        sent = yield from self._run.requests.ask(taker, data, lambda: self._kernel.actors[client])
        self._on_behalf[taker].remove(OPERATOR)
        if sent.message is None:
            return Outcome.unknown("the connection broke before the reply")
        outcome = _outcome(sent.message, job)
        return outcome._replace(reason=ACCEPTED) if sent.message.status == HTTPStatus.ACCEPTED else outcome

    def _send(self, client: str, asked: JobRequest) -> Generator[Request, Any, Outcome]:
        assert self._file.send is not None
        job = asked.id
        send = self._file.send.about(job, **_parameters_of(asked))
        data = http_request(send.method, send.path, host="localhost", headers=send.headers, body=send.body)
        sent = yield from self._run.requests.ask(
            self._run.requests.taker(send.to), data, lambda: self._kernel.actors[client]
        )
        message = sent.message
        if message is None:
            return Outcome.unknown("the connection broke before the reply")
        key = at_path(message.json(), self._file.id_path) if self._file.id_path else None
        if key is not None and message.status < 300:
            self._reader.learn(str(key), job)
        # With the id of another, it is that job again; where ids are not looked at, only a key that is held says so.
        same = None if self._file.id_path or asked.unique_key else job
        return _outcome(message, same if key is None else self._reader.names.get(str(key), job))

    def _send_by_sql(self, client: str, asked: JobRequest) -> Outcome:
        """Insert a job as a program that is not part of the system would: in one statement.

        What a constraint forbids, such as a key that is held, is refused.
        """
        from psycopg import IntegrityError

        run, job = self._run, asked.id
        database = run.stores.database
        assert database is not None
        run.stores.set_now(run.group.clocks.store())
        try:
            key = database.send(self._file.send_sql, job, **_parameters_of(asked))
        except IntegrityError as error:
            return Outcome.refused(str(error).splitlines()[0])
        run.changes.write("")
        run.change()
        run.nudge()
        if key is not None:
            self._reader.learn(str(key), job)
        return done(job)

    def _cron(self, name: str) -> Frame:
        cron = next(each for each in self._file.crons if each.name == name)

        def due() -> Instant | None:
            saw, at = self._crons.get(name, (-1, -1))
            return 0 if self._run.changes.count != saw else self.next_instant(at)

        while True:
            yield Poll(cron.every, due)
            yield VerbCall("cron", (name,), None, None, partial(self._ask, name, cron.request))

    def _ask(self, name: str, request: Any) -> Generator[Request, Any, Outcome]:
        body = request.body
        data = http_request(request.method, request.path, host="localhost", headers=request.headers, body=body)
        began = self._kernel.now
        taker = self._run.requests.taker(request.to)
        if name in self._file.operators:
            self._on_behalf[taker].append(name)
        sent = yield from self._run.requests.ask(taker, data, lambda: self._kernel.actors[name])
        if name in self._file.operators:
            self._on_behalf[taker].remove(name)
        self._crons[name] = sent.saw, began
        message = sent.message
        return Outcome.unknown("the connection broke before the reply") if message is None else _outcome(message, None)

    # who is asked: what stands for the outside ----------------------------------------------------------------------

    def take_call(self, process: SystemProcess, call: OutsideCall) -> Generator[Request, Any, None]:
        """Do what the host does that the file names; a call may be the work of a job."""
        message = call.message
        assert message is not None
        host = self._file.outside.get(message.host)
        if host is None:
            call.answer(http_response(502, b'{"error": "nothing stands for this host"}'))
            return
        marker = None if host.work is None else at_path(message.json(), host.work)
        job = None if marker is None else self._job_of(str(marker))
        where = f"{message.method} {message.host}{message.path}"
        exchange = HostCall(where if job is None else f"{where} {job}", message.host)
        yield exchange
        if not exchange.happens:
            call.hang_up()
            return
        state, until = self._kernel.hosts.at(self._kernel.now, message.host)
        if state in (HostState.DOWN, HostState.LIMITED):
            self._turn_away(
                process, call, job, max(1, (until - self._kernel.now) // SECOND), down=state is HostState.DOWN
            )
            return
        call.held_by = "" if state is None else message.host
        if job is None:
            self._done(process, Claim("", 0, 0, process.name, "", 0), where, call)
            data = http_response(host.status, _json(host.answer))
        else:
            claim, again = self._begun(process, job)
            if where in self._seen_calls:
                self._done(process, claim._replace(job=job), where, call)
            call.job = claim.job
            plan = self._plan_of(job)
            if not again:
                yield from self._start_work(process, claim, plan)
            data = (
                b""
                if call.closed
                else self._answer(process, claim, plan.ending(claim.attempt), filled(host.answer, job))
            )
        if state is not None and not call.closed:
            own = self._file.settings
            yield Sleep(
                own.job_timeout // 2 if state is HostState.SLOW else 2 * own.lease, f"waiting for {message.host}"
            )
        if exchange.heard:
            call.answer(data)
        else:
            call.hang_up()

    def _turn_away(
        self, process: SystemProcess, call: OutsideCall, job: JobId | None, seconds: int, *, down: bool
    ) -> None:
        """Break the connection, or answer with 429: the host does nothing, and whose work it is has failed."""
        assert call.message is not None
        if job is not None:
            claim, again = self._begun(process, job)
            told = "no connection" if down else f"429, retry-after: {seconds}"
            if not again:
                self._world.effect(process.name, claim, "started")
            self._ended(process, claim, "failure", told, host=call.message.host)
        if down:
            call.hang_up()
        else:
            call.answer(_too_many(seconds))

    def _done(self, process: SystemProcess, claim: Claim, where: str, call: OutsideCall) -> None:
        """Write down that a host did what a call asks for; for a key that it knows it does nothing again."""
        message = call.message
        assert message is not None
        key = self._file.outside[message.host].key_of(message)
        again = key is not None and (where, key) in self._keys
        if key is not None:
            self._keys.add((where, key))
        line = _line_of(message) or process.lines.line_at(call.key)
        self._world.effect(process.name, claim, where, SideEffect(where, key, message.json(), again), line)
        self._run.stores.calls[where].append(message.json())
        self._compare(process.name)

    def _job_of(self, marker: str) -> JobId:
        return marker if marker in self._world.plans else self._reader.called(marker)

    def _start_work(self, process: SystemProcess, claim: Claim, plan: JobPlan) -> Generator[Request, Any, None]:
        """Let the work of a job take its time."""
        ending = plan.ending(claim.attempt)
        self._world.effect(process.name, claim, "started", NEVER if ending is Ending.HANG else None)
        if ending is Ending.HANG:
            yield Sleep(_FOREVER, f"running {claim.job}")
        if duration := plan.duration(claim.attempt, self._file.settings):
            yield Sleep(duration, f"running {claim.job}")

    def _begun(self, process: SystemProcess, job: JobId) -> tuple[Claim, bool]:
        """Count a run of a job, and say whether its process has that run already: each attempt may make many calls.

        Of a job that was sent twice, it is the run of the row that has most deliveries without one.
        """
        views = self._world.job_index.views
        rows = [row for row in self._reader.rows_of(job) if row in views and views[row].status is PROCESSING]
        delivered = {row: self._world.deliveries(row) for row in rows}
        for row, (count, taker) in delivered.items():
            before, claim = self._had.get((row, process.name, process.life), (0, None))
            # What another has taken since, it works on all the same.
            other = taker != process.name and any(had[:2] == (row, taker) for had in self._had)
            if claim is not None and (before == count or other):
                return claim, True
        row = max(rows, key=lambda each: views[each].attempts - self._runs.get(each, 0), default=job)
        number = self._runs[row] = self._runs.get(row, 0) + 1
        claim = Claim(row, number, number, process.name, "", 0)
        if row in delivered:
            self._had[row, process.name, process.life] = delivered[row][0], claim
        return claim, False

    def _plan_of(self, job: JobId) -> JobPlan:
        """Return the plan of a job; of those that one was split into, the first to be at work has that one's."""
        view = self._world.job_index.views.get(job)
        parent = None if view is None or job in self._world.plans else view.parent
        if parent in self._world.plans and self._heirs.setdefault(parent, job) == job:
            return self._world.plan(parent)
        return self._world.plan(job)

    def _answer(self, process: SystemProcess, claim: Claim, ending: Ending, answer: Any) -> bytes:
        def result(more: dict[str, Any]) -> bytes:
            return _json({**more, **answer} if isinstance(answer, dict) else answer)

        if ending is Ending.TOO_MANY:
            self._ended(process, claim, "failure", f"{ERRORS[ending]}, retry-after: {RETRY_AFTER}")
            return _too_many(RETRY_AFTER)
        if ending in ERRORS:
            self._ended(process, claim, "failure", f"500 {printable(ERRORS[ending])}")
            return http_response(500, ERRORS[ending].encode("utf-8", "surrogatepass"), kind="text/plain")
        if ending is Ending.RETURN_NAN:
            self._ended(process, claim, "bad output", f"200 {NO_JSON}")
            return http_response(200, NO_JSON.encode(), kind="text/html")
        if ending in OUTPUTS:  # A NUL in a text is a result all the same.
            odd = result(OUTPUTS[ending])
            self._ended(process, claim, "success", f"200 {odd.decode()}")
            return http_response(200, odd)
        self._world.effect(process.name, claim, "ended", "success")
        return http_response(200, result({"run": claim.attempt, "by": process.name}))

    def _ended(
        self, process: SystemProcess, claim: Claim, how: str, answered: str | None, host: str | None = None
    ) -> None:
        """Observe how the work of a job ended; with a host, that its trouble was to blame.

        What a process calls for again after a failure is another run: the next of those that were drawn.
        """
        if how != "success":
            self._had.pop((claim.job, process.name, process.life), None)
        self._world.effect(process.name, claim, "ended", SideEffect("ended", host, how, reply=answered))

    def give_up_call(self, process: SystemProcess, call: OutsideCall) -> None:
        """Observe that the work of a job ended because its caller no longer waits."""
        if call.job is not None:
            number = self._runs[call.job]
            claim = Claim(call.job, number, number, process.name, "", 0)
            if call.held_by:
                self._ended(process, claim, GIVEN_UP, None, host=call.held_by)
            else:
                self._had.pop((claim.job, process.name, process.life), None)
                self._world.effect(process.name, claim, "ended", GIVEN_UP)


def _parameters_of(request: JobRequest) -> dict[str, Any]:
    return {name: value for name in ASKED.values() if (value := getattr(request, name)) is not None}


NEVER: Final = "never answered"
GIVEN_UP: Final = "given up"
RETRY_AFTER: Final = 30
"""Seconds that a host asks its caller to wait."""
NO_JSON: Final = "<html>Bad gateway</html>"
"""What answers a call in place of the JSON that its caller expects."""
_FOREVER: Final[Instant] = 400 * 24 * 3600 * 1_000_000


class ProcessActor(Carried):
    """A process of a system, before the session has started it."""

    def __init__(self, application: SystemApplication, name: str) -> None:
        self._application = application
        self._name = name

    def join(self, kernel: Kernel) -> None:
        """Become an actor of this kernel."""
        self._application.join(kernel, self._name)


_ERROR: Final = re.compile(r"^\s*(?:\w+\.)*\w*(?:Error|Exception)\b.*", re.MULTILINE)
_LAST_FRAME: Final = re.compile(r'^( *)  File "[^"]*", line \d+.*\n(?:\1   .*\n)*\1(\w.*)', re.MULTILINE)
"""The last frame of a traceback in Python, and the error below it, whatever its class is called."""
_FIRST_FRAME: Final = re.compile(r"^ *((?!at )\w.*)\n +at \S.*", re.MULTILINE)
"""An error in Node, and the first frame below it."""


def _error_in(words: str) -> str:
    """Return the line that names an error, of what a process printed last; else how it ended, and its last line."""
    found = [error for _, error in _LAST_FRAME.findall(words)] or _FIRST_FRAME.findall(words) or _ERROR.findall(words)
    if found:
        return str(found[-1]).strip()
    how, _, printed = words.partition("\n")
    last = printed.rstrip().rpartition("\n")[2].strip()
    return f"{how}; it last printed: {last}" if last else how


def _too_many(seconds: int) -> bytes:
    return http_response(429, b"slow down", kind="text/plain", more=f"retry-after: {seconds}\r\n")


def _outcome(message: HttpMessage, job: JobId | None) -> Outcome:
    if message.status < 300:
        return done(job)
    words = f"{message.status} {message.body[:200].decode('utf-8', 'replace')}"
    return Outcome.refused(words) if message.status < 500 else Outcome.unknown(words)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")
