"""Follows the steps of a scenario as far as can be known without running it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from harness.errors import did_you_mean
from harness.scenario.document import Document
from harness.scenario.problem import Problem
from harness.scenario.scenario import SCHEDULERS
from harness.scenario.schema import JobPart, ScenarioPart
from harness.scenario.step import Step

UPKEEP = ("queue", "maintenance")
VERBS_ONLY = frozenset({"act", "lose", "twice", "upkeep", "enqueue", "cancel", "retry"})
"""Steps that ask a queue for a verb, which an application does not have."""
WORKERS_VARIABLE = "USE_PGBOSS_WORKERS"


def workers_start(part: ScenarioPart) -> bool:
    """Say whether workers start under these settings and this environment."""
    variable = part.env.get(WORKERS_VARIABLE, "true")
    return variable == "true" and part.settings.given().get("workers_enabled", True)


def listing(name: str, known: Collection[str]) -> str:
    """Say what there is instead of a name that does not exist."""
    listed = sorted(known)
    shown = ", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "")
    return f"{did_you_mean(name, listed)}. There are {shown}" if listed else ". There are none"


class StepChecks:
    """Who is there, who is down and who is paused at each step."""

    def __init__(self, part: ScenarioPart, document: Document, jobs: dict[str, JobPart]) -> None:
        self._part = part
        self._document = document
        self._jobs = jobs
        self._workers = tuple(part.workers)
        self._down: dict[str, int] = {}
        self._paused: set[str] = set()
        self._stopped: set[str] = set()
        self._enqueued: set[str] = set()
        self._found: list[Problem] = []

    def problems(self) -> list[Problem]:
        """Answer what cannot happen."""
        for index, step in enumerate(self._part.steps):
            line = self._document.line(("steps", index))
            for message in self._of_step(step):
                self._found.append(Problem(line, f"{step.text}: {message}"))
            self._follow(step, line)
        for name, job in self._part.jobs.items():
            if job.held_back and name not in self._enqueued:
                message = f"jobs.{name} is held back, but no step says `enqueue {name}`: it would never be sent"
                self._found.append(Problem(self._document.line(("jobs", name, "held_back")), message))
        return self._found

    def _of_step(self, step: Step) -> Iterator[str]:
        if self._part.application is not None and step.kind in VERBS_ONLY:
            yield 'an application has steps of its own: write `w1 pauses before "NAME"` or `crash w1 before "NAME"`'
        if step.job is not None and step.job not in self._jobs:
            yield f"no such job: {step.job!r}{listing(step.job, self._jobs)}"
        elif step.kind == "enqueue" and step.job is not None and self._jobs[step.job].every is not None:
            yield f"{step.job!r} is sent `every` so often, not by a step"
        if step.kind not in ("upkeep", "clock") or step.actor not in (*UPKEEP, "store"):
            yield from self._of_actor(step)

    def _of_actor(self, step: Step) -> Iterator[str]:
        actor = step.actor
        if actor is None:
            return
        clients = [] if step.kind in ("act", "stop", "restart") else [f"client-{name}" for name in self._part.jobs]
        scheduled = any(job.scheduled for job in self._part.jobs.values())
        upkeep = () if step.kind in ("act", "stop") else (*UPKEEP, *(SCHEDULERS if scheduled else ()))
        if self._part.application is not None and actor not in self._workers:
            yield from self._of_state(step, actor)
        elif actor not in (*self._workers, *upkeep, *clients):
            if actor in UPKEEP:
                yield f"{actor} is no worker: it can be paused, crashed and restarted, and it `runs`"
            else:
                yield f"no such actor: {actor!r}{listing(actor, [*self._workers, *upkeep])}"
        elif actor in self._workers and not workers_start(self._part):
            yield f"{actor} never starts: {WORKERS_VARIABLE} is not 'true', or workers_enabled is false"
        else:
            yield from self._of_state(step, actor)

    def _of_state(self, step: Step, actor: str) -> Iterator[str]:
        if step.kind == "restart":
            if actor not in self._down and actor not in self._stopped and not self._part.tape:
                yield f"{actor} is alive: it was neither crashed nor stopped above"
        elif actor in self._down and step.kind != "clock":
            yield f"{actor} went down on line {self._down[actor]} and was not restarted; say `restart {actor}` first"
        elif step.kind == "resume" and actor not in self._paused:
            yield f"{actor} was not paused above; say `{actor} pauses` first"

    def _follow(self, step: Step, line: int) -> None:
        actor = step.actor or ""
        if step.kind == "crash":
            self._down[actor] = line
            self._paused.discard(actor)
        elif step.kind == "restart":
            self._down.pop(actor, None)
            self._stopped.discard(actor)
        elif step.kind == "stop":
            self._stopped.add(actor)
        elif step.kind == "pause":
            self._paused.add(actor)
        elif step.kind in ("resume", "act", "lose", "twice"):
            self._paused.discard(actor)
        elif step.kind == "enqueue" and step.job is not None:
            self._enqueued.add(step.job)
