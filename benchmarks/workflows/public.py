"""Explores workflows of public repositories, unmodified, by tests of ours: `--repo NAME=PATH` names a checkout of one.

Usage: make public-flows ARGS="[--repo NAME=PATH ...] [--clones FOLDER] [--only WORD] [--page]"

A repository that is not named is cloned at its commit into FOLDER (.venv-public/clones). Their packages are installed
into .venv-public. It ends with 1 where something else comes out than a row says. `--page` keeps the rows of all others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from trial import ROOT, environment_of, explore

PAGE: Final = ROOT / "benchmarks/results/public_workflows.md"
OURS: Final = ROOT / "benchmarks/workflows/public"
HOME: Final = ROOT / ".venv-public"
PACKAGES: Final = (
    "dbos==3.4.0", "langchain==1.5.2", "langchain-openai==1.7.4", "langgraph==1.2.24", "langchain-community==0.4.2",
    "langgraph-checkpoint-sqlite==3.1.2", "pydantic-ai-slim[openai,duckduckgo]==2.68.0", "psycopg[binary]", "fastapi",
    "html2text", "python-dateutil", "logfire", "uvicorn", "httpx", "pytz", "google-api-python-client", "jinja2",
)  # fmt: skip
HEAD: Final = """# Workflows of public repositories

Written by `make public-flows ARGS=--page`, which explores one workflow of each repository, at its commit
and unmodified, by a test of ours from `benchmarks/workflows/public`. Nothing of theirs is kept here. `true` is what
their code was read to say of the finding. `seconds` is what the command took to its verdict, after everything was
installed, on two cores beside other work. How long it took to write each test was not measured: from the first look at
the four repositories of LangGraph and pydantic-ai to the last of their findings it was 17 minutes, for all four
together; for those of DBOS it was not measured.

| repository | commit | workflow | test | found | in runs | seconds | true |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


class Workflow(NamedTuple):
    """One workflow of a repository at a commit, and what is wrong in it, as its code says."""

    repository: str
    commit: str
    workflow: str
    test: str
    runs: int
    finds: str
    """An anomaly; empty: none in as many runs."""
    truth: str

    @property
    def name(self) -> str:
        """What `--repo` calls its repository."""
        return self.repository.rpartition("/")[2]


WORKFLOWS: Final = (
    Workflow(
        "langchain-ai/agents-from-scratch",
        "edf2c479",
        "`src/email_assistant/email_assistant_hitl.py`",
        "test_email_assistant.py",
        20,
        "effect_repeated",
        "true: its node asks a person for each of two calls, and runs the first again when the second is answered",
    ),
    Workflow(
        "langchain-ai/executive-ai-assistant",
        "758db717",
        "`eaia/main/graph.py`",
        "test_executive_assistant.py",
        20,
        "effect_repeated",
        "true: `send_email_node` sends without a key, and runs again where its process dies before the checkpoint",
    ),
    Workflow(
        "langchain-ai/langgraph-101",
        "386b4161",
        "`agents/email_agent/graph.py`",
        "test_langgraph_101.py",
        20,
        "effect_repeated",
        "true: its node of tools calls each without a key, and runs again where its process dies before the checkpoint",
    ),
    Workflow(
        "pydantic/pydantic-ai",
        "4fda3898",
        "`examples/pydantic_ai_examples/slack_lead_qualifier`",
        "test_slack_leads.py",
        20,
        "effect_repeated",
        "true on a queue that delivers a job again; the example runs on one that need not",
    ),
    Workflow(
        "dbos-inc/dbos-demo-apps",
        "90064b85",
        "`python/transactional-outbox/atomic_workflow.py`",
        "test_dbos_outbox.py",
        20,
        "effect_repeated",
        "true of the step: it stands for a mail, and runs again where its process dies before DBOS has stored it",
    ),
    Workflow(
        "dbos-inc/dbos-demo-apps",
        "90064b85",
        "`python/widget-store/widget_store/main.py`",
        "test_dbos_widget_store.py",
        20,
        "",
        "right, as far as it was read: each change is a transaction of DBOS or a step of its own",
    ),
)


def checkout(workflow: Workflow, named: dict[str, Path], clones: Path) -> Path:
    """Return the folder of a repository. Ends the program where it is at another commit."""
    where = named.get(workflow.name, clones / workflow.name)
    if not where.exists():
        url = f"https://github.com/{workflow.repository}"
        subprocess.run(["git", "clone", "--quiet", url, str(where)], check=True)
        subprocess.run(["git", "checkout", "--quiet", workflow.commit], cwd=where, check=True)
    at = subprocess.run(["git", "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True, check=False).stdout
    if not at.startswith(workflow.commit):
        raise SystemExit(f"{where} is at {at.strip()[:8] or 'no commit'}, and its row is about {workflow.commit}")
    return where


def try_workflow(workflow: Workflow, where: Path, *, seed: int) -> tuple[bool, str, str]:
    """Explore it; return whether it came out as its row says, what was said where not, and the row."""
    python, began = environment_of(HOME, PACKAGES), time.monotonic()
    ended = explore(python, OURS / workflow.test, runs=workflow.runs, seed=seed, environment={"REPOSITORY": str(where)})
    seconds = f"{time.monotonic() - began:.0f}"
    well = ended.is_as(workflow.finds, runs=workflow.runs)
    cells = [f"[{workflow.repository}](https://github.com/{workflow.repository})", f"`{workflow.commit}`"]
    cells += [workflow.workflow, workflow.test, ended.words, ended.runs, seconds, workflow.truth]
    print(f"{workflow.name} {workflow.test}: {ended.words}, {ended.runs} runs, {seconds} s", flush=True)
    return well, "" if well else ended.said, f"| {' | '.join(cells)} |"


def tests() -> list[str]:
    """Name our tests, in the order of the table."""
    return [workflow.test for workflow in WORKFLOWS]


def main() -> int:
    """Explore all of them; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repo", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--clones", type=Path, default=HOME / "clones", metavar="FOLDER")
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--page", action="store_true", help="keep the rows in results/public_workflows.md")
    asked = parser.parse_args()
    named = {name: Path(path).resolve() for name, _, path in (each.partition("=") for each in asked.repo)}
    kept = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    rows = {test: line for test in tests() for line in kept.splitlines() if f" | {test} | " in line}
    bad = 0
    for workflow in WORKFLOWS:
        if asked.only in workflow.repository + workflow.test:
            well, said, row = try_workflow(workflow, checkout(workflow, named, asked.clones.resolve()), seed=asked.seed)
            bad += not well
            rows |= {workflow.test: row} if well else {}
            print(said, end="", flush=True)
    if asked.page:
        lines = [rows[test] for test in tests() if test in rows]
        PAGE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
