"""What a program finds that the preload of systems has under it: it goes on, and ends, as Node alone would have it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.node_at_hand import written

from job_harness.errors import EnvironmentUnavailable
from job_harness.subjects.systems.process import ASKED, NODE_PRELOAD
from job_harness.worlds.peers import Peer, find_node
from job_harness.worlds.peers.peer import PeerLost

NOW = 1_893_456_000_000


class Program:
    """A program under the preload, without a database and without a kernel: its timers fire one after the other."""

    def __init__(self, node: str, path: str) -> None:
        self.printed: list[str] = []
        asked = {"ports": {}, "outside": {}, "database": 1, "recorder": 2}
        environment = {"PATH": os.environ["PATH"], "NODE_NO_WARNINGS": "1", ASKED: json.dumps(asked)}
        command = [node, f"--import={NODE_PRELOAD.as_uri()}", path]
        self.peer = Peer(command, name="the program", environment=environment, log=self.printed.append)
        self.timers: list[list[Any]] = []
        self.sockets: dict[str, list[Any]] = {}
        self.turn("begin", NOW, seed="1")

    def turn(self, do: str, now: float, **more: Any) -> None:
        idle = self.peer.ask(do, {"sockets": {}, "skip": [], "skew": 0, **more}, now=now)
        self.timers, self.sockets = idle["timers"], idle["sockets"]

    def fire(self) -> None:
        """Let the timer fire that is due first."""
        number, when, *_ = min(self.timers, key=lambda timer: timer[1])
        self.turn("fire", when, timer=number)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    try:
        node = find_node().path
    except EnvironmentUnavailable as missing:
        pytest.skip(missing.message)
    programs: list[Program] = []

    def start(source: str) -> Program:
        programs.append(Program(node, written(tmp_path, source, name="program.mjs")))
        return programs[-1]

    yield start
    for program in programs:
        program.peer.kill()


def test_what_a_timer_throws_is_an_uncaught_exception_and_the_program_goes_on(
    started: Callable[[str], Program],
) -> None:
    program = started("""
    import dgram from "node:dgram";
    const numbers = dgram.createSocket("udp4");
    numbers.send("jobs:1|c", 9, "127.0.0.1");
    process.on("uncaughtException", (error) => console.log("heard", error.message));
    fetch("/jobs").catch((error) => console.log("refused", error.message));
    let polls = 0;
    setInterval(() => { if (++polls === 1) throw new Error("the first poll"); console.log("poll", polls); }, 1000);
    """)
    program.fire()
    program.fire()
    assert program.printed == ["refused Failed to parse URL from /jobs", "heard the first poll", "poll 2"]


def test_a_server_at_a_port_that_the_file_does_not_name_is_in_nobodys_way(started: Callable[[str], Program]) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        program = started(f"""
        import net from "node:net";
        const metrics = net.createServer((line) => line.on("data", (data) => line.write(`${{data}} of metrics`)));
        metrics.listen({port}, () => console.log("at", metrics.address().port));
        const kept = [];
        setTimeout(() => kept.push(net.connect({port}, "localhost", () => kept[0].write("a line"))), 1);
        setTimeout(() => kept[0].on("data", (data) => console.log(String(data))), 2);
        """)
        program.fire()
        assert program.sockets == {}, "no other process has an end of it"
        program.fire()
    assert program.printed == [f"at {port}", "a line of metrics"]


def test_a_program_ends_when_beforeexit_has_nothing_left_to_begin(started: Callable[[str], Program]) -> None:
    program = started("""
    AbortSignal.timeout(30_000);
    const works = [
      () => setImmediate(() => console.log("an immediate")),
      async () => { await null; setTimeout(() => console.log("a timer"), 1000); },
      () => { process.exitCode = 3; },
    ];
    process.on("beforeExit", () => works.shift()());
    """)
    assert [wait for _, _, wait, *_ in program.timers] == [30_000, 1000]
    program.fire()
    assert program.printed == ["an immediate", "a timer"]
    with pytest.raises(PeerLost):
        program.turn("rest", NOW + 1000)
    assert program.peer.exit_code == 3


@pytest.mark.slow
def test_a_child_process_is_waited_for_unless_it_stays(started: Callable[[str], Program]) -> None:
    program = started("""
    import { execFile, spawn } from "node:child_process";
    execFile("sh", ["-c", "sleep 0.1; echo done"], (_, text) => console.log(text.trim()));
    spawn("sleep", ["60"]);
    setTimeout(() => console.log("a timer"), 1);
    """)
    assert program.printed == ["done"]
    program.fire()
    assert program.printed == ["done", "a timer"]
