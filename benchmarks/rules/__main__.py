"""Runs what each rule about a queue claims on releases of that queue: `make rules`, or one library or rule at a time.

Usage: .venv/bin/python benchmarks/rules/__main__.py [--library NAME] [--release VERSION] [--rule ID]

Each release is installed into the cache and asked by one of the probes beside this file, which prints for every rule
whether the claim holds there, and what was seen. PostgreSQL is that of `worlds.postgres`; BullMQ and Celery need a
`redis-server` (or `valkey-server`) on the path, and are said to be left out without one. It ends with 1 where a claim
does not hold, or where a rule names other releases than those that were run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1])]  # a script runs from a checkout

from job_harness.review.check.catalogue import RULES  # noqa: E402
from job_harness.review.check.finding import RELEASES  # noqa: E402
from job_harness.worlds.peers import find_node, newest_npm, npm_package, python_package  # noqa: E402 - the path comes first
from job_harness.worlds.postgres import Cluster, provision  # noqa: E402

PROBE_SECONDS: Final = 180
REDIS_SECONDS: Final = 10


class Probe(NamedTuple):
    """How a library is asked: the file, what it needs beside itself, and which servers."""

    file: str
    extras: tuple[str, ...] = ()
    redis: bool = False
    peers: tuple[tuple[str, str], ...] = ()
    """Packages of npm that a release expects beside itself."""


PROBES: Final[Mapping[str, Probe]] = {
    "celery": Probe("celery_claims.py", ("redis",), redis=True),
    "procrastinate": Probe("procrastinate_claims.py", ("psycopg[binary,pool]",)),
    "pgqueuer": Probe("pgqueuer_claims.py", ("asyncpg",)),
    "graphile-worker": Probe("graphile_claims.mjs"),
    "bullmq": Probe("bullmq_claims.mjs", redis=True, peers=(("ioredis", "5"),)),
    "pg-boss": Probe("pgboss_claims.mjs"),
}


def redis_program() -> str | None:
    """Return what runs a Redis here."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


@contextmanager
def redis() -> Iterator[str]:
    """Run a Redis of our own on loopback, empty and without persistence; gives its URL."""
    program = redis_program()
    assert program is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with answering(port):
                yield f"redis://127.0.0.1:{port}"
        finally:
            server.kill()
            server.wait()


@contextmanager
def answering(port: int) -> Iterator[None]:
    """Wait until something answers on a port of this machine."""
    for _ in range(REDIS_SECONDS * 20):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            subprocess.run(["sleep", "0.05"], check=False)
        else:
            break
    yield


def ask(library: str, release: str, *, redis_url: str, cluster: Cluster) -> dict[str, tuple[bool, str]]:
    """Install a release and run its probe; gives for each rule whether its claim holds, and what was seen."""
    probe = PROBES[library]
    url = cluster.create_database()
    environment = {**os.environ, "DATABASE_URL": url, "REDIS_URL": redis_url, "RELEASE": release}
    if probe.file.endswith(".py"):
        packages = python_package(library, release, *probe.extras)
        environment["PYTHONPATH"] = str(packages)
        command = [sys.executable, str(HERE / probe.file)]
    else:
        packages = npm_package(library, release)
        environment["PACKAGES"] = str(packages)
        beside = [str(npm_package(name, newest_npm(name, version)) / "node_modules") for name, version in probe.peers]
        environment["NODE_PATH"] = os.pathsep.join(beside)
        command = [str(find_node().path), str(HERE / probe.file)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False, env=environment, cwd=folder
            )
        finally:
            cluster.drop_database(url.rpartition("/")[2].partition("?")[0])
    if ended.returncode:
        raise SystemExit(f"{library} {release}: the probe ended with {ended.returncode}\n{ended.stdout}{ended.stderr}")
    told = json.loads(ended.stdout.splitlines()[-1])
    return {rule: (bool(holds), str(seen)) for rule, (holds, seen) in told.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="", choices=["", *PROBES])
    parser.add_argument("--release", default="")
    parser.add_argument("--rule", default="")
    given = parser.parse_args()
    wrong: list[str] = []
    tried: dict[str, set[str]] = {}
    with provision() as cluster:
        for library, probe in PROBES.items():
            if given.library not in ("", library):
                continue
            if probe.redis and not redis_program():
                print(f"{library}: left out, there is no redis-server here")
                continue
            for release in RELEASES[library]:
                if given.release in ("", release):
                    with redis() if probe.redis else nullcontext("") as url:
                        told = ask(library, release, redis_url=url, cluster=cluster)
                    for rule, (holds, seen) in told.items():
                        if given.rule in ("", rule):
                            tried.setdefault(rule, set()).add(f"{library} {release}")
                            print(f"{'ok   ' if holds else 'WRONG'} {rule:30} {library} {release:8} {seen}", flush=True)
                            wrong += [] if holds else [f"{rule} on {library} {release}: {seen}"]
    if not (given.library or given.release or given.rule):
        for rule, runs in tried.items():
            said = {f"{one.library} {version}" for one in RULES[rule].ran for version in one.versions}
            wrong += [f"{rule} says {sorted(said)}, and was run on {sorted(runs)}"] if said != runs else []
    print(f"\n{len(tried)} rules, {sum(map(len, tried.values()))} runs; {len(wrong)} wrong")
    print("".join(f"  {line}\n" for line in wrong), end="")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
