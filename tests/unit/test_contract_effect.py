"""The contract of side effects: the page, the value and the line in a history say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from job_harness.core.history import Effect, History, SideEffect
from job_harness.core.history.event import RUN_EVENTS
from job_harness.core.history.jsonl import dump_history, load_history

PAGE = (Path(__file__).parents[2] / "docs/contracts/effect.md").read_text(encoding="utf-8")
CHARGED = Effect(3_000_000, "w1", "a", 1, 1, "charged", {"order": 7}, "order-7", True)


def test_the_page_lists_the_fields_of_the_value_with_their_defaults() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \|\s*(`\w+`)?\s*\|", PAGE, re.MULTILINE))
    assert tuple(rows) == SideEffect._fields
    said = {name: json.loads(default.strip("`")) for name, default in rows.items() if default}
    assert said == SideEffect._field_defaults


def test_the_line_on_the_page_is_what_is_written_and_read() -> None:
    found = re.search(r"```json\n(.*?)\n```", PAGE, re.DOTALL)
    assert found is not None
    assert dump_history([CHARGED]).splitlines()[1] == found[1]
    read = load_history(dump_history([CHARGED]).splitlines())
    assert read.events == [CHARGED]
    assert read.events[0].declared == SideEffect("charged", "order-7", {"order": 7}, idempotent=True)  # type: ignore[union-attr]


def test_what_is_not_said_is_left_out_so_that_older_histories_keep_their_bytes() -> None:
    plain = Effect(0, "w1", "a", 1, 1, "charged", None)
    line = dump_history([plain]).splitlines()[1]
    assert line == '{"kind":"effect","at":0,"actor":"w1","job":"a","attempt":1,"token":1,"name":"charged","data":null}'
    assert load_history(dump_history([plain]).splitlines()).events == [plain]


@pytest.mark.parametrize("name", sorted(RUN_EVENTS))
def test_what_tells_of_a_run_is_no_side_effect_and_the_page_says_so(name: str) -> None:
    assert History([Effect(0, "w1", "a", 1, 1, name, None)]).events[0].declared is None  # type: ignore[union-attr]
    assert f"`{name}`" in PAGE
