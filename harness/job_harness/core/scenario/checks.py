"""What a well-formed scenario must still keep to: everything it names exists, and every step can happen.

Follows the steps as far as can be known without running them: who is there, who is down and who is
paused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from job_harness.core.invariants import ANOMALIES
from job_harness.core.model import moot_backoff
from job_harness.core.port import COUNTERS
from job_harness.core.scenario.document import Path, Problem, YamlDocument
from job_harness.core.scenario.scenario import DEFAULTS, SCHEDULERS, Step
from job_harness.core.scenario.schema import MOST_SENT, NAME, JobPart, ScenarioPart
from job_harness.errors import did_you_mean

# the steps, followed without running them -----------------------------------------------------------------------------


UPKEEP = ("queue", "maintenance")
VERBS_ONLY = frozenset({"act", "lose", "twice", "delay", "away", "cut", "hold", "upkeep", "enqueue", "cancel", "retry"})
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
    return f"{did_you_mean(name, listed)}. Available: {shown}" if listed else ". None is available"


def is_dead_letter(name: str, jobs: Mapping[str, JobPart]) -> bool:
    """Say whether this names the dead letter that a job may leave: `a-dead-3`, after its third claim."""
    job, found, token = name.rpartition("-dead-")
    return bool(found) and token.isdecimal() and job in jobs and jobs[job].dead_letter is not None


class StepChecks:
    """Who is there, who is down and who is paused at each step."""

    def __init__(self, part: ScenarioPart, document: YamlDocument, jobs: dict[str, JobPart]) -> None:
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
        """Return what cannot happen."""
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
        if step.kind == "hold":
            return
        if step.verb == "start" and step.expect is not None:
            yield f"to start a processor asks the queue nothing, so there is no answer; leave out `-> {step.expect}`"
        if step.job is not None and step.verb == "poll":
            claims = f"`{step.actor} claims {step.job}` if it has to get {step.job}"
            yield f"a poll looks for whatever is due; write {claims}, or else `{step.actor} polls`"
        if step.job is not None and step.point == "claim":
            yield f"which job a claim gets is known only afterwards; leave out {step.job!r} after `before claiming`"
        if step.job is not None and step.job not in self._jobs and not is_dead_letter(step.job, self._jobs):
            yield f"no such job: {step.job!r}{listing(step.job, self._jobs)}"
        elif step.kind == "enqueue" and step.job is not None and self._jobs[step.job].every is not None:
            yield f"{step.job!r} is sent `every` so often, not by a step"
        if step.kind not in ("upkeep", "clock") or step.actor not in (*UPKEEP, "store"):
            yield from self._of_actor(step)

    def _of_actor(self, step: Step) -> Iterator[str]:
        actor = step.actor
        if actor is None:
            return
        of_workers = step.kind in ("act", "stop", "deploy")
        clients = [] if of_workers or step.kind == "restart" else [f"client-{name}" for name in self._part.jobs]
        scheduled = any(job.scheduled for job in self._part.jobs.values())
        upkeep = () if of_workers else (*UPKEEP, *(SCHEDULERS if scheduled else ()))
        if self._part.application is not None and actor not in self._workers:
            yield from self._of_state(step, actor)
        elif actor not in (*self._workers, *upkeep, *clients):
            if actor in UPKEEP:
                yield f"{actor} is not a worker: it can be paused, crashed and restarted, and it `runs`"
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
        elif step.kind in ("resume", "act", "lose", "twice", "delay"):
            self._paused.discard(actor)
        elif step.kind == "enqueue" and step.job is not None:
            self._enqueued.add(step.job)


# everything else ------------------------------------------------------------------------------------------------------


RESERVED = frozenset({*UPKEEP, *SCHEDULERS, "operator", "store"})
SETTING_OF_VARIABLE = {
    "PGBOSS_BATCH_SIZE": "batch_size",
    "PGBOSS_POLLING_INTERVAL": "poll_interval",
    "JOB_TIMEOUT_MS": "job_timeout",
    "JOB_TIMEOUT_SECONDS": "job_timeout",
    "STUCK_JOB_TIMEOUT_MINUTES": "stuck_timeout",
}
_PROCESSOR = re.compile(r"[\w.]+:[\w.]+|[^#\s]+\.[cm]?[jt]s#\w+")


class Checks:
    """Goes over one scenario and collects what is wrong."""

    def __init__(self, part: ScenarioPart, document: YamlDocument, queues: Collection[str] | None) -> None:
        self._part = part
        self._document = document
        self._queues = queues
        self._problems: list[Problem] = []
        self._jobs: dict[str, JobPart] = {}

    def problems(self) -> list[Problem]:
        """Return everything that is wrong."""
        self._names()
        self._environment()
        self._backoff()
        self._processors()
        for name, job in self._part.jobs.items():
            for key, message in _job_problems(job):
                self._wrong(("jobs", name, key), f"jobs.{name}: {message}")
        self._references()
        self._problems.extend(StepChecks(self._part, self._document, self._jobs).problems())
        return self._problems

    def _wrong(self, path: Path, message: str) -> None:
        self._problems.append(Problem(self._document.line(path), message))

    def _names(self) -> None:
        seen: set[str] = set()
        for index, worker in enumerate(self._part.workers):
            if not re.fullmatch(NAME, worker):
                self._wrong(("workers", index), f"{worker!r} is not a name: letters, digits, _ and -, a letter first")
            elif worker in RESERVED or worker.startswith("client-"):
                self._wrong(("workers", index), f"no worker can be called {worker!r}: another actor has that name")
            elif worker in seen:
                self._wrong(("workers", index), f"there are two workers {worker!r}; give each its own name")
            seen.add(worker)
        total = 0
        for name, job in self._part.jobs.items():
            path = ("jobs", name)
            if not re.fullmatch(NAME, name):
                self._wrong(path, f"{name!r} is not a name: letters, digits, _ and -, a letter first")
            total += job.count if is_several(job) else 1
            if total > MOST_SENT:
                self._wrong(path, f"more than {MOST_SENT} jobs are sent in all, the most accepted")
                return
            for sent in _sent(name, job):
                if sent in self._jobs:
                    self._wrong(path, f"there are two jobs {sent!r}; give each its own name")
                self._jobs[sent] = job

    def _environment(self) -> None:
        given = self._part.settings.given()
        for name, value in self._part.env.items():
            path = ("env", name)
            if name in SETTING_OF_VARIABLE:
                self._wrong(path, f"{name} is not read here; set `settings.{SETTING_OF_VARIABLE[name]}`")
            elif name != WORKERS_VARIABLE:
                hint = did_you_mean(name, [WORKERS_VARIABLE, *SETTING_OF_VARIABLE])
                self._wrong(path, f"nothing here reads {name}{hint}. Known: {WORKERS_VARIABLE}")
            elif value != "true" and given.get("workers_enabled") is True:
                self._wrong(path, f"{name} is not 'true', but settings.workers_enabled is true; drop one of them")

    def _backoff(self) -> None:
        given = self._part.settings.given()
        moot = moot_backoff(DEFAULTS.changed(**given)) if given.get("retry_backoff") else None
        if moot is not None:
            self._wrong(("settings", "retry_backoff"), "; ".join(moot))

    def _processors(self) -> None:
        tools = {job.tool for job in self._part.jobs.values()}
        for tool, part in self._part.processors.items():
            path = ("processors", tool)
            where = part if isinstance(part, str) else part.run
            if not isinstance(part, str) and "#" not in where and (part.globals or part.stubs or part.fetch):
                self._wrong(path, f"globals, stubs and fetch are for TypeScript, and {where!r} is Python")
            if not _PROCESSOR.fullmatch(where):
                self._wrong(path, f"{where!r} is not a processor: write `module:name` or `path.ts#name`")
            if tool not in tools:
                self._wrong(path, f"no job has the tool {tool!r}{did_you_mean(tool, tools)}")
        for name, job in self._part.jobs.items():
            if job.tool in self._part.processors and job.model_fields_set & {"outcomes", "takes"}:
                self._wrong(
                    ("jobs", name), f"jobs.{name}: outcomes and takes are for scripted jobs; {job.tool!r} is real"
                )

    def _references(self) -> None:
        for worker in self._part.serves:
            if worker not in self._part.workers:
                self._wrong(("serves", worker), f"no such worker: {worker!r}{listing(worker, self._part.workers)}")
        for counter in self._part.presets:
            if counter not in COUNTERS:
                self._wrong(("presets", counter), f"no such counter: {counter!r}{listing(counter, COUNTERS)}")
        if self._part.presets.get("put_off", 0) > MOST_SENT:
            self._wrong(("presets", "put_off"), f"more than {MOST_SENT} jobs, the most accepted")
        for name, plan in self._part.jobs.items():
            named = [("depends_on", each) for each in plan.depends_on] + [
                ("parent", plan.parent),
                ("after", plan.after),
            ]
            for key, other in named:
                if other is not None and (other == name or other not in self._jobs):
                    self._wrong(("jobs", name, key), f"no such job: {other!r}{listing(other, self._jobs)}")
        self._audit()
        for job in self._part.expect:
            if job not in self._jobs and not is_dead_letter(job, self._jobs):
                self._wrong(("expect", job), self._no_such_expectation(job))
        for index, control in enumerate(self._part.controls):
            path = ("controls", index)
            if control.finds not in ANOMALIES:
                self._wrong((*path, "finds"), f"no such anomaly: {control.finds!r}{listing(control.finds, ANOMALIES)}")
            wrong = control.queue or control.engine or control.application
            if wrong is None and (control.settings is None or not control.settings.given()):
                self._wrong(
                    path,
                    "a control needs a wrong queue, a wrong setting or an engine; give `queue`, `settings` or `engine`",
                )
            if control.application is not None and self._part.application is None:
                self._wrong((*path, "application"), "a control names an application where the scenario does")
            self._queue((*path, "queue"), control.queue)
        self._queue(("queue",), self._part.queue)
        if self._part.application is not None and (self._part.queue or any(c.queue for c in self._part.controls)):
            self._wrong(
                ("application",), "an application brings its own queue: leave `queue` out, here and in controls"
            )

    def _audit(self) -> None:
        audit = self._part.audit
        if audit is None:
            return
        if audit.anomaly not in ANOMALIES:
            listed = listing(audit.anomaly, ANOMALIES)
            self._wrong(("audit", "anomaly"), f"no such anomaly: {audit.anomaly!r}{listed}")
        if audit.job is not None and audit.job not in self._jobs:
            self._wrong(("audit", "job"), f"no such job: {audit.job!r}{listing(audit.job, self._jobs)}")

    def _no_such_expectation(self, job: str) -> str:
        if job == "cron":
            return (
                "expect.cron: the cron of a run is not an HTTP request, so it has no status code; leave it out, "
                "and hold the endpoint to 401 with `job-harness check` or a test of the API"
            )
        return f"no such job: {job!r}{listing(job, self._jobs)}"

    def _queue(self, path: Path, name: str | None) -> None:
        if name is not None and self._queues is not None and name not in self._queues:
            self._wrong(path, f"no such wrong queue: {name!r}{listing(name, self._queues)}")


def is_several(job: JobPart) -> bool:
    """Say whether it is more than one job."""
    return job.every is not None or job.cron is not None


def _sent(name: str, job: JobPart) -> list[str]:
    return [f"{name}{number}" for number in range(1, job.count + 1)] if is_several(job) else [name]


def _job_problems(job: JobPart) -> Iterator[tuple[str, str]]:
    given = job.model_fields_set
    if "count" in given and not is_several(job):
        yield "count", "count needs `every`: how far apart they are sent"
    if job.cron is not None:
        yield from _calendar_problems(job)
    elif given & {"zone", "missed"}:
        yield min(given & {"zone", "missed"}), "zone and missed are for jobs with `cron`"
    if job.unique_for is not None and job.unique_key is None:
        yield "unique_for", "unique_for needs `unique_key`: which key is held"
    if job.every is not None:
        if job.count < 2:
            yield "every", "every needs `count`: how many are sent, at least 2"
        for key in ("cancel_after", "retry_after", "then", "unique_key", "held_back"):
            if key in given:
                yield key, f"{key} is for a single job, not for one that is sent `every` so often"
    yield from _sending_problems(job)
    if job.tool.strip() != job.tool or "\x00" in job.tool:
        yield "tool", f"{job.tool!r} is not a valid tool name"


def _calendar_problems(job: JobPart) -> Iterator[tuple[str, str]]:
    if not job.scheduled:
        yield "cron", "cron needs `scheduled: true`: the queue makes its jobs"
    if job.every is not None:
        yield "cron", "cron replaces `every`; leave out one of them"
    for key in ("cancel_after", "retry_after", "then", "unique_key", "held_back"):
        if key in job.model_fields_set:
            yield key, f"{key} is for a single job, not for those of a schedule"


def _sending_problems(job: JobPart) -> Iterator[tuple[str, str]]:
    given = job.model_fields_set
    if job.scheduled and not is_several(job):
        yield (
            "scheduled",
            "scheduled needs `every` and `count`: how far apart its slots are, and how many",
        )
    if job.scheduled:
        for key in ("transaction", "start_after"):
            if key in given:
                yield key, f"{key} is for jobs that a producer sends, not for those that a schedule makes"
    if "open_for" in given and job.transaction is None:
        yield "open_for", "open_for needs `transaction`: commit or rollback"
    if job.payload is not None and "input" in given:
        yield "payload", "payload stands in place of `input`; drop one of them"
