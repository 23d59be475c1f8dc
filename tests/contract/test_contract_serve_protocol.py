"""The page, the schema and the code of the serve protocol say the same; a client that keeps to them is served."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jsonschema
import pytest
from referencing import Registry, Resource

from job_harness import __version__
from job_harness.doors.serve import ASKS, SCHEMA, VERSION, ClientGone, Conversation, HarnessService
from job_harness.doors.serve.exploration import MEMORY_OUTLIVES, explore
from job_harness.doors.serve.service import KINDS
from job_harness.worlds.peers import peer

PAGE = (Path(__file__).parents[2] / "docs/contracts/serve_protocol.md").read_text(encoding="utf-8")
SHOWN = [
    (side, json.loads(line))
    for side, block in re.findall(r"```json (\w+)\n(.*?)```", PAGE, re.S)
    for line in block.splitlines()
]
OURS = json.loads(SCHEMA.read_text(encoding="utf-8"))
PEERS = json.loads(peer.SCHEMA.read_text(encoding="utf-8"))
BOTH: Registry[Any] = Registry().with_resources([(each["$id"], Resource.from_contents(each)) for each in (OURS, PEERS)])

Body: TypeAlias = Sequence[tuple[str, dict[str, Any]]]
"""What a test asks for, one thing after the other."""


def fits(side: str, line: Any) -> bool:
    wanted = {"$schema": OURS["$schema"], "$ref": f"{OURS['$id']}#/$defs/{side}"}
    return bool(jsonschema.Draft202012Validator(wanted, registry=BOTH).is_valid(line))


class Client(Conversation):
    """Speaks without pipes, in turn with the server. Its processors do what `processors` say, its test `body`."""

    def __init__(self, processors: dict[str, Callable[[Client, str], None]], body: Body = ()) -> None:
        self.shown: list[str] = []
        super().__init__(-1, -1, say=self.shown.append)
        self.lines: deque[dict[str, Any]] = deque()
        self.standing: dict[int, str] = {}
        self.silent = False
        self.processors = processors
        self.body = body
        self.script: Iterator[tuple[str, dict[str, Any]]] = iter(())
        self.playing = 0
        self.checks = 0
        self.broken: list[dict[str, str]] = []
        self.judged: dict[str, list[str]] = {}
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[int, dict[str, Any]] = {}
        self.number = 0
        self.service = HarnessService(self)

    def say(self, line: dict[str, Any]) -> None:
        self.said.append(("client", line))
        self.lines.append(line)

    def send(self, message: Any) -> None:
        self.said.append(("server", json.loads(json.dumps(message))))
        if "answer" in message:
            self.answers[message["answer"]] = message
            if self.playing:
                self.play_on()
        elif message.get("do") == "run":
            self.processors[message["with"]["slug"]](self, message["actor"])
            if not self.silent:
                self.say({"idle": message["go"], "next": None})
        elif "gate" in message:
            self.end(self.standing.pop(message["gate"]))
            self.say({"idle": message["go"], "next": None})
        elif "time" in message:
            self.say({"idle": message["time"], "next": None})
        elif "check" in message:
            self.say({"checked": message["check"], "broken": self.broken})
        elif "play" in message:
            self.script, self.playing = iter(self.body), message["play"]
            self.play_on()

    def play_on(self) -> None:
        """Ask what comes next in the body, or say that it has ended."""
        if (step := next(self.script, None)) is not None:
            self.queue(step[0], **step[1])
        else:
            self.say({"played": self.playing, "failure": None, "checks": self.checks, **self.judged})
            self.playing = 0

    def _line(self, seconds: float | None) -> dict[str, Any] | None:
        if not self.lines and self.silent:
            return None
        if not self.lines:
            raise ClientGone
        return self.lines.popleft()

    def stand(self, actor: str, name: str, **more: Any) -> None:
        """Let a run declare a side effect, after which it ends."""
        gate = len(self.said)
        self.standing[gate] = actor
        self.say({"gate": gate, "actor": actor, "point": name, "with": ["effect", {"data": {"order": 7}, **more}]})

    def end(self, actor: str) -> None:
        result = {"success": True, "output": 1, "error": None, "retryable": True}
        self.say({"effect": "ended", "actor": actor, "data": {"result": result}})

    def queue(self, do: str, **given: Any) -> None:
        """Ask, and go on without the answer."""
        self.number += 1
        self.say({"ask": self.number, "do": do, "with": given})

    def ask(self, do: str, **given: Any) -> Any:
        self.queue(do, **given)
        number = self.number
        while number not in self.answers:
            self.service.carry_out(self.next_ask())
        answer = self.answers[number]
        return answer.get("value", answer.get("refused"))

    def unfitting(self) -> list[tuple[str, dict[str, Any]]]:
        return [(side, line) for side, line in self.said if not fits(side, line)]


def charging(client: Client, actor: str) -> None:
    client.stand(actor, "charged")


def keyed(client: Client, actor: str) -> None:
    client.stand(actor, "charged", identity="order-7", idempotent=True)


def failing(client: Client, actor: str) -> None:
    client.say({"effect": "ended", "actor": actor, "data": {"threw": {"name": "Error", "message": "no"}}})


def failing_before_its_charge(client: Client, actor: str) -> None:
    failing(client, actor)
    client.stand(actor, "charged")


PAYING: Body = (
    ("register", {"slug": "pay"}),
    ("enqueue", {"slug": "pay", "input": {"order": 7}}),
    ("run_until_idle", {}),
)


@pytest.mark.parametrize("side", ["client", "server"])
def test_every_line_of_the_page_fits_the_schema_and_shows_each_kind(side: str) -> None:
    lines = [line for shown, line in SHOWN if shown == side]
    assert [line for line in lines if not fits(side, line)] == []
    for kind in OURS["$defs"][side]["oneOf"]:
        wanted = {
            "$ref": f"{PEERS['$id']}#{kind['$ref'].partition('#')[2]}"
            if kind["$ref"][0] == "."
            else OURS["$id"] + kind["$ref"]
        }
        assert any(jsonschema.Draft202012Validator(wanted, registry=BOTH).is_valid(line) for line in lines), kind


def test_the_page_lists_every_ask_with_its_arguments() -> None:
    listed = {
        name: set(re.findall(r"`(\w+)`", arguments))
        for names, arguments in re.findall(r"^\| (`[a-z_`, ]+`) \|(.*?)\|", PAGE.partition("## Turns")[0], re.M)
        for name in re.findall(r"`(\w+)`", names)
        if name in ASKS
    }
    taken = {
        name: {each for each in inspect.signature(verb).parameters if each != "self"} for name, verb in ASKS.items()
    }
    taken["open"] = {each for each in inspect.signature(HarnessService._made).parameters if each != "self"}
    taken["explore"] = {
        each for each in inspect.signature(explore).parameters if each not in ("service", "conversation")
    }
    assert listed == {name: arguments - {"wanted"} for name, arguments in taken.items()}


def test_version_and_kinds_of_refusal_are_those_of_the_code() -> None:
    assert f"Version {VERSION}." in PAGE
    assert OURS["$defs"]["hello"]["properties"]["hello"]["const"] == VERSION
    kinds = [kind for _, kind in KINDS] + ["internal"]
    assert set(
        re.findall(r"^\| `([a-z]+)` \| ", PAGE.partition("kinds of a refusal")[2].partition("## Turns")[0], re.M)
    ) == set(kinds)
    assert set(OURS["$defs"]["refused"]["properties"]["refused"]["properties"]["kind"]["enum"]) == set(kinds)


def test_a_crash_at_an_effect_runs_the_processor_again_and_is_told() -> None:
    client = Client({"pay": charging}, PAYING)
    client.ask("open", at_most_once=[{"name": "charged", "per": ["order"]}], title="a payment")
    client.ask("register", slug="pay")
    job = client.ask("enqueue", slug="pay", input={"order": 7})
    client.ask("crash_worker", at="charged")
    client.ask("run_until_idle")
    news = [answer["news"] for answer in client.answers.values() if "news" in answer]
    last = [each for told in news for each in told["jobs"] if each["id"] == job][-1]
    assert (last["runs"], last["status"], last["path"][-1]) == (2, "COMPLETED", "COMPLETED")
    assert [(each["worker"], each["data"]) for told in news for each in told["effects"]] == [
        ("worker-1", {"order": 7}),
        ("worker-2", {"order": 7}),
    ]
    [screen] = client.ask("close")["problems"]
    assert screen.startswith("FAIL  a payment\neffect_repeated")
    assert "One fault: worker-1 crashes right after `charged job-1`" in screen
    assert client.unfitting() == []


def test_an_explored_test_finds_shrinks_and_replays() -> None:
    client = Client({"pay": charging}, PAYING)
    asked = {"name": "pays", "source": "body", "command": "REPLAY=TOKEN run"}
    options = {"at_most_once": ["charged"]}
    told = client.ask("explore", **asked, options=options, runs=50)
    assert (told["verdict"], told["anomaly"]) == ("finding", "effect_repeated")
    assert f"REPLAY={told['token']}" in told["screen"]
    again = client.ask("explore", **asked, options=options, replay=told["token"])
    assert (again["verdict"], again["token"]) == ("finding", told["token"])
    assert client.ask("explore", **asked, options={}, replay=told["token"])["verdict"] == "pass"
    other = client.ask("explore", **{**asked, "name": "ships"}, options=options, replay=told["token"])
    assert other["kind"] == "usage"
    assert "recorded for something else" in other["message"]
    assert client.unfitting() == []


class Marking(Client):
    """Its processor marks the order in memory, which a crash does not take away here, and then charges."""

    def send(self, message: Any) -> None:
        if "play" in message:
            self.marked, self.to_charge = False, set[str]()
        super().send(message)

    def end(self, actor: str) -> None:
        if actor in self.to_charge:
            self.to_charge.remove(actor)
            self.stand(actor, "charged")
        else:
            super().end(actor)


def marking(client: Any, actor: str) -> None:
    if client.marked:
        client.end(actor)
    else:
        client.marked = True
        client.to_charge.add(actor)
        client.stand(actor, "marked")


class Sharing(Client):
    """The answer that one run waits for lets all go on in one turn; the fake charges each job once."""

    def send(self, message: Any) -> None:
        if "play" in message:
            self.charged, self.waiting = set[str](), dict[str, str]()
        if message.get("do") == "run":
            self.waiting = {**self.waiting, message["actor"]: message["with"]["job"]["id"]}
        super().send(message)

    def end(self, actor: str) -> None:
        if actor not in self.waiting:
            super().end(actor)
        for waits, job in self.waiting.items():
            if job in self.charged:
                super().end(waits)
            else:
                self.charged.add(job)
                self.stand(waits, "charged")
        self.waiting = {}


def sharing(client: Any, actor: str) -> None:
    if len(client.waiting) == 1:
        client.standing[len(client.said)] = actor
        client.say({"gate": len(client.said), "actor": actor, "point": "token", "with": ["step"]})


def test_what_several_runs_did_in_one_turn_has_happened_whichever_of_them_dies_there() -> None:
    two = (PAYING[0], PAYING[1], PAYING[1], PAYING[2])
    client = Sharing({"pay": sharing}, two)
    once = [{"name": "charged", "tool": "pay"}]
    told = client.ask("explore", name="pays", source="body", command="", options={"exactly_once": once}, runs=30)
    assert told["verdict"] == "pass", told
    assert client.unfitting() == []


def test_where_an_effect_is_missing_after_a_crash_what_outlives_it_in_a_client_is_said() -> None:
    client = Marking({"pay": marking}, PAYING)
    once = [{"name": "charged", "tool": "pay"}]
    told = client.ask("explore", name="pays", source="body", command="", options={"exactly_once": once}, runs=50)
    assert (told["verdict"], told["anomaly"]) == ("finding", "effect_missing")
    assert "One fault: worker-1 crashes right after `marked job-1`" in told["screen"]
    assert MEMORY_OUTLIVES in told["screen"]


@pytest.mark.long
def test_an_explored_test_says_when_no_single_deviation_is_left() -> None:
    client = Client({"pay": keyed}, PAYING)
    asked = {"name": "pays", "source": "body", "command": ""}
    few, many = (client.ask("explore", **asked, runs=runs)["cost"] for runs in (20, 150))
    assert re.search(r"; 20 of \d+ single faults came up$", few), few
    assert many.endswith("; every crash at every gate was tried"), many


CHECKED: Body = (("always", {}),)


@pytest.mark.parametrize("body", [CHECKED + PAYING, PAYING + CHECKED], ids=["early", "late"])
def test_a_check_of_the_client_is_judged_wherever_the_body_sets_it(body: Body) -> None:
    client = Client({"pay": charging}, body)
    client.checks, client.broken = 1, [{"name": "chargedOnce", "message": "it returned false"}]
    told = client.ask("explore", name="pays", source="body", command="", runs=5)
    assert (told["verdict"], told["anomaly"]) == ("finding", "invariant_violated")
    assert "A check of your own failed.\nHere: t+0s: chargedOnce: it returned false" in told["screen"]
    assert client.unfitting() == []


def test_a_check_of_the_client_is_called_after_every_event_as_in_python() -> None:
    client = Client({"pay": charging})
    client.ask("open")
    client.ask("always")
    assert client.service.opened is not None
    called: list[int] = []
    client.service.opened.harness.always(lambda harness: called.append(1))
    for do, given in PAYING:
        client.ask(do, **given)
    checks = [line for side, line in client.said if "check" in line]
    assert len(checks) == len(called) > 10
    client.ask("always")
    assert len([line for side, line in client.said if "check" in line]) == len(called) + 1, "there are jobs: at once"
    client.ask("close", looked=["job-1"])


def test_what_an_explored_test_could_not_disturb_is_not_judged() -> None:
    client = Client({"pay": keyed}, PAYING)
    client.judged = {"doubts": ["the rows of a cursor were no place to crash at"]}
    told = client.ask("explore", name="pays", source="body", command="", runs=5)
    assert (told["verdict"], told["doubts"]) == ("pass", ["the rows of a cursor were no place to crash at"])


def test_a_client_that_leaves_in_the_middle_of_a_run_ends_the_exploration(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client({})
    monkeypatch.setattr(client, "play_on", lambda: None)
    with pytest.raises(ClientGone):
        client.ask("explore", name="pays", source="body", command="", runs=5)
    assert [line for side, line in client.said if "play" in line] == [client.said[-1][1]]


def test_a_side_effect_after_the_end_of_its_attempt_counts_until_its_worker_dies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = Client({"pay": failing_before_its_charge})
    client.ask("open", at_most_once=["charged"])
    for do, given in PAYING:
        client.ask(do, **given)
    assert "pay job-1, attempt 1: 'charged' came after the attempt had ended: await it" in capsys.readouterr().err
    client.ask("crash_worker")
    gates = [line for side, line in client.said if side == "client" and "gate" in line]
    severed = [line["actor"] for side, line in client.said if side == "server" and "sever" in line]
    assert severed == [line["actor"] for line in gates]
    told = client.ask("close", looked=["job-1"])
    assert "effect_repeated" in told["problems"][0]
    assert client.unfitting() == []


@pytest.mark.parametrize(
    ("processor", "judged", "told"),
    [
        (
            failing,
            {},
            "undisturbed, it fails: a job ended FAILED and the test never looked:\n  job-1 (pay), attempts 3",
        ),
        (failing, {"looked": ["job-1"]}, ""),
        (Client.end, {"running": ["an interval still runs"]}, "undisturbed, it fails: an interval still runs"),
    ],
)
def test_the_undisturbed_run_of_an_explored_test_is_judged_as_a_plain_test(
    processor: Callable[[Client, str], None], judged: dict[str, list[str]], told: str
) -> None:
    client = Client({"pay": processor}, PAYING)
    client.judged = judged
    answer = client.ask("explore", name="pays", source="body", command="", runs=5)
    assert answer["verdict"] == ("fails" if told else "pass")
    assert answer.get("why", "").startswith(told)
    assert ("starts, attempt 1" in answer.get("screen", "")) is bool(told)
    assert client.unfitting() == []


@pytest.mark.parametrize(
    ("do", "given", "told"),
    [
        ("register", {"slug": "pay"}, "the tool 'pay' already has a processor"),
        ("register", {"slug": "My Tool"}, "'My Tool' is not a valid tool name"),
        ("enqueue", {"slug": "pay", "input": {"a": "\x00"}}, "the input of 'pay' cannot be stored: $.a: PostgreSQL"),
        ("enqueue", {"slug": "pay", "start_after": {}}, "start_after cannot be {}"),
        ("drain", {"limit": "2"}, "limit must be a whole number, not '2'"),
        ("crash_worker", {"at": 5}, "crash_worker: at must be text, not 5"),
        (
            "wait_for",
            {"job": "job-1", "status": {"within": "5m"}},
            "wait_for: the status must be text, not {'within': ",
        ),
    ],
)
def test_a_mistake_of_the_test_is_told_without_a_traceback(do: str, given: dict[str, Any], told: str) -> None:
    client = Client({})
    client.ask("open")
    client.ask("register", slug="pay")
    refused = client.ask(do, **given)
    client.ask("close")
    assert (refused["kind"], refused["message"].startswith(told)) == ("usage", True)
    assert "File" not in refused["hint"]


@pytest.mark.parametrize(("later", "told"), [((), True), ((("advance", {"by": "2d"}),), False)])
def test_a_setting_that_no_run_of_an_explored_test_reached_is_not_judged(later: Body, told: bool) -> None:
    client = Client({"pay": keyed}, (*PAYING, *later))
    options = {"settings": {"retention": "1d"}}
    passed = client.ask("explore", name="pays", source="body", command="", runs=3, options=options)
    assert passed["verdict"] == "pass"
    assert any(each.startswith("settings: retention: no run reached it") for each in passed["doubts"]) is told


@pytest.mark.parametrize(("tool", "found"), [("pay", "effect_missing"), (None, "effect_missing"), ("ship", None)])
def test_a_side_effect_that_has_to_happen_and_never_does_is_found(tool: str | None, found: str | None) -> None:
    client = Client({"pay": Client.end}, PAYING)
    wanted = "charged" if tool is None else {"name": "charged", "tool": tool}
    asked = {"name": "pays", "source": "body", "command": "", "runs": 5, "options": {"exactly_once": [wanted]}}
    told = client.ask("explore", **asked)
    assert told.get("anomaly") == found
    assert bool(told.get("unjudged")) == (found is None)


@pytest.mark.parametrize(
    ("processor", "body", "at_most_once", "told"),
    [
        (charging, PAYING[:1], [], ["no job was enqueued"]),
        (Client.end, PAYING, [], ["no processor declared an effect"]),
        (Client.end, PAYING, ["charged"], ["no processor declared the effect 'charged', which atMostOnce names"]),
        (charging, PAYING, [], ["'charged' was repeated in ", 'jobHarness({ atMostOnce: "charged" })']),
        (keyed, PAYING, ["charged", "mailed"], []),
        (charging, PAYING, [{"name": "chargd"}], ["'chargd', which atMostOnce names (did you mean 'charged'?)"]),
    ],
)
def test_what_an_explored_test_that_passes_did_not_judge_is_told(
    processor: Callable[[Client, str], None], body: Body, at_most_once: Sequence[Any], told: Sequence[str]
) -> None:
    client = Client({"pay": processor}, body)
    asked = {"name": "pays", "source": "body", "command": "", "runs": 20, "options": {"at_most_once": at_most_once}}
    passed = client.ask("explore", **asked)
    assert passed["verdict"] == "pass"
    not_covered = [*passed["unjudged"], *passed["doubts"]]
    assert [each for each in told if each not in " ".join(not_covered)] == []
    assert bool(not_covered) == bool(told)
    client.checks = 1
    judged = client.ask("explore", **asked)["unjudged"]
    assert [each for each in judged if "declared an effect" in each] == []
    assert client.unfitting() == []


@pytest.mark.long
def test_a_client_that_goes_silent_in_a_turn_is_told_and_its_ask_refused() -> None:
    client = Client({"pay": lambda client, actor: setattr(client, "silent", True)})
    client.ask("open")
    client.ask("register", slug="pay")
    client.ask("enqueue", slug="pay")
    refused = client.ask("run_until_idle")
    assert refused["kind"] == "hung"
    assert "did not continue with pay job-1, attempt 1: it did not answer for 10 s" in refused["message"]
    [shown] = client.shown
    assert shown.endswith("it did not answer for 10 s of real time; is a processor in an endless loop?")
    client.silent = False
    assert "it did not answer" in client.ask("close")["problems"][0]
    assert client.ask("open")["engine"] == "reference (memory)"
    client.ask("close")
    assert client.unfitting() == []


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        ({"do": "opne"}, "there is no 'opne' to ask for (did you mean 'open'?)"),
        ({"do": "open", "with": {"engin": "memory"}}, "open takes no 'engin' (did you mean 'engine'?)"),
        (
            {"do": "open", "with": {"engine": "memry"}},
            "no processors can run on the engine 'memry' (did you mean 'memory'?)",
        ),
        (
            {"do": "open", "with": {"settings": {"jobTimeout": 60000}}},
            "settings: jobTimeout is 60000, which would be seconds, and looks like milliseconds",
        ),
        (
            {"do": "open", "with": {"settings": {"maxAttempt": 1}}},
            "settings: there is no setting 'maxAttempt' (did you mean 'maxAttempts'?)",
        ),
        (
            {"do": "open", "with": {"settings": {"retryBackoff": True, "retryDelay": "2h"}}},
            "lengthens no wait: the first, retryDelay, is 2h, and the longest, retryDelayMax, is 1h",
        ),
        ({"do": "open", "with": {"at_most_once": [7]}}, "atMostOnce cannot be 7"),
        (
            {"do": "open", "with": {"at_most_once": [{"name": "a", "per": "order"}]}},
            "atMostOnce cannot be {'name': 'a', ",
        ),
        ({"do": "open", "with": {"exactly_once": [{"name": "a", "tol": "b"}]}}, "exactlyOnce cannot be {'name': 'a', "),
        ({"do": "enqueue"}, "enqueue: missing a required argument: 'slug'"),
        ({"do": "advance", "with": {"by": "1h"}}, "no harness is open"),
        (
            {"do": "explore", "with": {"name": "a", "source": "", "command": "", "runs": 0}},
            "explore: runs must be a whole number",
        ),
        (
            {"do": "explore", "with": {"name": "a", "source": "", "command": "", "seed": 1.5}},
            "explore: seed must be a whole number, not 1.5",
        ),
        ({"do": "open", "with": {"seed": "abc"}}, "seed must be a whole number, not 'abc'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(ask: dict[str, Any], told: str) -> None:
    client = Client({})
    client.say({"ask": 1, **ask})
    client.service.carry_out(client.next_ask())
    assert told in client.answers[1]["refused"]["message"]
    assert client.unfitting() == []


@pytest.mark.slow
def test_the_command_keeps_its_standard_output_and_ends_with_its_input() -> None:
    command = [
        sys.executable,
        "-c",
        "import sys, job_harness.doors.cli; sys.exit(job_harness.doors.cli.main(['serve', '--stdio']))",
    ]
    asks = b'{"ask": 1, "do": "open"}\nnot json\n'
    done = subprocess.run(command, input=asks, capture_output=True, timeout=60, env=dict(os.environ), check=False)
    hello, opened = map(json.loads, done.stdout.splitlines())
    assert hello == {"hello": VERSION, "version": __version__}
    assert opened["value"]["engine"] == "reference (memory)"
    assert b"the client sent 'not json', which is not a JSON object" in done.stderr
    assert done.returncode == 0


def test_one_process_serves_many_clients_each_by_a_fork_and_ends_with_its_input(tmp_path: Path) -> None:
    place, ours = tmp_path / "door" / "s", {"PATH": "", "MINE": "1"}
    place.parent.mkdir()
    command = [sys.executable, "-m", "job_harness.doors.cli", "serve", "--at", str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, umask=0) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert json.loads(server.stdout.readline()) == {"hello": VERSION, "version": __version__}
        assert place.stat().st_mode & 0o777 == 0o600, "another user may connect"
        clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        lines = [client.makefile("rb") for client in clients]
        forks: list[int] = []
        for client, line in zip(clients, lines, strict=True):
            client.connect(str(place))
            assert json.loads(line.readline())["hello"] == VERSION
            [fork] = forks_of(server.pid) - {*forks}
            forks.append(fork)
            begin = {"process": os.getpid(), "inspected": False, "folder": str(tmp_path), "environment": ours}
            client.sendall(b"%s\n" % json.dumps(begin).encode())
            client.sendall(b'{"ask": 1, "do": "open"}\n')
            assert json.loads(line.readline())["answer"] == 1
        assert os.readlink(f"/proc/{forks[0]}/cwd") == str(tmp_path)
        os.kill(forks[0], signal.SIGKILL)
        lines[1].close()
        clients[1].close()  # As when a worker is killed: the others go on.
        clients[2].sendall(b'{"ask": 2, "do": "enqueue", "with": {"slug": "a"}}\n')
        assert "answer" in json.loads(lines[2].readline())
        server.stdin.close()
        assert server.wait(60) == 0
        assert not place.parent.exists()
        for each in (clients[0], clients[2], lines[0], lines[2]):
            each.close()
    assert not [fork for fork in forks if Path(f"/proc/{fork}").exists()], "a fork outlives its server"


def forks_of(process: int) -> set[int]:
    stats = {each.name: each / "stat" for each in Path("/proc").iterdir() if each.name.isdigit()}
    return {int(name) for name, stat in stats.items() if parent_of(stat) == process}


def parent_of(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(") ")[2].split()[1])
    except OSError:  # It has ended since.
        return 0
