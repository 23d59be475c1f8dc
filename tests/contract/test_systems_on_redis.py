"""Systems whose processes share a Redis: commands are gates, blocking ones wait in virtual time, the rest is named."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.opened_systems import open_systems, play_jobs

from job_harness.core.history.event import Observed
from job_harness.core.run.play import play
from job_harness.core.run.verdict import Run
from job_harness.core.sim.choices import Deviation
from job_harness.doors.cli.job_tables import described
from job_harness.errors import EnvironmentUnavailable, HarnessError
from job_harness.search.finding import first_difference
from job_harness.search.sampling import Sampler
from job_harness.subjects.systems import SystemEngine, redis_store
from job_harness.subjects.systems.brokers import BROKERS
from job_harness.subjects.systems.redis_store import SystemRedis
from job_harness.subjects.systems.runtime import RESTARTS
from job_harness.worlds.clock import ClockedTree
from job_harness.worlds.redis import gating as redis_gating

pytestmark = pytest.mark.slow

RESP = """
import json, os, socket, time, urllib.request

class Redis:
    def __init__(self):
        self.socket = socket.create_connection(("localhost", 6379))
        self.file = self.socket.makefile("rb")

    def send(self, *words):
        parts = [str(word).encode() for word in words]
        said = b"".join(b"$%d\\r\\n%s\\r\\n" % (len(each), each) for each in parts)
        self.socket.sendall(b"*%d\\r\\n" % len(parts) + said)

    def read(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2].decode()
        if kind in b"*>":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest.decode()

    def ask(self, *words):
        self.send(*words)
        return self.read()

def now_ms():
    return time.time_ns() // 1_000_000
"""
API = (
    RESP
    + """
from http.server import BaseHTTPRequestHandler, HTTPServer

class Api(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()

    def do_POST(self):
        order = self.path[8:]
        redis = Redis()
        redis.ask("HSET", f"job:{order}", "status", "PENDING", "attempts", 0, "at", now_ms())
        redis.ask("LPUSH", "todo", order)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever(3600)
"""
)
WORKER = (
    RESP
    + """
redis = Redis()
while True:
    found = redis.ask("BRPOP", "todo", 30)
    if found is None:
        continue
    key = f"job:{found[1]}"
    redis.ask("HSET", key, "status", "PROCESSING", "attempts", 1, "at", now_ms())
    time.sleep(2)
    redis.ask("HSET", key, "status", "COMPLETED", "at", now_ms())
"""
)
JOBS = """
local rows = {}
for _, key in ipairs(redis.call('KEYS', 'job:*')) do
  local told = redis.call('HMGET', key, 'status', 'attempts', 'at')
  local name = string.sub(key, 5)
  rows[#rows + 1] = cjson.encode({id = name, name = name, status = told[1], attempts = tonumber(told[2])})
end
return rows
"""
FILE = """
format: 1
system: a list
clock: supervisor
ready_seconds: 30
stores: {redis: {}}
processes:
  worker: {command: python worker.py, instances: 2}
  api: {command: python api.py, http: {port_env: PORT}}
send: {request: "POST /orders/${job}", to: api}
jobs: jobs.lua
settings: {job_timeout: 10s, lease: 10s, stuck_timeout: 20s, retry_delay: 1s, cron_period: 1s, expire_interval: 1s}
"""
Opened = Callable[..., SystemEngine]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    with open_systems(lambda: ClockedTree(options=("--own-net",)).close()) as opens:

        def make(worker: str = WORKER, *, jobs: str = JOBS, file: str = FILE, api: str = API) -> SystemEngine:
            texts = {"worker.py": worker, "api.py": api, "jobs.lua": jobs, "system.yaml": file}
            for name, text in texts.items():
                (tmp_path / name).write_text(text)
            return opens(tmp_path / "system.yaml")

        yield make


def played(engine: SystemEngine) -> Run:
    return play_jobs(engine, jobs="a")


def gates(run: Run, actor: str) -> list[str]:
    return [sent.gate for _, sent in run.statements if sent.actor == actor]


def test_every_command_is_a_gate_and_a_blocking_one_is_answered_when_another_process_pushes(opened: Opened) -> None:
    engine = opened()
    run = played(engine)
    assert run.history.path("a") == ["PENDING", "PROCESSING", "COMPLETED"]
    assert {"hset job:a", "lpush todo"} <= set(gates(run, "api"))
    seen = [(event.at, event.actor) for event in run.history if type(event) is Observed]
    assert [at for at, _ in seen] == pytest.approx([0, 0, 2_000_000], abs=1_000), "the sleep alone takes time"
    again = played(engine)
    assert first_difference(run.history.events, again.history.events) is None


PATROL = (
    RESP
    + """
redis = Redis()
LOOK = "if redis.call('SET', 'patrol', '1', 'NX', 'PX', 7000) then return redis.call('INCR', 'rounds') end return 0"
while True:
    found = redis.ask("BRPOP", "todo", 1)
    if found is not None:
        for status in ("PROCESSING", "COMPLETED"):
            redis.ask("HSET", f"job:{found[1]}", "status", status, "attempts", 1)
    redis.ask("EVAL", LOOK, 0)
"""
)


def test_what_a_script_finds_once_a_key_has_ended_is_not_passed_over(opened: Opened) -> None:
    engine = opened(PATROL, file=FILE.replace("instances: 2", "instances: 1"))
    run = played(engine)
    stores = engine._stores
    assert stores is not None
    assert stores.redis is not None
    assert int(stores.redis.ask("GET", "rounds")) >= run.now // 7_010_000


ASKS_FOR_A_LOCK = """
    if redis.ask("SET", "patrol", "me", "NX", "PX", 7000) == "OK":
        redis.ask("INCR", "rounds")
"""
KEEPERS = {
    "by a command that waits": PATROL.replace('    redis.ask("EVAL", LOOK, 0)\n', ASKS_FOR_A_LOCK),
    "in a sleep": RESP
    + f"""
redis = Redis()
while True:
    time.sleep(1)
{ASKS_FOR_A_LOCK}
        found = redis.ask("RPOP", "todo")
        for status in ("PROCESSING", "COMPLETED") if found is not None else ():
            redis.ask("HSET", f"job:{{found}}", "status", status, "attempts", 1)
""",
}


@pytest.mark.parametrize("keeper", KEEPERS.values(), ids=KEEPERS)
def test_a_lock_of_the_upkeep_is_asked_for_again_once_it_has_ended(opened: Opened, keeper: str) -> None:
    engine = opened(keeper, file=FILE.replace("instances: 2", "instances: 1") + "upkeep: [patrol, rounds]\n")
    run = played(engine)
    assert run.found == set()
    stores = engine._stores
    assert stores is not None
    assert stores.redis is not None
    assert int(stores.redis.ask("GET", "rounds")) >= run.now // 8_010_000


def test_a_job_that_was_popped_by_a_worker_who_dies_is_found_lost_and_the_tape_shows_it_again(opened: Opened) -> None:
    engine = opened()
    assert engine.info.settings is not None
    sampler = Sampler(engine, settings=engine.info.settings)
    run = next(run for run in map(sampler.sample, range(12)) if "job_stuck" in run.found)
    again = play(replace(run.scenario, tape=run.tape), engine=engine, seed=run.seed)
    assert first_difference(run.history.events, again.history.events) is None


@pytest.mark.long
def test_a_worker_that_ends_for_want_of_redis_is_started_again_until_it_is_back(opened: Opened) -> None:
    away = Deviation("time", 1, "store away for stuck + a cron")
    waits = WORKER.replace("redis = Redis()", "time.sleep(1)\nredis = Redis()")
    run = play_jobs(opened(waits), jobs="a", tape=(away,))
    assert run.uncovered == ()
    assert sum(each.name == "unhandled_error" and "w1 died" in each.message for each in run.anomalies) > RESTARTS
    assert run.history.path("a")[-1] == "COMPLETED"


def after(program: str) -> str:
    """Return a worker that does this before it does as WORKER."""
    first = f"redis, me = Redis(), os.environ['HOSTNAME']\n{textwrap.dedent(program)}\nwhile"
    return WORKER.replace("redis = Redis()\nwhile", first)


TALKS = {
    "time passes at the server as for its clients": (
        """
        redis.ask("SET", "short", "x", "PX", 5000)
        time.sleep(4.9)
        assert redis.ask("GET", "short") == "x" and redis.ask("PTTL", "short") == 100
        time.sleep(0.2)
        assert redis.ask("GET", "short") is None
        seconds = int(redis.ask("TIME")[0])
        assert abs(seconds - time.time()) < 1
        """
    ),
    "blocking commands wait as long as they say": (
        """
        for words in (("BLPOP", "none", 3), ("BZPOPMIN", "none", 3), ("XREAD", "BLOCK", 3000, "STREAMS", "none", "$"),
                      ("BLMOVE", "none", "other", "LEFT", "RIGHT", 3), ("BLMPOP", 3, 1, "none", "LEFT")):
            began = time.monotonic()
            assert redis.ask(*words) is None
            assert 2.99 <= time.monotonic() - began <= 3.01, words
        """
    ),
    "pipelines, transactions and scripts": (
        """
        for words in (("MULTI",), ("INCR", me), ("INCR", me), ("EXEC",), ("GET", me)):
            redis.send(*words)
        assert [redis.read() for _ in range(5)] == ["OK", "QUEUED", "QUEUED", [1, 2], "2"]
        assert redis.ask("EVAL", "return redis.call('INCRBY', KEYS[1], ARGV[1])", 1, me, 5) == 7
        sha = redis.ask("SCRIPT", "LOAD", "return 8")
        assert redis.ask("EVALSHA", sha, 0) == 8
        library = "#!lua name=mine\\nredis.register_function('nine', function() return 9 end)"
        assert redis.ask("FUNCTION", "LOAD", "REPLACE", library) == "mine" and redis.ask("FCALL", "nine", 0) == 9
        """
    ),
    "streams and their groups": (
        """
        redis.ask("XGROUP", "CREATE", me, "g", "$", "MKSTREAM")
        redis.ask("XADD", me, "*", "k", "v")
        [[_, [[id, _]]]] = redis.ask("XREADGROUP", "GROUP", "g", "me", "COUNT", 1, "BLOCK", 1000, "STREAMS", me, ">")
        assert redis.ask("XREADGROUP", "GROUP", "g", "me", "BLOCK", 1000, "STREAMS", me, ">") is None
        assert redis.ask("XACK", me, "g", id) == 1
        """
    ),
    "channels and events of keys": (
        """
        redis.ask("CONFIG", "SET", "notify-keyspace-events", "KEA")
        other = Redis()
        assert other.ask("SUBSCRIBE", "news", "__keyevent@0__:set")[0] == "subscribe" and other.read()[2] == 2
        redis.ask("PUBLISH", "news", "hello")
        redis.ask("SET", "k", "v")
        assert other.read() == ["message", "news", "hello"]
        assert other.read() == ["message", "__keyevent@0__:set", "k"]
        """
    ),
}


@pytest.mark.parametrize("program", TALKS.values(), ids=TALKS)
def test_what_a_client_can_say_to_redis(opened: Opened, program: str) -> None:
    engine = opened(after(program))
    assert played(engine).history.path("a") == ["PENDING", "PROCESSING", "COMPLETED"]


REFUSED = {
    ("AUTH", "secret"): "w1 and Redis: AUTH: this Redis has no password",
    ("CLUSTER", "SLOTS"): "this Redis is not a cluster",
    ("CLIENT", "TRACKING", "ON"): "CLIENT TRACKING: the server would say unasked what others changed",
    ("CONFIG", "SET", "maxmemory", "1"): "CONFIG SET maxmemory: the harness runs this server",
    ("SHUTDOWN",): "SHUTDOWN: the harness runs this server",
    ("WAIT", "1", "0"): "WAIT: this Redis has no replicas",
}


@pytest.mark.parametrize(("words", "told"), REFUSED.items(), ids=[" ".join(words) for words in REFUSED])
def test_what_is_not_supported_is_refused_by_name(opened: Opened, words: tuple[str, ...], told: str) -> None:
    engine = opened(after(f"redis.ask{words!r}"))
    with pytest.raises(HarnessError, match=told):
        played(engine)


def test_a_client_that_wants_tls_is_named(opened: Opened) -> None:
    engine = opened(after("import ssl\nssl._create_unverified_context().wrap_socket(redis.socket)"))
    with pytest.raises(HarnessError, match="w1 and Redis: its client sends TLS"):
        played(engine)


def test_what_a_script_returns_that_is_no_json_is_named(opened: Opened) -> None:
    engine = opened(jobs="return {'{', 'no JSON'}")
    with pytest.raises(HarnessError, match=r"system.yaml:11: the script returns b'{', which is not a JSON object"):
        played(engine)


SPOILED = {
    "memory": (
        """
        for at in range(3):
            redis.ask("SETRANGE", f"large{at}", 100 << 20, "x")
        """,
        r"system.yaml:8: w[12] and Redis: setrange large[0-2]: the 256mb that the harness gives to Redis are full",
    ),
    "keys": (
        """redis.ask("EVAL", "for at = 1, 100001 do redis.call('SET', 'key' .. at, '') end", 0)""",
        r"system.yaml:11: Redis refuses the script: it holds 10000\d keys, and the harness looks at no more",
    ),
}


SIDEKIQ_API = API.replace(
    '"LPUSH", "todo", order', '"LPUSH", "queue:q", json.dumps({"jid": order, "class": "Charge", "args": [order]})'
)
SIDEKIQ_WORKER = (
    RESP
    + """
redis = Redis()
while True:
    if redis.ask("BRPOP", "queue:q", 2):
        time.sleep(5)
"""
)


def test_a_job_that_sidekiq_takes_out_of_redis_is_at_work_until_its_process_asks_again_or_dies(opened: Opened) -> None:
    engine = opened(SIDEKIQ_WORKER, file=FILE.replace("jobs.lua", "sidekiq"), api=SIDEKIQ_API)
    run = play_jobs(engine, jobs="a")
    assert run.history.path("a") == ["PENDING", "PROCESSING", "COMPLETED"]
    assert run.found == frozenset()
    who = next(event.actor for event in run.history if type(event) is Observed and event.verb == "brpop queue:q")
    killed = play_jobs(engine, jobs="a", tape=(Deviation(f"{who} timer a sleep", 1, "crash"),))
    assert killed.history.path("a") == ["PENDING", "PROCESSING"]
    assert killed.found == {"job_stuck"}


def test_two_threads_that_take_jobs_out_of_redis_at_once_are_named(opened: Opened) -> None:
    threads = SIDEKIQ_WORKER.replace("redis = Redis()", "import threading").replace("redis.ask", "Redis().ask")
    both = threads.replace("while True:", "def work():\n  while True:").replace("\n    if", "\n     if")
    both += "\nthreading.Thread(target=work).start()\nwork()\n"
    engine = opened(both, file=FILE.replace("jobs.lua", "sidekiq"), api=SIDEKIQ_API)
    with pytest.raises(HarnessError, match=r"two threads ask for jobs at once.*: start it with one thread"):
        play_jobs(engine, jobs="a")


@pytest.mark.long
@pytest.mark.parametrize(("program", "told"), SPOILED.values(), ids=SPOILED)
def test_what_the_redis_of_the_harness_has_no_room_for_is_named(opened: Opened, program: str, told: str) -> None:
    with pytest.raises(HarnessError, match=told):
        played(opened(after(program)))


def test_a_script_that_loops_is_named_with_its_gate(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened(after("redis.ask('EVAL', 'while true do end', 0)"))
    monkeypatch.setattr(redis_gating, "PATIENCE", 1.0)
    monkeypatch.setattr(redis_store, "PATIENCE", 1.0)
    with pytest.raises(EnvironmentUnavailable, match=r"system.yaml:8: Redis went away during w[12]'s 'eval ") as told:
        played(engine)
    assert "Does a script of yours loop?" in told.value.hint


def test_a_job_that_no_library_wrote_is_named(opened: Opened) -> None:
    spoils = """redis.ask("HSET", "bull:q:1", "opts", "[1]", "timestamp", 1, "data", "{no JSON")"""
    engine = opened(after(f"redis.ask('SET', 'bull:q:meta', '1')\n{spoils}"), file=FILE.replace("jobs.lua", "bullmq"))
    told = r"system.yaml:11: Redis holds a job that is not as bullmq writes it: 'list' object has no attribute 'get'"
    with pytest.raises(HarnessError, match=told):
        played(engine)


@pytest.mark.parametrize("queue", ["{bull}:q", "bull:{pay}ments", "bull:a[b]*?"])
def test_a_queue_of_bullmq_may_have_braces_and_brackets_in_its_name(queue: str) -> None:
    try:
        redis = SystemRedis()
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    try:
        redis.ask("HSET", f"{queue}:meta", "opts", "")
        redis.ask("HSET", f"{queue}:1", "timestamp", 1, "data", "{no JSON")
        (row,) = BROKERS["bullmq"].read(redis.run_script(BROKERS["bullmq"].script), most=3)
    finally:
        redis.close()
    assert row["id"] == f"{queue}:1"
    assert row["input"] == ["{no JSON", "1"]


def test_a_queue_that_a_worker_empties_is_told_by_its_command(opened: Opened) -> None:
    engine = opened(WORKER.replace("    time.sleep(2)\n", '    redis.ask("FLUSHALL")\n    continue\n'))
    run = played(engine)
    assert "job_vanished" in run.found
    assert "flushall" in gates(run, "w1")


@pytest.mark.parametrize(
    ("line", "instead", "told"),
    [
        ("clock: supervisor\n", "", "system.yaml:5: stores.redis: it needs `clock: supervisor`"),
        ("stores: {redis: {}}\n", "", "give a `database`, or `stores`, such as {redis: {}}, or both"),
        ("jobs: jobs.lua", "jobs: bullmk", "'bullmk' is neither known (did you mean 'bullmq'?)"),
        ("jobs: jobs.lua", "jobs: SELECT 1", "'SELECT 1' needs a `database`"),
    ],
)
def test_a_file_that_cannot_be_is_refused_with_its_line(tmp_path: Path, line: str, instead: str, told: str) -> None:
    path = tmp_path / "system.yaml"
    (tmp_path / "jobs.lua").write_text(JOBS)
    path.write_text(FILE.replace(line, instead))
    with pytest.raises(HarnessError) as refused:
        SystemEngine(str(path))
    assert told in refused.value.message


def test_an_audit_says_that_it_does_not_read_redis(tmp_path: Path) -> None:
    (tmp_path / "jobs.lua").write_text(JOBS)
    (tmp_path / "system.yaml").write_text(FILE)
    with pytest.raises(HarnessError, match=r"system.yaml:11: these jobs are in Redis"):
        described(str(tmp_path / "system.yaml"))
