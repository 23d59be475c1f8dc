"""The workflow that `init --nightly` writes: its steps run here, with a `gh` that notes its calls."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from job_harness.doors.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.long]

GH = """#!{python}
import json, pathlib, sys
known = pathlib.Path({issues!r})
titles = json.loads(known.read_text()) if known.exists() else []
if sys.argv[1:3] == ["issue", "list"]:
    print("\\n".join(titles))
else:
    body = sys.stdin.read()
    assert "job-harness explore" in body, body
    known.write_text(json.dumps([*titles, sys.argv[sys.argv.index("--title") + 1]]))
"""


def workflow(folder: Path, *options: str) -> Any:
    (folder / "pyproject.toml").touch()
    assert main(["init", str(folder), "--nightly", "memory+stale-complete", *options]) == 0
    written = next(path for path in folder.rglob("*.yml"))
    return YAML(typ="safe").load(written.read_text())


def step(text: str, folder: Path, **more: str) -> int:
    """Run one step of a workflow, with fewer runs."""
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    text = text.replace("--runs 40000", "--runs 512")
    return subprocess.run(["bash", "-e", "-c", text], cwd=folder, env={**os.environ, "PATH": path, **more}).returncode


def test_the_steps_on_github_search_in_parts_and_open_one_issue_for_each_anomaly(tmp_path: Path) -> None:
    jobs = workflow(tmp_path)["jobs"]
    issues = tmp_path / "issues.json"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gh").write_text(GH.format(python=sys.executable, issues=str(issues)))
    (tmp_path / "bin" / "gh").chmod(0o755)
    search = next(each["run"] for each in jobs["search"]["steps"] if "explore" in each.get("run", ""))
    tells = [each["run"] for each in jobs["tell"]["steps"] if "run" in each and "pip install" not in each["run"]]
    for part in jobs["search"]["strategy"]["matrix"]["part"]:
        assert step(search, tmp_path, PART=str(part), GITHUB_RUN_ID="0") == 0
    (tmp_path / "parts").mkdir()
    for file in tmp_path.glob("part-*.json"):
        file.rename(tmp_path / "parts" / file.name)

    for _ in range(2):  # The second night finds the same anomaly, whose issue is open.
        assert [step(text, tmp_path) for text in tells] == [1, 0]
    assert json.loads(issues.read_text()) == ["job-harness: stale_complete on memory+stale-complete"]
    assert json.loads((tmp_path / "search.json").read_text())["runs"] == 512
    assert (tmp_path / "search.html").stat().st_size > 1000


def test_gitlab_has_the_same_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = workflow(tmp_path, "--on", "gitlab")
    assert "Then: include it in .gitlab-ci.yml, commit both, and make a pipeline schedule" in capsys.readouterr().out
    assert not {"stages", "stage"} & {*jobs, *jobs["search"], *jobs["tell"]}, (
        "the stages of the file that includes it stay"
    )
    search = next(text for text in jobs["search"]["script"] if "explore" in text)
    for part in range(1, 3):
        assert step(search, tmp_path, CI_NODE_INDEX=str(part), CI_NODE_TOTAL="2", CI_PIPELINE_ID="0") == 0
    merge = next(text for text in jobs["tell"]["script"] if "merge" in text)
    assert step(merge, tmp_path) == 1
    assert (tmp_path / "issues" / "stale_complete.md").read_text().startswith("job-harness: stale_complete on ")
