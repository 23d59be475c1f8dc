"""PostgreSQL in a container, where Docker answers and has the image; `.ci/docker.sh` makes both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.postgres import Cluster, Reset, Resetter, provider, provision, virtual_clock

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def why_not() -> str:
    """Why the tests that need Docker cannot run here; nothing if they can."""
    reason = provider.unavailable_reason()
    if reason:
        return reason
    import docker
    from docker.errors import DockerException

    client = docker.from_env(timeout=5)
    try:
        client.images.get(provider.image_name())
    except DockerException:
        return f"Docker has no image {provider.image_name()}"
    finally:
        client.close()
    return ""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with provision(provider="testcontainers", environ={}) as started:
        yield started


def test_a_container_is_a_cluster_like_any_other(cluster: Cluster) -> None:
    assert cluster.provenance.provider == "testcontainers"
    assert cluster.is_ours
    with psycopg.connect(cluster.create_database("template"), autocommit=True) as connection:
        virtual_clock.install(connection)
        connection.execute("CREATE TABLE item (id serial, at timestamptz DEFAULT now())")
        virtual_clock.check(connection)
    url = cluster.create_database("mine", template="template")
    with psycopg.connect(url, autocommit=True) as connection, Resetter(cluster, "mine") as resetter:
        moment = datetime(2030, 1, 1, tzinfo=UTC)
        virtual_clock.set_now(connection, moment)
        row = connection.execute("INSERT INTO item DEFAULT VALUES RETURNING id, at").fetchone()
        assert row == (1, moment)
        assert resetter.reset() == Reset("deleted")
        connection.execute("DROP TABLE item")
        connection.close()
        assert resetter.reset() == Reset("cloned")


def test_a_container_can_be_reached_by_tcp(cluster: Cluster) -> None:
    with psycopg.connect(cluster.url(tcp=True)) as connection:
        assert connection.info.host == "127.0.0.1"


def test_stopping_removes_the_container() -> None:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    import docker

    client = docker.from_env(timeout=10)
    try:
        before = {item.id for item in client.containers.list(all=True)}
        provision(provider="testcontainers", environ={}).stop()
        assert {item.id for item in client.containers.list(all=True)} <= before
    finally:
        client.close()


def test_an_image_that_cannot_be_had_is_an_environment_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    monkeypatch.setenv(provider.IMAGE_VARIABLE, "127.0.0.1:1/no/such:image")
    with pytest.raises(EnvironmentUnavailable, match="no/such:image did not start"):
        provision(provider="testcontainers", environ={})


def test_a_docker_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix:///tmp/no-docker-{os.getpid()}.sock")
    with pytest.raises(EnvironmentUnavailable, match="Docker does not answer at unix:///tmp/no-docker"):
        provision(provider="testcontainers", environ={})
