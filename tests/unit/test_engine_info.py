"""What an engine has beyond its verbs is declared: the page, engines of before, and no protocol by getattr."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import pytest

from job_harness.core.model.settings import Settings
from job_harness.core.port import Capabilities, EngineInfo, OwnUpkeep, Sessions, as_engine
from job_harness.core.target import Target
from job_harness.engines.memory import MemoryEngine
from job_harness.errors import UsageError
from job_harness.search.targets import Engines

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/contracts/engine_info.md"
ABLE = Capabilities(virtual_time=True)


# the page -----------------------------------------------------------------------------------------------------------


def test_the_page_and_the_value_have_the_same_fields() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\S.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    declared = {
        item.name: "required" if (item.default, item.default_factory) == (MISSING, MISSING) else "optional"
        for item in fields(EngineInfo)
    }
    assert {name: "required" if default == "required" else "optional" for name, default in rows} == declared
    nothing = {item.name for item in fields(EngineInfo) if item.default is None}
    assert {name for name, default in rows if default == "`None`"} == nothing


def test_the_example_on_the_page_is_an_engine() -> None:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(compile(found[1], str(PAGE), "exec"), names)
    engine = names["MyEngine"]()
    assert as_engine(engine) is engine
    assert engine.open(Settings(), None, None).jobs() == {}


# what another package made --------------------------------------------------------------------------------------------


def test_an_info_that_is_there_and_raises_is_not_taken_for_one_that_is_not() -> None:
    def broken(self: object) -> object:
        raise AttributeError("no _disk")

    engine = type("Mine", (), {"info": property(broken), "open": None, "close": None})()
    with pytest.raises(AttributeError, match="no _disk"):
        as_engine(engine)


def test_an_engine_that_raises_where_it_is_asked_for_its_server_costs_no_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Lost(MemoryEngine):
        def __init__(self) -> None:
            super().__init__()
            self.info = replace(self.info, provenance=lambda: str(1 // 0))

    monkeypatch.setattr("job_harness.search.targets._factory", lambda name: Lost)
    with Engines() as engines:
        engines.get(Target.parse("memory"))
        (told,) = engines.provenances()
    assert told.startswith("memory does not say where its server came from: ZeroDivisionError")


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (type("Bare", (), {"open": None, "close": None, "name": "x"})(), "Bare has no info"),
        (
            type("Odd", (), {"info": "memory", "open": None, "close": None})(),
            "Odd.info is 'memory', which is not an EngineInfo",
        ),
        (type("Shut", (), {"info": EngineInfo("x", ABLE)})(), "Shut has no open and no close"),
    ],
)
def test_what_is_no_engine_is_told_what_it_lacks(found: object, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        as_engine(found)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: EngineInfo(3, ABLE), "EngineInfo.name is 3, and has to be text"),  # type: ignore[arg-type]
        (lambda: EngineInfo("x", {}), "EngineInfo.capabilities is {}, and has to be a Capabilities"),  # type: ignore[arg-type]
        (lambda: EngineInfo("x", ABLE, contract=None), "EngineInfo.contract is None"),  # type: ignore[arg-type]
        (lambda: EngineInfo("x", ABLE, provenance="here"), "has to be a function without"),  # type: ignore[arg-type]
        (lambda: EngineInfo("x", ABLE, sessions=True), "a function without arguments, or None"),  # type: ignore[arg-type]
    ],
)
def test_a_value_of_another_kind_is_refused(make: Callable[[], EngineInfo], told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        make()


# no protocol by getattr ---------------------------------------------------------------------------------------------

ALLOWED: dict[str, str] = {
    "what Python objects, frames, modules and exceptions have or have not": """
        __call__ __code__ __dataclass_fields__ __dict__ __file__ __func__ __get__ __module__ __name__ __qualname__
        __self__ _asdict _fields ag_frame close co_filename co_qualname cr_await cr_code cr_frame gi_code gi_frame
        gi_yieldfrom id lineno part position reconfigure send sqlstate strerror""",
    "what a platform or a release of a library has or has not": """
        O_CLOEXEC O_NONBLOCK SIGURG _DefaultEventLoopPolicy __wrapped__ _app_protocol _callbacks _fut_waiter _inst
        _local _num_transactions _pool _stream_reader fork gr_frame log_failure pgconn poll pool
        pthread_getcpuclockid sched_getaffinity setitimer
        clock_gettime get_global_debugger traveller_stack utcmax""",
    "what pytest's, Hypothesis' and pydantic's own objects have or have not": """
        _pytestfixturefunction _tmp_path_factory callspec example fixturenames funcargs job_left map model_json_schema
        param sections wasxfail workerinput""",
    "what calls and answers of the libraries that are watched have or have not, by release and by kind": """
        _base_url _coro _execution_strategy _observes_effects body command_stack headers kind routing_key status""",
    "a field of some events and requests: the reader goes through all of them": """
        actor field job name point""",
    "a monitor subscribes by having the method; a class of states says what is momentary in it": """
        method momentary one""",
    "what a user's own function, class or module made is told apart by what it has": """
        changed jobs leave method open registered send_task tasks told verb""",
}
"""Why something may be asked for with a default, and by which name: the attribute, or the variable that holds it."""
DECLARED = {item.name for item in fields(EngineInfo)} | {
    name for kind in (Sessions, OwnUpkeep) for name in vars(kind) if not name.startswith("_")
}
READS_DECLARED = {
    "harness/job_harness/core/port.py": "adapts engines written before there was EngineInfo",
    "harness/job_harness/subjects/applications/": "makes the EngineInfo of a user's own application or class of queues",
}
"""Where a name that EngineInfo declares may be asked for, and why."""


def asked_for(path: Path) -> Iterator[tuple[int, str]]:
    """List the lines that ask whether something has an attribute, and by which name."""
    text = path.read_text(encoding="utf-8")
    if "attr(" not in text:
        return
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        if node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3):
            name = node.args[1]
            yield node.lineno, str(name.value) if isinstance(name, ast.Constant) else ast.unparse(name)


def test_nothing_is_discovered_by_getattr() -> None:
    allowed = {name: reason for reason, names in ALLOWED.items() for name in names.split()}
    used: set[str] = set()
    for path in sorted((ROOT / "harness").rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        for line, name in asked_for(path):
            where = f"{place}:{line} asks whether something has {name!r}"
            if any(place.startswith(prefix) for prefix in READS_DECLARED):
                used.add(name)
            elif name in DECLARED - {"name"}:
                pytest.fail(f"{where}: EngineInfo declares it; read engine.info.{name}")
            elif name not in allowed:
                pytest.fail(f"{where}: declare it instead, or say in ALLOWED why it cannot be declared")
            used.add(name)
    assert not set(allowed) - used, "no longer asked for: take it off the list"


def test_a_new_protocol_by_getattr_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "new.py"
    path.write_text('a = getattr(engine, "contract", None)\nb = hasattr(queue, "made_at")\nc = getattr(x, "sure")\n')
    assert list(asked_for(path)) == [(1, "contract"), (2, "made_at")]
