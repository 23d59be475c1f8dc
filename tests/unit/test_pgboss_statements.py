"""What pg-boss said of its statements is kept, and read again where the file was damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from job_harness.engines.pgboss import package
from job_harness.errors import EnvironmentUnavailable

TOLD = json.dumps({"create": "CREATE ...", "retry": None})


@pytest.mark.parametrize("damaged", ["", "{", "[]", "[" * 200_000, "{}", '{"create": 1}', TOLD[:20]])
def test_a_damaged_answer_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(package, "npm_package", lambda name, version: tmp_path)
    monkeypatch.setattr(package, "_read_statements", lambda folder: asked.append(folder) or TOLD)
    (tmp_path / package._TOLD).write_text(damaged)

    assert package.load("10.4.2").statements == json.loads(TOLD)
    assert package.load("10.4.2").statements == json.loads(TOLD)
    assert len(asked) == 1


def test_a_package_that_tells_nothing_useful_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "npm_package", lambda name, version: tmp_path)
    monkeypatch.setattr(package, "_read_statements", lambda folder: "Hello")
    with pytest.raises(EnvironmentUnavailable, match=r"pg-boss 10\.4\.2 has no statements that this engine can read"):
        package.load("10.4.2")
