"""Between a client and Redis: what is a gate, what passes, what waits in virtual time, what breaks, what is refused."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.contract.opened_engines import Get, opened_engines

from job_harness.core.history.event import Fault
from job_harness.core.model.settings import Settings
from job_harness.core.run.session import Limits, Session
from job_harness.core.scenario.job_plan import JobPlan
from job_harness.core.scenario.scenario import Scenario
from job_harness.core.sim.choices import Deviation
from job_harness.core.sim.request import Exchange, Poll
from job_harness.errors import EnvironmentUnavailable
from job_harness.search.sampling import Sampler, run_seed
from job_harness.worlds.redis.client import RedisClient, RedisError
from job_harness.worlds.redis.gating import (
    RedisCommand,
    RedisCommands,
    RedisCoordinator,
    RedisEndpoint,
    RedisSession,
    RedisTransaction,
    reply_end,
)
from job_harness.worlds.redis.store import RedisStore
from job_harness.worlds.wire.proxy import Moment, WireProxy

pytestmark = [pytest.mark.slow]

IMPLEMENTATION: type[WireProxy] = RedisSession
HELLO = (
    b"%6\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:4\r\n"
    b"$4\r\nmode\r\n$10\r\nstandalone\r\n$7\r\nmodules\r\n*0\r\n"
)


def command(*words: str | bytes) -> RedisCommand:
    encoded = tuple(word if isinstance(word, bytes) else word.encode() for word in words)
    raw = b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)
    return RedisCommand(encoded, raw)


# RESP -----------------------------------------------------------------------------------------------------------------


def test_a_pipeline_is_cut_into_its_commands_wherever_the_bytes_are_torn() -> None:
    sent = [command("LPUSH", "celery", b"a\r\n*1\r\n"), command("MULTI"), command("SET", "k", ""), command("EXEC")]
    whole = b"".join(each.raw for each in sent)
    for at in range(len(whole)):
        commands = RedisCommands()
        assert [*commands.take(whole[:at]), *commands.take(whole[at:])] == sent
        assert commands.empty


@pytest.mark.parametrize(
    ("sent", "says"), [(b"PING\r\n", "no array"), (b"\x16\x03\x01\x02", "TLS"), (b"*1\r\n:1\r\n", "no bulk string")]
)
def test_what_is_no_array_of_bulk_strings_is_refused_by_name(sent: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RedisCommands().take(sent)


@pytest.mark.parametrize(
    "reply",
    [
        b"+OK\r\n",
        b"-WRONGTYPE of key\r\n",
        b":-3\r\n",
        b"$-1\r\n",
        b"$7\r\na\r\n+b\r\n\r\n",
        b"*-1\r\n",
        b"*2\r\n*1\r\n$1\r\na\r\n%1\r\n+k\r\n~1\r\n#t\r\n",
        b"|1\r\n+ttl\r\n:3600\r\n$2\r\nhi\r\n",
        b"=15\r\ntxt:Some string\r\n",
        b",1.5\r\n",
        b"_\r\n",
        HELLO,
    ],
)
def test_a_reply_ends_where_it_ends_and_not_before(reply: bytes) -> None:
    assert reply_end(reply + b"+more\r\n") == len(reply)
    assert [reply_end(reply[:size]) for size in range(len(reply))] == [None] * len(reply)


@pytest.mark.parametrize(
    ("words", "point"),
    [
        (("LPUSH", "celery", "{}"), "lpush celery"),
        (("rpop", b"celery\x06\x163"), "rpop celery\\x06\\x163"),
        (("EVAL", "return 1", "0"), "eval e0e1f9fa"),
        (("EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"), "evalsha e0e1f9fa"),
        (("FCALL", "moveToActive", "0"), "fcall moveToActive"),
        (("XREAD", "BLOCK", "5", "STREAMS", "events", "$"), "xread events"),
        (("SADD", "reply.0d4f9c1e-6f0b-4d4e-9f0a-1b2c3d4e5f60", "q"), "sadd reply.*"),
    ],
)
def test_a_gate_is_named_by_what_is_sent_the_same_way_in_every_run(words: tuple[str, ...], point: str) -> None:
    assert command(*words).point == point


def test_a_transaction_is_what_is_executed_and_what_is_discarded_is_no_part_of_the_next_one() -> None:
    multi, first, second = command("MULTI"), command("INCR", "a"), command("INCR", "b")
    transaction = RedisTransaction()
    for each in (multi, first, command("DISCARD")):
        transaction.take(each)
    assert transaction.executed() == []
    for each in (multi, second, first, command("EXEC")):
        transaction.take(each)
    assert transaction.executed() == [multi, second, first]
    assert transaction.executed() == []


# gates ----------------------------------------------------------------------------------------------------------------


class Client:
    """A process that speaks to Redis through an endpoint, on a thread; what stands at a gate is let go by the test."""

    def __init__(self, store: RedisStore, coordinator: RedisCoordinator, folder: Path, name: str) -> None:
        self.endpoint: RedisEndpoint = store.gates().endpoint(name, folder / name)
        self.endpoint.join(coordinator, name)
        self._beside = socket.socketpair()
        self._thread = ThreadPoolExecutor(1)
        self.client = self._thread.submit(lambda: RedisClient(Path(self.endpoint.url.removeprefix("unix://"))))

    def ask(self, *words: str) -> Future[Any]:
        return self._thread.submit(lambda: self.client.result().ask(*words))

    def gate(self) -> Any:
        """Wait for the next command at a gate; return what carries it out."""
        while (session := self.endpoint.at_gate()) is None:
            self.endpoint.listen(self._beside[0].fileno(), 5.0)
        return session.carry_out().__await__()

    def passes(self, *words: str) -> tuple[list[str], Any]:
        """Send a command and let it through; return its gates and what it answered."""
        asked = self.ask(*words)
        return [request.point for request in self.gate()], asked.result(5)

    def close(self) -> None:
        self.endpoint.end()
        self._thread.submit(lambda: self.client.result().close())
        self._thread.shutdown()
        for side in self._beside:
            side.close()


class Room:
    def __init__(self, store: RedisStore, folder: Path) -> None:
        self.store = store
        self.now = 0
        self.coordinator = RedisCoordinator(clock=lambda: self.now)
        self._folder = folder
        self.clients: list[Client] = []

    def client(self, name: str) -> Client:
        self.clients.append(Client(self.store, self.coordinator, self._folder, name))
        return self.clients[-1]


@pytest.fixture(scope="module")
def store() -> Iterator[RedisStore]:
    try:
        found = RedisStore()
    except EnvironmentUnavailable as error:
        pytest.skip(str(error))
    yield found
    found.close()


@pytest.fixture
def room(store: RedisStore, tmp_path: Path) -> Iterator[Room]:
    store.empty()
    made = Room(store, tmp_path)
    yield made
    for client in made.clients:
        client.close()


def test_the_proxy_has_every_moment_of_the_contract() -> None:
    assert all(callable(getattr(IMPLEMENTATION, moment)) for moment in Moment)


def test_setting_up_passes_a_command_is_a_gate_and_a_transaction_is_one_at_its_end(room: Room) -> None:
    client = room.client("w1")
    assert client.passes("PING") == ([], b"PONG")
    assert client.passes("LPUSH", "q", "a") == (["lpush q"], 1)
    assert client.passes("MULTI") == ([], b"OK")
    assert client.passes("RPOP", "q") == ([], b"QUEUED")
    assert room.store.ask("LLEN", "q") == 1
    assert client.passes("EXEC") == (["exec rpop q"], [b"a"])
    assert [sent.actor for sent in room.coordinator.sent()] == ["w1", "w1"]


def test_a_lost_reply_cuts_the_connection_after_the_command_and_a_lost_request_before_it(room: Room) -> None:
    for happens, stored in ((False, 0), (True, 1)):
        room.store.empty()
        client = room.client(f"client-{happens}")
        asked = client.ask("LPUSH", "q", "a")
        steps = client.gate()
        exchange = next(steps)
        assert type(exchange) is Exchange
        exchange.happens, exchange.heard = happens, False
        assert list(steps) == []
        with pytest.raises(EnvironmentUnavailable, match="closed the connection"):
            asked.result(5)
        assert room.store.ask("LLEN", "q") == stored


def test_a_command_that_waits_is_answered_once_another_pushed_or_its_time_is_up(room: Room) -> None:
    waiter, pusher = room.client("waiter"), room.client("pusher")
    waited = waiter.ask("BRPOP", "q", "10")
    steps = waiter.gate()
    assert next(steps).point == "brpop q"
    poll = next(steps)
    assert type(poll) is Poll
    assert poll.due() == 10_000_000
    room.now = 4_000_000
    pusher.passes("LPUSH", "q", "a")
    assert poll.due() == 4_000_000
    assert [request.point for request in steps] == ["brpop q"]
    assert waited.result(5) == [b"q", b"a"]

    waited = waiter.ask("BRPOP", "q", "10")
    steps = waiter.gate()
    assert [next(steps).point, type(next(steps))] == ["brpop q", Poll]
    room.now = 14_000_000
    assert [request.point for request in steps] == ["brpop q"]
    assert waited.result(5) is None


def test_a_command_that_waits_ends_in_true_time_however_far_the_clock_of_the_store_is_off(room: Room) -> None:
    behind = RedisCoordinator(clock=lambda: -60_000_000, now=lambda: room.now)
    for coordinator in (behind, RedisCoordinator(clock=lambda: 0)):  # One whose clock stands still goes by its waking.
        room.coordinator = coordinator
        waiter = room.client(f"w{len(room.clients)}")
        waited = waiter.ask("BRPOP", "q", "10")
        steps = waiter.gate()
        assert next(steps).point == "brpop q"
        poll = next(steps)
        assert type(poll) is Poll
        assert poll.due() == 10_000_000
        room.now = 10_000_000
        assert [request.point for request in steps] == ["brpop q"]
        assert waited.result(5) is None
        room.now = 0


def test_a_command_that_waits_and_is_wrong_is_refused_by_redis_itself(room: Room) -> None:
    client = room.client("w1")
    for words in (("BRPOP", "q", "soon"), ("BRPOP", "q", "inf"), ("BRPOP", "q")):
        asked = client.ask(*words)
        list(client.gate())
        with pytest.raises(RedisError, match=r"timeout|wrong number"):
            asked.result(5)


@pytest.mark.parametrize("words", [("MONITOR",), ("CLIENT", "REPLY", "OFF")])
def test_what_cannot_be_put_in_order_ends_the_run_by_name(room: Room, words: tuple[str, ...]) -> None:
    client = room.client("w1")
    asked = client.ask(*words)
    with pytest.raises(EnvironmentUnavailable, match=f"w1 cannot be put in order: {' '.join(words[:2])}"):
        client.gate()
    with pytest.raises(EnvironmentUnavailable):
        asked.result(5)


def test_an_answer_of_a_cluster_ends_the_run_by_name() -> None:
    ours, client = socket.socketpair()
    server, theirs = socket.socketpair()
    with client, theirs:
        session = RedisSession(ours, server)
        session.actor, session.coordinator = "w1", RedisCoordinator(clock=lambda: 0)
        client.sendall(command("GET", "k").raw)
        theirs.sendall(b"-MOVED 3999 127.0.0.1:6381\r\n")
        session.arrive()
        with pytest.raises(EnvironmentUnavailable, match="it is a cluster"):
            list(session.carry_out().__await__())
        assert session.closed


# Celery ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engines() -> Iterator[Get]:
    with opened_engines() as get:
        yield get


def test_a_lost_reply_to_a_published_message_is_published_twice_and_two_workers_run_it(engines: Get) -> None:
    tape = (Deviation("client-a lpush celery", 1, "lose reply"),)
    scenario = Scenario(settings=Settings(), workers=("w1", "w2", "w3"), jobs=(JobPlan("a"),), tape=tape)
    run = Session(scenario, engine=engines("celery-redis@5.7.0 --sessions")).run()
    assert not run.uncovered
    assert {"double_claim", "concurrent_execution"} <= run.found
    lost = [event.data for event in run.history.events if isinstance(event, Fault) and event.name == "lose reply"]
    assert lost == [{"at": "enqueue a", "statement": "lpush celery"}]


@pytest.mark.parametrize(
    ("at", "nth", "does", "shows"),
    [
        ("w1 rpop celery", 1, "lose reply", set()),  # the list was empty
        ("w1 rpop celery", 2, "lose reply", {"job_never_run"}),
        ("w1 exec zadd unacked_index", 1, "crash", {"job_never_run"}),
        ("w1 rpop celery", 3, "crash", set()),  # it is noted, and looks for a second one
        ("client-a lpush celery", 1, "lose request", set()),
    ],
)
def test_a_message_is_lost_where_its_worker_has_taken_it_and_not_noted_it_as_unacknowledged(
    engines: Get, at: str, nth: int, does: str, shows: set[str]
) -> None:
    plans = (JobPlan("a"),)
    tape = (Deviation(at, nth, does),)
    scenario = Scenario(
        settings=Settings(batch_size=2), workers=("w1", "w2"), jobs=plans, tape=tape, restart_after=5_000_000
    )
    run = Session(scenario, engine=engines("celery-redis@5.7.0 --sessions")).run()
    assert not run.uncovered
    assert run.found == shows


@pytest.mark.long
def test_the_generic_workload_finds_that_a_message_is_published_twice(engines: Get) -> None:
    sampler = Sampler(engines("celery-redis@5.7.0 --sessions"), limits=Limits(steps=1_500))
    assert any("double_claim" in sampler.sample(run_seed(2, number)).found for number in range(60))


def histories(sampler: Sampler, seeds: range) -> list[list[str]]:
    return [[repr(event) for event in sampler.sample(run_seed(7, seed)).history.events] for seed in seeds]


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(20), marks=pytest.mark.long)])
def test_equal_choices_give_equal_histories(engines: Get, seeds: range) -> None:
    sampler = Sampler(engines("celery-redis@5.7.0 --sessions"), limits=Limits(steps=1_500))
    assert histories(sampler, seeds) == histories(sampler, seeds)
