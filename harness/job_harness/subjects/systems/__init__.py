"""Your own system, as it is: unmodified processes under the explorer, by a system file.

`SystemEngine` starts the commands of a file for each run, on a PostgreSQL and a clock of ours; every statement of every
connection, every call to the outside and every timer is a gate. Hides how that is done. Must not know who searches it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from job_harness.core.history.event import ROW_OF, SideEffect
from job_harness.core.history.outcome import Outcome, done
from job_harness.core.model.duration import Instant
from job_harness.core.model.job import JobId, JobView
from job_harness.core.model.settings import Settings
from job_harness.core.port import (
    Capabilities,
    Claim,
    Contract,
    EngineClocks,
    EngineInfo,
    QueueUnderTest,
    Sent,
    WrittenSource,
)
from job_harness.core.printable import printable
from job_harness.core.run.context import RunContext
from job_harness.core.run.stock import request_of
from job_harness.core.scenario.job_plan import ERRORS, OUTPUTS, Ending, JobPlan
from job_harness.core.sim.actor import Carried
from job_harness.core.sim.clock import Clocks
from job_harness.core.sim.kernel import Kernel
from job_harness.core.sim.request import Exchange, Frame, Poll, Request, Sleep, VerbCall
from job_harness.errors import HarnessError
from job_harness.report.blame import lines_of
from job_harness.subjects.systems.document import (
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
from job_harness.subjects.systems.promises import broken, first_row, promised

if TYPE_CHECKING:
    from job_harness.core.run.verdict import Run
    from job_harness.subjects.systems.database import SystemDatabase
    from job_harness.subjects.systems.fork_server import ForkServer
    from job_harness.subjects.systems.jobs import JobReader
    from job_harness.subjects.systems.process import SystemProcess
    from job_harness.subjects.systems.runtime import ProcessEnd, SystemRun
    from job_harness.subjects.systems.traffic import OutsideCall

__all__ = ["SystemEngine", "open_engine"]

WORKERS: Final = ("w1", "w2", "w3")
_NUMBER: Final = re.compile(r"\d+")
CAPABILITIES: Final = Capabilities(
    maintenance=True, virtual_time=True, final_errors=False, own_attempts=False, results=True
)


class SystemEngine:
    """Runs the system of a file. Server and programs are found when the first run begins, and live until `close`."""

    def __init__(self, path: str, *, dsn: str | None = None) -> None:
        """Read the file at `path`; `dsn` names a server on which to make databases, instead of one started here.

        Raises SystemFileError with `file:line` for what is wrong with the file.
        """
        self.file: SystemFile = read_system_file(path)
        self._dsn = dsn
        self._database: SystemDatabase | None = None
        self._processes: list[SystemProcess] = []
        self._rehearsed = False
        self._parents: dict[str, ForkServer | None] = {}
        """By kind of process, what its starts are forks of."""
        self._sources: dict[str, dict[str, Sent]] = {}
        """By gate, and by text, who sent a statement first, and from which line."""
        own = self.file.settings
        self.info = EngineInfo(
            path,
            _capabilities(self.file),
            contract=Contract(
                documented={**_unseen(self.file), **self.file.without},
                intended=self.file.without,
                unseen=_unseen(self.file),
                file=path,
                operators=self.file.operators,
                fixed=frozenset(Settings.names()) - {"workers_enabled"},
                effective=lambda settings: own.changed(workers_enabled=settings.workers_enabled),
            ),
            settings=own,
            processes=lambda queue: queue.application,
            prepare=lambda: cast(None, self._ready()),
            provenance=self._provenance,
            confirm=self._confirm,
            promises=promised(self.file, self._look),
            written=self._written,
            undisturbed=self._judge_undisturbed,
            statements=lambda queue: queue.statements(),
        )

    def _provenance(self) -> str:
        return "" if self._database is None else str(self._database.cluster.provenance)

    def _look(self, sql: str) -> list[dict[str, Any]]:
        return [] if self._database is None else self._database.rows(sql)

    def _confirm(self) -> None:
        if self._database is not None:
            self._database.confirm()

    def _ready(self) -> SystemDatabase:
        if self._database is None:
            from job_harness.subjects.systems.database import SystemDatabase
            from job_harness.subjects.systems.migration import migrate
            from job_harness.subjects.systems.runtime import processes_of

            database = SystemDatabase(self._dsn)
            try:
                migrate(self.file, database)
                self._processes = processes_of(self.file, database, WORKERS)
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    def open(self, settings: Settings, clocks: EngineClocks, jitter: Callable[[], float]) -> QueueUnderTest:
        """Return the system at its start, seen as a queue without verbs.

        Raises EnvironmentUnavailable without PostgreSQL or a program, SystemFileError where the system does not start.
        """
        from job_harness.subjects.systems.jobs import JobReader
        from job_harness.subjects.systems.runtime import SystemRun

        database = self._ready()
        if not self._rehearsed:
            self._rehearse_send(database)
            self._rehearse(database, cast(Clocks, clocks))
            self._rehearsed = True
        database.renew()
        for process in self._processes:
            process.prepare()
        run = SystemRun(self.file, database, self._processes, clocks=cast(Clocks, clocks))
        run.on_statement = self._note
        try:
            reader = JobReader(self.file, database, self.file.settings, worker=self._worker)
            for promise in self.file.no_row:
                first_row(promise, self._look)
            return cast(QueueUnderTest, SystemQueue(self.file, run, reader))
        except BaseException:
            run.close()
            raise

    def _judge_undisturbed(self, run: Run) -> None:
        from job_harness.subjects.systems.undisturbed import refuse

        refuse(self.file, run, failed={each.name: each.failed for each in self._processes if each.failed})

    def _rehearse_send(self, database: SystemDatabase) -> None:
        """Send a job by its statement. Raises SystemFileError where `jobs` does not show it: it could not be judged."""
        if not self.file.send_sql:
            return
        import psycopg

        from job_harness.subjects.systems.jobs import JobReader

        database.renew()
        database.set_now(0)
        reader = JobReader(self.file, database, self.file.settings)
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

    def _rehearse(self, database: SystemDatabase, clocks: Clocks) -> None:
        """Start every process once, with nothing that goes wrong: see what it imports, and that requests are taken.

        All later starts of a Python process can be forks. Raises SystemFileError where a job that is sent, or a cron,
        could not do anything in any run.
        """
        from job_harness.subjects.systems.runtime import SystemRun

        database.renew()
        run = SystemRun(self.file, database, self._processes, clocks=clocks)
        try:
            rehearsal = Rehearsal(self.file, database, run)
            run.start()
            rehearsal.ask()
        except HarnessError:
            return  # What is wrong is told by the run itself, which starts them again.
        finally:
            run.close()
        rehearsal.judge()
        for process in self._processes:
            if process.program.runtime == "python":
                process.fork_from_now_on(self._parents)

    def _worker(self, text: str) -> str:
        """Return the worker that a row names, the same in each run: a process id in it becomes the process's name."""
        known = {pid: name for process in self._processes for pid, name in process.pids.items()}
        return _NUMBER.sub(lambda found: known.get(found[0], found[0]), text)

    def _note(self, sent: Sent) -> None:
        """Keep how a statement is written, for the screen of a finding; from where it is sent, once that is known."""
        known = self._sources.setdefault(sent.gate, {})
        if sent.sql not in known or (sent.place and not known[sent.sql].place):
            known[sent.sql] = sent

    def _written(self, gate: str, sql: str) -> WrittenSource | None:
        """Show a statement by its text; or by its gate, and several that have the same gate in a line each."""
        known = self._sources.get(gate, {})
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

    def close(self) -> None:
        """Stop what was started. Never raises."""
        for process in self._processes:
            process.close()
            process.endpoint.end()
            process.outside.close()
        self._processes = []
        for parent in filter(None, self._parents.values()):
            parent.close()
        self._parents.clear()
        self._rehearsed = False
        if self._database is not None:
            self._database.close()
            self._database = None


REHEARSED: Final = "rehearsal"
"""The job of a rehearsal."""
VALUE: Final = "`${job}` is a value: write it without quotes."


def _capabilities(file: SystemFile) -> Capabilities:
    """Return what the system can do; that its workers send heartbeats is what the file says."""
    return replace(CAPABILITIES, heartbeat=bool(file.settings.heartbeat_interval))


class Rehearsal:
    """What is asked of processes before any run, where nothing goes wrong: each cron once, then one job is sent."""

    def __init__(self, file: SystemFile, database: SystemDatabase, run: SystemRun) -> None:
        from job_harness.subjects.systems.jobs import JobReader

        self._file = file
        self._run = run
        self._reader = JobReader(file, database, file.settings)
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
            process = self._run.processes.get(request.to)
            if process is None:
                continue
            body = filled(request.body, REHEARSED)
            data = http_request(request.method, request.path, host="localhost", headers=request.headers, body=body)
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
                hint="Show the column that has this name as `name`, or the one that has it somewhere in it as `input`.",
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
    if not file.tells_max_attempts:
        told["attempt_overrun"] = "neither `settings` nor a column of `jobs` says max_attempts"
    return told


def open_engine(path: str) -> SystemEngine:
    """Return the engine of a system file."""
    return SystemEngine(path)


class SystemQueue:
    """What is seen of a system's rows; it has no verbs, for its own processes are at work."""

    def __init__(self, file: SystemFile, run: SystemRun, reader: JobReader) -> None:
        self.capabilities: Capabilities = _capabilities(file)
        self._run = run
        self._reader = reader
        self._seen: dict[JobId, JobView] = {}
        self._revision = -1
        self._news = False
        self.application = SystemApplication(file, run, reader, self)

    def jobs(self) -> Mapping[JobId, JobView]:
        """Read all jobs, where a transaction may have ended since."""
        revision = self._run.writes
        self._news = revision != self._revision
        if self._news:
            self._revision = revision
            seen = self._reader.look()
            if seen != self._seen:
                self._run.change(self._run.writer)
            self._seen = seen
        return self._seen

    def statements(self) -> list[Sent]:
        """Return what processes sent since this was last asked."""
        return self._run.coordinator.sent()

    def changed(self) -> list[JobId] | None:
        """Return nothing as long as nothing ended, and then None: changes are not tracked."""
        return None if self._news else []

    def close(self) -> None:
        """End the processes."""
        self._run.close()


class SystemApplication:
    """The processes, the crons and the clients of a system, as a session starts them."""

    def __init__(self, file: SystemFile, run: SystemRun, reader: JobReader, queue: SystemQueue) -> None:
        self._file = file
        self._run = run
        self._reader = reader
        self._queue = queue
        self._runs: dict[JobId, int] = {}
        self._looked_at = -1
        self._crons: dict[str, tuple[int, Instant]] = {}
        """By cron, up to which change of the system its last request has looked at everything, and when."""
        self._on_behalf: dict[str, str] = {}
        """By process, the operator's cron whose request it has: what it writes meanwhile is the operator's doing."""
        self._broken: set[str] = set()
        """Promises that were broken when something was written last."""
        self._once = frozenset(each.call for each in file.at_most_once)
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
        for name in list(self._run.processes):
            process = self._run.processes[name]
            if process.program.kind.instances and name not in workers:
                del self._run.processes[name]
            else:
                world.on_stop[name] = partial(self._run.terminate, name)
        self._run.start()
        started: dict[str, Any] = {name: ProcessActor(self, name) for name in self._run.processes}
        crons = {cron.name: partial(self._cron, cron.name) for cron in self._file.crons}
        return {**started, **crons}

    def _workers(self, world: RunContext) -> tuple[str, ...]:
        kind = self._file.workers
        return () if kind is None else tuple(world.scenario.workers[: kind.instances])

    def _take(self, world: RunContext) -> None:
        self._world = world
        run = self._run
        self._reader.plan(world.plans)
        noted = run.on_statement

        def note(sent: Sent) -> None:
            noted(sent)
            world.observe(self._on_behalf.get(sent.actor, sent.actor), sent.gate)
            self._keeps_promises(sent)

        run.on_statement = note
        run.on_call = self._call
        run.on_aborted = self._aborted
        run.on_end = self._end
        run.next_instant = self._next_instant

    def _keeps_promises(self, sent: Sent) -> None:
        """Look which SELECTs begin to return a row, where something was written."""
        if not self._file.no_row or self._run.writes == self._looked_at:
            return
        self._looked_at = self._run.writes
        now = dict(broken(self._file, self._run.database.rows))
        for name in (name for name in now if name not in self._broken):
            data = {"after": sent.gate, "row": now[name], "at": sent.place, "sql": sent.sql}
            self._world.effect(sent.actor, Claim("", 0, 0, sent.actor, "", 0), ROW_OF + name, data)
        self._broken = set(now)

    def join(self, kernel: Kernel, name: str) -> None:
        """Let a process be an actor of this kernel."""
        self._kernel = kernel
        self._run.join(kernel)
        kernel.spawn(name, self._run.life(name), process=True, carrier=self._run)

    def _next_instant(self, after: Instant) -> Instant | None:
        from job_harness.subjects.systems.jobs import instants_of

        views = self._world.job_index.views.values()
        clocks = self._run.clocks
        ahead = {
            0,
            clocks.store_offset,
            *clocks.offsets().values(),
        }  # A statement or a process may compare by any of these.
        instants = [at - offset for at in instants_of(views, self._file.settings) for offset in ahead]
        return min((at for at in instants if at > after), default=None)

    def _end(self, process: SystemProcess, end: ProcessEnd) -> None:
        if end.told:
            self._world.stopped(process.name)
        else:
            self._world.raised(process.name, "running", _error_in(end.words), "", gone=not end.back)

    # who asks -------------------------------------------------------------------------------------------------------

    def _client(self, plan: JobPlan) -> Frame:
        name = f"client-{plan.name}"
        if plan.at:
            yield Sleep(plan.at, f"waiting to send {plan.name}")
        for number, job in enumerate(plan.names()):
            if number and plan.every:
                yield Sleep(plan.every, f"waiting to send {job}")
            request = request_of(plan, job, self._world, name)
            send = self._send if self._file.send is not None else self._send_by_sql
            yield VerbCall("send", (request,), job, None, partial(send, name, job))

    def _send(self, client: str, job: JobId) -> Generator[Request, Any, Outcome]:
        send = self._file.send
        assert send is not None
        body = filled(send.body, job)
        data = http_request(send.method, send.path, host="localhost", headers=send.headers, body=body)
        sent = yield from self._run.ask(send.to, data, lambda: self._kernel.actors[client])
        message = sent.message
        if message is None:
            return Outcome.unknown("the connection broke before the reply")
        key = at_path(message.json(), self._file.id_path) if self._file.id_path else None
        if key is not None and message.status < 300:
            self._reader.learn(str(key), job)
        return _outcome(message, None if key is None else job)  # Without an id, no row is known to be this job's.

    def _send_by_sql(self, client: str, job: JobId) -> Outcome:
        """Insert a job as a program that is not part of the system would: in one statement."""
        run = self._run
        run.database.set_now(run.clocks.store())
        key = run.database.send(self._file.send_sql, job)
        run.writes += 1
        run.writer = ""
        run.change()
        run.nudge()
        if key is not None:
            self._reader.learn(str(key), job)
        return done(job)

    def _cron(self, name: str) -> Frame:
        cron = next(each for each in self._file.crons if each.name == name)

        def due() -> Instant | None:
            saw, at = self._crons.get(name, (-1, -1))
            return 0 if self._run.changes != saw else self._next_instant(at)

        while True:
            yield Poll(cron.every, due)
            yield VerbCall("cron", (name,), None, None, partial(self._ask, name, cron.request))

    def _ask(self, name: str, request: Any) -> Generator[Request, Any, Outcome]:
        body = request.body
        data = http_request(request.method, request.path, host="localhost", headers=request.headers, body=body)
        began = self._kernel.now
        if name in self._file.operators:
            self._on_behalf[request.to] = name
        sent = yield from self._run.ask(request.to, data, lambda: self._kernel.actors[name])
        self._on_behalf.pop(request.to, None)
        self._crons[name] = sent.saw, began
        message = sent.message
        return Outcome.unknown("the connection broke before the reply") if message is None else _outcome(message, None)

    # who is asked: what stands for the outside ----------------------------------------------------------------------

    def _call(self, process: SystemProcess, call: OutsideCall) -> Generator[Request, Any, None]:
        message = call.message
        assert message is not None
        host = self._file.outside.get(message.host)
        if host is None:
            call.answer(http_response(502, b'{"error": "nothing stands for this host"}'))
            return
        marker = None if host.work is None else at_path(message.json(), host.work)
        job = None if marker is None else self._job_of(str(marker))
        where = f"{message.method} {message.host}{message.path}"
        exchange = Exchange(where if job is None else f"{where} {job}")
        yield exchange
        if not exchange.happens:
            call.hang_up()
            return
        if job is None:
            self._done(process, Claim("", 0, 0, process.name, "", 0), where, message)
            data = http_response(host.status, _json(host.answer))
        else:
            if where in self._once:
                number = self._runs.get(job, 0) + 1
                self._done(process, Claim(job, number, number, process.name, "", 0), where, message)
            call.job = job
            data = yield from self._work(process, call, job, host.answer)
        if exchange.heard:
            call.answer(data)
        else:
            call.hang_up()

    def _done(self, process: SystemProcess, claim: Claim, where: str, message: HttpMessage) -> None:
        """Write down that a host did what a call asks for; for a key that it knows it does nothing again."""
        key = self._file.outside[message.host].key_of(message)
        again = key is not None and (where, key) in self._keys
        if key is not None:
            self._keys.add((where, key))
        self._world.effect(process.name, claim, where, SideEffect(where, key, message.json(), again))

    def _job_of(self, marker: str) -> JobId:
        return marker if marker in self._world.plans else self._reader.called(marker)

    def _work(
        self, process: SystemProcess, call: OutsideCall, job: JobId, answer: Any
    ) -> Generator[Request, Any, bytes]:
        """Let the work of a job take its time, and end as it was drawn."""
        number = self._runs[job] = self._runs.get(job, 0) + 1
        plan = self._world.plan(job)
        ending = plan.ending(number)
        claim = Claim(job, number, number, process.name, "", 0)
        self._world.effect(process.name, claim, "started", NEVER if ending is Ending.HANG else None)
        if ending is Ending.HANG:
            yield Sleep(_FOREVER, f"running {job}")
        if duration := plan.duration(number, self._file.settings):
            yield Sleep(duration, f"running {job}")
        if call.closed:
            return b""
        return self._answer(process, claim, ending, filled(answer, job))

    def _answer(self, process: SystemProcess, claim: Claim, ending: Ending, answer: Any) -> bytes:
        def result(more: dict[str, Any]) -> bytes:
            return _json({**more, **answer} if isinstance(answer, dict) else answer)

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

    def _ended(self, process: SystemProcess, claim: Claim, how: str, answered: str) -> None:
        self._world.effect(process.name, claim, "ended", SideEffect("ended", data=how, reply=answered))

    def _aborted(self, process: SystemProcess, call: OutsideCall) -> None:
        if call.job is not None:
            number = self._runs[call.job]
            self._world.effect(process.name, Claim(call.job, number, number, process.name, "", 0), "ended", "given up")


NEVER: Final = "never answered"
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


def _outcome(message: HttpMessage, job: JobId | None) -> Outcome:
    if message.status < 300:
        return done(job)
    words = f"{message.status} {message.body[:200].decode('utf-8', 'replace')}"
    return Outcome.refused(words) if message.status < 500 else Outcome.unknown(words)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")
