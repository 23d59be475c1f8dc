"""The page, the schema and the code of the peer protocol say the same; every peer of ours keeps to them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from tests.contract.node_at_hand import needs_node, processor
from tests.contract.overheard import DEFS, fits, overheard

from job_harness.errors import EnvironmentUnavailable
from job_harness.subjects.processors import JobHarness
from job_harness.subjects.processors.typescript.target import TypeScriptProcessor
from job_harness.worlds.patience import Deadline
from job_harness.worlds.peers import Peer, find_node, peer
from job_harness.worlds.peers.runtime import NODE_HOST, PYTHON_HOST, node_peer, python_peer

PAGE = (Path(__file__).parents[2] / "docs/contracts/peer_protocol.md").read_text(encoding="utf-8")
SHOWN = [
    (side, json.loads(line))
    for side, block in re.findall(r"```json (\w+)\n(.*?)```", PAGE, re.S)
    for line in block.splitlines()
]
SAMPLES: dict[type, Any] = {str: "", int: 1, float: 1.5, list: [], dict: {}, type(None): None}


def kinds(side: str) -> list[str]:
    return [each["$ref"].rpartition("/")[2] for each in DEFS[side]["oneOf"]]


@pytest.mark.parametrize("side", ["message", "report"])
def test_every_line_of_the_page_fits_the_schema_and_shows_each_kind(side: str) -> None:
    lines = [line for shown, line in SHOWN if shown == side]
    assert [line for line in lines if not fits(side, line)] == []
    assert {kind for kind in kinds(side) for line in lines if fits(kind, line)} == set(kinds(side))


def test_the_page_shows_every_field_of_the_schema() -> None:
    defined = {
        (side, name) for side in ("message", "report") for kind in kinds(side) for name in DEFS[kind]["properties"]
    }
    assert {(side, name) for side, line in SHOWN for name in line} == defined


def test_version_limits_and_kinds_of_loss_are_those_of_the_code() -> None:
    assert f"Version {peer.VERSION}." in PAGE
    assert DEFS["hello"]["properties"]["hello"]["const"] == peer.VERSION
    for host in (Path(peer.__file__).with_name("peer.mjs"), PYTHON_HOST):
        assert re.search(rf"VERSION = {peer.VERSION}\b", host.read_text(encoding="utf-8")), host
        assert peer.VARIABLE in host.read_text(encoding="utf-8")
    limits = re.findall(r"^\| `([A-Z_]+)` \| ([\d.]+) \|", PAGE, re.M)
    assert limits
    assert limits == [(name, str(getattr(peer, name))) for name, _ in limits]
    losses = set(re.findall(r'_lost\(\s*"(\w+)"|PeerLost\("(\w+)"', Path(peer.__file__).read_text(encoding="utf-8")))
    told = re.findall(r"^\| `([a-z]+)` \| ", PAGE.partition("## Limits")[2], re.M)
    assert {one or other for one, other in losses} == set(told)


def test_what_the_code_demands_is_what_the_schema_demands() -> None:
    assert kinds("report") == list(peer.REPORTS)
    for kind, wanted in peer.REPORTS.items():
        whole = {
            name: next((SAMPLES[each] for each in types if each in SAMPLES), True) for name, types in wanted.items()
        }
        assert DEFS[kind]["required"] == list(wanted)
        for name, types in wanted.items():
            taken = {each for each, sample in SAMPLES.items() if fits(kind, {**whole, name: sample})}
            assert taken == set(types) & set(SAMPLES), (kind, name)


ANSWERS_PY = """
class Refused(Exception): pass
class Answers:
    async def session(self, url): return Answers()
    async def add(self, one, other): return one + other
    async def refuse(self): raise Refused("no")
    async def fail(self): raise ValueError("broken")
    async def wrap(self):
        try: await self.fail()
        except ValueError as error: raise KeyError("lost") from error
"""
ANSWERS_JS = """
export class Refused extends Error {}
export class Answers {
  async session() { return new Answers(); }
  async add({ one, other }) { return one + other; }
  async refuse() { throw new Refused("no"); }
  async fail() { throw new RangeError("broken"); }
  async wrap() { throw new TypeError("lost", { cause: new RangeError("broken") }); }
  async text() { throw "a text"; }
  async clock() { setTimeout(() => console.log("a timer fired"), 1); return Date.now(); }
}
"""


def hosted(language: str, folder: Path) -> Peer:
    if language == "python":
        (folder / "answers.py").write_text(ANSWERS_PY)
        return python_peer(folder / "answers.py", name="the host", packages=folder)
    (folder / "answers.mjs").write_text(ANSWERS_JS)
    try:
        return node_peer(folder / "answers.mjs", name="the host", packages=folder, oldest=(20, 0))
    except EnvironmentUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("language", ["python", "node"])
def test_a_host_of_queues_speaks_it(language: str, tmp_path: Path) -> None:
    with overheard() as kinds_heard:
        host = hosted(language, tmp_path)
        try:
            assert host.ask("add", {"one": 1, "other": 2}, now=5)["value"] == 3
            assert host.ask("refuse")["refused"] == "no"
            assert host.ask("fail")["raised"] in ("ValueError: broken", "RangeError: broken")
            both = ("KeyError: 'lost', from ValueError: broken", "TypeError: lost, from RangeError: broken")
            assert host.ask("wrap")["raised"] in both
            assert host.has_clock == (language == "node")
            if language == "node":
                host.time(1_893_456_000_000)
                assert host.ask("clock")["value"] == 1_893_456_000_000
                assert host.ask("text")["raised"] == "a text"
            turn = host.post("begin", {"url": ""}, actor="s1")
            while (begun := host.ended(turn)) is None:
                pass
            assert "value" in begun
            host.sever("s1")
            assert host.ask("add", {"one": 2, "other": 2})["value"] == 4
        finally:
            host.kill()
    assert {"hello", "go", "idle", "sever"} <= kinds_heard


def test_a_busy_host_in_python_ends_with_the_harness(tmp_path: Path) -> None:
    (tmp_path / "answers.py").write_text("class Answers:\n    async def spin(self):\n        while True: pass\n")
    script = f"""
import pathlib
from job_harness.worlds.peers.runtime import python_peer
folder = pathlib.Path({str(tmp_path)!r})
host = python_peer(folder / "answers.py", name="the host", packages=folder)
host.post("spin", actor=None)
print(host.pid, flush=True)
while True: host.ended(1)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    harness = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert harness.stdout is not None
    pid = int(harness.stdout.readline())
    harness.kill()
    harness.wait()
    harness.stdout.close()
    deadline = Deadline(10)
    while peer._runs(pid):
        assert not deadline.passed, "the host outlives the harness"
        deadline.pause()


@needs_node
def test_a_typescript_processor_speaks_it(tmp_path: Path) -> None:
    body = """
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return { success: true, output: await (globalThis as any).ask(job.input) };
    """
    twice = TypeScriptProcessor(processor(tmp_path, body), globals={"ask": lambda text: text * 2})
    with overheard() as kinds_heard, JobHarness() as jobs:
        assert jobs.perform_job(twice, "a").output == "aa"
    assert kinds_heard == {"hello", "go", "time", "gate", "effect", "idle"}


@needs_node
def test_a_severed_actor_of_a_node_peer_is_neither_seen_nor_resumed(tmp_path: Path) -> None:
    (tmp_path / "host.mjs").write_text(
        textwrap.dedent(f"""
        import {{ Peer }} from {json.dumps(NODE_HOST.with_name("peer.mjs").as_uri())};
        const peer = new Peer({{ clock: false }});
        const run = async (actor) => peer.effect("passed", {{}}, (await peer.gate("wait", [], actor), actor));
        peer.serve({{ act: ({{ actor }}) => (void run(actor), {{}}), rest: () => new Promise(setImmediate) }});
        """)
    )
    host = Peer([find_node().path, str(tmp_path / "host.mjs")], name="the host")
    with overheard():
        first, second = (host.go("run", actor=actor)[0]["gate"] for actor in ("a", "b"))
        host.sever("a")
        assert [next(iter(report)) for report in host.go_on(first)] == ["idle"]
        assert [next(iter(report)) for report in host.go_on(second)] == ["effect", "idle"]
    host.kill()
