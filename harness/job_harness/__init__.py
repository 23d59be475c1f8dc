"""Testing harness and simulation framework for job processors and the queues that feed them.

What stands in `__all__` is what other code may build on: `from job_harness import JobHarness`.
`docs/api.md` says what that promises. Each name is imported when it is first asked for, so that
`import job_harness` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from job_harness.core.faults import Circumstances, FaultKind
    from job_harness.core.history import DONE, Outcome, SideEffect, done
    from job_harness.core.invariants.effects import at_most_once, exactly_once
    from job_harness.core.invariants.property import AnomalyKind, Guarantee, Invariant, Kind, Monitor
    from job_harness.core.invariants.steps import compensated, steps_in_order
    from job_harness.core.model import JobView, QueueState, Settings, Status, json_problem, retry_delay
    from job_harness.core.port import Capabilities, Claim, Contract, Engine, EngineInfo, JobRequest, QueueUnderTest
    from job_harness.core.scenario.job_plan import JobPlan
    from job_harness.core.scenario.scenario import Scenario
    from job_harness.core.sim import Point
    from job_harness.doors.pytest.conformance import QueueConformance
    from job_harness.doors.pytest.fixtures import JobPostgres
    from job_harness.engines.conformance.django_tasks import DjangoTasksConformance
    from job_harness.engines.reference.application import JobResult, NonRetryableError, ToolJob
    from job_harness.search.state_machine import LifecycleMachine
    from job_harness.search.targets import open_engine
    from job_harness.subjects.processors.async_harness import AsyncJobHarness
    from job_harness.subjects.processors.contract import ProcessorContract, check_processor
    from job_harness.subjects.processors.dbos import dbos_process
    from job_harness.subjects.processors.delivery import Steps, choose, effect, external, step
    from job_harness.subjects.processors.job_book import JobHandle
    from job_harness.subjects.processors.job_clock import JobClock
    from job_harness.subjects.processors.job_harness import JobHarness
    from job_harness.subjects.processors.typescript.target import JavaScript, TypeScriptProcessor

__version__ = "0.1.0"

__all__ = [
    "DONE",  # the outcome of a verb that succeeded and returns nothing
    "AnomalyKind",  # a named way to break an invariant
    "AsyncJobHarness",  # JobHarness for tests that are coroutines: every method is awaited
    "Capabilities",  # what a queue can do, as data
    "Circumstances",  # what a fault may know about the run in which it happens
    "Claim",  # a worker's right to settle one attempt of one job
    "Contract",  # where an engine documents that it differs: documented behaviour is no anomaly
    "DjangoTasksConformance",  # to subclass: the tests that every backend of Django's tasks must pass
    "Engine",  # protocol: opens queues
    "EngineInfo",  # what an engine declares beyond its verbs
    "FaultKind",  # a kind of fault: when it may happen, what it does, how it reads, and what it excuses
    "Guarantee",  # a promise of a queue that an anomaly breaks
    "Invariant",  # a rule that every run must keep, with the monitor that checks it
    "JavaScript",  # a JavaScript expression as a fake for a TypeScript processor
    "JobClock",  # the fixture job_clock: the time of day that a test and its libraries see
    "JobHandle",  # a job that a test enqueued: its current status, attempts, output and error
    "JobHarness",  # runs your own processors under the real worker on virtual time
    "JobPlan",  # what a scenario plans for one job
    "JobPostgres",  # the fixture job_postgres: a PostgreSQL of this test process, emptied after each test
    "JobRequest",  # what a producer asks a queue for
    "JobResult",  # what a processor returns
    "JobView",  # a job as its rows show it
    "Kind",  # when an invariant is judged: always, at rest, or once in a campaign
    "LifecycleMachine",  # to subclass: lets Hypothesis search for a sequence of steps that breaks your engine
    "Monitor",  # to subclass: sees the events of a run, and reports what breaks an invariant
    "NonRetryableError",  # to raise in a processor: the job fails for good
    "Outcome",  # the result of a verb of a queue: done, refused or unknown
    "Point",  # a place inside a verb of a queue at which others may act
    "ProcessorContract",  # to subclass: the checks that every processor must pass
    "QueueConformance",  # to subclass: the tests that every queue must pass
    "QueueState",  # the state of a job in the queue's own row
    "QueueUnderTest",  # protocol: the verbs of a queue
    "Scenario",  # what runs, what goes wrong, and what the result must be
    "Settings",  # leases, timeouts, retries and periods
    "SideEffect",  # something that a job did outside
    "Status",  # the status of a job in the user's row
    "Steps",  # one run of a workflow: declares what its engine stored of its steps
    "ToolJob",  # the job that a processor gets
    "TypeScriptProcessor",  # a processor in a TypeScript file
    "at_most_once",  # an invariant: a declared side effect happens at most once
    "check_processor",  # checks a processor against the contract, without pytest
    "choose",  # one of several answers from outside, such as a model's: a search tries each
    "compensated",  # an invariant: a side effect is taken back where its workflow fails
    "dbos_process",  # what a process of DBOS does when it starts, for `on_start`
    "done",  # the outcome of a verb that succeeded, with the value that it returns
    "effect",  # declares a side effect of the running job
    "exactly_once",  # an invariant: a declared side effect happens once for each job that completes
    "external",  # wraps a fake of something outside: a side effect with a gate on both sides
    "json_problem",  # says why a value is not valid JSON
    "open_engine",  # opens an engine by its name on the command line
    "retry_delay",  # how long a failed attempt waits for the next one
    "step",  # names a point at which others may act and a worker may die
    "steps_in_order",  # an invariant: the steps of a workflow keep their order
]

if not TYPE_CHECKING:
    _HOMES = {
        "job_harness.engines.reference.application": ("JobResult", "NonRetryableError", "ToolJob"),
        "job_harness.doors.pytest.conformance": ("QueueConformance",),
        "job_harness.doors.pytest.fixtures": ("JobPostgres",),
        "job_harness.subjects.processors.job_clock": ("JobClock",),
        "job_harness.engines.conformance.django_tasks": ("DjangoTasksConformance",),
        "job_harness.search.state_machine": ("LifecycleMachine",),
        "job_harness.core.faults": ("Circumstances", "FaultKind"),
        "job_harness.core.history": ("DONE", "Outcome", "SideEffect", "done"),
        "job_harness.core.invariants.property": ("AnomalyKind", "Guarantee", "Invariant", "Kind", "Monitor"),
        "job_harness.core.model": ("JobView", "QueueState", "Settings", "Status", "json_problem", "retry_delay"),
        "job_harness.core.port": (
            "Capabilities",
            "Claim",
            "Contract",
            "Engine",
            "EngineInfo",
            "JobRequest",
            "QueueUnderTest",
        ),
        "job_harness.subjects.processors.async_harness": ("AsyncJobHarness",),
        "job_harness.subjects.processors.contract": ("ProcessorContract", "check_processor"),
        "job_harness.subjects.processors.dbos": ("dbos_process",),
        "job_harness.subjects.processors.delivery": ("Steps", "choose", "effect", "external", "step"),
        "job_harness.core.invariants.steps": ("compensated", "steps_in_order"),
        "job_harness.core.invariants.effects": ("at_most_once", "exactly_once"),
        "job_harness.subjects.processors.job_book": ("JobHandle",),
        "job_harness.subjects.processors.job_harness": ("JobHarness",),
        "job_harness.subjects.processors.typescript.target": ("JavaScript", "TypeScriptProcessor"),
        "job_harness.core.scenario.job_plan": ("JobPlan",),
        "job_harness.core.scenario.scenario": ("Scenario",),
        "job_harness.core.sim": ("Point",),
        "job_harness.search.targets": ("open_engine",),
    }

    def __getattr__(name):
        """Import a public name when it is first asked for."""
        from importlib import import_module

        for module, names in _HOMES.items():
            if name in names:
                found = globals()[name] = getattr(import_module(module), name)
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})
