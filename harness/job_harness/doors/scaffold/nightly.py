"""`init --nightly`: a search every night in parts, on GitHub or GitLab, and one issue for each anomaly."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Final

from job_harness.core.target import Target
from job_harness.doors.scaffold.first_files import install_step, node_steps, project_steps
from job_harness.doors.scaffold.plan import ChangePlan, Language, Platform, Project
from job_harness.errors import UsageError

PARTS: Final = 8
RUNS: Final = 40_000
MINUTES: Final = 35
"""How long a part searches at most. What it found is made smaller for half as long again, and what the platform kills
after an hour leaves nothing to merge."""


_GITHUB: Final = """name: nightly search
on:
  schedule: [{cron: "17 3 * * *"}]
  workflow_dispatch: {}
permissions: {contents: read, issues: write}
jobs:
  search:
    runs-on: ubuntu-latest
    timeout-minutes: 60
    strategy:
      fail-fast: false
      matrix: {part: [PART_LIST]}
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.12"}
OWN
INSTALL
      # 1: something was found, which the next job tells.
      - run: >-
          EXPLORE --seed "$GITHUB_RUN_ID" --shard "$PART/PARTS"
          --json "part-$PART.json" --save "part-$PART.yaml" || test $? -eq 1
        env: {PART: "${{ matrix.part }}"}
      - uses: actions/upload-artifact@v4
        if: always()
        with: {name: "part-${{ matrix.part }}", path: "part-*"}
  tell:
    needs: search
    if: always()
    runs-on: ubuntu-latest
    timeout-minutes: 10
    steps:
      - uses: actions/setup-python@v5
        with: {python-version: "3.12"}
INSTALL
      - uses: actions/download-artifact@v4
        with: {path: parts, merge-multiple: true}
      - run: job-harness merge parts/*.json --json search.json --html search.html --issues issues
      - uses: actions/upload-artifact@v4
        if: always()
        with: {name: search, path: "search.*"}
      - if: always()
        env: {GH_TOKEN: "${{ github.token }}", GH_REPO: "${{ github.repository }}"}
        run: |
          for file in issues/*.md; do
            [ -e "$file" ] || continue
            title=$(head -n 1 "$file")
            known=$(gh issue list --state open --limit 500 --json title --jq ".[].title" | grep -cFx "$title" || true)
            [ "$known" -gt 0 ] || tail -n +3 "$file" | gh issue create --title "$title" --body-file -
          done
"""

_GITLAB: Final = """# Include this file in .gitlab-ci.yml, and make a pipeline schedule for every night.
# GITLAB_TOKEN is a token that may write issues; without it the anomalies are in the artifacts alone.
# Both jobs are in the stage `test`; if your pipeline has no such stage, name one of yours.
search:
  image: python:3.12
  rules: [{if: '$CI_PIPELINE_SOURCE == "schedule"'}]
  parallel: PARTS
  timeout: 60m
  script:
OWN
    - INSTALL
    # 1: something was found, which the next job tells.
    - >-
      EXPLORE --seed "$CI_PIPELINE_ID" --shard "$CI_NODE_INDEX/$CI_NODE_TOTAL"
      --json "part-$CI_NODE_INDEX.json" --save "part-$CI_NODE_INDEX.yaml" || test $? -eq 1
  artifacts: {when: always, paths: ["part-*"]}
tell:
  image: python:3.12
  rules: [{if: '$CI_PIPELINE_SOURCE == "schedule"'}]
  needs: [search]
  timeout: 10m
  script:
    - INSTALL
    - job-harness merge part-*.json --json search.json --html search.html --issues issues
  after_script:
    - |
      [ -n "$GITLAB_TOKEN" ] || exit 0
      url="$CI_API_V4_URL/projects/$CI_PROJECT_ID/issues"
      for file in issues/*.md; do
        [ -e "$file" ] || continue
        title=$(head -n 1 "$file")
        known=$(curl -sf -H "PRIVATE-TOKEN: $GITLAB_TOKEN" --get "$url?state=opened&in=title" \\
          --data-urlencode "search=$title")
        [ "$known" = "[]" ] || continue
        tail -n +3 "$file" | curl -sf -H "PRIVATE-TOKEN: $GITLAB_TOKEN" "$url" --data-urlencode "title=$title" \\
          --data-urlencode "description@-"
      done
  artifacts: {when: always, paths: ["search.*", "issues"]}
"""


def plan_nightly(project: Project, *, target: str, platform: Platform) -> ChangePlan:
    """Plan the workflow that searches a target. A project whose language does not show has nothing to install."""
    plan, language = ChangePlan(project.root), project.language
    named = shlex.quote(_from_root(target, project.root))
    explore = f"job-harness explore {named} --runs {RUNS} --time {MINUTES}m --keep-going --quiet"
    on_postgres = Target.parse(target).is_file  # a queue file or a system file
    install = install_step(language or Language.PYTHON, extra="embedded" if on_postgres else "")
    own = node_steps(project.root) if language is Language.TYPESCRIPT else project_steps(project) if language else ""
    if platform is Platform.GITLAB:
        path, text = project.root / ".gitlab" / "nightly-search.yml", _GITLAB
        install = install.rpartition("- run: ")[2]
        if language is Language.TYPESCRIPT and own:
            own = ""
            plan.advice.append("add steps to `search` that install Node and your packages: its image has only Python")
        own = own.replace("      - run: ", "    - ")
    else:
        path, text = project.root / ".github" / "workflows" / "nightly-search.yml", _GITHUB
        text = text.replace("PART_LIST", ", ".join(str(part) for part in range(1, PARTS + 1)))
    for word, value in (("OWN\n", own), ("EXPLORE", explore), ("INSTALL", install), ("PARTS", str(PARTS))):
        text = text.replace(word, value)
    plan.add(path, text)
    return plan


def _from_root(target: str, root: Path) -> str:
    """Return a target as the workflow names it, which runs at the root. Raises UsageError where it is not below it."""
    file = Target.parse(target).file
    if not Path(file).is_file():
        return target
    place = Path(os.path.relpath(Path(file).resolve(), root)).as_posix()
    if place.startswith("../"):
        raise UsageError(
            f"--nightly {target}: it is not in {root}, and a workflow finds only what is in its repository",
            hint=f"Name the repository that has it: job-harness init {shlex.quote(str(Path(file).resolve().parent))}",
        )
    return target.replace(file, place, 1)
