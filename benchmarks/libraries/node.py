"""Runs what people import in processors for Node as a job on virtual time, and writes half of results/libraries.md.

Usage: .venv/bin/python benchmarks/libraries/node.py [--only NAME]... [--check]

`node.yaml` beside this file has a case for each library. Its newest release is installed from npm into a temporary
folder; PostgreSQL is that of `worlds.postgres`, Redis that of `worlds.redis`, and MySQL needs a `mariadbd` on the path.
A case fails where its job does, where another length of virtual time passed than it says, where the harness had
something to note, or where the job took more than a second of real time. It ends with 1 where a case failed, and with 4
without npm, Node or a registry that answers. `--check` leaves the page as it is.
"""

from __future__ import annotations

import contextlib
import getpass
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from ruamel.yaml import YAML

HERE: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1])]  # a script runs from a checkout

from benchmarks.libraries.tables import Line, asked, stall_seconds, write  # noqa: E402 - the path comes first

from job_harness import JobHarness, TypeScriptProcessor  # noqa: E402 - the path comes first
from job_harness.errors import EnvironmentUnavailable, HarnessError  # noqa: E402
from job_harness.extras import install as how_to_install  # noqa: E402
from job_harness.worlds.packages import find_npm, find_typescript_node  # noqa: E402
from job_harness.worlds.postgres import provision  # noqa: E402
from job_harness.worlds.redis.server import EXTRA, programs  # noqa: E402

PRELUDE: Final = "const sleep = (ms: number) => new Promise((go) => setTimeout(go, ms));\n"
SLOW_SECONDS: Final = 0.05
"""Real seconds that the server's slow answer takes, in two parts."""
INSTALL_SECONDS: Final = 300
SERVER_SECONDS: Final = 10


class Case(NamedTuple):
    """One library at work in a job."""

    library: str
    does: str
    source: str
    holds: str
    packages: tuple[str, ...]
    needs: str
    shortest: float
    longest: float


class Row(NamedTuple):
    """How a case went."""

    library: str
    version: str
    does: str
    problem: str
    real_ms: float
    skipped: bool = False


def cases() -> list[Case]:
    """Read what is tried."""
    read = YAML(typ="safe").load((HERE / "node.yaml").read_text("utf-8"))
    return [_case(each) for each in read]


def _case(part: dict[str, object]) -> Case:
    shortest, _, longest = str(part["passes"]).replace("s", "").partition("..")
    packages = part.get("packages", [part["library"]])
    assert isinstance(packages, list)
    return Case(
        str(part["library"]),
        str(part["does"]),
        str(part["source"]),
        str(part.get("holds", "")),
        tuple(packages),
        str(part.get("needs", "")),
        float(shortest),
        float(longest or shortest),
    )


# servers --------------------------------------------------------------------------------------------------------------


class Answers(http.server.BaseHTTPRequestHandler):
    """Serves JSON: `/slow` in two parts, `/flaky/...` after one 503, a POST after one lost reply."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[Counter[str]] = Counter()
    keys: ClassVar[dict[str, set[str]]] = {}

    def do_GET(self) -> None:
        self._seen()
        if self.path.startswith("/flaky") and self.seen[self.path] == 1:
            self._send(503, {"error": {"message": "busy"}})
        elif self.path == "/slow":
            self._send(200, {"ok": True}, parts=2)
        else:
            self._send(200, {"ok": True})

    def do_POST(self) -> None:
        self._seen()
        self.rfile.read(int(self.headers.get("content-length") or 0))
        keys = self.keys.setdefault(self.path, set())
        keys.add(str(self.headers.get("idempotency-key")))
        if self.seen[self.path] == 1:
            self._send(503, {"error": {"message": "busy"}})
        else:
            self._send(200, {"id": "c1", "keys": len(keys)})

    def _seen(self) -> None:
        self.seen[self.path] += 1

    def _send(self, status: int, body: dict[str, object], *, parts: int = 1) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if parts == 2:
            self.wfile.write(data[:1])
            self.wfile.flush()
            time.sleep(SLOW_SECONDS)
            data = data[1:]
        self.wfile.write(data)

    def log_message(self, *about: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def web() -> Iterator[str]:
    """Serve `Answers`; yield its URL."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client: object) -> None:
            """Say nothing of a client that is killed with its connection open."""

    with Server(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Start a Redis; yield its URL. Raises EnvironmentUnavailable without one."""
    program = next((str(each.path) for each in programs()), None)
    if program is None:
        raise EnvironmentUnavailable(f"there is no Redis server: install it with {how_to_install(EXTRA)}")
    with serving(program, "--save", "", "--appendonly", "no") as port:
        yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def mysql() -> Iterator[str]:
    """Start a MariaDB; yield the URL of a database. Raises EnvironmentUnavailable without one."""
    program = shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        raise EnvironmentUnavailable("there is no mariadbd on the path")
    with tempfile.TemporaryDirectory(prefix="job-harness-mysql-") as made:
        (Path(made) / "data" / "jobs").mkdir(parents=True)  # A folder is a database; none of its own tables is needed.
        options = [f"--datadir={made}/data", f"--user={getpass.getuser()}", "--skip-grant-tables"]
        with serving(program, "--no-defaults", *options, "--bind-address=127.0.0.1", f"--socket={made}/socket") as port:
            yield f"mysql://root@127.0.0.1:{port}/jobs"


@contextlib.contextmanager
def serving(*command: str) -> Iterator[int]:
    """Start a server that takes `--port`; yield that of loopback on which it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = subprocess.DEVNULL
    with subprocess.Popen([*command, "--port", str(port)], stdout=quiet, stderr=quiet) as process:
        try:
            until = time.monotonic() + SERVER_SECONDS
            while time.monotonic() < until:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Provision a PostgreSQL; yield the URL of a database. Raises EnvironmentUnavailable without one."""
    with provision(tcp=True) as cluster:
        yield cluster.url(tcp=True)


SERVERS: Final = {"http": web, "redis": redis, "postgres": postgres, "mysql": mysql}


# running --------------------------------------------------------------------------------------------------------------


def install(folder: Path, packages: list[str]) -> None:
    """Install the newest releases. Raises EnvironmentUnavailable where that fails."""
    (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
    options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--loglevel=error"]
    done = subprocess.run(
        [find_npm(), "install", *options, *packages],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if done.returncode:
        raise EnvironmentUnavailable(f"npm could not install them: {done.stderr.strip()[-300:]}")


def version_of(folder: Path, case: Case) -> str:
    """Return which release of the library is installed; nothing for what comes with Node."""
    if not case.packages:
        return ""
    manifest = folder / "node_modules" / case.packages[0] / "package.json"
    return str(json.loads(manifest.read_text("utf-8"))["version"])


def tried(folder: Path, case: Case, number: int) -> Row:
    """Let the job run, and say what was wrong with it."""
    file, holding = folder / f"case_{number}.ts", folder / f"holding_{number}.ts"
    file.write_text(case.source + PRELUDE, encoding="utf-8")
    holding.write_text(case.holds + PRELUDE, encoding="utf-8")
    does = f"{case.does}; survives a worker's death" if case.holds else case.does
    with contextlib.ExitStack() as stack:
        version = version_of(folder, case)
        try:
            input = stack.enter_context(SERVERS[case.needs]()) if case.needs else None
        except EnvironmentUnavailable as unavailable:
            return Row(case.library, version, does, f"not tried: {unavailable.message}", 0, skipped=True)
        try:
            problem, real = _ran(file, case, input)
            problem = problem or (_died(holding, input) if case.holds else "")
        except HarnessError as error:
            problem, real = error.message, 0.0
    return Row(case.library, version, does, problem, real * 1000)


def _ran(file: Path, case: Case, input: object) -> tuple[str, float]:
    with JobHarness() as jobs:
        jobs.register("tool", TypeScriptProcessor(f"{file}#run", fetch="real"))
        job = jobs.enqueue("tool", input, max_attempts=1)
        began = time.perf_counter()
        jobs.run_until_idle()
        real = time.perf_counter() - began
        at = {event.name: event.at for event in jobs.history.of_job(job.id) if hasattr(event, "name")}
        passed = (at["ended"] - at["started"]) / 1e6
        if job.status != "COMPLETED" or job.output is not True:
            return f"{job.status}: {job.error or job.output}", real
        if not case.shortest <= passed <= case.longest + 0.1:
            return f"{passed:g} s of virtual time passed, not {case.shortest:g} to {case.longest:g}", real
        if notes := [*jobs.notes(), *jobs.problems()]:
            return "; ".join(notes), real
        return (f"it took {real:.1f} s of real time" if real > stall_seconds() else ""), real


def _died(file: Path, input: object) -> str:
    """Let the worker die while its job holds something, and say what was wrong with the next attempt."""
    with JobHarness() as jobs:
        jobs.register("tool", TypeScriptProcessor(f"{file}#run", fetch="real"))
        job = jobs.enqueue("tool", input)
        jobs.advance("1m")
        jobs.crash_worker()
        jobs.run_until_idle()
        if (job.status, job.attempts, job.output) != ("COMPLETED", 2, True):
            return f"a worker died, and then: {job.status} after {job.attempts} attempts: {job.error or job.output}"
        return "; ".join(f"a worker died: {note}" for note in (*jobs.notes(), *jobs.problems()))


def main() -> int:
    """Try them, say how each went, and write the page."""
    options = asked(__doc__)
    wanted = [case for case in cases() if not options.only or case.library in options.only]
    with tempfile.TemporaryDirectory(prefix="job-harness-libraries-") as made:
        folder = Path(made).resolve()
        try:
            find_typescript_node()
            install(folder, sorted({package for case in wanted for package in case.packages}))
        except EnvironmentUnavailable as unavailable:
            print(f"not tried: {unavailable}")
            return 4
        rows = []
        for number, case in enumerate(wanted):
            row = tried(folder, case, number)
            rows.append(row)
            print(f"{row.library:14} {row.version:10} {row.real_ms:6.0f} ms  {row.problem or 'works'}", flush=True)
    if not options.only and not options.check:
        where = f"Tried on Node {find_typescript_node().version[0]}, each with its newest release."
        lines = (Line(row.library, row.version or "of Node", row.does, row.problem or "works") for row in rows)
        write("node", lines, where=where)
    return int(any(row.problem and not row.skipped for row in rows))


if __name__ == "__main__":
    sys.exit(main())
