"""Whatever a peer does, there is a named error in time, no other peer is affected, and no process is left behind."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from job_harness.errors import EnvironmentUnavailable
from job_harness.worlds.patience import ready
from job_harness.worlds.peers import Peer, PeerLost, peer

HOST = """
import json, os, subprocess, sys, time
inward, outward, life = (int(number) for number in os.environ["JOB_HARNESS_PEER"].split(","))
def write(text):
    line = text.encode()
    while line:
        line = line[os.write(outward, line):]
def say(**report):
    write(json.dumps(report) + "\\n")
def idle(message, **more):
    say(idle=next(message[kind] for kind in ("go", "time", "sever") if kind in message), next=None, **more)
"""
SERVE = """
say(hello=1, clock=False)
for line in os.fdopen(inward):
    message = json.loads(line)
"""
Start = Callable[..., Peer]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def hosted(body: str, *, first: str = SERVE, patience: float = 20.0, **more: Any) -> Peer:
    code = HOST + first + textwrap.indent(textwrap.dedent(body), "    " if first else "")
    return Peer([sys.executable, "-I", "-S", "-c", code], name="the peer", patience=patience, **more)


@pytest.fixture(scope="module")
def other() -> Iterator[Peer]:
    """A peer that has nothing to do with what others do."""
    well = hosted("idle(message, value='well')")
    yield well
    well.kill()


@pytest.fixture
def start() -> Iterator[Start]:
    peers: list[Peer] = []

    def begin(*given: str, **more: Any) -> Peer:
        peers.append(hosted(*given, **more))
        return peers[-1]

    yield begin
    for each in peers:
        each.kill()
        assert gone(each.pid), "a process was left"


def test_a_turn_ends_with_what_came_of_it(start: Start) -> None:
    twice = start("idle(message, value=2 * message['with']['number'])")
    assert twice.ask("double", {"number": 21})["value"] == 42
    assert twice.ask("double", {"number": 4})["value"] == 8


def test_what_is_reported_on_the_way_comes_in_order(start: Start) -> None:
    hosts = start("""
        if message.get("gate") is None:
            say(effect="note", actor="a", data={})
            say(gate=7, actor="a", point="mail", **{"with": [1]})
        else:
            say(effect="ended", actor="a", data={"with": message["value"]})
        idle(message)
    """)
    assert [next(iter(report)) for report in hosts.go("run", actor="a")] == ["effect", "gate", "idle"]
    assert hosts.go_on(7, value="sent")[0]["data"] == {"with": "sent"}


def test_turns_of_several_actors_go_on_beside_each_other(start: Start) -> None:
    hosts = start("""
        if "sever" in message or message["do"] == "end":
            idle(waiting.pop(), value="late")
        if "sever" in message or message.get("actor") is None:
            idle(message)
        else:
            waiting = [*globals().get("waiting", ()), message]
    """)
    first, second = hosts.post("slow", actor="a"), hosts.post("slow", actor="b")
    hosts.ask("end")
    assert hosts.ended(first) is None
    assert (hosts.ended(second) or {})["value"] == "late"
    hosts.sever("a")
    hosts.forget(first)
    assert hosts.go("nothing")[-1]["idle"] == 5, "a turn that is no longer awaited is passed over"


def test_what_it_prints_is_no_report(start: Start) -> None:
    talks = start("""print('{"idle": 1}'); sys.stderr.write('world\\n'); idle(message)""")
    assert "idle" in talks.ask("anything")


def test_a_flood_of_prints_is_passed_over(start: Start) -> None:
    talks = start("print('\\n'.join('x' * 99 for _ in range(20000))); idle(message)")
    assert "idle" in talks.ask("claim")


def test_a_large_message_reaches_a_peer_that_speaks_meanwhile(start: Start) -> None:
    echoes = start("say(effect='echo', actor=None, data={'x': 'y' * 300_000}); idle(message, value=len(line))")
    assert echoes.ask("take", {"text": "z" * 3_000_000})["value"] > 3_000_000


def test_a_large_message_that_is_posted_is_sent_whole(start: Start) -> None:
    hosts = start("idle(message, value=len(line))")
    turn = hosts.post("take", {"text": "z" * 1_000_000}, actor="a")
    while (ended := hosts.ended(turn)) is None:
        assert ready([hosts.descriptor], seconds=5)[0], "it waits for the rest of the line"
    assert ended["value"] > 1_000_000


def test_a_peer_that_takes_no_message_is_named(start: Start) -> None:
    deaf = start("", first="say(hello=1, clock=False)\ntime.sleep(60)", patience=0.2)
    with pytest.raises(PeerLost, match=r"asked for 'take': it took no message for 0\.2 s") as lost:
        deaf.post("take", {"text": "z" * 1_000_000}, actor="a")
    assert lost.value.kind == "blocked"
    assert gone(deaf.pid)


def test_silence_of_a_peer_that_gets_no_processor_is_waited_out(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    starved = start(
        f"while not os.path.exists({str(runs)!r}): time.sleep(0.01)\nidle(message, value='late')", patience=0.1
    )
    looks: list[int] = []

    def waited(pid: int) -> float:
        looks.append(pid)
        if len(looks) == 6:
            runs.touch()
        return len(looks)

    monkeypatch.setattr(peer, "waited_for_processor", waited)
    monkeypatch.setattr(peer, "STARVED_LOOKS", 10_000)
    assert starved.ask("claim")["value"] == "late"


def test_one_that_never_gets_a_processor_is_blocked_in_the_end(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    starved = start("time.sleep(60)", patience=0.1)
    waited = iter(range(100))
    monkeypatch.setattr(peer, "waited_for_processor", lambda pid: next(waited))
    with pytest.raises(PeerLost, match=r"it did not answer for 0\.1 s"):
        starved.ask("claim")
    assert next(waited) == 2 * peer.STARVED_LOOKS


LOST = {
    "another version": ("", "say(hello=2); time.sleep(60)", "version", r"version 2 of the peer protocol.* speaks 1"),
    "no version": ("", "say(hello='1'); time.sleep(60)", "version", r"version '1' of the peer protocol"),
    "no greeting": (
        "",
        "say(idle=1, next=None); time.sleep(60)",
        "nonsense",
        "it must say hello first, and said .*idle",
    ),
    "silence": (SERVE, "time.sleep(60)", "blocked", r"the peer, asked for 'claim': it did not answer for 0\.2 s"),
    "an endless flood of prints": (SERVE, "while True: print('x' * 1000)", "blocked", "it did not answer for"),
    "an endless flood of reports": (
        SERVE,
        'while True: write(\'{"effect": "e", "actor": null, "data": {}}\\n\' * 5000)',
        "flooded",
        "it reported more than 100000 things in one turn",
    ),
    "a line without an end": (
        SERVE,
        "while True: write('x' * 60000)",
        "flooded",
        "it sent more than 1 MiB in one turn",
    ),
    "an exit": (SERVE, "print('I cannot go on', flush=True); os._exit(7)", "died", "exit code 7\n  I cannot go on"),
    "an exit in the middle of a line": (
        SERVE,
        'write(\'{"idle": 1, "va\'); os._exit(0)',
        "died",
        r"exit code 0 in the middle of the line '\{\"idle\": 1, \"va'",
    ),
    "a kill": (SERVE, "os.kill(os.getpid(), 9)", "died", "its process was killed by SIGKILL"),
    "a closed channel": (SERVE, "os.close(outward); time.sleep(60)", "died", "its process closed its channel"),
    "no JSON": (SERVE, "write('{nonsense\\n')", "nonsense", "something wrote '{nonsense' into the harness's channel"),
    "no object": (SERVE, "write('[1, 2]\\n')", "nonsense", r"something wrote '\[1, 2\]'"),
    "deep nesting": (SERVE, "write('[' * 200_000 + '\\n')", "nonsense", r"something wrote '\[\[\["),
    "the end of another turn": (SERVE, "say(idle=99, next=None)", "nonsense", "answered turn 99, and this is 1"),
    "an end that is no number": (SERVE, "say(idle=[1], next=None)", "nonsense", r"`idle` cannot be \[1\]"),
    "an end without its timer": (SERVE, "say(idle=1)", "nonsense", r"it reported .*: `idle` needs `next`"),
    "no report": (SERVE, "say(ready=1)", "nonsense", "a report has one of the fields gate, effect, idle"),
    "two reports in one": (
        SERVE,
        "say(idle=1, gate=1)",
        "nonsense",
        "a report has one of the fields gate, effect, idle",
    ),
}


@pytest.mark.parametrize("what", LOST)
def test_a_peer_that_is_lost_is_named_and_ended(
    start: Start, other: Peer, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, body, kind, words = LOST[what]
    if what == "a line without an end":
        monkeypatch.setattr(peer, "LARGEST_TURN", 1 << 20)
    monkeypatch.setattr(peer, "DYING_SECONDS", 0.2)
    bad = start(body, first=first, patience=0.2 if kind == "blocked" else 20.0)
    with pytest.raises(PeerLost, match=words) as lost:
        bad.ask("claim")
    assert lost.value.kind == kind
    assert not bad.alive
    assert gone(bad.pid)
    assert other.ask("how are you")["value"] == "well", "another peer is affected"
    with pytest.raises(PeerLost, match="the peer: its process was ended"):
        bad.ask("claim")


@pytest.mark.parametrize(("data", "words"), [({}, "`note` needs `what`"), ({"what": [1]}, r"`what` cannot be \[1\]")])
def test_the_data_of_an_effect_has_to_have_what_is_known_of_it(start: Start, data: object, words: str) -> None:
    bad = start(f"say(effect='note', actor=None, data={data!r})", effects={"note": {"what": (str,)}})
    with pytest.raises(PeerLost, match=words) as lost:
        bad.ask("claim")
    assert lost.value.kind == "nonsense"


def test_an_end_that_comes_twice_is_not_taken_for_the_next_one(start: Start) -> None:
    twice = start("idle(message, value=1); idle(message, value=2)")
    assert twice.ask("count")["value"] == 1
    with pytest.raises(PeerLost, match="answered turn 1, and this is 2"):
        twice.ask("count")


def test_work_without_end_is_named_by_what_it_waits_for(start: Start) -> None:
    io = "while True: say(idle=message['go'], next=None, io=['TCPWRAP']); time.sleep(0.02)"
    busy = start(io, patience=0.3, standstill=0.3)
    with pytest.raises(PeerLost, match=r"virtual time stood still for 0\.3 real seconds, for TCPWRAP"):
        busy.ask("fetch")


def test_killing_ends_what_it_started_too(start: Start) -> None:
    forks = start("""
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        idle(message, value=child.pid)
    """)
    child = forks.ask("fork")["value"]
    assert forks.started() == [child]
    forks.kill()
    assert not peer._runs(child), "what it started still runs"


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(EnvironmentUnavailable, match="the peer cannot be started"):
        Peer(["/nowhere/to/be/found"], name="the peer")


def test_what_it_writes_is_for_this_user_alone(start: Start, tmp_path: Path) -> None:
    """Bytecode in a cached package is run by the next peer, whatever the umask was when it was written."""
    before = os.umask(0)
    try:
        start(f"open({str(tmp_path / 'written')!r}, 'w').close(); idle(message)").ask("write")
    finally:
        os.umask(before)
    assert (tmp_path / "written").stat().st_mode & 0o777 == 0o600
