"""What a run of a system comes to in which nothing goes wrong: whether a search of it could judge anything.

A job that does not end there, a cron that fails, a process that ends: that is a mistake in the file
or in the system, and no finding of a search. It knows no process and no connection, only what was
seen of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from job_harness.core.history import Fault, Return
from job_harness.core.model import FAILED, TERMINAL, format_duration
from job_harness.core.run.verdict import Run
from job_harness.subjects.systems.document import ProcessKind, SystemFile, SystemFileError

ALONE: Final = "in a run in which nothing goes wrong"


def refuse(file: SystemFile, run: Run, *, failed: Mapping[str, str], printed: Mapping[str, str]) -> None:
    """Raise SystemFileError for what fails in a run in which nothing goes wrong.

    `failed` has what a cron command printed last, by its name, where it failed; `printed` what each process did.
    """
    place, message, hint = next(_problems(file, run, failed, printed), ("", "", ""))
    if message:
        raise SystemFileError(f"{place}: {message}", hint=f"{hint} It is the file or the system; nothing was searched.")


def _problems(
    file: SystemFile, run: Run, failed: Mapping[str, str], printed: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    for event in run.history:
        if type(event) is Fault and event.name == "raised":
            kind = _kind(file, event.actor)
            hint = f"Does it run by itself? {' '.join(kind.command)}. If it may end with exit code 0, say `ends: true`."
            yield kind.place, f"{event.actor} ended {ALONE}: {event.data['error']}", hint
    for event in run.history:
        if type(event) is Return and event.verb == "cron" and not event.outcome.done:
            told = f"cron.{event.actor}: it is answered with {event.outcome.reason} {ALONE}"
            yield file.place("cron"), told, "Look at what its process prints, or leave it out."
    for name, words in failed.items():
        yield _kind(file, name).place, f"cron.{name}: its command fails {ALONE}:\n{words}", "Try it by hand."
    yield from _of_the_job(file, run, printed)


def _of_the_job(file: SystemFile, run: Run, printed: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    job = run.scenario.jobs[0].name
    sent = [event.outcome for event in run.history if type(event) is Return and event.verb == "send"]
    path = run.history.path(job)
    place = file.place("send")
    after = f"after {format_duration(run.now)} of its time, {ALONE}"
    if not sent or not sent[0].done:
        taker = "" if file.send is None else file.send.to
        last = "".join(
            f"\n{name} printed last:\n{printed[name]}" for name in printed if printed[name] and name == taker
        )
        why = sent[0].reason if sent else "none was sent"
        yield place, f"send: no job is accepted {ALONE}: {why}{last}", "Try it by hand."
    elif not path:
        yield place, f"send: `jobs` shows no row of the job that was sent, {after}", "Look at `id`, `jobs` and `name`."
    elif path[-1] not in map(str, TERMINAL):
        yield place, f"the job that was sent is still {path[-1]}, {after}", "Does a worker take such a job?"
    elif path[-1] == FAILED:
        view = run.history.views().get(job)
        told = f": {view.error}" if view is not None and view.error else ""
        yield place, f"the job that was sent is FAILED, {after}{told}", "Does `outside` reply as your code expects?"
    elif len(path) == 1:
        yield (
            place,
            f"the job that was sent was {path[0]} at once, and in no other status",
            "Look at `jobs` and `status`.",
        )


def _kind(file: SystemFile, name: str) -> ProcessKind:
    """Return the kind of a process by its name."""
    workers = file.workers
    return next((kind for kind in file.processes if kind.name == name), workers or file.processes[0])
