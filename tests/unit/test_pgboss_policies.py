"""Queue policies of pg-boss as data: what a release and a policy can do, how keys are said, and whose turn it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from job_harness.core.model.duration import SECOND
from job_harness.core.port import JobRequest
from job_harness.engines.pgboss.contract import POLICIES, STANDARD, known_of, split_policy
from job_harness.engines.pgboss.node.release import Release, contract_of
from job_harness.engines.pgboss.translation import ONE_QUEUE, PgBossKeys, turns
from job_harness.errors import UsageError
from job_harness.worlds.wire.database import timestamp_of


@pytest.mark.parametrize(
    ("release", "unique", "serial"),
    [
        ("10.4.2", False, False),
        ("10.4.2/short", True, False),
        ("10.4.2/stately", True, False),
        ("10.4.2/singleton", False, True),
        ("11.1.1/exclusive", True, False),
        ("12.5.4", False, False),
        ("12.8.0", False, True),
        ("12.38.0/exclusive", True, False),
    ],
)
def test_a_release_and_its_policy_say_which_keys_are_kept(release: str, unique: bool, serial: bool) -> None:
    capabilities = Release(release).capabilities
    assert (capabilities.unique, capabilities.serial_keys) == (unique, serial)


def test_a_policy_is_named_with_its_release() -> None:
    assert (Release("10.4.2").name, Release("10.4.2/stately").name) == ("10.4.2", "10.4.2/stately")
    assert split_policy("12") == ("12", STANDARD)


def test_a_policy_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no such queue policy of pg-boss: 'statly'.*stately"):
        split_policy("10.4.2/statly")


def test_a_policy_that_a_release_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match=r"pg-boss 11\.0\.8 has no queue policy 'exclusive'"):
        Release("11.0.8/exclusive")


def test_only_what_a_policy_documents_is_excused() -> None:
    assert "unique_key_shared" in contract_of(10, POLICIES["stately"]).documented
    assert "unique_key_shared" not in contract_of(12, POLICIES["exclusive"]).documented
    assert contract_of(10, POLICIES["singleton"]).documented == contract_of(10).documented


def test_a_job_without_a_key_has_a_key_of_its_own() -> None:
    keys = PgBossKeys(POLICIES["stately"])
    assert keys.singleton(JobRequest("a", unique_key="k"), own="id-a") == "k"
    assert keys.singleton(JobRequest("a"), own="id-a") == "id-a"
    assert PgBossKeys().singleton(JobRequest("a", unique_key="k"), own="id-a") is None
    assert keys.unique_key({"id": "id-a", "singleton_key": "id-a"}) is None
    assert keys.unique_key({"id": "id-a", "singleton_key": "k"}) == "k"


def test_where_there_are_serial_keys_all_tools_share_a_queue_and_the_payload_tells_the_tool() -> None:
    request = JobRequest("a", tool="mail", serial_key="s")
    for keys in (PgBossKeys(POLICIES["singleton"]), PgBossKeys(groups=True)):
        assert keys.queue("mail") == ONE_QUEUE
        assert keys.data(request)["tool"] == "mail"
    assert PgBossKeys().queue("mail") == "mail"
    assert "tool" not in PgBossKeys().data(request)


def test_a_serial_key_is_a_group_or_a_singleton_key() -> None:
    request = JobRequest("a", serial_key="s")
    assert PgBossKeys(groups=True).group(request) == "s"
    assert PgBossKeys(groups=True).serial_key({"group_id": "s"}) == "s"
    assert PgBossKeys(POLICIES["singleton"]).singleton(request, own="id-a") == "s"
    assert PgBossKeys(POLICIES["singleton"]).serial_key({"id": "id-a", "singleton_key": "s"}) == "s"


def waiting(job: str, queue: str, *, priority: int = 0, state: str = "created", after: int = 0) -> dict[str, Any]:
    created = datetime(2030, 1, 1, second=int(job), tzinfo=UTC)
    return {
        "id": job,
        "name": queue,
        "state": state,
        "priority": priority,
        "created_on": created,
        "start_after": timestamp_of(after),
    }


ROWS = (
    waiting("1", "x"),
    waiting("2", "y", priority=5),
    waiting("3", "x", priority=5, state="retry"),
    waiting("4", "y", priority=9, after=9 * SECOND),
    waiting("5", "y", priority=9, state="active"),
)


@pytest.mark.parametrize(("limit", "first"), [(1, [("y", 1)]), (2, [("y", 1), ("x", 1)]), (3, [("y", 1), ("x", 2)])])
def test_queues_take_turns_in_the_order_of_what_is_due(limit: int, first: list[tuple[str, int]]) -> None:
    assert turns(ROWS, ["x", "y"], now=SECOND, strictly=1, limit=limit) == [*first, ("x", limit), ("y", limit)]


def test_a_single_queue_is_not_looked_into() -> None:
    assert turns((), ["x"], now=0, strictly=1, limit=3) == [("x", 3)]


@pytest.mark.parametrize(
    ("release", "node"),
    [("10.4.2", (20, 0)), ("11.0.0", (22, 0)), ("11.1.2", (22, 0)), ("12.0.0", (22, 12)), ("12.38.0", (22, 12))],
)
def test_a_release_asks_for_the_node_that_its_package_names(release: str, node: tuple[int, int]) -> None:
    assert Release(release).oldest_node == node


@pytest.mark.parametrize(("release", "fenced"), [("10.4.2", False), ("12.34.0", False), ("12.35.0", True)])
def test_a_late_outcome_is_known_of_releases_without_a_fence(release: str, fenced: bool) -> None:
    assert ("zombies/late_complete" not in known_of(release)) is fenced
