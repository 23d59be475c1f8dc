"""`examples`: complete files that run as they are, for someone who has the wheel and no checkout.

The same files stand in the pages. Each set names the command that runs it, and the extra that it
needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from job_harness.core.own_code import CHECKOUT
from job_harness.doors.scaffold.plan import write_whole
from job_harness.errors import EnvironmentUnavailable, UsageError

HERE: Final = Path(__file__).resolve().parent
PLACES: Final = (HERE / "examples", CHECKOUT / "examples")
"""In a wheel, and in a checkout."""
INDEX: Final = "README.md"


class ExampleSet(NamedTuple):
    """A folder of examples."""

    folder: str
    shows: str
    command: str
    extra: str = ""
    """Which extra of job-harness it needs; nothing where a plain installation is enough."""
    besides: str = ""
    """What it needs that no extra brings."""


SETS: Final = (
    ExampleSet("first_test", "a processor and two tests of it", "python -m pytest -q first_test"),
    ExampleSet("scenario", "a worker dies, in YAML", "job-harness run scenario --engine memory"),
    ExampleSet(
        "tasks",
        "tasks of Celery, RQ, Dramatiq, Django and Temporal",
        "python -m pytest tasks",
        besides="the libraries that they import",
    ),
    ExampleSet(
        "agents",
        "agents and workflows of LangGraph, DBOS and pydantic-ai, right and wrong",
        "cd agents && python -m pytest -q --job-explore 20",
        besides="the libraries that they import",
    ),
    ExampleSet(
        "typescript",
        "a processor that charges twice, which only a search shows",
        "cd typescript && python -m pytest -q --job-explore 20",
        "node",
    ),
    ExampleSet(
        "celery-app",
        "a Celery application, in which a charge can happen twice",
        "cd celery-app && pytest",
        besides="`pip install celery`",
    ),
    ExampleSet(
        "python-app",
        "an application in Python, and the file that describes it",
        "job-harness explore python-app/system.yaml",
        "embedded",
    ),
    ExampleSet(
        "bullmq-app",
        "workers on BullMQ, and the file that describes them",
        "cd bullmq-app && npm install && job-harness explore system.yaml",
        "redis",
        "Node with npm",
    ),
    ExampleSet(
        "dbos-app",
        "workflows of DBOS in TypeScript, and the file that describes them",
        "cd dbos-app && npm install && job-harness explore system.yaml --runs 20",
        "embedded",
        "Node with npm",
    ),
    ExampleSet(
        "rq-app",
        "workers on RQ, and the file that describes them",
        "job-harness explore rq-app/system.yaml",
        "redis",
        "`pip install rq`",
    ),
    ExampleSet(
        "celery-redis-app",
        "workers on Celery and Redis, and the file that describes them",
        "job-harness explore celery-redis-app/system.yaml",
        "redis",
        "`pip install 'celery[redis]'`",
    ),
    ExampleSet(
        "sqs-app",
        "workers on Amazon SQS, and the file that describes them",
        "job-harness explore sqs-app/system.yaml",
        "sqs",
        "`pip install boto3`",
    ),
    ExampleSet(
        "guide-app",
        "an application on pg-boss, and the file that describes it",
        "cd guide-app && npm install && job-harness explore system.yaml",
        "embedded",
        "Node 22.18 with npm",
    ),
    ExampleSet(
        "incidents",
        "five public incidents, each as a small system",
        "job-harness explore incidents/builds/system.yaml",
        "embedded",
    ),
    ExampleSet("queues", "queues in a file, the first one sound", "job-harness explore queues/mail.yaml", "embedded"),
    ExampleSet(
        "queues", "and one with a mistake to be found", "job-harness explore queues/unfenced_complete.yaml", "embedded"
    ),
)


def example_files() -> dict[str, str]:
    """Return every file by its path. Raises EnvironmentUnavailable where this installation has none."""
    source = next((place for place in PLACES if place.is_dir()), None)
    if source is None:
        raise EnvironmentUnavailable("this installation has no examples", hint="Install job-harness again.")
    paths = sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(source).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def write_examples(folder: Path) -> list[str]:
    """Write them, and return what was written. Raises UsageError, before the first, where a file is there already."""
    files = example_files()
    for name in files:
        if (folder / name).exists():
            raise UsageError(f"{folder / name} is there already", hint="Nothing is overwritten: name a new folder.")
    for name, text in files.items():
        write_whole(folder / name, text, below=folder)
    return list(files)


def index() -> Iterator[str]:
    """Yield the lines of the README among the examples."""
    yield "# Examples"
    yield ""
    yield "Each runs as it is, where what it needs is installed. `job-harness examples FOLDER` writes these files."
    yield ""
    yield "| what it shows | command | needs |"
    yield "| --- | --- | --- |"
    for each in SETS:
        needs = ", ".join(filter(None, (f"the extra `{each.extra}`" if each.extra else "", each.besides)))
        yield f"| {each.shows} | `{each.command}` | {needs or 'nothing else'} |"
