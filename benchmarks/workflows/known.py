"""Tries known issues of agent and workflow libraries: affected releases and fixed ones, from the package index.

Usage: make known-issues ARGS="[--only WORD] [--seed N] [--folder FOLDER]"

Each release is installed into an environment of its own below FOLDER (.venv-known), unless it is there. It ends with 1
where an affected form is not found, or a fixed one is not silent. Keeps its table in results/workflow_issues.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from trial import ROOT, environment_of, explore

PAGE: Final = ROOT / "benchmarks/results/workflow_issues.md"
OURS: Final = ROOT / "benchmarks/workflows/known"
EXAMPLES: Final = ROOT / "examples/agents"
HEAD: Final = """# Known issues of workflow and agent libraries

Written by `make known-issues`, which installs each release and explores a test of ours on it. An
issue that its library has not closed has no fixed release: there the fixed form is the test itself, as advised.

| issue | release | form | has to be | is | in runs | seconds |
| --- | --- | --- | --- | --- | --- | --- |
"""


class Case(NamedTuple):
    """One release, and the form of the test that is played on it."""

    issue: str
    test: Path
    release: str
    """As pip takes it."""
    form: str
    """Words of the names of tests."""
    runs: int
    finds: str = ""
    """An anomaly; empty: none in as many runs."""
    needs: tuple[str, ...] = ()


DBOS: Final = "[dbos-transact-py 716](https://github.com/dbos-inc/dbos-transact-py/issues/716)"
AGENT_FRAMEWORK: Final = "[agent-framework 3938](https://github.com/microsoft/agent-framework/issues/3938)"
LANGGRAPH: Final = "[langgraph 7780](https://github.com/langchain-ai/langgraph/issues/7780)"
RECOVERED: Final = OURS / "test_recovered_while_away.py"
REPEATED: Final = EXAMPLES / "test_agent_framework.py"
ASKED: Final = OURS / "test_asked_in_a_loop.py"
CASES: Final = (
    Case(DBOS, RECOVERED, "dbos==2.23.0", "paid", 20, "invariant_violated"),
    Case(DBOS, RECOVERED, "dbos==2.24.0", "paid", 20),
    Case(AGENT_FRAMEWORK, REPEATED, "agent-framework-core==1.0.0", "wrong", 20, "effect_repeated"),
    Case(AGENT_FRAMEWORK, REPEATED, "agent-framework-core==1.23.0", "wrong", 20, "effect_repeated"),
    Case(AGENT_FRAMEWORK, REPEATED, "agent-framework-core==1.23.0", "right", 50),
    Case(LANGGRAPH, ASKED, "langgraph==1.2.24", "wrong", 20, "effect_repeated", ("langgraph-checkpoint-sqlite",)),
    Case(LANGGRAPH, ASKED, "langgraph==1.2.24", "right", 50, needs=("langgraph-checkpoint-sqlite",)),
)


def try_case(case: Case, folder: Path, *, seed: int) -> tuple[bool, str, str]:
    """Explore it; return whether it came out as it has to, what was said where not, and its row."""
    began, home = time.monotonic(), folder / case.release.replace("==", "-")
    python = environment_of(home, [case.release, *case.needs])
    ended = explore(python, case.test, "-k", case.form, "--job-strict", runs=case.runs, seed=seed)
    well = ended.is_as(case.finds, runs=case.runs)
    wanted = f"found ({case.finds})" if case.finds else "not found"
    told = f"found ({ended.words})" if ended.anomalies else "not found" if ended.code == 0 else ended.words
    cells = [case.issue, case.release, case.form, wanted, told, ended.runs, f"{time.monotonic() - began:.0f}"]
    return well, "" if well else ended.said, f"| {' | '.join(cells)} |"


def main() -> int:
    """Try all of them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="only what has this in its issue or release")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv-known", metavar="FOLDER")
    asked = parser.parse_args()
    chosen = [case for case in CASES if asked.only in case.issue + case.release]
    rows, bad = [], 0
    for case in chosen:
        well, said, row = try_case(case, asked.folder.resolve(), seed=asked.seed)
        print(row, *([said] if said else []), sep="\n", flush=True)
        rows.append(row)
        bad += not well
    if len(chosen) == len(CASES) and not bad:
        PAGE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
